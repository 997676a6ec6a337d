"""Open files that travel beside the bytes of AF_UNIX (unix(7): SCM_RIGHTS)."""

from __future__ import annotations

import _socket
import os
import socket
from array import array
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pytest_sockets._engine.credentials import CREDENTIALS_ROOM, credentials_beside
from pytest_sockets._engine.parties import Owner
from pytest_sockets._wire.errors import EndpointError
from pytest_sockets._wire.events import PeerCredentials
from pytest_sockets._wire.record import Record
from pytest_sockets._wire.rendering import count

MOST = 253
"""Descriptors that one sendmsg(2) takes: SCM_MAX_FD of Linux."""

_WORD = array("i").itemsize
_ROOM = _socket.CMSG_SPACE(MOST * _WORD) if hasattr(_socket, "CMSG_SPACE") else 0
_NOT_INHERITED = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)


class Descriptors:
    """The descriptors of one socket, arrived and leaving. The endpoint's lock guards them.

    Their place in a stream is the offset of a byte; among datagrams it is the number of one.

    A descriptor that has arrived is ours until somebody takes it; one that leaves is a copy of the
    caller's, who may close theirs while it waits in the queue.
    """

    def __init__(self) -> None:
        self.fresh = 0
        """How many came with the newest bytes."""
        self.gone = 0
        """How many went with the newest bytes."""
        self.cut = False
        """Whether the kernel could not hand over all, and has closed those."""
        self._arrived: deque[tuple[int, list[int]]] = deque()
        self._leaving: deque[tuple[int, list[int]]] = deque()

    # -- arriving

    def recv(self, sock: _socket.socket, most: int, offset: int) -> bytes:
        """Receive bytes that begin at an offset of the stream, and what comes beside them.

        One call returns the descriptors of one message at most: the kernel ends it there.
        """
        data, beside, flags, _ = sock.recvmsg(most, _ROOM, _NOT_INHERITED)
        self._arrive(beside, flags, offset)
        return data

    def recv_from(
        self, sock: _socket.socket, most: int, number: int
    ) -> tuple[bytes, Any, PeerCredentials | None]:
        """Receive a datagram, its source and its sender, and what comes beside it."""
        room = _ROOM + CREDENTIALS_ROOM
        data, beside, flags, source = sock.recvmsg(most, room, _NOT_INHERITED)
        self._arrive(beside, flags, number)
        return data, source, credentials_beside(beside)

    def _arrive(self, beside: list[tuple[int, int, bytes]], flags: int, offset: int) -> None:
        self.fresh = 0
        for level, kind, content in beside:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                came = array("i")
                came.frombytes(content[: len(content) // _WORD * _WORD])
                self.fresh = len(came)
                self._arrived.append((offset, came.tolist()))
        self.cut = bool(flags & socket.MSG_CTRUNC)

    def note(self, record: Record, owner: Owner) -> None:
        """Record what came with the newest bytes; what was cut off is a problem."""
        if self.fresh:
            record.annotate(f"with {count(self.fresh, 'descriptor')}")
        if self.cut:
            msg = (
                "descriptors were sent to it that the kernel could not hand over (MSG_CTRUNC): "
                "this process has too many open files; raise `ulimit -n`, or close some"
            )
            owner._fail(EndpointError(msg))

    def barrier(self, start: int) -> int | None:
        """Return where a read from `start` has to end, as descriptors of a second message follow.

        `None` means nowhere.
        """
        later = [offset for offset, _ in self._arrived if offset > start]
        if later and self._arrived[0][0] > start:
            later = later[1:]  # the first one's are this read's
        return later[0] if later else None

    def take(self, stop: int, most: int) -> list[int]:
        """Give the descriptors away that came with bytes before `stop`, `most` at most."""
        taken: list[int] = []
        while self._arrived and self._arrived[0][0] < stop and len(taken) < most:
            waiting = self._arrived[0][1]
            room = most - len(taken)
            taken += waiting[:room]
            del waiting[:room]
            if not waiting:
                self._arrived.popleft()
        return taken

    # -- leaving

    def give(self, offset: int, fds: Iterable[int]) -> None:
        """Send copies of descriptors with the byte at an offset of the stream.

        Raises:
            OSError: one of them is not open; nothing will be sent then.
        """
        self._leaving.append((offset, copies_of(fds)))

    def send(self, sock: _socket.socket, data: bytes | memoryview, offset: int) -> int:
        """Send bytes that begin at an offset, with what leaves beside them; return how many."""
        self.gone = 0
        if not self._leaving or self._leaving[0][0] != offset:
            return sock.send(data, _NO_SIGPIPE)
        fds = self._leaving[0][1]
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))]
        taken = sock.sendmsg([data], beside, _NO_SIGPIPE)
        self.gone = len(fds)
        self.drop(offset)
        return taken

    def shift(self, size: int) -> None:
        """Have all leave so many bytes later."""
        self._leaving = deque((offset + size, fds) for offset, fds in self._leaving)

    def drop(self, offset: int) -> None:
        """Close the copies that were to leave at an offset."""
        if self._leaving and self._leaving[0][0] == offset:
            close_all(self._leaving.popleft()[1])

    # -- the end

    def close_leaving(self) -> None:
        """Close all copies that have not left."""
        while self._leaving:
            close_all(self._leaving.popleft()[1])

    def close(self) -> None:
        """Close all that nobody has taken, in either direction."""
        self.close_leaving()
        while self._arrived:
            close_all(self._arrived.popleft()[1])


def copies_of(fds: Iterable[int]) -> list[int]:
    """Return copies of descriptors, whose owner may close theirs then.

    Raises:
        OSError: one of them is not open, or there can be no more; there is no copy then.
    """
    copies: list[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(fd))
    except OSError:
        close_all(copies)
        raise
    return copies


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors of ours."""
    for fd in fds:
        with suppress(OSError):  # closed by somebody who had no right to: not a reason to stop
            os.close(fd)
