"""A conversation run once for each byte that something can go wrong at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from inspect import isawaitable, iscoroutine

from pytest_sockets._endpoints import registry
from pytest_sockets._endpoints.attempt import Attempt
from pytest_sockets._endpoints.endpoint import Endpoint, Settings
from pytest_sockets._endpoints.fault import Fault
from pytest_sockets._endpoints.faulty import Faulty
from pytest_sockets._endpoints.problems import explain, gather, note_surplus, raise_problems
from pytest_sockets._endpoints.sockets import Sockets
from pytest_sockets._endpoints.spots import Spot, Stretch, check_effects, spots
from pytest_sockets._wire.errors import MismatchError
from pytest_sockets._wire.framing import count_of
from pytest_sockets._wire.rendering import count, shown_text
from pytest_sockets._wire.sweeps import check_most
from pytest_sockets.faults import AfterSent, Effect

MOST = 1_000
"""Runs of a sweep that says nothing else: some seconds, of a quick client."""
NAMED = 20
"""Failed runs that the error of a sweep tells of, beside the first."""


class Sweep:
    r"""Runs a conversation once as it is, and once for each byte that something goes wrong at.

    The fixture `sweep` is one; it tells of each failed run by itself. A sweep that was made by hand
    raises the error of the first failed run, with the others as notes.

    Args:
        settings: timeouts and limits of all endpoints.
        family: the family of endpoints that are given none and could have any.
    """

    def __init__(self, settings: Settings | None = None, *, family: str | None = None) -> None:
        self._settings = settings
        self._family = family
        self._skip: Callable[[str], object] | None = None  # as in `Factory`
        self._first: BaseException | None = None
        self._others: list[str] = []

    def __call__(
        self,
        talk: Callable[[Sockets], object],
        *effects: Effect,
        most: int = MOST,
        only: int | None = None,
    ) -> None:
        """Run a conversation without a fault, then with each effect at each byte that was sent.

        The first run shows how many bytes each connection of each endpoint sends; what fails there
        is an ordinary failure. Each further run has fresh endpoints and one fault, at
        ``AfterSent(offset)`` on one of the connections: at each offset from 0 to the last byte, and
        for ``Slice()``, which makes one boundary, at each between two bytes. A run fails where
        `talk` raises, or where something goes wrong on the side of an endpoint; what a script
        misses because of the fault is no problem.

        Blocks until all is done. An effect after which nothing comes, such as ``Stall()``, needs a
        client with a timeout of its own, and takes that long in each run.

        Args:
            talk: a plain function that opens endpoints with the `Sockets` it gets, in the same
                order each time, runs the client, and asserts what holds whatever goes wrong.
            effects: what goes wrong: values of `pytest_sockets.faults` such as ``Reset()``.
            most: how many of these runs at most, at least 2. Of more, each connection gets its
                share, spread evenly: its first offset, its last, then those between.
            only: run only what has this offset, as the message of a failed run says.

        Raises:
            TypeError, ValueError: an argument is wrong; or no connection sent anything.
            MismatchError: no run met its fault, because `talk` does something else each time.
        """
        __tracebackhide__ = True
        if not callable(talk):
            msg = f"talk must be a function that gets the Sockets of a run, not {talk!r}"
            raise TypeError(msg)
        check_effects(effects)
        check_most(most)
        if only is not None:
            count_of(only, name="only")
        self._first, self._others = None, []
        found, total = spots(effects, self._run_well(talk), most=most, only=only)
        hits = 0
        try:
            self._begin(len(found), total)
            for number, spot in enumerate(found, 1):
                self._before(number, len(found), spot)
                with closing(self._new_run(spot)) as run:
                    may_go_on = self._run(run, talk, f"run {number} of {len(found)}")
                    hits += run.is_hit
                if not may_go_on:
                    break
        finally:
            self._end()
        self._raise_failed()
        if not hits:
            msg = (
                f"sweep: none of {count(len(found), 'run')} met its fault, so nothing was tested: "
                "talk must open the same endpoints each time, in the same order"
            )
            raise MismatchError(msg)

    # -- for subclasses

    def _begin(self, runs: int, total: int) -> None:
        """Note that so many runs begin, of so many that there could be."""

    def _before(self, number: int, runs: int, spot: Spot) -> None:
        """Note which run comes next."""

    def _fails(self, error: BaseException) -> bool:
        """Whether a run has failed by this; all else ends the sweep."""
        # A client that is a program ends by SystemExit where it finds something wrong.
        return isinstance(error, (Exception, SystemExit))

    def _tell(self, run: Run, error: BaseException) -> bool:
        """Take the failure of a run, whose endpoints are still open; return whether to go on."""
        if self._first is None:
            self._first = error
        else:  # only as text: an error keeps its frames alive, and with them all that was recorded
            what = shown_text(error).partition("\n")[0]
            self._others.append("; ".join((what, *error.__notes__)))
        return True

    def _end(self) -> None:
        """Note that the last run is over."""

    # -- inside

    def _run_well(self, talk: Callable[[Sockets], object]) -> list[Stretch]:
        """Run it without a fault, and return what each connection sent."""
        __tracebackhide__ = True
        with closing(self._new_run()) as run:
            run.play(talk, self._fails)
            return run.stretches()

    def _new_run(self, spot: Spot | None = None) -> Run:
        sockets = Opening(self._settings, self._family, spot)
        sockets._skip = self._skip
        return Run(sockets, spot)

    def _run(self, run: Run, talk: Callable[[Sockets], object], which: str) -> bool:
        """Run it with a fault, and return whether to go on."""
        __tracebackhide__ = True
        try:
            run.play(talk, self._fails)
        except BaseException as error:
            spot = run.spot
            if spot is None or not self._fails(error):
                raise
            error.add_note(
                f"{which} of the sweep: {spot}; alone: "
                f"sweep({_name(talk)}, {spot.effect!r}, only={spot.offset})"
            )
            return self._tell(run, error)
        return True

    def _raise_failed(self) -> None:
        """Raise the failure of the first failed run that nobody was told of."""
        __tracebackhide__ = True
        first, others = self._first, self._others
        self._first, self._others = None, []
        if first is None:
            return
        for told in others[:NAMED]:
            first.add_note(f"also: {told}")
        if len(others) > NAMED:
            first.add_note(f"and {len(others) - NAMED:,} more")
        raise first


_playing: dict[int, Run] = {}
"""Runs by the thread that each is in, the innermost: sweeps may go on in several at once."""


class Run:
    """One run of a conversation, with fresh endpoints, and with at most one fault."""

    def __init__(self, sockets: Opening, spot: Spot | None) -> None:
        self.spot = spot
        """Where something goes wrong; `None`: nowhere."""
        self.attempt = Attempt()
        """What the report of its failure shows."""
        self._sockets = sockets

    def play(
        self, talk: Callable[[Sockets], object], fails: Callable[[BaseException], bool]
    ) -> None:
        """Run it, and raise what `talk` raised, or what went wrong on an endpoint's side."""
        __tracebackhide__ = True
        # The endpoints of a run with a fault are this run's to judge, and nobody else's to keep.
        observers = registry.observers
        keep = self._keep
        thread = threading.get_ident()
        outer = _playing.get(thread)
        _playing[thread] = self
        if self.spot is not None:
            observers.append(keep)
        try:
            result = talk(self._sockets)
            if isawaitable(result):
                _refuse_awaitable(talk, result)
        except BaseException as error:
            if fails(error):
                explain(error, gather(self._opened(), judge=False))
                note_surplus(error, self._opened())
            raise
        finally:
            if outer is None:
                del _playing[thread]
            else:
                _playing[thread] = outer
            if self.spot is not None:
                observers.remove(keep)
        problems = gather(self._opened())
        if problems:
            raise_problems(problems)

    def stretches(self) -> list[Stretch]:
        """Return what each connection has sent."""
        found: list[Stretch] = []
        for at, endpoint in enumerate(self._sockets.endpoints):
            if isinstance(endpoint, Faulty):
                for index, stream in endpoint._faulty_streams():
                    label = endpoint.name
                    if endpoint._accepts:
                        label += f" connection {index}"
                    found.append(Stretch(at, label, index, stream.record.sent.size))
        return found

    @property
    def is_hit(self) -> bool:
        """Whether the fault has acted."""
        fault = self._sockets.fault
        return fault is not None and fault._hits > 0

    def close(self) -> None:
        """Close its endpoints."""
        self._sockets.close()

    def _keep(self, endpoint: Endpoint) -> bool:
        """Take an endpoint that was opened meanwhile, but not by another run in its own thread."""
        if _playing.get(threading.get_ident(), self) is not self:
            return False
        self.attempt.opened.append(endpoint)
        return True

    def _opened(self) -> Sequence[Endpoint]:
        return self._sockets.endpoints if self.spot is None else self.attempt.opened


class Opening(Sockets):
    """A factory that has one of its endpoints misbehave."""

    def __init__(self, settings: Settings | None, family: str | None, spot: Spot | None) -> None:
        super().__init__(settings, family=family)
        self.fault: Fault | None = None
        self._awaited = spot

    def _keep(self, endpoint: Endpoint) -> None:
        super()._keep(endpoint)
        spot = self._awaited
        if spot is None or len(self._endpoints) - 1 != spot.stretch.endpoint:
            return
        if isinstance(endpoint, Faulty) and endpoint._carrier == "stream":
            self.fault = endpoint.fault(
                spot.effect,
                at=AfterSent(spot.offset),
                connection=spot.stretch.connection,
                must_hit=False,
            )


def _refuse_awaitable(talk: Callable[[Sockets], object], result: object) -> None:
    if iscoroutine(result):
        result.close()  # else Python warns that nobody has awaited it
    msg = (
        f"{_name(talk)} is a coroutine function, and a sweep calls it as a plain one: "
        "have it run its client with asyncio.run()"
    )
    raise TypeError(msg)


def _name(talk: Callable[[Sockets], object]) -> str:
    """Return how the function is written, where it has a name."""
    name: object = getattr(talk, "__name__", None)
    return name if isinstance(name, str) and name.isidentifier() else "talk"
