"""A function that serves each connection: in a thread of its own, or on the I/O loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
import unittest
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pytest_sockets._endpoints.async_connection import AsyncConnection
from pytest_sockets._endpoints.stream_view import Driven
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.shells import Worker
from pytest_sockets._engine.tasks import Tasks
from pytest_sockets._engine.waiting import Steps, Wait
from pytest_sockets._wire.errors import EndpointClosedError, EndpointError, PeerGoneError
from pytest_sockets._wire.rendering import show_error

if TYPE_CHECKING:
    from pytest_sockets._endpoints.connection import Connection
    from pytest_sockets._endpoints.endpoint import Endpoint

Handler: TypeAlias = (
    "Callable[[Connection], object] | Callable[[AsyncConnection], Awaitable[object]]"
)

not_failures: set[type[BaseException]] = {
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
    StopIteration,
    StopAsyncIteration,
    unittest.SkipTest,
}
"""What would end more than the test, or nothing, or skip the test, if it were raised there as
itself. A test framework adds its own."""


class Handlers:
    """Runs a handler for each connection of a server, and knows which of them still run."""

    def __init__(self, handler: Handler) -> None:
        if not callable(handler):
            msg = f"handler must be a function that takes a connection, not {handler!r}"
            raise TypeError(msg)
        function = _function(handler)
        self.name = str(getattr(function, "__name__", None) or type(function).__name__)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            msg = f"handler {self.name} has a yield, so a call would not run it: leave that out"
            raise TypeError(msg)
        _check_call(handler, self.name)
        self._handler = cast("Callable[[Any], Any]", handler)
        self._is_async = inspect.iscoroutinefunction(function) or (
            not isinstance(function, type)
            and inspect.iscoroutinefunction(
                getattr(function, "__call__", None)  # noqa: B004  # an object's own
            )
        )
        self._context = contextvars.copy_context()
        self._workers: list[Worker] = []
        self.tasks: list[Tasks] = []

    @property
    def title(self) -> str:
        """Its name after "driven by"."""
        return f"its handler {self.name}"

    def _driven(self, thread: int | None = None) -> Driven:
        return Driven(self.title, thread, instead="do it in the handler")

    def start(self, conn: Connection) -> None:
        """Begin to serve a connection."""
        name = f"handler {self.name} of {conn._label}"
        if self._is_async:
            engine = conn._endpoint._engine
            conn._driven_by = self._driven(engine.thread)
            tasks = Tasks(engine, self._context, functools.partial(self._take_stray, conn))
            self.tasks.append(tasks)
            tasks.start(self._serve_async(conn), name)
            return
        conn._driven_by = self._driven()
        context = self._context.copy()
        worker = Worker(lambda: context.run(self._serve, conn), name)
        self._workers.append(worker)
        worker.start()

    def _serve(self, conn: Connection) -> None:
        conn._driven_by = self._driven(threading.get_ident())
        try:
            result = self._handler(conn)
            if inspect.iscoroutine(result):
                result.close()
                msg = f"handler {self.name} returned a coroutine: write it as `async def`"
                raise TypeError(msg)
        except BaseException as error:
            self._take(conn, error)
        else:
            conn._stream.close()

    async def _serve_async(self, conn: Connection) -> None:
        try:
            await self._handler(AsyncConnection(conn))
        except BaseException as error:  # a cancelled task has nothing to clean up after this
            self._take(conn, error)
        else:
            conn._stream.close()

    def _take(self, conn: Connection, error: BaseException) -> None:
        """Take what ended the handler."""
        if _weigh(conn, error, f"handler {self.name}", (PeerGoneError,)):
            conn._stream.close()

    def _take_stray(self, conn: Connection, error: BaseException) -> None:
        """Take what ended a task that the handler has started, and nobody has awaited."""
        harmless: tuple[type[BaseException], ...] = (PeerGoneError,)
        if not conn._stream.can_send:  # its handler has returned: that ended a wait in it
            harmless = (PeerGoneError, EndpointClosedError)
        _weigh(conn, error, f"a task of handler {self.name}", harmless)

    # -- the end

    def quiet(self, deadline: Deadline) -> Steps[bool]:
        """Wait until no handler does anything but wait.

        Returns whether one was at work and now waits, so that another look is due.
        """
        waited = False
        for worker in tuple(self._workers):
            while not worker.is_resting:
                waited = True
                level = worker.rests.level
                if worker.is_resting:
                    break
                if not (yield Wait(deadline, (worker.rests, level + 1))):
                    return False  # it is busy with something of its own, perhaps for ever
        return waited

    def running(self) -> list[str]:
        """Name the threads and tasks that still run, but for the caller's own."""
        threads = [worker for worker in self._workers if worker.is_alive() and not worker.is_me()]
        return [work.name for work in threads] + [
            name for tasks in self.tasks for name in tasks.running
        ]

    def tell(self) -> None:
        """Tell the errors of tasks that nobody will await any more."""
        for tasks in self.tasks:
            tasks.tell()

    def join(self, deadline: Deadline) -> None:
        """Wait for the threads, but not for the caller's own: their verbs have raised."""
        for worker in self._workers:
            if not worker.is_me():
                worker.join(deadline.remaining())


def _function(handler: Any) -> Any:
    """Return what a partial calls in the end."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler


def _check_call(handler: Callable[..., object], name: str) -> None:
    """Refuse what could not be called with a connection."""
    try:
        # Its own: a decorator with functools.wraps shows what it wraps, which may take more.
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError, NameError):  # of what is written in C not all have one
        return
    if hasattr(handler, "__signature__"):  # it is what a decorator says, and not what it takes
        return
    try:
        signature.bind(object())
    except TypeError:
        msg = f"handler {name} takes {signature}, but is called with the connection alone"
        raise TypeError(msg) from None


def _weigh(
    conn: Connection, error: BaseException, who: str, harmless: tuple[type[BaseException], ...]
) -> bool:
    """Make a problem of an error, or only note it; return whether it was only noted."""
    endpoint = conn._endpoint
    if endpoint.is_closed:
        return False  # the end of the test ended a wait in here
    parts = _untold(error, endpoint)
    if not parts:
        return False  # so did a problem that was told already
    if all(isinstance(part, harmless) or conn._excuses(part) for part in parts):
        conn._note(f"{who} ended: {parts[0]}")
        return True
    if isinstance(error, tuple(not_failures)):
        wrapped = EndpointError(f"{who} of {conn._label} raised {show_error(error)}")
        wrapped.__cause__ = error
        endpoint._add_problem(wrapped)
    else:
        endpoint._add_problem(error, f"{who} of connection {conn.index}: {show_error(error)}")
    return False


def _untold(error: BaseException, endpoint: Endpoint) -> list[BaseException]:
    """Return what is no problem of the endpoint yet: the error, or what a group of them holds.

    A `TaskGroup` raises what ended a wait in it as part of a group.
    """
    if any(error is problem for problem in endpoint.problems):  # an error may have any `==`
        return []
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [part for member in group.exceptions for part in _untold(member, endpoint)]
