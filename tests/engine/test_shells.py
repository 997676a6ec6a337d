import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing

from freezing import FREEZERS
from pytest_sockets import Connection, Settings, TCPServer, WaitTimeout
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.shells import run_async, run_blocking, running_loop
from pytest_sockets._engine.waiting import Latch, Signal, Steps, Wait, Wake
from stream_ends import PATIENCE, plain_client

Runner = Callable[[Callable[[], Awaitable[Any]]], Any]


def run_in_asyncio(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


RUNNERS: dict[str, Runner] = {"asyncio": run_in_asyncio, "trio": trio.run}


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Runner:
    return RUNNERS[request.param]


class Recorded(Wait):
    """A wait that remembers who was to be woken, and how it was left."""

    wake: Wake
    disarmed = 0

    def arm(self, wake: Wake) -> None:
        self.wake = wake
        super().arm(wake)

    def disarm(self, wake: Wake) -> None:
        self.disarmed += 1
        super().disarm(wake)


def waits(*needed: Wait) -> Steps[list[bool]]:
    answers: list[bool] = []
    for wait in needed:
        answers.append((yield wait))
    return answers


def reached(level: float) -> Signal:
    signal = Signal()
    signal.advance(level)
    return signal


def two_waits() -> tuple[Recorded, Recorded]:
    """Return one that is over at once, and one that only its deadline ends."""
    return (
        Recorded(Deadline(PATIENCE), (reached(2), 1)),
        Recorded(Deadline(0.01), (reached(2), 3)),
    )


def test_a_blocking_verb_is_told_what_came_and_what_did_not() -> None:
    came, late = two_waits()
    assert run_blocking(waits(came, late, came)) == [True, False, True]
    assert (came.disarmed, late.disarmed) == (2, 1)


def test_an_awaitable_verb_is_told_what_came_and_what_did_not(run: Runner) -> None:
    came, late = two_waits()

    async def main() -> list[bool]:
        return await run_async(waits(came, late, came))

    assert run(main) == [True, False, True]
    assert (came.disarmed, late.disarmed) == (2, 1)


def test_a_verb_that_waits_for_nothing_returns_at_once(run: Runner) -> None:
    async def main() -> list[bool]:
        return await run_async(waits())

    assert run(main) == run_blocking(waits()) == []


def test_the_running_loop_is_named(run: Runner, request: pytest.FixtureRequest) -> None:
    async def main() -> str | None:
        return running_loop()

    assert run(main) == request.node.callspec.params["run"]
    assert running_loop() is None


# -- cancelling


@pytest.fixture
def server() -> Iterator[TCPServer]:
    with TCPServer(settings=Settings(timeout=PATIENCE)) as server:
        yield server


@pytest.fixture
def client(server: TCPServer) -> Iterator[socket.socket]:
    with plain_client(server.address) as client:
        yield client


@contextlib.asynccontextmanager
async def begun(verb: Callable[[], Any]) -> Any:
    """Have a verb waiting in a task of its own, and cancel it at the end of the block."""
    if running_loop() == "trio":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(verb)
            await trio.testing.wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()
    else:
        task = asyncio.create_task(verb())
        await asyncio.sleep(0)  # it runs up to its first wait
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def watchers(conn: Connection) -> list[Any]:
    stream = conn._stream
    signals = (stream.received, stream.sent, stream.peer_end, stream.ended)
    return [waiter for signal in signals for waiter in signal._waiters]


@pytest.mark.parametrize("sent", [b"", b"abc", b"abcde"], ids=["nothing", "some", "all"])
def test_cancelling_an_awaitable_verb_loses_no_byte_and_leaves_no_waiter(
    run: Runner, server: TCPServer, client: socket.socket, sent: bytes
) -> None:
    async def main() -> bytes:
        conn = await server.aio.accept()
        async with begun(lambda: conn.aio.recv_exactly(5)):
            assert len(watchers(conn)) == 1
            client.sendall(sent)
            # Without a turn of our loop: where all came, the verb is woken and cancelled at once.
            assert server.received == sent
        assert watchers(conn) == []
        client.sendall(b"fghij")
        return await conn.aio.recv_exactly(len(sent) + 5)

    assert run(main) == sent + b"fghij"


def test_cancelling_at_any_moment_loses_no_byte(
    run: Runner, server: TCPServer, client: socket.socket
) -> None:
    expected = bytes(range(200))

    async def main() -> bytes:
        conn = await server.aio.accept()
        taken = bytearray()

        async def take() -> None:
            taken.extend(await conn.aio.recv_exactly(2))

        for at in range(0, 200, 2):
            if running_loop() == "trio":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(take)
                    client.sendall(expected[at : at + 2])
                    for _ in range(at % 5):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
            else:
                task = asyncio.create_task(take())
                client.sendall(expected[at : at + 2])
                for _ in range(at % 5):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        rest = await conn.aio.recv_exactly(200 - len(taken)) if len(taken) < 200 else b""
        assert watchers(conn) == []
        return bytes(taken) + rest

    assert run(main) == expected


def test_a_cancelled_verb_gives_up_what_it_holds_at_once(run: Runner) -> None:
    held: list[str] = []

    async def main() -> None:
        async with begun(lambda: run_async(holding(held, Wait(Deadline(PATIENCE), (Signal(), 1))))):
            assert held == ["a socket"]
        assert held == []

    run(main)


def test_an_interrupted_verb_gives_up_what_it_holds_at_once() -> None:
    held: list[str] = []

    class Interrupted(Wait):
        def arm(self, wake: Wake) -> None:
            assert held == ["a socket"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        run_blocking(holding(held, Interrupted(Deadline(PATIENCE))))
    assert held == []
    assert caught.tb is not None  # else there would be nothing left that could hold the verb


def holding(held: list[str], wait: Wait) -> Steps[None]:
    held.append("a socket")
    try:
        yield wait
    finally:
        held.clear()


def test_a_deadline_of_the_callers_own_cancels_a_verb(run: Runner, server: TCPServer) -> None:
    async def main() -> None:
        if running_loop() == "trio":
            with trio.move_on_after(0.01) as scope:
                await server.aio.accept()
            assert scope.cancelled_caught
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await server.aio.accept()
        assert server._arrived._waiters == []

    run(main)


def test_a_wait_that_is_over_leaves_no_deadline_on_our_loop(run: Runner) -> None:
    wait = Recorded(Deadline(PATIENCE), (Signal(), 1))

    async def main() -> None:
        async with begun(lambda: run_async(waits(wait))):
            assert wait.deadline in deadlines()
        assert wait.deadline not in deadlines()

    run(main)


def deadlines() -> list[Deadline]:
    """Return what the timers of our loop wait for."""
    loop, found, looked = Engine.current().loop, list[Any](), Latch()

    def look() -> None:
        handles = [handle for handle in loop._scheduled if not handle.cancelled()]
        found.extend(handle._callback.__self__._deadline for handle in handles)
        looked.open()

    Engine.current().post(look)
    assert looked.wait(Deadline(PATIENCE))
    return found


# -- a loop that has ended


def test_a_wake_up_after_the_end_of_the_run_is_dropped(run: Runner) -> None:
    signal = Signal()
    wait = Recorded(Deadline(PATIENCE), (signal, 1))

    async def main() -> list[bool]:
        Engine.current().post(signal.finish)
        return await run_async(waits(wait))

    assert run(main) == [True]
    wait.wake()


def test_closing_the_loop_under_a_waiting_verb_leaves_the_endpoint_at_work(
    server: TCPServer, client: socket.socket
) -> None:
    loop = asyncio.new_event_loop()
    verb = server.aio.accept()
    first = loop.run_until_complete(verb)
    waiting = first.aio.recv_exactly(5)
    task = loop.create_task(waiting)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    client.sendall(b"abcde")
    assert server.received == b"abcde"
    assert len(watchers(first)) == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # that it pends is the point
    waiting.close()
    assert watchers(first) == []
    assert first.recv_exactly(5) == b"abcde"


# -- frozen clocks


@pytest.mark.parametrize("freezer", FREEZERS)
def test_an_awaitable_wait_ends_while_a_test_has_frozen_time(
    run: Runner, server: TCPServer, freezer: str
) -> None:
    async def main() -> None:
        with FREEZERS[freezer](), pytest.raises(WaitTimeout):
            await server.aio.accept(timeout=0.01)

    run(main)
