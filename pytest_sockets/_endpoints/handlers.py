"""A function that serves each connection: in a thread of its own, or on the I/O loop."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pytest_sockets._endpoints.async_connection import AsyncConnection
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.engine import Task
from pytest_sockets._engine.shells import Worker
from pytest_sockets._engine.waiting import Steps, Wait
from pytest_sockets._wire.errors import EndpointClosedError, EndpointError, PeerGoneError

if TYPE_CHECKING:
    from pytest_sockets._endpoints.connection import Connection

Handler: TypeAlias = (
    "Callable[[Connection], object] | Callable[[AsyncConnection], Awaitable[object]]"
)


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
        self._tasks: list[Task] = []

    @property
    def title(self) -> str:
        """Its name after "driven by"."""
        return f"its handler {self.name}"

    def start(self, conn: Connection) -> int | None:
        """Begin to serve a connection; return the thread that does."""
        context = self._context.copy()
        name = f"handler {self.name} of {conn._label}"
        if self._is_async:
            engine = conn._endpoint._engine
            self._tasks.append(engine.spawn(self._serve_async(conn), name, context))
            return engine.thread
        worker = Worker(lambda: context.run(self._serve, conn), name)
        self._workers.append(worker)
        worker.start()
        return worker.ident

    def _serve(self, conn: Connection) -> None:
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
        if any(error is problem for problem in endpoint.problems):
            return  # told already: it ended a wait in here
        if endpoint.is_closed and isinstance(error, (EndpointClosedError, Exception)):
            return
        if isinstance(error, PeerGoneError):
            conn._note(f"handler {self.name} ended: {error}")
            conn._stream.close()
            return
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            # As itself it would end the run of pytest and not the test.
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

    def cancel(self) -> None:
        """Have the tasks end; threads end by themselves, once their verbs raise."""
        for task in self._tasks:
            task.cancel()

    def running(self) -> list[str]:
        """Name the threads that still run."""
        return [worker.name for worker in self._workers if worker.is_alive()]

    def join(self, timeout: float) -> None:
        """Wait for the threads, but not for the caller's own."""
        deadline = Deadline(timeout)
        for worker in self._workers:
            if not worker.is_me():
                worker.join(deadline.remaining())
