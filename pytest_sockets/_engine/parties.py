"""Who a socket deals with: the endpoint that owns it, and what answers on a stream."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from pytest_sockets._engine.stream import Stream

Lock: TypeAlias = "AbstractContextManager[object]"
"""What guards an endpoint, its records and all its sockets; its holder may take it again."""


class Driver(Protocol):
    """What answers on a stream. Called in the I/O thread, with the endpoint's lock held."""

    @property
    def title(self) -> str:
        """Its name after "driven by", such as "its echo behaviour"."""
        ...

    def on_open(self, stream: Stream) -> None:
        """Act on a new connection."""
        ...

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Act on bytes that arrived."""
        ...

    def on_eof(self, stream: Stream) -> None:
        """Act on the peer's EOF."""
        ...

    def on_drained(self, stream: Stream) -> None:
        """Act on an empty send queue, after it had to wait for the peer or for its turn."""
        ...

    def on_over(self, stream: Stream, *, by_reset: bool) -> None:
        """Act on what leaves it nothing to drive: a reset by either side, or our own `close`.

        From any thread. It is not told of the endpoint's end, which ends all streams.
        """
        ...


class Owner(Protocol):
    """The endpoint, as its streams see it."""

    @property
    def _lock(self) -> Lock:
        """The lock that guards the endpoint, its records and all its sockets."""
        ...

    def _on_first(self, stream: Stream, *, sent: bool) -> None:
        """Note the first bytes of one direction."""
        ...

    def _on_end(self, stream: Stream) -> None:
        """Note that our side of a stream is over: its FIN is out, or it was reset or closed."""
        ...

    def _fail(self, error: Exception) -> None:
        """Make an error on our side a problem."""
        ...
