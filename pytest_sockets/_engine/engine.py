"""One event loop in one daemon thread per process: the I/O thread."""

from __future__ import annotations

import _socket
import asyncio
import atexit
import logging
import math
import os
import select
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

from pytest_sockets._engine.clock import CLOCK, Deadline
from pytest_sockets._engine.selector import EpollSelector
from pytest_sockets._engine.waiting import Wake
from pytest_sockets._wire.errors import UnsupportedError

THREAD_NAME = "pytest-sockets I/O"
ROUNDS = 1000
"""Turns of the loop that one wait for quiet lasts at most; a handler may keep it busy for ever."""


class Loop(asyncio.SelectorEventLoop):
    """An event loop on our selector whose clock nobody can freeze."""

    def __init__(self, selector: EpollSelector) -> None:
        with _unlogged():  # asyncio tells which selector it uses; a test's caplog is not the place
            super().__init__(selector)
        # PYTHONDEVMODE would switch it on, and with it log lines about slow callbacks.
        self.set_debug(False)

    def time(self) -> float:
        """Return the real monotonic time."""
        return CLOCK.seconds()

    def run(self) -> None:
        """Run until it is stopped, whatever comes out of a task."""
        while True:
            try:
                self.run_forever()
            except (KeyboardInterrupt, SystemExit):
                # asyncio lets these two through, to end the program of its main thread. Here they
                # would end every endpoint; the task that has raised it keeps it to be told.
                continue
            return

    def is_busy(self) -> bool:
        """Whether something is ready to run now."""
        return bool(cast("Any", self)._ready)

    def _make_self_pipe(self) -> None:
        # asyncio takes its pair from the socket module, whose class pytest-socket replaces by one
        # that raises; the C module's is nobody's to patch.
        self._ssock: Any
        self._csock: Any
        self._ssock, self._csock = _socket.socketpair()
        self._ssock.setblocking(False)
        self._csock.setblocking(False)
        self._internal_fds: int
        self._internal_fds += 1
        private = cast("Any", self)
        private._add_reader(self._ssock.fileno(), private._read_from_self)

    def __del__(self, _warn: Any = None) -> None:
        """Say nothing: the loop lives as long as the process."""


@contextmanager
def _unlogged() -> Generator[None, None, None]:
    """Drop what this thread has asyncio log meanwhile."""
    logger, ours = logging.getLogger("asyncio"), threading.get_ident()

    def is_of_another_thread(record: logging.LogRecord) -> bool:
        return threading.get_ident() != ours

    logger.addFilter(is_of_another_thread)
    try:
        yield
    finally:
        logger.removeFilter(is_of_another_thread)


class Timer:
    """A deadline on the I/O loop; it waits on while a debugger has paused the clock."""

    __slots__ = ("_action", "_deadline", "_engine", "_handle")

    def __init__(self, engine: Engine, deadline: Deadline, action: Callable[[], None]) -> None:
        self._engine = engine
        self._deadline = deadline
        self._action: Callable[[], None] | None = action
        self._handle: asyncio.TimerHandle | None = None
        if deadline.timeout < math.inf:
            engine.post(self._start)

    def cancel(self) -> None:
        """Forget the deadline. From any thread."""
        self._action = None
        self._engine.post(self._stop)

    def _start(self) -> None:
        action = self._action  # another thread may cancel at any moment
        if action is None:
            return
        remaining = self._deadline.remaining()
        if remaining:
            self._handle = self._engine.loop.call_later(remaining, self._start)
        else:
            action()

    def _stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


class Settled:
    """Wait until everything that the kernel holds for our sockets is in the record."""

    __slots__ = ("_engine", "deadline")

    def __init__(self, engine: Engine, deadline: Deadline) -> None:
        self._engine = engine
        self.deadline = deadline

    def arm(self, wake: Wake) -> None:
        self._engine.post(self._pump, wake)

    def disarm(self, wake: Wake) -> None:
        """Nothing to forget: a late wake is harmless."""

    def _pump(self, wake: Wake, rounds: int = ROUNDS) -> None:
        # What has come may set scripts and handlers going, and what they send may bring more.
        self._engine.selector.pump()
        if rounds and self._engine.at_work and self._engine.loop.is_busy():
            self._engine.loop.call_soon(self._pump, wake, rounds - 1)
        else:
            wake()


class Engine:
    """The I/O thread of this process. `current()` starts it when there is none."""

    _instance: Engine | None = None
    _starting = threading.Lock()

    def __init__(self) -> None:
        if not hasattr(select, "epoll"):
            msg = (
                "pytest-sockets needs select.epoll, which only Linux has, and which gevent's "
                "monkey patching takes away"
            )
            raise UnsupportedError(msg)
        self._pid = os.getpid()
        self.selector = EpollSelector()
        self.loop = Loop(self.selector)
        self._thread = threading.Thread(target=self.loop.run, name=THREAD_NAME, daemon=True)
        self._thread.start()
        self.at_work: set[object] = set()
        """What can make the loop busy beside the sockets: scripts, handlers, protocols."""

    @classmethod
    def current(cls) -> Engine:
        """Return this process's engine, started."""
        engine = cls._instance
        if engine is None:
            with cls._starting:
                engine = cls._instance
                if engine is None:
                    engine = cls._instance = cls()
        return engine

    @classmethod
    def is_here(cls) -> bool:
        """Whether the caller runs in the I/O thread, which must not block."""
        engine = cls._instance
        return engine is not None and engine._thread.ident == threading.get_ident()

    def post(self, action: Callable[..., object], *args: object) -> None:
        """Run `action` in the I/O thread soon. From any thread; returns at once."""
        if self.is_here():
            self.loop.call_soon(action, *args)
        else:
            self.loop.call_soon_threadsafe(action, *args)

    @property
    def thread(self) -> int | None:
        """The I/O thread's number, as `threading.get_ident` returns it there."""
        return self._thread.ident

    def task_name(self) -> str | None:
        """Name the task that keeps the loop just now; `None` when none does."""
        task = asyncio.current_task(self.loop)
        return None if task is None else task.get_name()

    def timer(self, deadline: Deadline, action: Callable[[], None]) -> Timer:
        """Run `action` in the I/O thread when the deadline passes."""
        return Timer(self, deadline, action)

    def settled(self, deadline: Deadline) -> Settled:
        """Return the wait for a hop to the I/O thread and a poll until quiet.

        Without it 5,845 of 6,000 reads of a record right after a client's `sendall` were
        incomplete; with it none.
        """
        return Settled(self, deadline)

    def shutdown(self) -> None:
        """Stop the thread and close the loop, so that nothing is left to warn about at exit."""
        if self._pid != os.getpid() or self.loop.is_closed():
            return
        for action in before_shutdown:
            action()
        self.post(self.loop.stop)
        self._thread.join(1.0)
        if not self.loop.is_running():
            self.loop.close()

    def _after_fork(self) -> None:
        # A child must not touch the shared epoll: removing a descriptor there would unregister
        # the parent's. Closing our numbers is enough, and gives up what the child inherited.
        self.selector.abandon()
        for pipe in (self.loop._ssock, self.loop._csock):
            pipe.close()


def _after_fork_in_child() -> None:
    engine, Engine._instance = Engine._instance, None
    Engine._starting = threading.Lock()
    CLOCK._after_fork()
    if engine is not None:
        engine._after_fork()
        _abandoned.append(engine)


before_shutdown: list[Callable[[], None]] = []
"""Called at the end of the process, while the I/O thread still serves."""

_abandoned: list[Engine] = []
"""Engines of parent processes: their loops still count as running and must not be collected."""


@atexit.register
def _shutdown() -> None:
    engine = Engine._instance
    if engine is not None:
        engine.shutdown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
