"""What all endpoints have in common: a name, a lock, a record, problems, and an end."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

from pytest_sockets._endpoints import registry
from pytest_sockets._endpoints.faces import drive
from pytest_sockets._endpoints.problems import Checked, Problem
from pytest_sockets._engine.clock import CLOCK, Deadline, as_seconds
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.parties import Lock
from pytest_sockets._engine.waiting import Signal, Steps, Wait
from pytest_sockets._wire.errors import EndpointClosedError, EndpointError, MismatchError
from pytest_sockets._wire.events import Event
from pytest_sockets._wire.framing import count_of
from pytest_sockets._wire.record import Record, merged
from pytest_sockets._wire.rendering import show_error
from pytest_sockets._wire.spool import ByteLog, Spool

SYNC_TIMEOUT = 30.0
"""Seconds for a hop to the I/O thread: it takes 30 µs idle, 30 ms beside a busy Python thread, and
with seven of those and thousands of queued connections more than five seconds were seen."""
LOOKS = 6
"""Looks in that time at what runs there: a handler that is seen twice in a row is what blocks."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a factory or a test decides for all its endpoints."""

    timeout: float = 5.0
    """Seconds that a wait takes at most."""
    timeout_factor: float = 1.0
    """Multiplies every timeout, on slow machines."""
    strict: bool = True
    """Whether scripts that do not say are strict: bytes after a script's last step, and connections
    without a plan beside scripts, are then problems."""
    record_limit: int = 64 * 1024 * 1024
    """Bytes of an endpoint's record kept in memory; what is beyond goes to a temporary file."""
    seed: int = 0
    """What the random choices of faults are drawn from."""

    def __post_init__(self) -> None:
        as_seconds(self.timeout)
        if not as_seconds(self.timeout_factor, name="timeout_factor"):
            msg = (
                f"timeout_factor must be above 0, not {self.timeout_factor}: it multiplies timeouts"
            )
            raise ValueError(msg)
        if not isinstance(cast("object", self.strict), bool):
            msg = f"strict must be True or False, not {self.strict!r}"
            raise TypeError(msg)
        count_of(self.record_limit, name="record_limit")
        if not isinstance(cast("object", self.seed), int):
            msg = f"seed must be a whole number, not {self.seed!r}"
            raise TypeError(msg)

    def deadline(self, timeout: float | None) -> Deadline:
        """Return the deadline of a wait that begins now; `None` means the default."""
        span = self.timeout if timeout is None else as_seconds(timeout)
        return Deadline(span * self.timeout_factor)


DEFAULTS = Settings()


def settings_of(settings: Settings | None) -> Settings:
    """Return settings, or the defaults, or say what is wrong with them."""
    if settings is None:
        return DEFAULTS
    if not isinstance(cast("object", settings), Settings):
        msg = f"settings must be pytest_sockets.Settings(…), not {settings!r}"
        raise TypeError(msg)
    return settings


class Endpoint(Checked):
    """Either end of a conversation, recorded.

    Leaving it as a context manager closes it and, when the body did not raise, raises problems as
    `check()` does, except those that have failed a test already.
    """

    kind = "endpoint"
    """Its name where it was given none."""
    _accepts = False
    """Whether it can have several connections."""
    _listens = False
    """Whether it accepts them, and so can refuse."""

    def __init__(self, *, name: str | None, settings: Settings | None) -> None:
        self.name = name or self.kind
        """The name in messages and reports."""
        self.settings = settings_of(settings)
        """The timeout and limits it works with."""
        self._lock = self._new_lock()
        self._engine = Engine.current()
        self._spool = Spool(self.settings.record_limit)
        self._records: list[Record] = []
        self._problems: list[Problem] = []
        self._over_signal: Signal | None = None  # made when somebody asks
        self._told = 0  # how many of them have failed a test already
        self._closed = False
        self._forked_from = 0

    # -- for subclasses

    def _new_lock(self) -> Lock:
        """Return what guards it. Endpoints whose sockets act on each other's have to share one."""
        return threading.RLock()

    def _opened(self) -> None:
        """Join the registry: the endpoint is ready."""
        try:
            registry.enter(self)
        except BaseException:  # of an observer: nobody gets the endpoint, so nobody could close it
            self.close()
            raise

    def _new_record(self, index: int | None) -> Record:
        record = Record(self.name, index, self._spool)
        self._records.append(record)
        return record

    def _stop(self) -> None:
        """Close all sockets. Called once, with the lock held."""
        raise NotImplementedError

    def _stopped(self) -> None:
        """End what works on them. Called after that, without the lock."""

    def _abandon(self) -> None:
        """Close our copies of all descriptors in a forked child."""
        raise NotImplementedError

    def _signals(self) -> tuple[Signal, ...]:
        """Return what waiters of the endpoint itself wait for."""
        return ()

    def _place(self) -> str:
        """Say where it is, for the report and `repr`."""
        raise NotImplementedError

    def _summary(self) -> str:
        """Say in a few words what has happened on it."""
        raise NotImplementedError

    def _notes(self) -> list[str]:
        """Return lines for the report about what was planned and how far it came."""
        return []

    # -- waiting

    def _deadline(self, timeout: float | None) -> Deadline:
        """Return the deadline of a wait that begins now; `None` means the default."""
        return self.settings.deadline(timeout)

    def _settle(self) -> Steps[None]:
        """Bring all that the kernel holds into the record."""
        if self._forked_from:  # what the parent receives from now on cannot be known here
            self._raise_closed()
        if self._closed:
            return
        engine = self._engine
        if engine.is_here():  # in a handler: nothing else runs meanwhile
            engine.selector.pump()
        else:
            yield from self._hop()
        if self._spool.failure is not None:
            self._note_spool_failure(self._spool.failure)

    def _hop(self) -> Steps[None]:
        """Have the I/O thread read all that there is, or say what keeps it from that."""
        blocker: str | None = None
        for look in range(1, LOOKS + 1):
            span = SYNC_TIMEOUT / LOOKS
            if (yield self._engine.settled(Deadline(span * self.settings.timeout_factor))):
                return
            before, blocker = blocker, self._engine.task_name()
            if look == LOOKS or (blocker is not None and blocker == before):
                what = blocker or "something, such as a debugger that stopped all threads,"
                msg = f"the I/O thread did not answer within {span * look:g} s: {what} blocks it"
                raise EndpointError(msg)

    def _sync(self) -> None:
        """Block until all that the kernel holds is in the record."""
        __tracebackhide__ = True
        drive(self._settle(), "check")

    def _waited(self, deadline: Deadline, *needs: tuple[Signal, float]) -> Steps[bool]:
        """Wait for any of the needs; return whether the deadline passed instead.

        Then the kernel is asked once more, so that a busy machine cannot make a late answer of one
        that was there in time.
        """
        if (yield Wait(deadline, *needs)):
            return False
        yield from self._settle()
        return True

    # -- problems

    @property
    def problems(self) -> tuple[BaseException, ...]:
        """What has gone wrong on the endpoint's side so far, oldest first. Does not block."""
        return tuple(problem.error for problem in self._problems)

    def _checked(self) -> Sequence[Endpoint]:
        return (self,)

    def _fail(self, error: Exception) -> None:
        """Make an error of our own a problem."""
        why = str(error) or type(error).__name__
        problem = EndpointError(f"{self.name} failed on its own side: {why}")
        problem.__cause__ = error
        self._add_problem(problem, f"{type(error).__name__}: {error}")

    def _add_problem(self, error: BaseException, note: str | None = None) -> None:
        """Make an error a problem: it fails the test as itself, and ends all waits.

        The connections end too: clients fail now, and not at their own timeout.
        """
        with self._lock:
            time = CLOCK.stamp()
            self._problems.append(Problem(time, error, error.__traceback__))
            text = note or show_error(error)
            self._new_record(None).mark(time, "problem", note=text)
            # With the lock: one who raises a signal at the same time would undo its end.
            for signal in self._signals():
                signal.finish()
            self._finish_over()
            self._give_up()

    def _give_up(self) -> None:
        """End the connections after a problem, with the lock held."""

    def _judge(self) -> None:
        """Make problems of what can be told only at the end, such as steps that nobody reached."""
        with self._lock:
            # After a problem the connections are gone, and what is left is its consequence.
            if not self._problems and not self._closed:
                for error in self._leftovers():
                    self._add_problem(error)

    def _leftovers(self) -> list[MismatchError]:
        """Return what is wrong if nothing more happens, with the lock held."""
        return []

    def _surplus(self) -> list[MismatchError]:
        """Return that part of it which has come, though nothing was planned for it."""
        return []

    @property
    def _has_handlers(self) -> bool:
        """Whether it runs code of the user's in threads, which may use other endpoints."""
        return False

    def _quiet(self) -> Steps[None]:
        """Wait, for a limited time, until nothing of ours is at work any more."""
        yield from self._settle()

    def _raise_problem(self) -> None:
        """Raise the oldest problem, if there is one, or that the endpoint is another process's."""
        if self._forked_from:
            self._raise_closed()
        if self._problems:
            raise self._problems[0].again()

    def _over(self) -> Signal:
        """Return the signal that is finished by the first problem or the end of the endpoint."""
        with self._lock:
            if self._over_signal is None:
                self._over_signal = Signal()
                if self._problems or self._closed:
                    self._over_signal.finish()
            return self._over_signal

    def _finish_over(self) -> None:
        if self._over_signal is not None:
            self._over_signal.finish()

    def _raise_closed(self) -> NoReturn:
        """Say that the endpoint is closed, and why."""
        if self._forked_from:
            msg = (
                f"{self.name} belongs to process {self._forked_from}, which forked this one: "
                "open endpoints in the process that uses them"
            )
        else:
            msg = f"{self.name} is closed: use it before close() and before the test ends"
        raise EndpointClosedError(msg)

    def _why_over(self) -> str | None:
        """Say why no more can come; `None` while it can."""
        return f"{self.name} is closed" if self._closed else None

    @property
    def _empty_log(self) -> ByteLog:
        """The bytes of an endpoint that nobody has sent any to."""
        return ByteLog(self._spool)

    def _note_spool_failure(self, failure: OSError) -> None:
        if not any(problem.__cause__ is failure for problem in self.problems):
            self._fail(failure)

    # -- the record

    @property
    def transcript(self) -> tuple[Event, ...]:
        """All that has happened so far, in order, as frozen events."""
        __tracebackhide__ = True
        self._sync()
        with self._lock:
            return tuple(merged(self._records))

    @property
    def records(self) -> tuple[Record, ...]:
        """The packed records, for reports: one for each connection, and one for each problem."""
        with self._lock:
            return tuple(self._records)

    @property
    def summary(self) -> tuple[str, str]:
        """Where it is and what has happened on it, each in a few words."""
        with self._lock:
            return self._place(), self._summary()

    # -- the end

    @property
    def is_closed(self) -> bool:
        """Whether `close()` has been called, or the endpoint was left behind by `fork()`."""
        return self._closed

    def close(self) -> None:
        """Record what the kernel still holds and close all sockets. Idempotent.

        Waits for no peer; a server waits for its handlers, and the tasks that they have started, to
        end, for at most the default timeout.
        """
        with self._lock:
            if self._closed:
                return
            try:
                self._stop()
            finally:
                self._closed = True
                for signal in self._signals():
                    signal.finish()
                self._finish_over()
        registry.leave(self)
        self._stopped()

    def _replace_lock(self) -> None:
        """Replace a lock that another thread of the parent process may have held."""
        self._lock = threading.RLock()

    def _after_fork(self) -> None:
        """Give up what a forked child inherited: it cannot serve it, and must not keep it open."""
        self._replace_lock()
        self._forked_from = os.getppid()
        self._closed = True
        self._abandon()
        for signal in self._signals():
            signal.abandon()
        if self._over_signal is not None:
            self._over_signal.abandon()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        place, summary = self.summary
        return f"<{type(self).__name__} {place}, {summary}, {state}>"
