"""A function that serves each connection: in a thread of its own, or on the I/O loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pytest_sockets._endpoints.async_connection import AsyncConnection
from pytest_sockets._endpoints.stream_view import Driven
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.engine import Task
from pytest_sockets._engine.shells import Worker
from pytest_sockets._engine.waiting import Steps, Wait
from pytest_sockets._wire.errors import EndpointError, PeerGoneError

if TYPE_CHECKING:
    from pytest_sockets._endpoints.connection import Connection

Handler: TypeAlias = (
    "Callable[[Connection], object] | Callable[[AsyncConnection], Awaitable[object]]"
)

NOT_A_FAILURE = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)
"""What would end more than the test, or nothing, if it were raised there as itself."""


class Handlers:
    """Runs a handler for each connection of a server, and knows which of them still run."""

    def __init__(self, handler: Handler) -> None:
        if not callable(handler):
            msg = f"handler must be a function that takes a connection, not {handler!r}"
            raise TypeError(msg)
        self._handler = cast("Callable[[Any], Any]", handler)
        self._is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004  # an object's own, not whether it can
        )
        self.name = str(getattr(handler, "__name__", None) or handler)
        self._context = contextvars.copy_context()
        self._workers: list[Worker] = []
        self.tasks: list[Task] = []

    @property
    def title(self) -> str:
        """Its name after "driven by"."""
        return f"its handler {self.name}"

    def start(self, conn: Connection) -> None:
        """Begin to serve a connection."""
        context = self._context.copy()
        name = f"handler {self.name} of {conn._label}"
        if self._is_async:
            engine = conn._endpoint._engine
            conn._driven_by = Driven(self.title, engine.thread)
            self.tasks.append(engine.spawn(self._serve_async(conn), name, context))
            return
        conn._driven_by = Driven(self.title)
        worker = Worker(lambda: context.run(self._serve, conn), name)
        self._workers.append(worker)
        worker.start()

    def _serve(self, conn: Connection) -> None:
        conn._driven_by = Driven(self.title, threading.get_ident())
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
        endpoint = conn._endpoint
        if endpoint.is_closed or any(error is problem for problem in endpoint.problems):
            return  # the end of the test, or a problem that was told already, ended a wait in here
        if isinstance(error, PeerGoneError):
            conn._note(f"handler {self.name} ended: {error}")
            conn._stream.close()
            return
        if isinstance(error, NOT_A_FAILURE):
            msg = f"handler {self.name} of {conn._label} raised {type(error).__name__}: {error}"
            wrapped = EndpointError(msg)
            wrapped.__cause__ = error
            error = wrapped
        endpoint._add_problem(error)

    # -- the end

    def quiet(self, deadline: Deadline) -> Steps[bool]:
        """Wait until no handler does anything but wait; return whether one had to be waited for."""
        waited = False
        for worker in tuple(self._workers):
            while not worker.is_resting:
                level = worker.rests.level
                if worker.is_resting:
                    break
                waited = True
                if not (yield Wait(deadline, (worker.rests, level + 1))):
                    return waited
        return waited

    def running(self) -> list[str]:
        """Name the threads that still run."""
        return [worker.name for worker in self._workers if worker.is_alive()]

    def join(self, deadline: Deadline) -> None:
        """Wait for the threads, but not for the caller's own: their verbs have raised."""
        for worker in self._workers:
            if not worker.is_me():
                worker.join(deadline.remaining())
