"""What a server does on its own: echo (RFC 862), discard (RFC 863), chargen (RFC 864), silence."""

from __future__ import annotations

from pytest_sockets._engine.stream import Stream

_RING = bytes(range(0x20, 0x7F))
CHARGEN_LINES = b"".join(
    (_RING + _RING)[start : start + 72] + b"\r\n" for start in range(len(_RING))
)
"""One turn of the pattern that RFC 864 recommends: 95 lines of 72 characters."""
TURN = 16
"""Writes before other sockets are served: a peer that reads as fast as we write never fills the
kernel's buffer."""


class Behaviour:
    """Does nothing, for as long as the connection lasts."""

    title = "its silent behaviour"

    def on_open(self, stream: Stream) -> None:
        """Leave a new connection alone."""

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Leave bytes unanswered."""

    def on_eof(self, stream: Stream) -> None:
        """Leave our side open."""

    def on_drained(self, stream: Stream) -> None:
        """Send no more."""

    def on_over(self, stream: Stream, *, by_reset: bool) -> None:
        """Forget the connection."""


class Discard(Behaviour):
    """Reads and throws away; closes after the peer's EOF."""

    title = "its discard behaviour"

    def on_eof(self, stream: Stream) -> None:
        """Close in order."""
        stream.close()


class Echo(Discard):
    """Sends everything back; closes after the peer's EOF."""

    title = "its echo behaviour"

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Send it back."""
        stream.write(data)


class Chargen(Discard):
    """Sends a pattern for as long as the peer takes it."""

    title = "its chargen behaviour"

    def on_open(self, stream: Stream) -> None:
        """Send until the kernel takes no more, and let others have a turn."""
        for _ in range(TURN):
            if not stream.can_send or stream.queued:
                return
            stream.write(CHARGEN_LINES)
        stream.ask_room()

    def on_drained(self, stream: Stream) -> None:
        """Send on, now that the peer has read."""
        self.on_open(stream)
