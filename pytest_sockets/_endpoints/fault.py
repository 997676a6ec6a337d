"""One misbehaviour of an endpoint: an effect, at a moment, on some of its connections."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, final

from pytest_sockets._endpoints.faces import Face, Twin, verb
from pytest_sockets._engine.stream_faults import words
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import MismatchError, WaitTimeout
from pytest_sockets._wire.framing import positive
from pytest_sockets._wire.rendering import count
from pytest_sockets.faults import Effect, Moment

if TYPE_CHECKING:
    from pytest_sockets._endpoints.endpoint import Endpoint


@final
class Fault:
    """A fault that is active since `endpoint.fault` made it, until it is lifted.

    As a context manager it is lifted at the end of the block; that it met nothing is told at the
    end of the test, not there, where `pytest.raises` could swallow it. The end of the endpoint
    lifts it too. All methods may be called from any thread, and from a handler.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        effect: Effect,
        moment: Moment | None,
        *,
        connection: int | None,
        times: int | None,
        must_hit: bool,
        number: int,
        on_lift: Callable[[Fault], None],
    ) -> None:
        self.effect = effect
        """What it does."""
        self.moment = moment
        """When it acts; `None` is at once, and at the beginning of later connections."""
        self.connection = connection
        """The index of the only connection that it can act on; `None` is each."""
        self.times = times
        """How often it acts at most, over all connections; `None` is without end."""
        self.must_hit = must_hit
        """Whether it is a problem when it has met nothing by the end of the test."""
        self._endpoint = endpoint
        self._number = number
        self._on_lift = on_lift
        self._hit = Signal()  # level: hits
        self._hits = 0
        self._is_lifted = False

    @property
    def hits(self) -> int:
        """How often it has acted. Brings the record up to date first."""
        __tracebackhide__ = True
        self._endpoint._sync()
        return self._hits

    @property
    def is_lifted(self) -> bool:
        """Whether it acts no more. Does not block."""
        return self._is_lifted or self._endpoint.is_closed

    @verb
    def wait_hit(self, n: int = 1, *, timeout: float | None = None) -> Steps[None]:
        """Wait until it has acted `n` times since it was made.

        Args:
            n: how often, at least once.
            timeout: seconds; `None` means the endpoint's default, 0 only what has happened already.

        Raises:
            WaitTimeout: it had acted less often by the deadline.
            MismatchError: it has been lifted, so it will not act any more.
            EndpointClosedError: the endpoint was closed before.
            ValueError: it never acts so often: `times` is less, or the kernel has it in our place
                and tells nobody.
        """
        wanted = positive(n, name="n")
        self._check_countable(wanted)
        endpoint = self._endpoint
        deadline = endpoint._deadline(timeout)
        late = False
        while True:
            with endpoint._lock:  # which is held until what a hit does is done
                if self._hits >= wanted:
                    return
            endpoint._raise_problem()
            if endpoint.is_closed:
                endpoint._raise_closed()
            hits = count(self._hits, "hit")
            what = f"{count(wanted, 'hit')} of the fault {self._words}"
            if self._is_lifted:
                msg = f"{endpoint.name}: expected {what}, which was lifted after {hits}"
                raise MismatchError(msg)
            if late:
                msg = f"{endpoint.name}: waited {deadline} for {what}, {hits} so far"
                raise WaitTimeout(msg)
            late = yield from endpoint._waited(deadline, (self._hit, wanted), (endpoint._over(), 1))

    def lift(self) -> None:
        """End it: a stall resumes, a delay sends what it has kept back. Idempotent."""
        with self._endpoint._lock:
            if not self._is_lifted:
                self._is_lifted = True
                self._hit.finish()
                self._on_lift(self)

    @property
    def aio(self) -> AsyncFaultFace:
        """The waiting method, awaitable, for asyncio and trio."""
        return AsyncFaultFace(self)

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Lift it."""
        self.lift()

    def __repr__(self) -> str:
        state = "lifted" if self.is_lifted else "active"
        hits = "" if self.effect._is_unseen else f", {count(self._hits, 'hit')}"
        return f"<Fault {self._words} of {self._endpoint.name}{hits}, {state}>"

    # -- what streams ask, with the endpoint's lock held

    def claim(self) -> bool:
        """Count a hit; `False` where it acts no more."""
        if self._is_lifted or (self.times is not None and self._hits >= self.times):
            return False
        self._hits += 1
        self._hit.advance(self._hits)
        return True

    def draw(self, index: int | None) -> random.Random:
        """Return where its random choices on a connection come from: the test's seed."""
        endpoint = self._endpoint
        return random.Random(f"{endpoint.settings.seed} {endpoint.name} {self._number} {index}")

    # -- inside

    def _check_countable(self, wanted: int) -> None:
        if self.effect._is_unseen:
            msg = (
                f"the hits of {self.effect!r} cannot be waited for: it is the kernel's answer, "
                "which tells nobody how often it gave it"
            )
            raise ValueError(msg)
        if self.times is not None and wanted > self.times:
            msg = f"n={wanted} cannot be: the fault {self._words} has times={self.times}"
            raise ValueError(msg)

    @property
    def _words(self) -> str:
        """How it was asked for."""
        scope = "" if self.connection is None else f" on connection {self.connection}"
        return words(self.effect, self.moment) + scope

    @property
    def _told(self) -> str:
        """What it is, and how often it has acted, as far as that can be known."""
        hits = "" if self.effect._is_unseen else f": {count(self._hits, 'hit')}"
        return self._words + hits

    def _concerns(self, index: int) -> bool:
        """Whether it acts on a connection; the kernel has nothing left of it for us to do."""
        return not self.effect._is_unseen and self.connection in (None, index)


class AsyncFaultFace(Face):
    """The awaitable method of a fault: `fault.aio`."""

    wait_hit = Twin(Fault.wait_hit)
