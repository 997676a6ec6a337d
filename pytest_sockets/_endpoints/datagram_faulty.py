"""Misbehaving on command, with datagrams: the faults of an endpoint that has no connections."""

from __future__ import annotations

from typing import ClassVar

from pytest_sockets._endpoints.fault import Fault
from pytest_sockets._endpoints.faulty import Faulty
from pytest_sockets._endpoints.place import Place
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.datagram_faults import DatagramFaults
from pytest_sockets._engine.datagrams import DatagramSocket
from pytest_sockets._engine.stream_faults import words
from pytest_sockets._wire.errors import UnsupportedError
from pytest_sockets._wire.record import Record
from pytest_sockets._wire.rendering import count
from pytest_sockets._wire.values import Carrier
from pytest_sockets.faults import Effect, Moment, Unreachable, WrongSource


class FaultyDatagrams(Faulty):
    """An endpoint whose datagrams meet what they are told to."""

    _carrier: Carrier = "datagram"
    _is_pair: ClassVar[bool] = False
    _place_: Place
    _sockets: list[DatagramSocket]
    _datagrams: Record
    _datagram_faults: DatagramFaults | None = None

    def fault(
        self,
        effect: Effect,
        *,
        at: Moment | None = None,
        connection: int | None = None,
        times: int | None = None,
        must_hit: bool = True,
    ) -> Fault:
        """Have what the endpoint sends misbehave from now on, until the fault is lifted.

        A fault acts on each datagram that the endpoint sends from its moment on, replies of its
        own and of rules included; each that it acts on is a hit. A datagram passes several faults
        in the order in which they were made, and each gets what those before it have let pass. The
        end of the test lifts all; what they have kept back by then is never sent.

        `sent` and the transcript show what really went out. `send` returns at once whatever the
        fault does, and raises what the kernel says of a datagram that goes out in that moment; of
        one that goes out later, or besides, a note in the transcript says why it was lost.

        Args:
            effect: what happens, a value of `pytest_sockets.faults` such as ``Drop()``.
            at: since when. `None` and ``BeforeSend()``: now. ``AfterSent(n)``: once `n` datagrams
                have gone out, ``AfterReceived(n)``: once `n` have come, both since the start of the
                endpoint; ``AfterReceived(b"…")``: once one has come, since this call, that contains
                these bytes.
            connection: leave it out: there are none.
            times: on how many datagrams it acts at most; `None` is without end.
            must_hit: whether it is a problem, told at the end of the test, when it has met nothing.
                Nothing is judged of ``Unreachable()``, of whose doing the kernel tells nobody.

        Raises:
            TypeError, ValueError: an argument is wrong, or datagrams can have no such effect or
                moment, or the two contradict each other.
            UnsupportedError: this machine, or this kind of endpoint, cannot.
            EndpointClosedError: you closed the endpoint before.
        """
        __tracebackhide__ = True
        fault = super().fault(effect, at=at, connection=connection, times=times, must_hit=must_hit)
        if isinstance(effect, Unreachable):
            self._sync()  # what had come before is taken, so that lifting it has nothing to lose
        return fault

    # -- inside: see `Faulty`, with the lock held

    def _begin(self, fault: Fault) -> None:
        if isinstance(fault.effect, Unreachable):
            if not self._refusing(besides=fault):
                for part in self._sockets:
                    part.refuse()
            self._datagrams.mark(CLOCK.stamp(), "fault", note=words(fault.effect, fault.moment))
            return
        faults = self._datagram_faults
        if faults is None:
            faults = self._datagram_faults = DatagramFaults(
                self._lock, self._engine, self._datagrams
            )
            for part in self._sockets:
                part.faults = faults
        if isinstance(fault.effect, WrongSource):  # an error of the kernel's is told here and now
            for part in self._sockets:
                faults.elsewhere(part)
        faults.add(fault)

    def _lift(self, fault: Fault) -> None:
        if self._closed:
            return
        if isinstance(fault.effect, Unreachable):
            if not self._refusing(besides=fault):
                for part in self._sockets:
                    part.take_again()
            self._datagrams.mark(CLOCK.stamp(), "note", note=f"{fault.effect!r} lifted")
        elif self._datagram_faults is not None:
            self._datagram_faults.lift(fault)

    def _refusing(self, *, besides: Fault) -> bool:
        return any(
            isinstance(fault.effect, Unreachable)
            for fault in self._faults
            if fault is not besides and not fault._is_lifted
        )

    def _end_faults(self) -> None:
        if self._datagram_faults is not None:
            self._datagram_faults.close()

    def _abandon_faults(self) -> None:
        if self._datagram_faults is not None:
            self._datagram_faults.abandon()

    def _check_fault(self, effect: object, at: object, connection: object, times: object) -> None:
        super()._check_fault(effect, at, connection, times)
        if isinstance(effect, Unreachable) and self._place_.protocol != "udp":
            msg = (
                f"{self.name} cannot have {effect!r}: ICMP says it, which is of UDP only; "
                "an endpoint that was closed refuses too"
            )
            raise UnsupportedError(msg)
        if isinstance(effect, WrongSource):
            if self._is_pair:
                msg = f"{self.name} cannot have {effect!r}: in a pair nobody else can send"
                raise UnsupportedError(msg)
            if self._place_.protocol != "udp" and self._place_.family != "unix":
                msg = (
                    f"{self.name} cannot have {effect!r}: another address can be had for UDP and "
                    f"AF_UNIX, not for {self._place_.family}"
                )
                raise UnsupportedError(msg)

    def _met(self) -> str:
        record = self._datagrams
        sent = count(record.sent_chunks, "datagram")
        return f"{sent} sent, {record.received_chunks} received"
