"""The blocking and the awaitable face of one verb."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from pytest_sockets._engine.shells import run_async, run_blocking, running_loop
from pytest_sockets._engine.waiting import Steps
from pytest_sockets._wire.errors import MismatchError, SocketsError, WaitTimeout

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")


def verb(steps: Callable[Concatenate[S, P], Steps[R]]) -> Callable[Concatenate[S, P], R]:
    """Make a blocking method of a generator method; a `Twin` of the result is awaitable."""

    @functools.wraps(steps)
    def blocking(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        return drive(steps(self, *args, **kwargs), steps.__name__)

    signature = inspect.signature(steps)
    result = str(signature.return_annotation).removeprefix("Steps[").removesuffix("]")
    blocking.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]  # what `inspect` reads
    blocking.__annotations__["return"] = result
    blocking.steps = steps  # type: ignore[attr-defined]  # for Twin
    return cast("Callable[Concatenate[S, P], R]", blocking)


def drive(steps: Steps[R], name: str) -> R:
    """Run a verb in this thread; errors meant for the user begin at the user's own line."""
    __tracebackhide__ = True
    try:
        return run_blocking(steps)
    except WaitTimeout as error:
        loop = running_loop()
        if loop:
            hint = (
                f"\n  this wait blocked the test's own {loop} event loop, so that nothing in it "
                f"could run meanwhile: use `await ….aio.{name}(…)`"
            )
            if hint not in str(error):  # a problem is raised again by each wait
                error.args = (f"{error}{hint}",)
        raise error.with_traceback(users_part(error)) from error.__cause__
    except (MismatchError, SocketsError) as error:
        raise error.with_traceback(users_part(error)) from error.__cause__
    except BaseException as error:  # of a handler: a problem that ends this wait
        if (part := users_part(error)) is None:
            raise
        raise error.with_traceback(part)  # noqa: B904  # it is the error being handled


async def drive_async(steps: Steps[R]) -> R:
    """Run a verb in this task; errors meant for the user begin at the user's own line."""
    __tracebackhide__ = True
    try:
        return await run_async(steps)
    except (WaitTimeout, MismatchError, SocketsError) as error:
        raise error.with_traceback(users_part(error)) from error.__cause__
    except BaseException as error:  # as above
        if (part := users_part(error)) is None:
            raise
        raise error.with_traceback(part)  # noqa: B904  # it is the error being handled


def users_part(error: BaseException) -> TracebackType | None:
    """Return the traceback from the first line that is not ours: none, but of a problem.

    A problem was raised before, in a handler of the user's.
    """
    traceback = error.__traceback__
    while traceback is not None and _is_ours(traceback):
        traceback = traceback.tb_next
    return traceback


def _is_ours(traceback: TracebackType) -> bool:
    return str(traceback.tb_frame.f_globals.get("__name__", "")).startswith("pytest_sockets.")


class Face:
    """The awaitable face of an endpoint: `endpoint.aio`."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __repr__(self) -> str:
        return f"{self._owner!r}.aio"


class Twin(Generic[P, R]):
    """The awaitable twin of a blocking verb, as a method of a `Face`."""

    def __init__(self, blocking: Callable[Concatenate[Any, P], R]) -> None:
        self._blocking = blocking
        self._steps: Callable[..., Steps[R]] = blocking.steps  # type: ignore[attr-defined]  # set by `verb`
        signature = inspect.signature(blocking)
        _, *parameters = signature.parameters.values()
        self._signature = signature.replace(parameters=parameters)
        self.__doc__ = f"Await what `{blocking.__name__}` waits for; same arguments and result."

    @overload
    def __get__(self, face: None, owner: type) -> Twin[P, R]: ...
    # Not Coroutine[Any, Any, R]: the Any makes mypy give up on the overloads of asyncio.gather.
    @overload
    def __get__(self, face: Face, owner: type) -> Callable[P, Coroutine[object, None, R]]: ...
    def __get__(self, face: Face | None, owner: type) -> Any:
        if face is None:
            return self
        target = face._owner

        @functools.wraps(self._blocking)
        async def twin(*args: P.args, **kwargs: P.kwargs) -> R:
            __tracebackhide__ = True
            return await drive_async(self._steps(target, *args, **kwargs))

        twin.__signature__ = self._signature  # type: ignore[attr-defined]  # as above
        return twin
