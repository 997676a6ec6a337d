"""A place where a conversation stops until the test lets it go on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import final

from pytest_sockets._endpoints.endpoint import Endpoint, Settings, settings_of
from pytest_sockets._endpoints.faces import Face, Twin, verb
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.waiting import Signal, Steps, Wait
from pytest_sockets._wire.errors import WaitTimeout
from pytest_sockets._wire.framing import positive


@final
class Gate:
    """A gate between the test and what happens on its endpoints, closed at first.

    A step or verb `hold(gate)` stops there until `release()`; `wait_reached()` waits until one has
    come there. A released gate stays open. All methods may be called from any thread, and from a
    handler. Prefer a gate to any delay: it takes no longer than needed, and is never too short.

    Args:
        name: what messages call it.
        settings: the timeout of its waits.
    """

    def __init__(self, *, name: str = "gate", settings: Settings | None = None) -> None:
        self.name = name
        """Its name in messages."""
        self._settings = settings_of(settings)
        self._lock = threading.Lock()
        self._reached = Signal()  # level: how many have come
        self._released = Signal()
        self._released_at = 0  # nanoseconds; 0 is not yet
        self._users: dict[int, Endpoint] = {}
        self._among: Sequence[Endpoint] = ()  # all of a factory's: any may be the one to come

    def release(self) -> None:
        """Let everybody pass, from now on. Idempotent.

        First all that has been sent to those who come here, or to any endpoint of the gate's
        factory, is brought into the records: it came before the release, and what is sent after
        this call came later.
        """
        __tracebackhide__ = True
        try:
            users = [*self._users.values(), *self._among]  # the others may come later
            for endpoint in [user for user in users if not user.is_closed][:1]:
                endpoint._sync()  # one of them: the I/O thread reads for all
        finally:
            self._open()

    def _open(self) -> None:
        with self._lock:
            if not self._released_at:
                self._released_at = CLOCK.stamp()
        self._released.finish()

    def _was_released_before(self, time: int) -> bool:
        """Whether it was open at a time, in nanoseconds."""
        return 0 < self._released_at < time

    @property
    def is_released(self) -> bool:
        """Whether it is open. Does not block."""
        return bool(self._released.level)

    @verb
    def wait_reached(self, n: int = 1, *, timeout: float | None = None) -> Steps[None]:
        """Wait until `n` holders, since the gate was made, have come to it.

        A problem of an endpoint that may come to it ends the wait: it is raised.

        Raises:
            WaitTimeout: fewer had come by the deadline.
        """
        wanted = positive(n, name="n")
        deadline = self._settings.deadline(timeout)
        late = False
        while self._reached.level < wanted:
            users = {**self._users, **{id(endpoint): endpoint for endpoint in self._among}}.values()
            for endpoint in users:
                endpoint._raise_problem()
            if late:
                came = (
                    f"{self._reached.level:.0f} of {wanted} came" if wanted > 1 else "nobody came"
                )
                msg = f"{self.name}: waited {deadline} for somebody to reach it; {came}"
                raise WaitTimeout(msg)
            open_users = [endpoint for endpoint in users if not endpoint.is_closed]
            needs = [(endpoint._over(), 1.0) for endpoint in open_users]
            late = not (yield Wait(deadline, (self._reached, wanted), *needs))
            if late and open_users:  # what was sent before the deadline counts
                yield from open_users[0]._settle()

    @property
    def aio(self) -> AsyncGateFace:
        """The same verb, awaitable, for asyncio and trio."""
        return AsyncGateFace(self)

    def _expect(self, endpoint: Endpoint) -> None:
        """Note that somebody on an endpoint will come: its problems end the waits for that."""
        self._users[id(endpoint)] = endpoint

    def _arrive(self, endpoint: Endpoint) -> None:
        self._expect(endpoint)
        with self._lock:
            self._reached.advance(self._reached.level + 1)

    def __repr__(self) -> str:
        state = "released" if self.is_released else "closed"
        return f"<Gate {self.name}, {state}, reached by {self._reached.level:.0f}>"


class AsyncGateFace(Face):
    """The awaitable verb of a gate: `gate.aio`."""

    wait_reached = Twin(Gate.wait_reached)


def as_gate(value: object) -> Gate:
    """Return a gate, or say what is wrong with it."""
    if not isinstance(value, Gate):
        msg = f"gate must be a gate, as sockets.gate() makes one, not {value!r}"
        raise TypeError(msg)
    return value
