"""One datagram socket: every datagram into the record."""

from __future__ import annotations

import _socket
import errno
import socket
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from pytest_sockets._engine.binding import LOOPBACK, message_size, new_socket, plain
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.datagram_faults import DatagramFaults
from pytest_sockets._engine.descriptors import Descriptors
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.losses import MOST, Loss, Losses, make_room
from pytest_sockets._engine.parties import Owner
from pytest_sockets._engine.waiting import Signal
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.record import Record
from pytest_sockets._wire.rendering import count, show_address

LARGEST_UDP = 64 * 1024
"""UDP ends at 65,507 bytes of payload (udp(7)). Other families end at the sender's buffer, so the
size of each datagram is asked for."""
TURN = 256
"""Datagrams taken before other sockets are served."""
LAST_TURN = MOST
"""Datagrams taken at the end: all that can wait, and no more, as a sender may never stop."""


class DatagramSocket:
    """A bound, non-blocking datagram socket. Methods may be called from any thread."""

    turns = 10  # AF_UNIX keeps few, and lets the sender wait (unix(7): max_dgram_qlen)

    def __init__(
        self,
        owner: Owner,
        engine: Engine,
        sock: _socket.socket,
        record: Record,
        arrived: Signal,
        on_datagram: Callable[[DatagramSocket, bytes, Address | None], None] | None,
    ) -> None:
        self.record = record
        self.family = sock.family
        self.kind = sock.type
        self.descriptors = Descriptors() if sock.family == socket.AF_UNIX else None
        self.faults: DatagramFaults | None = None
        """What happens to all that is sent."""
        self.departed: Signal | None = None
        """Level: datagrams sent, where somebody waits for them."""
        self.label = ""
        """What the record says beside each datagram."""
        self.on_refused: Callable[[DatagramSocket, OSError], None] | None = None
        """Told, on a connected socket, what became of an earlier datagram."""
        self.on_lost: Callable[[DatagramSocket, Loss], None] | None = None
        """Told of datagrams for here that are not in the record; of UDP only."""
        self._arrived = arrived  # level: datagrams of all sockets of the endpoint
        self._owner = owner
        self._engine = engine
        self._socket: _socket.socket | None = sock
        self._is_udp = sock.family in LOOPBACK
        self._losses = Losses()
        self._on_datagram = on_datagram
        self._name: Any = None  # while it refuses: where it was bound, in the kernel's form
        if self._is_udp:
            make_room(sock)
            self.turns = MOST // TURN  # all that can wait

    @property
    def is_open(self) -> bool:
        """Whether the descriptor is still ours."""
        return self._socket is not None

    def start(self) -> None:
        """Begin to receive."""
        assert self._socket is not None, "a stopped socket cannot start"
        self._engine.selector.add(self._socket.fileno(), self)

    def on_ready(self, events: int) -> None:
        """Take what is there."""
        with self._owner._lock:
            self._receive(TURN)
            # Behind the reading: what came last before a loss is in the record then.
            self.look_for_losses()

    def look_for_losses(self) -> None:
        """Tell what the kernel has dropped since the last look. With the lock held."""
        if self._is_udp and self._socket is not None and self.on_lost is not None:
            loss = self._losses.look(self._socket)
            if loss is not None:
                self.on_lost(self, loss)

    def on_failure(self, error: Exception) -> None:
        """Stop on an error of our own and make it a problem."""
        self._owner._fail(error)
        with self._owner._lock:
            self._release()

    def send(self, data: bytes, to: Address | None, fds: Sequence[int] = ()) -> None:
        """Send one datagram, and descriptors with it, which is for AF_UNIX only.

        `None` sends on a connected socket. Raises the plain `OSError`.
        """
        with self._owner._lock:
            if self.faults is None:
                self.put(data, to, fds)
            else:
                self.faults.send(self, data, to, fds)

    def put(
        self,
        data: bytes,
        to: Address | None,
        fds: Sequence[int] = (),
        through: _socket.socket | None = None,
    ) -> None:
        """Send one datagram past all faults, perhaps from another socket. With the lock held."""
        sock = through or self._socket
        if sock is None:
            raise OSError(errno.EBADF, "the endpoint is closed")
        time = CLOCK.stamp()
        try:
            if fds:
                beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))]
                sock.sendmsg([data], beside, 0, to)
            elif to is None:
                sock.send(data)
            else:
                sock.sendto(data, to)
        except ConnectionError as error:
            if self.on_refused is None or to is None:
                raise
            # The kernel tells of an earlier datagram in place of sending this one (udp(7)).
            self.on_refused(self, error)
            sock.sendto(data, to)
        self.record.add_datagram(time, data, to, sent=True)
        if fds or through is not None or self.label:
            self.record.annotate(self._beside(fds, through))
        if self.departed is not None:
            self.departed.advance(self.departed.level + 1)

    def _beside(self, fds: Sequence[int], through: _socket.socket | None) -> str:
        """Return what the record says beside a datagram that was sent."""
        notes = [self.label] if self.label else []
        if fds:
            notes.append(f"with {count(len(fds), 'descriptor')}")
        if through is not None:
            notes.append(f"from {show_address(plain(self.family, through.getsockname()))}")
        return "  ".join(notes)

    @property
    def host(self) -> str:
        """The address of an IP socket, without its port."""
        assert self._socket is not None, "a stopped socket has no address"
        return str(self._socket.getsockname()[0])

    def refuse(self) -> None:
        """Have the kernel refuse what is sent to here (ICMP port unreachable). UDP over IP only.

        A socket that is connected takes datagrams from its peer alone (udp(7)), and the kernel says
        of others' that nobody is there; this one's peer is itself. What it had before stays queued.
        """
        assert self._socket is not None, "a stopped socket cannot refuse"
        self._name = self._socket.getsockname()
        self._socket.connect(self._name)

    def take_again(self) -> None:
        """End `refuse`, when all that was queued before it has been taken.

        Dissolving the association (connect(2), AF_UNSPEC) gives up a port that the kernel has
        chosen. So a second socket takes over the address while the first still holds it: of 1,200
        times nobody else could bind the port, and no datagram was lost.
        """
        old, name = self._socket, self._name
        if old is None or name is None:
            return
        sock = new_socket(old.family, old.type, old.proto)
        try:
            if old.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for each in (old, sock):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(name)
        except BaseException:
            sock.close()
            raise
        make_room(sock)
        self.look_for_losses()
        self._socket, self._name, self._losses = sock, None, Losses()
        self._engine.selector.add(sock.fileno(), self)
        self._engine.selector.remove(old.fileno())
        old.close()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)

    def stop(self) -> None:
        """Take what is queued already, and close."""
        with self._owner._lock:
            if self._socket is not None:
                self._on_datagram = None
                self._receive(LAST_TURN)
                self.look_for_losses()
                self._release()
            if self.descriptors is not None:
                self.descriptors.close()

    def abandon(self) -> None:
        """Close our number in a forked child, without a word to the parent's epoll."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()
        if self.descriptors is not None:
            self.descriptors.close()

    def _receive(self, most: int) -> None:
        taken = 0
        record, descriptors, sender = self.record, self.descriptors, None
        while self._socket is not None and taken != most:
            try:
                size = LARGEST_UDP if self._is_udp else message_size(self._socket) or 1
                if descriptors is None:
                    data, address = self._socket.recvfrom(size)
                else:
                    number = record.received_chunks
                    data, address, sender = descriptors.recv_from(self._socket, size, number)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError as error:
                # An earlier send met a closed port (ICMP, or AF_UNIX with nobody there); the
                # kernel tells it once and goes on (udp(7)).
                if self.on_refused is not None:
                    self.on_refused(self, error)
                continue
            source = plain(self.family, address)
            taken += 1
            record.add_datagram(CLOCK.stamp(), data, source, sent=False, sender=sender)
            if descriptors is not None:
                descriptors.note(record, self._owner)
            elif self.label:
                record.annotate(self.label)
            self._arrived.advance(self._arrived.level + 1)
            if self._on_datagram is not None:
                self._on_datagram(self, data, source)

    def _release(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._engine.selector.remove(sock.fileno())
            sock.close()
            self._arrived.finish()
