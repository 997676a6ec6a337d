"""The two sides of a TCP proxy, and how one opens a connection on the other."""

from __future__ import annotations

import _socket
import errno
from collections.abc import Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any

from pytest_sockets._endpoints.connection import Connection
from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.faces import drive
from pytest_sockets._endpoints.relaying import Relay
from pytest_sockets._endpoints.server import StreamServer
from pytest_sockets._endpoints.stream_view import Driven
from pytest_sockets._endpoints.streams import StreamEndpoint
from pytest_sockets._endpoints.two_sides import is_same
from pytest_sockets._engine.binding import plain
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.connecting import Connector
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.parties import Lock
from pytest_sockets._engine.shells import run_async
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.tasks import Tasks
from pytest_sockets._engine.waiting import Steps
from pytest_sockets._wire.errors import SocketsError, UnsupportedError
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.rendering import show_address
from pytest_sockets.faults import StopReading

if TYPE_CHECKING:
    from pytest_sockets._endpoints.plans import Plans

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What a socket is refused with for a lack on our side, which says nothing of the upstream."""

INSTEAD = "have a tcp_server as the upstream, and use its connection"


class UpstreamSide(StreamEndpoint):
    """The side of a proxy that faces the real server."""

    kind = "tcp_proxy upstream"

    def __init__(self, address: Address, *, name: str, settings: Settings | None) -> None:
        super().__init__(name=name, settings=settings)
        self.client: ClientSide | None = None
        self._address = address

    def _give_up(self) -> None:
        super()._give_up()
        if self.client is not None:
            self.client._give_up()

    def _stopped(self) -> None:
        if self.client is not None:
            self.client.close()

    def _place(self) -> str:
        return f"to {show_address(self._address)}"


class ClientSide(StreamServer):
    """The side of a proxy that faces the client."""

    kind = "tcp_proxy client"

    def __init__(
        self,
        upstream: UpstreamSide,
        candidates: Sequence[tuple[int, Any]],
        *,
        family: str | None,
        host: str | None,
        port: int | str,
        name: str,
        settings: Settings | None,
    ) -> None:
        self.upstream = upstream
        self.candidates = candidates
        self.opening: set[Opening] = set()
        upstream.client = self
        super().__init__(family=family, host=host, port=port, name=name, settings=settings)

    def _new_lock(self) -> Lock:
        # What comes on a socket of one side is sent on one of the other's, in one go. With a lock
        # for each, the I/O thread would take them in the one order, and a test's thread that ends a
        # connection of the other side in the other.
        return self.upstream._lock

    def _opened(self) -> None:
        targets = [plain(family, target) for family, target in self.candidates]
        if any(is_same(ours, target) for ours in self.addresses for target in targets):
            self.close()
            msg = (
                f"upstream={show_address(self.address)} is where the proxy itself listens: "
                "leave port= out for a free one"
            )
            raise ValueError(msg)
        super()._opened()

    def _planned(self) -> Plans:
        msg = (
            f"{self.name} is driven by {Relay.title}, so a plan would never be played: "
            "make it for the upstream, or use tcp_server instead"
        )
        raise SocketsError(msg)

    def _drive(self, conn: Connection) -> None:
        # Before the faults: a client that is told EOF at once may still ask something.
        opening = Opening(self, conn)
        conn._stream.driver = opening
        conn._driven_by = Driven(opening.title, instead=INSTEAD)
        self._meet(conn._stream, conn.index)

    def _stop(self) -> None:
        for opening in tuple(self.opening):
            opening.cancel()
        super()._stop()

    def _stopped(self) -> None:
        super()._stopped()
        self.upstream.close()
        if not Engine.is_here():
            drive(_settled(self), "close")  # the cancelled openings have closed their sockets

    def _abandon(self) -> None:
        super()._abandon()
        for opening in self.opening:
            opening.connector.abandon()


class Opening(Relay):
    """The client's half of two relays: it opens the other one's stream."""

    def __init__(self, side: ClientSide, conn: Connection) -> None:
        super().__init__(conn._stream)
        limited = side.upstream._has_effect(StopReading())
        self.connector = Connector(side.candidates, limited=limited)
        self._side = side
        self._index = conn.index
        self._tasks: Tasks | None = None

    def on_open(self, stream: Stream) -> None:
        """Begin to connect to the upstream."""
        side = self._side
        if side.upstream._problems:
            stream.reset()
            return
        side.opening.add(self)
        # A context of its own: it may be begun in that of a task which pumps, and ends before.
        name = f"{side.upstream.name} connection {self._index}"
        self._tasks = Tasks(side._engine, Context(), self._fail)
        self._tasks.start(self._open(), name)

    def on_over(self, stream: Stream, *, by_reset: bool) -> None:
        """End the upstream's connection in the same way, or give it up."""
        self.cancel()
        super().on_over(stream, by_reset=by_reset)

    def cancel(self) -> None:
        """Stop connecting. With the lock held, as for the others."""
        self._side.opening.discard(self)
        if self._tasks is not None:
            self._side._engine.post(self._tasks.cancel)

    def _fail(self, error: BaseException) -> None:
        self._side.upstream._add_problem(error)

    async def _open(self) -> None:
        side = self._side
        try:
            deadline = side.settings.deadline(None)
            sock, peer = await run_async(self.connector.connect(deadline))
            with side._lock:
                self._join(sock, peer)
        except (OSError, UnsupportedError) as error:
            with side._lock:
                self._refuse(error)
        except Exception as error:
            side.upstream._fail(error)

    def _join(self, sock: _socket.socket, peer: Address | None) -> None:
        self._tasks = None
        upstream = self._side.upstream
        if self.stream.driver is not self or upstream.is_closed or upstream._problems:
            self._side.opening.discard(self)
            sock.close()
            return
        conn = upstream._admit(sock, peer, self._index, "connected")
        self._side.opening.discard(self)  # not before: a forked child has to find the socket
        other = Relay(conn._stream)
        conn._stream.driver = other
        conn._driven_by = Driven(other.title, instead=INSTEAD)
        self.join(other)
        upstream._meet(conn._stream, self._index)  # before the first byte
        self.catch_up()
        conn._stream.start()

    def _refuse(self, error: OSError | UnsupportedError) -> None:
        self._tasks = None
        self._side.opening.discard(self)
        upstream = self._side.upstream
        if self.stream.driver is not self or upstream.is_closed:
            return
        if isinstance(error, OSError) and error.errno in EXHAUSTED:
            upstream._fail(error)
            return
        why = error.strerror if isinstance(error, OSError) else str(error)
        for record in (upstream._new_record(self._index), self.stream.record):
            record.mark(CLOCK.stamp(), "note", note=f"upstream not reached: {why}")
        self.stream.reset()


def _settled(side: ClientSide) -> Steps[None]:
    yield side._engine.settled(side.settings.deadline(None))
