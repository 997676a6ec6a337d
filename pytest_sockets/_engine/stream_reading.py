"""Reading a stream, and leaving what comes in the kernel."""

from __future__ import annotations

import _socket
import socket

from pytest_sockets._engine.binding import message_size
from pytest_sockets._engine.credentials import is_at_end
from pytest_sockets._engine.selector import READ
from pytest_sockets._engine.stream_base import LARGE_READ, StreamBase

TURN = 4 * 1024 * 1024
"""Bytes of one stream that are taken before other sockets are served."""
LAST_TURN = 64 * 1024 * 1024
"""Bytes taken at the end: beyond any kernel buffer, yet bounded when the peer never stops."""
LEAST = 16 * 1024
"""Bytes that a read counts for at least. A message may have one, and the kernel's buffer hold some
hundreds of them; so a turn has 256 at most, and the last one 4,096."""


class StreamReading(StreamBase):
    """How a stream is read, or not; what comes is for `_take`, `_take_eof` or `_lose`."""

    # -- whether to read

    def pause_reading(self, reason: object, *, until_close: bool = True) -> None:
        """Leave what comes in the kernel, also in `sync`, for as long as there is a reason."""
        with self._owner._lock:
            self._pauses[reason] = until_close
            self._watch(self._interest & ~READ)

    def resume_reading(self, reason: object) -> None:
        """Read again in the I/O thread's next turn, unless there is another reason not to."""
        with self._owner._lock:
            self._pauses.pop(reason, None)
            if not self._pauses and self.peer_ended is None:
                self._watch(self._interest | READ)

    def stop_reading(self, reason: object) -> None:
        """Leave what comes in the kernel, also at the end, with as little room as it grants."""
        assert self._socket is not None, "only an open stream reads"
        if not self._is_stopped:
            room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self._room = room // 2  # Linux doubles what it is given (socket(7))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self.pause_reading(reason, until_close=False)

    def go_on_reading(self, reason: object) -> None:
        """End a `stop_reading`."""
        self.resume_reading(reason)
        if self._socket is not None and not self._is_stopped:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._room)

    @property
    def _is_stopped(self) -> bool:
        """Whether a fault has stopped reading, at the end too."""
        return bool(self._pauses) and not all(self._pauses.values())

    # -- reading

    def _read(self, most: int = TURN, *, to_the_end: bool = False, is_lost: bool = False) -> None:
        """Take what the kernel holds, up to about so many bytes.

        A stream that `is_lost` has an end already: a send that fails says nothing of the bytes that
        came before, and the kernel still has them.
        """
        left = most
        while left > 0 and not (self._socket is None or self.peer_ended or self._is_stopped):
            size = self._read_size
            try:
                if self.faults is not None and not self.has_messages:
                    size = self.faults.readable(size, self._peek)
                data = self._recv(size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if not is_lost:
                    self._lose(error)
                return
            if data is None:
                left -= LEAST
                continue
            if not data:
                if not is_lost:
                    self._take_eof()
                return
            full = len(data) == size
            if size == self._read_size and full and size < LARGE_READ:
                self._read_size *= 8
                self._read_size = min(self._read_size, LARGE_READ)
            left -= max(len(data), LEAST)
            self._take(data)
            if self._delays_acks:
                self._acknowledge()
            # What is not plain comes in pieces: a message, or bytes up to descriptors.
            if not to_the_end and (self._pauses or (self._is_plain and not full)):
                return

    def _acknowledge(self) -> None:
        """Have the kernel acknowledge now what was read.

        Else it may wait up to 40 ms for an answer to go with it, and that long the peer's kernel
        holds back a next small write, though it was sent (RFC 1122, 4.2.3.2 and 4.2.3.4). It has to
        be asked each time (tcp(7): TCP_QUICKACK).
        """
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _peek(self, most: int) -> bytes:
        assert self._socket is not None
        return self._socket.recv(most, socket.MSG_PEEK)

    def _recv(self, most: int) -> bytes | None:
        """Return what comes next, `b""` at the end; `None` is an empty message."""
        sock = self._socket
        assert sock is not None
        if self._is_plain:
            return sock.recv(most)
        if self.has_messages:
            return self._recv_message(sock)
        assert self.descriptors is not None, "else it is plain"
        return self.descriptors.recv(sock, most, self.record.received.size)

    def _recv_message(self, sock: _socket.socket) -> bytes | None:
        size = message_size(sock)
        if self.descriptors is None:
            data = sock.recv(size or 1)
            # An empty message reads like the end. Behind one, a look finds more or raises
            # BlockingIOError; only a second one looks like the end.
            return None if not data and sock.recv(1, socket.MSG_PEEK) else data
        if not size and is_at_end(sock):
            return b""
        return self.descriptors.recv(sock, size or 1, self.record.received.size) or None

    def _take(self, data: bytes) -> None:
        """Take bytes that came."""
        raise NotImplementedError

    def _take_eof(self) -> None:
        """Take the peer's EOF."""
        raise NotImplementedError
