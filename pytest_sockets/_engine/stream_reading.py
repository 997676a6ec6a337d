"""Reading a stream, and leaving what comes in the kernel."""

from __future__ import annotations

import socket

from pytest_sockets._engine.binding import message_size
from pytest_sockets._engine.selector import READ
from pytest_sockets._engine.stream_base import LARGE_READ, StreamBase

TURNS = 16
"""Reads of one stream before other sockets are served."""
LAST_TURNS = 256
"""Reads at the end: beyond any kernel buffer, yet bounded when the peer never stops sending."""


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

    def _read(self, turns: int = TURNS, *, to_the_end: bool = False) -> None:
        for _ in range(turns):
            if self._socket is None or self.peer_ended is not None or self._is_stopped:
                return
            size = self._read_size
            try:
                if self.faults is not None and not self.has_messages:
                    size = self.faults.readable(size, self._peek)
                data = self._recv(size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._lose(error)
                return
            if not data:
                self._take_eof()
                return
            full = len(data) == size
            if size == self._read_size and full and size < LARGE_READ:
                self._read_size *= 8
                self._read_size = min(self._read_size, LARGE_READ)
            self._take(data)
            if not to_the_end and (not full or self._pauses):
                return

    def _take_rest(self) -> None:
        # A send that fails says nothing of the bytes that came before; the kernel still has them.
        for _ in range(LAST_TURNS):
            if self._socket is None or self.peer_ended is not None or self._is_stopped:
                return
            try:
                size = LARGE_READ
                if self.faults is not None and not self.has_messages:
                    size = self.faults.readable(size, self._peek)
                data = self._recv(size)
            except OSError:
                return
            if not data:
                return
            self._take(data)

    def _peek(self, most: int) -> bytes:
        assert self._socket is not None
        return self._socket.recv(most, socket.MSG_PEEK)

    def _recv(self, most: int) -> bytes:
        sock = self._socket
        assert sock is not None
        if self._is_plain:
            return sock.recv(most)
        if self.has_messages:
            most = message_size(sock)
        if self.descriptors is not None:
            data = self.descriptors.recv(sock, most, self.record.received.size)
        else:
            data = sock.recv(most)
        # An empty message reads like EOF. Behind one, a look finds more or raises BlockingIOError.
        if not data and self.has_messages and sock.recv(1, socket.MSG_PEEK):
            return self._recv(most)
        return data

    def _take(self, data: bytes) -> None:
        """Take bytes that came."""
        raise NotImplementedError

    def _take_eof(self) -> None:
        """Take the peer's EOF."""
        raise NotImplementedError
