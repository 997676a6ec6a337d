"""What passes the bytes of one connection on to another, and its end."""

from __future__ import annotations

from pytest_sockets._engine.stream import Stream

BOUND = 256 * 1024
"""Bytes that may wait for one side to read before nothing more is read from the other one."""
REASON = "the other side's queue is full"


class Relay:
    """Drives one stream of two: what comes on it goes out on the other.

    EOF is passed on as EOF, each direction by itself, and a reset as a reset. As long as there is
    no other stream, the record keeps what came.
    """

    title = "the proxy"

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.other: Relay | None = None
        self._passed = 0  # bytes of what was received

    def join(self, other: Relay) -> None:
        """Pass on to another from now on. With the lock held."""
        self.other, other.other = other, self

    def catch_up(self) -> None:
        """Pass on what has come before there was another. With the lock held."""
        stream = self.stream
        stream.resume_reading(REASON)
        self._pass(stream.record.received.read())
        if stream.peer_ended == "eof" and self.other is not None:
            self.other.stream.send_eof()

    def on_open(self, stream: Stream) -> None:
        """Wait for what comes."""

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Pass it on."""
        self._pass(data)

    def on_eof(self, stream: Stream) -> None:
        """Pass it on; the other direction goes on."""
        if self.other is not None:
            self.other.stream.send_eof()

    def on_drained(self, stream: Stream) -> None:
        """Let the other side send more."""
        if self.other is not None:
            self.other.stream.resume_reading(REASON)

    def on_over(self, stream: Stream, *, by_reset: bool) -> None:
        """End the other stream in the same way."""
        other = self.other
        if other is None:
            return
        if by_reset:
            # What a failed send finds in the kernel behind it was recorded, and given to nobody.
            self._pass(stream.record.received.read(self._passed))
            other.stream.reset()
        else:
            other.stream.close()

    def _pass(self, data: bytes) -> None:
        if self.other is None:
            waiting = self.stream.record.received.size
        else:
            self._passed += len(data)
            stream = self.other.stream
            stream.write(data)
            waiting = stream.queued - stream.under_way  # a delay makes a way long, not narrow
        if waiting > BOUND:
            self.stream.pause_reading(REASON)
