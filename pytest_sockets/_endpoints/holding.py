"""Stopping at a gate, and proving silence."""

from __future__ import annotations

import math

from pytest_sockets._endpoints.faces import verb
from pytest_sockets._endpoints.gate import Gate, as_gate
from pytest_sockets._endpoints.reading import Reading
from pytest_sockets._engine.clock import Deadline, as_seconds
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import MismatchError, WaitTimeout
from pytest_sockets._wire.rendering import count, seconds


class Holding(Reading):
    """The verbs that wait for the test, or for nothing."""

    @verb
    def expect_nothing(
        self,
        *,
        until: Gate | None = None,
        within: float | None = None,
        timeout: float | None = None,
    ) -> Steps[None]:
        """Require that no byte comes until a gate is released, or for some time.

        With a gate the silence is proven up to a point that the test has brought its client to,
        and costs no time: what is sent after the release does not matter. A silence of some
        milliseconds proves little and costs its length each time. EOF is no byte.

        Args:
            until: the gate; its `wait_reached` returns once this waits.
            within: seconds; instead of a gate.
            timeout: seconds to wait for the gate at most; `None` means the endpoint's default,
                and no limit in a script or handler.
        """
        if (until is None) == (within is None):
            msg = "expect_nothing needs until=, a gate, or within=, in seconds"
            raise TypeError(msg)
        self._check_inline("expect_nothing")
        if until is None:
            assert within is not None
            span = as_seconds(within, name="within")
            yield from self._silent(Deadline(span), f"for {seconds(span)}")
            return
        gate = as_gate(until)
        deadline = self._patience(timeout)
        gate._arrive(self._endpoint)
        late = yield from self._silent(deadline, f"until {gate.name}", gate)
        if late and not gate.is_released:
            msg = f"{self._label}: expect_nothing waited {deadline} for {gate.name}"
            raise WaitTimeout(msg)

    def _silent(self, deadline: Deadline, how_long: str, gate: Gate | None = None) -> Steps[bool]:
        """Require that no byte comes before a gate is released, or the deadline passes.

        Returns whether it was the deadline.
        """
        needs: tuple[tuple[Signal, float], ...] = () if gate is None else ((gate._released, 1),)
        yield from self._endpoint._settle()
        late = False
        while True:
            with self._endpoint._lock:
                self._endpoint._raise_problem()
                unread = self._unread
                came = self._show_unread()
                over = self._why_over("received")
                if self._endpoint.is_closed:
                    self._endpoint._raise_closed()
            if unread and not (gate is not None and self._came_after(gate)):
                msg = (
                    f"{self._label} expected nothing {how_long}, "
                    f"but {count(unread, 'byte')} came: {came}"
                )
                raise MismatchError(msg)
            if late or (over and not needs) or any(signal.level >= n for signal, n in needs):
                return late
            more = () if over else ((self._stream.received, self._consumed + 1),)
            end = (self._endpoint._over(), 1)
            late = yield from self._endpoint._waited(deadline, *more, *needs, end)

    def _came_after(self, gate: Gate) -> bool:
        """Whether the first unread byte came after a gate's release."""
        with self._endpoint._lock:
            time = self._stream.record.time_of(self._consumed, sent=False)
        return gate._was_released_before(time)

    # -- gates

    @verb
    def hold(self, gate: Gate, *, timeout: float | None = None) -> Steps[None]:
        """Stop here until the test releases a gate; its `wait_reached` returns once this waits.

        Args:
            gate: see `Sockets.gate`.
            timeout: seconds; `None` means the endpoint's default, and no limit in a script or
                handler.
        """
        wanted = as_gate(gate)
        deadline = self._patience(timeout)
        self._check_inline("hold")
        wanted._arrive(self._endpoint)
        while not wanted.is_released:
            self._endpoint._raise_problem()
            if self._endpoint.is_closed:
                self._endpoint._raise_closed()
            needs = ((wanted._released, 1.0), (self._endpoint._over(), 1.0))
            if (yield from self._endpoint._waited(deadline, *needs)) and not wanted.is_released:
                msg = f"{self._label}: hold waited {deadline} for {wanted.name} to be released"
                raise WaitTimeout(msg)

    def _patience(self, timeout: float | None) -> Deadline:
        """Return the deadline of a wait for the test itself: a driver has none."""
        if timeout is None and self._driven_by is not None:
            return Deadline(math.inf)
        return self._endpoint._deadline(timeout)
