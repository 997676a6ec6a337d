"""The tasks that code of one connection starts on the I/O loop, found by their context."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any

_CURRENT: contextvars.ContextVar[Tasks | None] = contextvars.ContextVar(
    "pytest_sockets_tasks", default=None
)


class Tasks:
    """All tasks that code run in one context has started, directly or not.

    A task inherits the context of the code that starts it. So those that a library starts behind
    a protocol's back are found too, can be cancelled, and their errors have an owner.

    Args:
        loop: the I/O loop.
        context: what the code finds in its context variables; a copy is used.
        on_error: called with what nobody took: an error of a task, a timer or another callback.
        on_idle: called when the last task has ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        on_error: Callable[[BaseException], object],
        on_idle: Callable[[], object],
    ) -> None:
        self.context = context.copy()
        self.context.run(_CURRENT.set, self)
        self.on_error = on_error
        self._loop = loop
        self._on_idle = on_idle
        self._live: set[asyncio.Task[Any]] = set()
        loop.set_task_factory(_start)
        loop.set_exception_handler(_tell)

    @property
    def are_idle(self) -> bool:
        """Whether all have ended."""
        return not self._live

    def cancel(self) -> None:
        """Cancel those that have not ended. In the I/O thread."""
        for task in self._strays():
            self._add(task)
        for task in tuple(self._live):
            task.cancel()

    def _strays(self) -> list[asyncio.Task[Any]]:
        """Return those made past the loop's own method, as aiohttp does from 3.12 on."""
        if sys.version_info < (3, 12):
            return []
        tasks = asyncio.all_tasks(self._loop) - self._live
        return [task for task in tasks if task.get_context().get(_CURRENT) is self]

    def _add(self, task: asyncio.Task[Any]) -> None:
        self._live.add(task)
        task.add_done_callback(self._remove)

    def _remove(self, task: asyncio.Task[Any]) -> None:
        self._live.discard(task)
        if not self._live:
            self._on_idle()


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
