"""Reading a stream: taking frames from it, and requiring what comes next."""

from __future__ import annotations

import re
from typing import Any, overload

from pytest_sockets._endpoints.faces import drive, verb
from pytest_sockets._endpoints.stream_view import StreamView
from pytest_sockets._engine.waiting import Steps
from pytest_sockets._wire.errors import MismatchError, PeerGoneError, WaitTimeout
from pytest_sockets._wire.framing import (
    Exactly,
    Frame,
    Prefixed,
    Until,
    UpTo,
    expectation,
    show_misfit,
)
from pytest_sockets._wire.rendering import count, show, show_difference


class Reading(StreamView):
    """The verbs that consume what was received, or wait for the peer's end."""

    # -- receiving

    @verb
    def recv(self, n: int, *, timeout: float | None = None) -> Steps[bytes]:
        """Return up to `n` bytes as soon as there are any; ``b""`` after EOF, as `socket.recv`.

        Of SOCK_SEQPACKET they are of one packet, but what of it is longer stays for the next call.
        The other verbs take a stream of bytes there too; the transcript has each packet.
        """
        frame = UpTo(n, self._packet_end)
        return (yield from self._take("recv", frame, timeout, at_eof=True))

    @verb
    def recv_exactly(self, n: int, *, timeout: float | None = None) -> Steps[bytes]:
        """Return exactly `n` bytes."""
        return (yield from self._take("recv_exactly", Exactly(n), timeout))

    @verb
    def recv_until(self, separator: bytes, *, timeout: float | None = None) -> Steps[bytes]:
        """Return everything up to and including `separator`."""
        return (yield from self._take("recv_until", Until(separator), timeout))

    @verb
    def recv_line(self, *, timeout: float | None = None) -> Steps[bytes]:
        r"""Return everything up to and including the next ``b"\n"``."""
        return (yield from self._take("recv_line", Until(b"\n"), timeout))

    @verb
    def recv_prefixed(self, format: str, *, timeout: float | None = None) -> Steps[bytes]:
        """Read a length in a `struct` format such as ``">H"`` and return so many bytes.

        The prefix counts the bytes that follow it and is not part of the result.
        """
        frame = Prefixed(format)
        data = yield from self._take("recv_prefixed", frame, timeout)
        return data[frame.size :]

    @verb
    def recv_to_eof(self, *, timeout: float | None = None) -> Steps[bytes]:
        """Return everything up to the peer's EOF."""
        self._check_inline("recv_to_eof")
        yield from self._peer_end(timeout, "recv_to_eof")
        with self._endpoint._lock:
            data = self._log.read(self._consumed)
            self._consumed = self._log.size
        return data

    # -- expecting

    @overload
    def expect(self, expected: bytes, *, timeout: float | None = None) -> bytes: ...
    @overload
    def expect(
        self, expected: re.Pattern[bytes], *, until: bytes | int, timeout: float | None = None
    ) -> re.Match[bytes]: ...
    def expect(
        self, expected: Any, *, until: bytes | int | None = None, timeout: float | None = None
    ) -> Any:
        r"""Require what comes next, and consume it.

        With bytes: exactly these bytes come next; fails at the first that differs. With a compiled
        pattern: the frame that `until` ends (a separator, or a number of bytes) fully matches.

        Returns:
            The bytes, or the match.

        Raises:
            MismatchError: something else came, or the peer ended before all of it came.
        """
        __tracebackhide__ = True
        return drive(self._expect(expected, until, timeout), "expect")

    def _expect(
        self, expected: Any, until: bytes | int | None, timeout: float | None
    ) -> Steps[Any]:
        self._check_inline("expect")
        wanted, frame = expectation(expected, until)
        if frame is None:
            return (yield from self._expect_bytes(wanted, timeout))
        return (yield from self._expect_match(wanted, frame, timeout))

    def _expect_bytes(self, expected: bytes, timeout: float | None) -> Steps[bytes]:
        deadline = self._endpoint._deadline(timeout)
        equal = 0
        late = False
        while True:
            with self._endpoint._lock:
                self._endpoint._raise_problem()
                start = self._consumed
                actual = self._log.read(start + equal, start + len(expected))
                if actual != expected[equal : equal + len(actual)]:
                    difference = show_difference(expected, expected[:equal] + actual)
                    msg = f"{self._label} received something else\n{difference}"
                    raise MismatchError(msg)
                equal += len(actual)
                if equal == len(expected):
                    self._consumed += equal
                    return expected
                over = self._why_over("received")
                if self._stream.peer_ended is None:
                    self._check_readable(f"expect wanted {show(expected)}")
            if over:
                difference = show_difference(expected, expected[:equal])
                msg = f"{self._label} received less\n{difference}\n  no more can come: {over}"
                raise MismatchError(msg)
            if late:
                msg = (
                    f"{self._label}: waited {deadline} for {show(expected)}\n"
                    f"  received so far: {show(expected[:equal])} "
                    f"({equal} of {count(len(expected), 'byte')})"
                )
                raise WaitTimeout(msg)
            late = yield from self._endpoint._waited(
                deadline, (self._stream.received, start + equal + 1)
            )

    def _expect_match(
        self, pattern: re.Pattern[bytes], frame: Frame, timeout: float | None
    ) -> Steps[re.Match[bytes]]:
        try:
            data = yield from self._take("expect", frame, timeout)
        except PeerGoneError as error:
            msg = f"{self._label} received less than a full match of {pattern.pattern!r}\n  {error}"
            raise MismatchError(msg) from error.__cause__
        found = pattern.fullmatch(data)
        if found is None:
            with self._endpoint._lock:
                self._consumed -= len(data)  # as with bytes: what is not as expected stays unread
            misfit = show_misfit(pattern, data, frame)
            msg = f"{self._label} received something else\n{misfit}"
            raise MismatchError(msg)
        return found

    @verb
    def expect_eof(self, *, timeout: float | None = None) -> Steps[None]:
        """Require that EOF comes next: unread bytes or a reset fail."""
        self._check_inline("expect_eof")
        deadline = self._endpoint._deadline(timeout)
        stream = self._stream
        late = False
        while True:
            with self._endpoint._lock:
                self._endpoint._raise_problem()
                if self._unread:
                    came = f"{count(self._unread, 'byte')} came: {self._show_unread()}"
                    msg = f"{self._label} expected EOF, but {came}"
                    raise MismatchError(msg)
                if stream.peer_ended == "eof":
                    return
                if stream.peer_ended == "reset":
                    msg = f"{self._label} expected EOF, but {self._why_over('received')}"
                    raise MismatchError(msg)
                self._check_readable()
            if late:
                msg = f"{self._label}: waited {deadline} for EOF; the peer has not closed its side"
                raise WaitTimeout(msg)
            late = yield from self._endpoint._waited(
                deadline, (stream.peer_end, 1), (stream.received, self._consumed + 1)
            )

    @verb
    def expect_reset(self, *, timeout: float | None = None) -> Steps[None]:
        """Require that the peer resets the connection; EOF fails, unread bytes do not matter."""
        ended = yield from self._wait_peer_end(timeout, "a reset")
        if ended != "reset":
            msg = f"{self._label} expected a reset, but {self._why_over('received')}"
            raise MismatchError(msg)

    @verb
    def wait_eof(self, *, timeout: float | None = None) -> Steps[None]:
        """Wait for the peer's EOF, whatever came before it."""
        yield from self._peer_end(timeout, "wait_eof")
