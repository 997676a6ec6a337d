"""A datagram socket as its user sees it: datagrams in, datagrams out."""

from __future__ import annotations

from typing import Any

from pytest_sockets._endpoints.datagram_sending import DatagramSending
from pytest_sockets._endpoints.faces import Face, Twin, verb
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.descriptors import MOST
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import MismatchError, WaitTimeout
from pytest_sockets._wire.events import Datagram
from pytest_sockets._wire.framing import count_of, show_misfit
from pytest_sockets._wire.matching import as_expectation, matches, pairing, show_expected
from pytest_sockets._wire.rendering import count, show, show_address, show_difference


class DatagramEndpoint(DatagramSending):
    """A datagram socket, recorded: what `UDPPeer`, `UnixDatagramPeer` and pairs have in common."""

    kind = "datagram_peer"

    @property
    def datagrams(self) -> tuple[Datagram, ...]:
        """All datagrams received so far, in order."""
        __tracebackhide__ = True
        self._sync()
        with self._lock:
            return tuple(self._datagrams.datagrams())

    @property
    def received(self) -> list[bytes]:
        """The content of all datagrams received so far, in order."""
        __tracebackhide__ = True
        self._sync()
        with self._lock:
            return self._payloads()

    @property
    def sent(self) -> list[bytes]:
        """The content of all datagrams sent so far, in order."""
        __tracebackhide__ = True
        self._sync()
        with self._lock:
            return [event.data for event in self._datagrams if event.kind == "sent"]

    @verb
    def expect(self, expected: Any, *, timeout: float | None = None) -> Steps[Datagram]:
        """Require what the next datagram is, consume it and return it.

        Args:
            expected: bytes, a compiled bytes pattern (must match all of it), or anything with an
                ``==`` of its own.
            timeout: seconds; `None` means the endpoint's default, 0 only what has arrived.
        """
        wanted = as_expectation(expected)
        deadline = self._deadline(timeout)
        first = yield from self._next(deadline, f"the datagram {show_expected(wanted)}")
        if matches(wanted, first.data):
            return first
        origin = f"  from      {show_address(first.source)}"
        msg = f"{self.name} received something else\n{_difference(wanted, first.data)}\n{origin}"
        raise MismatchError(msg)

    @verb
    def recv_fds(
        self, maxfds: int = MOST, *, timeout: float | None = None
    ) -> Steps[tuple[Datagram, list[int]]]:
        """Return the next datagram, consumed, and the open files that came with it; AF_UNIX only.

        Descriptors beyond `maxfds`, or that came with a datagram which `expect` took, are kept for
        the next call. They are not inheritable and are the caller's to close; what nobody takes is
        closed with the endpoint.

        Raises:
            UnsupportedError: the family is not AF_UNIX.
        """
        most = count_of(maxfds, name="maxfds")
        deadline = self._deadline(timeout)
        descriptors = self._descriptors("recv_fds")
        first = yield from self._next(deadline, "a datagram")
        with self._lock:
            return first, descriptors.take(self._consumed, most)

    @verb
    def wait_datagrams(self, n: int, *, timeout: float | None = None) -> Steps[None]:
        """Wait until at least `n` datagrams have arrived since the start."""
        yield from self._counted(count_of(n, name="n"), timeout)

    @verb
    def assert_datagrams(
        self, n: int, *, max_size: int | None = None, timeout: float | None = None
    ) -> Steps[None]:
        """Require exactly `n` datagrams since the start, each of at most `max_size` bytes."""
        wanted = count_of(n, name="n")
        most = None if max_size is None else count_of(max_size, name="max_size")
        deadline = self._deadline(timeout)
        yield from self._settle()
        late = False
        while True:
            with self._lock:
                self._raise_problem()
                have = self._payloads()
                over = self._why_over()
            for index, data in enumerate(have):
                if most is not None and len(data) > most:
                    msg = (
                        f"{self.name}: datagram {index} has {count(len(data), 'byte')}, "
                        f"more than {most}: {show(data)}"
                    )
                    raise MismatchError(msg)
            if len(have) == wanted:
                return
            if len(have) > wanted or over:
                came = count(len(have), "datagram")
                msg = f"{self.name} received {came}, expected {wanted}{_listing(have)}"
                raise MismatchError(msg)
            if late:
                raise WaitTimeout(self._too_few(deadline, wanted, len(have)))
            need = wanted if most is None else len(have) + 1
            late = yield from self._waited(deadline, (self._arrived, need))

    @verb
    def assert_received(
        self, *payloads: Any, any_order: bool = False, timeout: float | None = None
    ) -> Steps[None]:
        """Require that the datagrams received since the start are these, all of them and no other.

        Waits while the missing ones can still come, and fails at the first that fits none.

        Args:
            payloads: each bytes, a compiled bytes pattern (must match all of a datagram), or
                anything with an ``==`` of its own.
            any_order: whether they may come in another order, as UDP permits.
            timeout: seconds; `None` means the endpoint's default.
        """
        wanted = [as_expectation(payload, name="each payload") for payload in payloads]
        deadline = self._deadline(timeout)
        yield from self._settle()
        late = False
        while True:
            with self._lock:
                self._raise_problem()
                have = self._payloads()
                over = self._why_over()
            if any_order:
                misfit = _first_misfit(wanted, have)
            else:
                misfit = next(
                    (
                        index
                        for index, data in enumerate(have)
                        if index >= len(wanted) or not matches(wanted[index], data)
                    ),
                    None,
                )
            if misfit is not None:
                raise MismatchError(self._misfit(wanted, have, misfit, any_order=any_order))
            if len(have) == len(wanted):
                return
            missing = "" if any_order else f": {show_expected(wanted[len(have)])} is missing"
            if over:
                ending = f"{missing}{_listing(have)}\n  no more can come: {over}"
                came = count(len(have), "datagram")
                msg = f"{self.name} received {came}, expected {len(wanted)}{ending}"
                raise MismatchError(msg)
            if late:
                too_few = self._too_few(deadline, len(wanted), len(have))
                raise WaitTimeout(f"{too_few}{missing}{_listing(have)}")
            late = yield from self._waited(deadline, (self._arrived, len(have) + 1))

    @verb
    def assert_nothing_received(self) -> Steps[None]:
        """Require that no datagram has been sent to here before this call; does not wait."""
        yield from self._settle()
        self._raise_problem()
        with self._lock:
            have = self._payloads()
        if have:
            listing = _listing(have)
            msg = f"{self.name} received {count(len(have), 'datagram')}, expected none{listing}"
            raise MismatchError(msg)

    @property
    def aio(self) -> AsyncDatagramFace:
        """The same verbs, awaitable, for asyncio and trio."""
        return AsyncDatagramFace(self)

    # -- inside

    def _next(self, deadline: Deadline, what: str) -> Steps[Datagram]:
        """Wait for the next datagram and consume it."""
        late = False
        while True:
            with self._lock:
                self._raise_problem()
                record = self._datagrams
                if self._consumed < record.received_chunks:
                    self._consumed += 1
                    return record.datagram(self._consumed - 1)
                if self._closed:
                    self._raise_closed()
            if late:
                msg = (
                    f"{self.name}: waited {deadline} for {what}; "
                    f"{count(self._consumed, 'datagram')} came before it"
                )
                raise WaitTimeout(msg)
            late = yield from self._waited(deadline, (self._arrived, self._consumed + 1))

    def _payloads(self) -> list[bytes]:
        return [datagram.data for datagram in self._datagrams.datagrams()]

    def _counted(self, wanted: int, timeout: float | None) -> Steps[None]:
        deadline = self._deadline(timeout)
        late = False
        while True:
            with self._lock:
                self._raise_problem()
                have = self._datagrams.received_chunks
                if have >= wanted:
                    return
                if self._closed:
                    self._raise_closed()
            if late:
                raise WaitTimeout(self._too_few(deadline, wanted, have))
            late = yield from self._waited(deadline, (self._arrived, wanted))

    def _too_few(self, deadline: Deadline, wanted: int, have: int) -> str:
        return f"{self.name}: waited {deadline} for {count(wanted, 'datagram')}, {have} came"

    def _misfit(self, wanted: list[Any], have: list[bytes], at: int, *, any_order: bool) -> str:
        data = have[at]
        if at >= len(wanted):
            expected = count(len(wanted), "datagram")
            return f"{self.name} received more than {expected}{_listing(have)}"
        if any_order:
            return f"{self.name}: datagram {at} fits none of those still expected: {show(data)}"
        return f"{self.name}: datagram {at} is something else\n{_difference(wanted[at], data)}"

    def _signals(self) -> tuple[Signal, ...]:
        return (self._arrived,)

    def _stop(self) -> None:
        try:
            for part in self._sockets:
                part.stop()
        finally:
            self._end_faults()
            self._place_.remove()

    def _abandon(self) -> None:
        for part in self._sockets:
            part.abandon()
        self._abandon_faults()

    def _place(self) -> str:
        return self._place_.text

    def _summary(self) -> str:
        record = self._datagrams
        received, sent = record.received_chunks, record.sent_chunks
        return f"{count(received, 'datagram')} received, {sent} sent"


class AsyncDatagramFace(Face):
    """The awaitable verbs of a datagram peer: `peer.aio`."""

    send = Twin(DatagramEndpoint.send)
    send_fds = Twin(DatagramEndpoint.send_fds)
    expect = Twin(DatagramEndpoint.expect)
    recv_fds = Twin(DatagramEndpoint.recv_fds)
    wait_datagrams = Twin(DatagramEndpoint.wait_datagrams)
    assert_datagrams = Twin(DatagramEndpoint.assert_datagrams)
    assert_received = Twin(DatagramEndpoint.assert_received)
    assert_nothing_received = Twin(DatagramEndpoint.assert_nothing_received)


def _difference(expected: Any, actual: bytes) -> str:
    if isinstance(expected, bytes):
        return show_difference(expected, actual)
    return show_misfit(expected, actual)


def _first_misfit(expected: list[Any], actual: list[bytes]) -> int | None:
    fits = pairing(expected, actual)
    return next((index for index in range(len(actual)) if index not in fits), None)


def _listing(payloads: list[bytes]) -> str:
    lines = [f"\n  {index}: {show(data)}" for index, data in enumerate(payloads[:8])]
    if len(payloads) > len(lines):
        lines.append(f"\n  … and {len(payloads) - len(lines)} more")
    return "".join(lines)
