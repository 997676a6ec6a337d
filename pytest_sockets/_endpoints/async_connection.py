"""A connection as an `async def` handler sees it: its verbs are awaited."""

from __future__ import annotations

from typing import Any, final

from pytest_sockets._endpoints.connection import AsyncConnectionFace, Connection
from pytest_sockets._endpoints.endpoint import Endpoint
from pytest_sockets._engine.stream_base import PeerEnd
from pytest_sockets._wire.events import Address, Event


@final
class AsyncConnection(AsyncConnectionFace):
    """The connection of an `async def` handler, with the verbs of `Connection` as coroutines.

    The handler runs on the I/O loop of the endpoints, not on the test's: an `asyncio.Event` of the
    test is not its to wait for, a `Gate` is. It must not block: every endpoint would stand still.
    """

    def __init__(self, conn: Connection) -> None:
        super().__init__(conn)
        self._conn = conn

    def reset(self) -> None:
        """End abruptly with RST. Does not block; see `Connection.reset`."""
        self._conn.reset()

    @property
    def received(self) -> bytes:
        """All bytes received so far, consumed or not."""
        return self._conn.received

    @property
    def sent(self) -> bytes:
        """All bytes that the kernel has taken from us so far."""
        return self._conn.sent

    @property
    def transcript(self) -> tuple[Event, ...]:
        """All that has happened on it so far, in order, as frozen events."""
        return self._conn.transcript

    @property
    def saved(self) -> dict[str, Any]:
        """Where a script's `save=` puts what it received; a handler may use it as it likes."""
        return self._conn.saved

    @property
    def peer_ended(self) -> PeerEnd | None:
        """How the peer ended its side so far: `None` (it has not), ``"eof"`` or ``"reset"``."""
        return self._conn.peer_ended

    @property
    def is_closed(self) -> bool:
        """Whether our side has ended: its FIN is out, or it was reset."""
        return self._conn.is_closed

    @property
    def peer_address(self) -> Address | None:
        """The other end's address; `None` for an unnamed AF_UNIX socket."""
        return self._conn.peer_address

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint it belongs to."""
        return self._conn.endpoint

    @property
    def index(self) -> int:
        """Its number on its endpoint, from 0 in order of arrival."""
        return self._conn.index

    def __repr__(self) -> str:
        return repr(self._conn)
