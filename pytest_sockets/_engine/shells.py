"""The two shells that drive a verb: blocking, and awaitable under asyncio or trio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.waiting import Latch, Steps, Waitable
from pytest_sockets._wire.errors import SocketsError

R = TypeVar("R")


def run_blocking(steps: Steps[R]) -> R:
    """Drive a verb, blocking this thread at each wait."""
    try:
        wait = next(steps)
        while True:
            wait = steps.send(_block(wait))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # a generator's return value is Any here
    finally:
        # A verb that was interrupted gives up its sockets now, not when nobody holds the traceback.
        steps.close()


async def run_async(steps: Steps[R]) -> R:
    """Drive a verb, suspending this task at each wait."""
    pause = _pause_trio if in_trio() else _pause_asyncio
    try:
        wait = next(steps)
        while True:
            wait = steps.send(await pause(wait))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # as above
    finally:
        steps.close()  # as above


def _block(wait: Waitable) -> bool:
    if Engine.is_here():
        msg = (
            "this call would block the I/O thread, which has to serve it: "
            "code that runs there can only use the awaitable twin, `await ….aio.…`"
        )
        raise SocketsError(msg)
    latch = Latch()
    wait.arm(latch.open)
    try:
        return latch.wait(wait.deadline)
    finally:
        wait.disarm(latch.open)


async def _pause_asyncio(wait: Waitable) -> bool:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def settle(woken: bool) -> None:
        if not future.done():
            future.set_result(woken)

    def tell(woken: bool) -> None:
        try:
            loop.call_soon_threadsafe(settle, woken)
        except RuntimeError:  # the test's loop has closed: nobody is left to be told
            return

    return await _suspend(wait, tell, lambda: future)


async def _pause_trio(wait: Waitable) -> bool:
    trio: Any = sys.modules["trio"]
    token = trio.lowlevel.current_trio_token()
    event = trio.Event()
    outcome: list[bool] = []

    def tell(woken: bool) -> None:
        outcome.append(woken)
        try:
            token.run_sync_soon(event.set)
        except trio.RunFinishedError:  # nobody is left to be told
            return

    async def told() -> bool:
        await event.wait()
        return outcome[0]

    return await _suspend(wait, tell, told)


async def _suspend(wait: Waitable, tell: Callable[[bool], None], told: Callable[[], Any]) -> bool:
    # A timer of the caller's loop would stand still under a frozen clock, and jump under trio's
    # autojump clock: deadlines of every face are timers of our own loop.
    def wake() -> None:
        tell(True)

    timer = Engine.current().timer(wait.deadline, lambda: tell(False))
    wait.arm(wake)
    try:
        return bool(await told())
    finally:
        wait.disarm(wake)
        timer.cancel()


def in_trio() -> bool:
    """Whether the caller runs in a trio task."""
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


def running_loop() -> str | None:
    """Name the event loop that a blocking call made now would starve; `None` when there is none."""
    if in_trio():
        return "trio"
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    return "asyncio"
