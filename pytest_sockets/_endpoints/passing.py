"""What AF_UNIX carries beside bytes: open files, and who is at the other end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pytest_sockets._endpoints.faces import verb
from pytest_sockets._endpoints.sending import Sending
from pytest_sockets._engine.descriptors import MOST, Descriptors
from pytest_sockets._engine.waiting import Steps
from pytest_sockets._wire.errors import UnsupportedError
from pytest_sockets._wire.events import PeerCredentials
from pytest_sockets._wire.framing import UpTo, count_of
from pytest_sockets._wire.matching import as_bytes
from pytest_sockets._wire.spool import ByteLog


class Passing(Sending):
    """The verbs that AF_UNIX has beside those of all streams."""

    @verb
    def send_fds(
        self, data: bytes, fds: Sequence[int], *, timeout: float | None = None
    ) -> Steps[None]:
        """Send bytes, and open files with the first of them, as `socket.send_fds`; AF_UNIX only.

        The peer gets descriptors of its own; ours stay open, and may be closed at once.

        Args:
            data: at least one byte: descriptors do not travel alone.
            fds: 1 to 253 descriptors.
            timeout: seconds; `None` means the endpoint's default.

        Raises:
            WaitTimeout: the peer did not read; the rest, perhaps with the files, stays queued.
            OSError: one of them is not open, or too many files are under way.
            UnsupportedError: the family is not AF_UNIX.
        """
        content = as_bytes(data, name="data")
        numbers = as_descriptors(fds)
        deadline = self._endpoint._deadline(timeout)
        self._descriptors("send_fds")
        if not content:
            msg = "send_fds needs at least one byte of data: descriptors do not travel alone"
            raise ValueError(msg)
        self._check_inline("send_fds")
        yield from self._send("send_fds", content, deadline, numbers)

    @verb
    def recv_fds(
        self, n: int, maxfds: int, *, timeout: float | None = None
    ) -> Steps[tuple[bytes, list[int]]]:
        """Return up to `n` bytes and the open files that came with them; AF_UNIX only.

        As `socket.recv_fds`, except that descriptors beyond `maxfds`, or that came with bytes which
        another verb took, are kept for the next call. The descriptors are not inheritable and are
        the caller's to close; what nobody takes is closed with the endpoint. ``(b"", [])`` after
        EOF.

        Raises:
            UnsupportedError: the family is not AF_UNIX.
        """
        most = count_of(maxfds, name="maxfds")
        self._endpoint._deadline(timeout)  # says first what is wrong with it
        descriptors = self._descriptors("recv_fds")
        frame = _UpToNextMessage(n, self._packet_end, descriptors)
        data = yield from self._take("recv_fds", frame, timeout, at_eof=True)
        with self._endpoint._lock:
            return data, descriptors.take(self._consumed, most)

    @property
    def peer_credentials(self) -> PeerCredentials | None:
        """Who is at the other end of an AF_UNIX stream; `None` for other families.

        Of a client it is the process that connected, of a server the one that listened, of a pair
        the one that made it, whoever uses the socket now. Readable after the end.
        """
        return self._stream.credentials

    # -- inside

    def _descriptors(self, name: str) -> Descriptors:
        descriptors = self._stream.descriptors
        if descriptors is None:
            msg = f"{self._label}: {name} needs AF_UNIX: descriptors do not travel over a network"
            raise UnsupportedError(msg)
        return descriptors


class _UpToNextMessage(UpTo):
    """At most `n` bytes, and the descriptors of one message at most, as the kernel gives them."""

    def __init__(
        self, n: int, end_of: Callable[[int], int] | None, descriptors: Descriptors
    ) -> None:
        super().__init__(n, end_of)
        self._descriptors = descriptors

    def find(self, log: ByteLog, start: int) -> tuple[bool, int]:
        found, stop = super().find(log, start)
        barrier = self._descriptors.barrier(start) if found else None
        return found, stop if barrier is None else min(stop, barrier)


def as_descriptors(fds: Any) -> list[int]:
    """Return descriptors to be sent, or say what is wrong with them."""
    try:
        numbers = list(fds)
    except TypeError:
        msg = f"fds must be a sequence of descriptors, not {fds!r}: write [{fds!r}]"
        raise TypeError(msg) from None
    for fd in numbers:
        if not isinstance(fd, int) or isinstance(fd, bool):
            msg = f"fds must be descriptors, which are whole numbers, not {fd!r}: use its fileno()"
            raise TypeError(msg)
        if fd < 0:
            msg = f"fds must be open descriptors, not {fd}: a closed file or socket has that number"
            raise ValueError(msg)
    if not 1 <= len(numbers) <= MOST:
        msg = (
            f"fds must be 1 to {MOST} descriptors, as many as the kernel takes, not {len(numbers)}"
        )
        raise ValueError(msg)
    return numbers
