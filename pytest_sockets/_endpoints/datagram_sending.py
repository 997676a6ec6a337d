"""The way out of a datagram socket."""

from __future__ import annotations

import _socket
import errno
import socket
from collections.abc import Sequence

from pytest_sockets._endpoints.datagram_faulty import FaultyDatagrams
from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.faces import verb
from pytest_sockets._endpoints.passing import as_descriptors
from pytest_sockets._endpoints.place import Place
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.datagrams import DatagramSocket
from pytest_sockets._engine.descriptors import Descriptors
from pytest_sockets._engine.losses import Loss
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import EndpointError, PeerGoneError, SocketsError, UnsupportedError
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.matching import as_bytes
from pytest_sockets._wire.rendering import count, show_address

NOBODY_THERE = frozenset(
    {errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN}
)


class DatagramSending(FaultyDatagrams):
    """A datagram socket that can send."""

    def __init__(self, place: Place, *, name: str | None, settings: Settings | None) -> None:
        super().__init__(name=name, settings=settings)
        self._place_ = place
        self._consumed: int = 0
        self._arrived = Signal()  # level: datagrams
        self._has_lost = False
        self._last_source: Address | None = None
        self._heard_by: dict[Address, DatagramSocket] = {}
        self._datagrams = self._new_record(None)
        self._sockets = [self._new_part(sock) for sock in place.sockets]
        for part in self._sockets:
            part.start()

    @verb
    def send(self, data: bytes, *, to: Address | None = None) -> Steps[None]:
        """Send one datagram; ``b""`` is an empty one. Waits for nobody, whatever a fault does.

        Args:
            data: its content.
            to: where to; `None` means the source of the last datagram that has come, those that the
                kernel still holds included.

        Raises:
            SocketsError: nobody has sent anything yet, so there is nobody to answer.
            PeerGoneError: the kernel says that nobody is there.
            OSError: it is too long, or the receiver's queue is full.
        """
        yield from self._send(as_bytes(data, name="data"), to)

    @verb
    def send_fds(
        self, data: bytes, fds: Sequence[int], *, to: Address | None = None
    ) -> Steps[None]:
        """Send one datagram and open files with it, as `socket.send_fds`; AF_UNIX only.

        The receiver gets descriptors of its own; yours may be closed at once. Waits for nobody.

        Args:
            data: its content; ``b""`` is an empty one.
            fds: 1 to 253 descriptors.
            to: where to; `None` means the source of the last datagram that has come, as for `send`.

        Raises:
            OSError: one of them is not open, too many files are under way, or as `send`.
            PeerGoneError: the kernel says that nobody is there.
            SocketsError: nobody has sent anything yet, so there is nobody to answer.
            UnsupportedError: the family is not AF_UNIX.
        """
        content, numbers = as_bytes(data, name="data"), as_descriptors(fds)
        self._descriptors("send_fds")
        yield from self._send(content, to, numbers)

    # -- inside

    def _send(self, content: bytes, to: Address | None, fds: Sequence[int] = ()) -> Steps[None]:
        if self._closed:
            self._raise_closed()
        if to is None and not self._is_pair:
            yield from self._settle()  # whom it answers may have sent just now
        target = self._target(to)
        try:
            self._part_for(target).send(content, target, fds)
        except (TypeError, OverflowError) as error:
            msg = f"to={to!r} is no address of {self._place_.family}: {error}"
            raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from error
        except OSError as error:
            where = f" to {show_address(target)}" if target is not None else ""
            if error.errno == errno.EBADF and fds:
                where += f" with descriptors {list(fds)}"
            if error.errno in NOBODY_THERE:
                msg = f"{self.name} cannot send{where}: {error.strerror}"
                raise PeerGoneError(msg) from error.with_traceback(None)
            if error.errno == errno.EMSGSIZE:
                text = f"{error.strerror}: {count(len(content), 'byte')}{where}"
                raise OSError(error.errno, text) from None
            if isinstance(error, BlockingIOError):
                text = f"{error.strerror}: the queue{where} is full; let the receiver read first"
                raise BlockingIOError(error.errno, text) from None
            raise type(error)(error.errno, f"{error.strerror}{where}") from None

    def _new_part(self, sock: _socket.socket) -> DatagramSocket:
        part = DatagramSocket(
            self, self._engine, sock, self._datagrams, self._arrived, self._on_datagram
        )
        part.on_lost = self._on_lost
        return part

    def _descriptors(self, name: str) -> Descriptors:
        descriptors = self._sockets[0].descriptors if self._sockets else None
        if descriptors is None:
            msg = f"{self.name}: {name} needs AF_UNIX: descriptors do not travel over a network"
            raise UnsupportedError(msg)
        return descriptors

    def _on_first(self, stream: Stream, *, sent: bool) -> None:
        """See `Owner`: datagrams have no streams."""

    def _on_end(self, stream: Stream) -> None:
        """See `Owner`: datagrams have no streams."""

    def _on_datagram(self, part: DatagramSocket, data: bytes, source: Address | None) -> None:
        """Act on a datagram, in the I/O thread with the lock held."""
        self._last_source = source
        if source is not None and len(self._sockets) > 1:
            self._heard_by[source] = part

    def _on_lost(self, part: DatagramSocket, loss: Loss) -> None:
        """Make a problem of what the record lacks: no claim about it could be trusted.

        A sender that goes on has more lost at each look: that is noted.
        """
        lost = count(loss.number, "datagram")
        if part.label:
            lost += f" {part.label}"
        if self._has_lost:
            self._datagrams.mark(CLOCK.stamp(), "note", note=f"lost unread: {lost} more")
            return
        self._has_lost = True
        msg = f"{self.name} has lost {lost} that its record lacks now: {loss.why}"
        self._add_problem(EndpointError(msg))

    def _settle(self) -> Steps[None]:
        yield from super()._settle()
        # What was dropped for another reason than a full buffer may have left nothing to read.
        with self._lock:
            for part in self._sockets:
                part.look_for_losses()

    def _part_for(self, target: Address | None) -> DatagramSocket:
        """Return the socket to send from; a host's name can give an endpoint several.

        A source takes an answer only from the address that it has written to (udp(7): connect).
        """
        first = self._sockets[0]
        if target is None or len(self._sockets) == 1:
            return first
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        fits = (part for part in self._sockets if part.family == family)
        return self._heard_by.get(target) or next(fits, first)

    def _target(self, to: Address | None) -> Address | None:
        """Return where to send; `None` on a connected socket."""
        target = self._last_source if to is None else to
        if target is None:
            why = (
                "its last datagram came from an unnamed socket"
                if self._arrived.level
                else "nobody has sent to it yet"
            )
            msg = f"{self.name} does not know where to send: {why}; give to="
            raise SocketsError(msg)
        return target
