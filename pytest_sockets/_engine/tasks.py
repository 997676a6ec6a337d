"""The tasks that code of one connection starts on the I/O loop, found by their context."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import weakref
from collections.abc import Callable, Collection, Coroutine
from typing import Any, cast

from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.waiting import Signal

_CURRENT: contextvars.ContextVar[Tasks | None] = contextvars.ContextVar(
    "pytest_sockets_tasks", default=None
)


class Tasks:
    """All tasks that code run in one context has started, directly or not.

    A task inherits the context of the code that starts it. So those that a library starts behind
    a protocol's back are found too, can be cancelled, and their errors have an owner.

    Args:
        engine: the I/O thread.
        context: what the code finds in its context variables; a copy is used.
        on_error: called with what nobody took: an error of a task, a timer or another callback.
        on_idle: called when the last task has ended.
    """

    def __init__(
        self,
        engine: Engine,
        context: contextvars.Context,
        on_error: Callable[[BaseException], object],
        on_idle: Callable[[], object] = lambda: None,
    ) -> None:
        self.context = context.copy()
        self.context.run(_CURRENT.set, self)
        self.on_error = on_error
        self.over = Signal()  # finished when they were cancelled and have ended
        self._name = ""
        self._engine = engine
        self._on_idle = on_idle
        self._is_cancelled = False
        self._live: set[asyncio.Task[Any]] = set()
        self._failed: list[weakref.ref[asyncio.Task[Any]]] = []
        engine.loop.set_task_factory(_start)
        engine.loop.set_exception_handler(_tell)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine as the first of them. From any thread."""
        self._name = name
        self._engine.at_work.add(self)  # asyncio itself holds tasks only weakly
        self._engine.post(self._begin, work)

    @property
    def are_idle(self) -> bool:
        """Whether all that have begun have ended."""
        return not self._live

    @property
    def are_at_work(self) -> bool:
        """Whether one has not ended, or has not begun so far. From any thread."""
        return self in self._engine.at_work

    @property
    def running(self) -> list[str]:
        """The names of those that have not ended."""
        names = [task.get_name() for task in tuple(self._live)]
        return [name if name == self._name else f"{name} of {self._name}" for name in names]

    def cancel(self) -> None:
        """Cancel those that have not ended. In the I/O thread."""
        cancel((self,))

    def tell(self) -> None:
        """Tell the errors that nobody has taken so far of tasks that somebody still holds.

        Of the others asyncio tells, when they are collected.
        """
        for reference in tuple(self._failed):
            task = reference()
            if task is not None and _is_untaken(task):
                self.on_error(cast("BaseException", task.exception()))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._engine.loop.create_task(work, name=self._name, context=self.context)

    def _add(self, task: asyncio.Task[Any]) -> None:
        self._live.add(task)
        self._engine.at_work.add(self)
        task.add_done_callback(self._remove)

    def _remove(self, task: asyncio.Task[Any]) -> None:
        self._live.discard(task)
        if _is_untaken(task):
            self._failed.append(weakref.ref(task))
        if not self._live:
            self._engine.at_work.discard(self)
            self._on_idle()
            if self._is_cancelled:
                self.over.finish()


def cancel(several: Collection[Tasks]) -> None:
    """Cancel what has not ended of several. In the I/O thread."""
    if sys.version_info >= (3, 12):
        among = frozenset(several)
        # Those made past the loop's own method, as aiohttp does from 3.12 on.
        for task in asyncio.all_tasks():
            tasks = task.get_context().get(_CURRENT)
            if tasks in among and task not in tasks._live:
                tasks._add(task)
    for tasks in several:
        tasks._is_cancelled = True
        for task in tuple(tasks._live):
            task.cancel()
        if tasks.are_idle:
            tasks.over.finish()


def _is_untaken(task: asyncio.Task[Any]) -> bool:
    """Whether a task has failed, and nobody has awaited it or asked for its error.

    No public method tells that without taking the error.
    """
    return bool(cast("Any", task)._log_traceback)


class _Task(asyncio.Task[Any]):
    """A task that knows whose it is, also when it is collected with an error that nobody took."""

    tasks: Tasks | None = None


def _start(
    loop: asyncio.AbstractEventLoop,
    coro: Any,
    *,
    context: contextvars.Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    tasks = _CURRENT.get() if context is None else context.get(_CURRENT)
    if tasks is None:
        return asyncio.Task(coro, loop=loop, context=context, **options)
    task = _Task(coro, loop=loop, context=context, **options)
    task.tasks = tasks
    tasks._add(task)
    return task


def _tell(loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
    """Take what asyncio would log: it belongs to the code that it comes from."""
    tasks = _owner(told)
    if tasks is None:
        loop.default_exception_handler(told)
    else:
        tasks.on_error(told.get("exception") or RuntimeError(told["message"]))


def _owner(told: dict[str, Any]) -> Tasks | None:
    future = told.get("task") or told.get("future")
    if future is not None:
        return getattr(future, "tasks", None)
    handle = told.get("handle")
    if handle is not None:  # Handle.get_context() came with 3.12
        tasks: Tasks | None = handle._context.get(_CURRENT)
        return tasks
    return _CURRENT.get()
