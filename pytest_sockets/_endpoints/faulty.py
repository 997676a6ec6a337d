"""Misbehaving on command: the faults of an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_sockets._endpoints.capabilities import capabilities, name_of
from pytest_sockets._endpoints.endpoint import Endpoint
from pytest_sockets._endpoints.fault import Fault
from pytest_sockets._wire.errors import MismatchError, UnsupportedError
from pytest_sockets._wire.framing import count_of, positive
from pytest_sockets._wire.rendering import count
from pytest_sockets._wire.values import Carrier
from pytest_sockets.faults import AtAccept, AtEOF, Effect, Moment, Refuse

if TYPE_CHECKING:
    from pytest_sockets._engine.stream import Stream

SHOWN = 8
"""Connections that the error of a fault without a hit tells of."""


class Faulty(Endpoint):
    """An endpoint that misbehaves where it is told to."""

    _carrier: Carrier = "stream"
    _faults: Sequence[Fault] = ()

    def fault(
        self,
        effect: Effect,
        *,
        at: Moment | None = None,
        connection: int | None = None,
        times: int | None = None,
        must_hit: bool = True,
    ) -> Fault:
        """Have the endpoint misbehave from now on, until the fault is lifted or the test ends.

        A fault acts once on each connection that meets its moment. Of several that are due at the
        same moment the one made first acts first, and each acts on what those before it let pass.
        What the plan of a connection misses because of a fault is no problem.

        Args:
            effect: what happens, a value of `pytest_sockets.faults` such as ``Reset()``.
            at: when, such as ``AfterSent(5)``; bytes are counted on each connection, in its own
                record. `None`: on open connections now, on later ones at their beginning. A moment
                that an open connection has behind it does not come again.
            connection: the index of the only connection that it acts on; `None` is each.
            times: how often it acts at most, over all connections; `None` is without end.
            must_hit: whether it is a problem, told at the end of the test, when it has met nothing.

        Raises:
            TypeError, ValueError: an argument is wrong, or the endpoint can have no such effect or
                moment, or the two contradict each other.
            UnsupportedError: this machine, or this kind of endpoint, cannot.
            EndpointClosedError: you closed the endpoint before.
        """
        self._check_fault(effect, at, connection, times)
        with self._lock:
            if self._closed:
                self._raise_closed()
            fault = Fault(
                self,
                effect,
                at,
                connection=connection,
                times=times,
                must_hit=must_hit,
                number=len(self._faults) + 1,
                on_lift=self._lift,
            )
            before = self._faults
            self._faults = [*before, fault]
            try:
                self._begin(fault)
            except BaseException:  # such as a family that cannot refuse
                self._faults = before
                raise
        return fault

    # -- for subclasses, with the lock held

    def _faulty_streams(self) -> Sequence[tuple[int, Stream]]:
        """Return the streams of all connections, with their index, in order."""
        return ()

    def _begin(self, fault: Fault) -> None:
        """Make a fault active."""
        for index, stream in self._faulty_streams():
            if fault._concerns(index):
                stream.add_fault(fault)

    def _lift(self, fault: Fault) -> None:
        """Make a fault act no more."""
        for _, stream in self._faulty_streams():
            stream.lift_fault(fault)

    def _meet(self, stream: Stream, index: int) -> None:
        """Let the active faults act on a new connection."""
        stream.begin_faults(
            [fault for fault in self._faults if fault._concerns(index) and not fault._is_lifted]
        )

    def _has_effect(self, effect: Effect) -> bool:
        """Whether a fault with an effect is active."""
        return any(fault.effect == effect for fault in self._faults if not fault._is_lifted)

    # -- inside

    def _check_fault(self, effect: object, at: object, connection: object, times: object) -> None:
        if not isinstance(effect, Effect):
            hint = f": write {effect.__name__}()" if isinstance(effect, type) else ""
            wanted = "effect must be one of pytest_sockets.faults, such as Reset()"
            msg = f"{wanted}, not {effect!r}{hint}"
            raise TypeError(msg)
        if at is not None and not isinstance(at, Moment):
            msg = f"at must be a moment of pytest_sockets.faults, such as AfterSent(5), not {at!r}"
            raise TypeError(msg)
        if effect._needs_tls:
            msg = f"{effect!r} needs TLS, which {self.name} does not speak"
            raise UnsupportedError(msg)
        name = name_of(effect)
        if capabilities[name] == "no":
            msg = f"{self.name} cannot have {effect!r}: {capabilities.why_not(name)}"
            raise UnsupportedError(msg)
        for value in (effect, at):
            if value is not None and self._carrier not in value._carriers:
                others = "datagrams" if self._carrier == "stream" else "streams"
                msg = f"{self.name} cannot have {value!r}: that is for {others}"
                raise ValueError(msg)
        if at is not None and at._is_of_accepting and not self._listens:
            msg = f"{self.name} accepts no connections, so it cannot have {at!r}: leave out at="
            raise ValueError(msg)
        if effect._is_on_receiving and isinstance(at, AtEOF):
            msg = f"{effect!r} at {at!r} contradicts itself: nothing comes after EOF; leave out at="
            raise ValueError(msg)
        if effect._is_unseen:
            self._check_unseen(effect, at, connection, times)
        if connection is not None:
            if self._carrier == "datagram":
                msg = f"{self.name} has datagrams and no connections: leave out connection="
                raise ValueError(msg)
            index = count_of(connection, name="connection")
            if index and not self._accepts:
                msg = f"{self.name} has one connection, number 0: leave out connection={index}"
                raise ValueError(msg)
        if times is not None:
            positive(times, name="times")

    def _check_unseen(
        self, effect: Effect, at: Moment | None, connection: object, times: object
    ) -> None:
        """Refuse what cannot be had of an effect that the kernel has in our place, unseen."""
        if isinstance(effect, Refuse) and not self._listens:
            msg = f"{self.name} accepts no connections, so it cannot refuse one with {effect!r}"
            raise ValueError(msg)
        of_streams = self._carrier == "stream"
        if at is not None and not isinstance(at, AtAccept):
            why = (
                "who is refused has not been connected"
                if of_streams
                else "who is refused has sent nothing to here"
            )
            msg = f"{effect!r} at {at!r} contradicts itself: {why}; leave out at="
            raise ValueError(msg)
        if connection is not None or times is not None:
            instead = "Reset() at AtAccept()" if of_streams else "Drop()"
            msg = (
                f"{effect!r} is the kernel's answer, which tells nobody how often it gave it: "
                f"leave out times= and connection=; {instead} can be counted"
            )
            raise ValueError(msg)

    def _leftovers(self) -> list[MismatchError]:
        missed = [
            fault
            for fault in self._faults
            if fault.must_hit and not fault._hits and not fault.effect._is_unseen
        ]
        return [
            *super()._leftovers(),
            *(
                MismatchError(
                    f"{self.name}: the fault {fault._words} met nothing: {self._met()}; "
                    "must_hit=False allows it"
                )
                for fault in missed
            ),
        ]

    def _met(self) -> str:
        """Say what connections there were."""
        streams = self._faulty_streams()
        total = count(len(streams), "connection")
        if not self._accepts:
            total = "its connection"
        shown = [
            f"{f'#{index} ' if self._accepts else ''}sent {count(stream.record.sent.size, 'byte')} "
            f"and received {stream.record.received.size:,}"
            for index, stream in streams[:SHOWN]
        ]
        more = ", …" if len(streams) > SHOWN else ""
        if not streams:
            return "there was no connection"
        joiner = ": " if self._accepts else " "
        return f"{total}{joiner}{', '.join(shown)}{more}"

    def _notes(self) -> list[str]:
        return [
            *super()._notes(),
            *(fault._told for fault in self._faults),
        ]
