"""A stream as asyncio's protocols want it: a transport."""

from __future__ import annotations

import asyncio
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, cast

from pytest_sockets._engine.parties import Lock
from pytest_sockets._engine.stream import Stream
from pytest_sockets._wire.errors import UnsupportedError

HIGH = 64 * 1024
"""Bytes in the queue above which a protocol is told to pause: asyncio's own default."""


class StreamTransport(asyncio.Transport):
    """A transport that sends, pauses and ends a recorded stream.

    It keeps asyncio's promises, with these differences: what was written counts as sent once the
    kernel has it, `close()` drains the peer's last bytes into the record, `abort()` sends RST.

    Args:
        stream: what it carries.
        lock: the endpoint's.
        wake: asks for a turn of the protocol.
        call: calls a method of the protocol, and takes what it raises.
    """

    def __init__(
        self, stream: Stream, lock: Lock, wake: Callable[[], None], call: Callable[..., object]
    ) -> None:
        super().__init__(_extra(stream))
        self._stream = stream
        self._lock = lock
        self._wake = wake
        self._call = call
        self._protocol: asyncio.BaseProtocol | None = None
        self._low, self._high = HIGH // 4, HIGH
        self._is_closing = False
        self._is_eof_written = False
        self._is_reading_paused = False
        self._room: int | None = None  # sent bytes at which a paused protocol may write again

    # -- what the protocol asks for

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send what the kernel takes now and queue the rest. Does not block."""
        if not isinstance(cast("object", data), (bytes, bytearray, memoryview)):
            msg = f"data must be bytes-like, not {type(data).__name__} {data!r}"
            raise TypeError(msg)
        if self._is_eof_written:
            msg = "cannot write() after write_eof(): the peer has been told that nothing follows"
            raise RuntimeError(msg)
        with self._lock:
            self._stream.write(bytes(data))
        self._hold_back()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Write all pieces as one."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Send FIN once all is sent; receiving goes on."""
        if not self._is_closing and not self._is_eof_written:
            self._is_eof_written = True
            self._stream.send_eof()

    def can_write_eof(self) -> bool:
        """Every stream can."""
        return True

    def close(self) -> None:
        """Send what is queued, then FIN. Nothing is received any more, but still recorded."""
        if not self._is_closing:
            self._is_closing = True
            self._stream.close()
            self._wake()

    def abort(self) -> None:
        """End at once with RST; what is queued is lost."""
        self._is_closing = True
        self._stream.reset()
        self._wake()

    def is_closing(self) -> bool:
        """Whether it has been closed, or the connection is lost."""
        return self._is_closing or self.is_over

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading()`; the kernel's buffers fill up meanwhile."""
        if not self._is_closing and not self._is_reading_paused:
            self._is_reading_paused = True
            self._stream.pause_reading("protocol")

    def resume_reading(self) -> None:
        """Receive again."""
        if not self._is_closing and self._is_reading_paused:
            self._is_reading_paused = False
            self._stream.resume_reading("protocol")
            self._wake()

    def is_reading(self) -> bool:
        """Whether it receives."""
        return not self._is_closing and not self._is_reading_paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the sizes of the queue, in bytes, between which `resume_writing` follows a pause."""
        if high is None:
            high = HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            msg = f"high ({high!r}) must be at least low ({low!r}), and low at least 0"
            raise ValueError(msg)
        self._low, self._high = low, high
        if self._room is not None:
            self._wake()
        self._hold_back()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the limits, the low one first."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the peer to make room."""
        return self._stream.queued

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the current protocol."""
        assert self._protocol is not None, "the transport is older than its protocol"
        return self._protocol

    def __repr__(self) -> str:
        state = "closing" if self.is_closing() else "open"
        return f"<StreamTransport {state}, {self._stream.queued} bytes queued>"

    @property
    def _start_tls_compatible(self) -> NoReturn:
        # `loop.start_tls` looks here; with False it would blame the transport's type.
        msg = "start_tls() does not work on a connection of serve_protocol: it cannot do TLS so far"
        raise UnsupportedError(msg)

    # -- what the tap asks for

    @property
    def is_delivering(self) -> bool:
        """Whether the protocol wants what has arrived."""
        return not self._is_closing and not self._is_reading_paused

    @property
    def is_over(self) -> bool:
        """Whether `connection_lost` is due."""
        stream = self._stream
        with self._lock:
            if stream.is_open:  # our FIN is out and the rest is drained, for the record
                return stream.driver is None and bool(stream.ended.level)
            # After the EOF of both sides the descriptor is gone; asyncio still waits for close().
            both_ended = (
                stream.driver is not None and stream.peer_ended == "eof" and stream._eof_sent
            )
            return self._is_closing or not both_ended

    def relieve(self) -> None:
        """Tell a protocol that may write again so, once the queue is short enough."""
        stream = self._stream
        with self._lock:
            if self._room is None or not stream.is_open:
                return
            stream.sent.unwatch(self._room, self._wake)
            self._room = None
            if stream.queued > self._low:
                self._watch_room()
                return
        self._call(self.get_protocol().resume_writing)

    def _hold_back(self) -> None:
        """Tell the protocol to pause when the queue is too long."""
        with self._lock:
            if self._room is not None or self._stream.queued <= self._high:
                return
            self._watch_room()
        self._call(self.get_protocol().pause_writing)

    def _watch_room(self) -> None:
        stream = self._stream
        self._room = stream.record.sent.size + stream.queued - self._low
        stream.sent.watch(self._room, self._wake)


class BorrowedSocket(TransportSocket):
    """What `get_extra_info("socket")` gives: options and names, but no way to close or send."""

    def dup(self) -> NoReturn:
        """Refuse: while a duplicate is open, the connection cannot be reset."""
        msg = (
            "the socket of a connection cannot be duplicated: no RST goes out while a copy is open"
        )
        raise UnsupportedError(msg)


def _extra(stream: Stream) -> dict[str, Any]:
    sock = stream._socket
    if sock is None:  # it ended as it began
        return {}
    try:
        peer: Any = sock.getpeername()
    except OSError:  # it was reset already
        peer = None
    borrowed = BorrowedSocket(cast("socket.socket", sock))
    return {"peername": peer, "sockname": sock.getsockname(), "socket": borrowed}
