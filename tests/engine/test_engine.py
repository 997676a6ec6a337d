import logging
import select
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from processes import run_quietly
from pytest_sockets import UnsupportedError
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.engine import THREAD_NAME, Engine, Timer
from pytest_sockets._engine.waiting import Latch
from stream_ends import PATIENCE
from threads import eager_threads


def in_io_thread(action: Callable[[], object]) -> None:
    """Run something in the I/O thread, and return once it is done."""
    done = Latch()
    Engine.current().post(action)
    Engine.current().post(done.open)
    assert done.wait(Deadline(PATIENCE))


def test_all_share_one_daemon_thread() -> None:
    with eager_threads(), ThreadPoolExecutor(8) as pool:
        engines = set(pool.map(lambda _: Engine.current(), range(200)))
    assert engines == {Engine.current()}
    threads = [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
    assert [thread.daemon for thread in threads] == [True]
    found: list[threading.Thread] = []
    in_io_thread(lambda: found.append(threading.current_thread()))
    assert found == threads


def test_the_first_endpoints_of_many_threads_start_one_thread() -> None:
    out = run_quietly("""
        import sys, threading
        from concurrent.futures import ThreadPoolExecutor
        from pytest_sockets import TCPServer
        sys.setswitchinterval(1e-6)
        together = threading.Barrier(8)
        def serve(_):
            together.wait()
            with TCPServer() as server:
                return server._engine
        with ThreadPoolExecutor(8) as pool:
            print(len(set(pool.map(serve, range(8)))))
        print(sum(thread.name == "pytest-sockets I/O" for thread in threading.enumerate()))
    """)
    assert out.split() == ["1", "1"]


def test_importing_the_package_starts_nothing() -> None:
    assert run_quietly("import pytest_sockets, threading; print(threading.active_count())") == "1"


def test_without_epoll_an_engine_says_who_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    with pytest.raises(UnsupportedError, match=r"needs select\.epoll, .*Linux.* gevent's monkey"):
        Engine()


def test_an_action_that_raises_does_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    in_io_thread(lambda: 1 / 0)
    in_io_thread(lambda: None)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "division by zero" in caplog.text


# -- timers


def test_a_timer_acts_once_its_deadline_has_passed() -> None:
    done = Latch()
    Engine.current().timer(Deadline(0.01), done.open)
    assert done.wait(Deadline(PATIENCE))


def test_a_cancelled_timer_never_acts() -> None:
    acted: list[str] = []

    def cancel_at_once() -> None:
        timer = Timer(Engine.current(), Deadline(0), lambda: acted.append("late"))
        timer.cancel()
        timer.cancel()

    in_io_thread(cancel_at_once)
    in_io_thread(lambda: None)
    assert acted == []


class Odd(Deadline):
    """Looks at a list instead of a clock."""

    def __init__(self, spans: list[float], asked: Callable[[], object]) -> None:
        super().__init__(0)
        self._spans = spans
        self._asked = asked

    def remaining(self) -> float:
        self._asked()
        return self._spans.pop(0)


def test_a_timer_waits_on_when_its_deadline_was_paused_meanwhile() -> None:
    done, spans = Latch(), [0.001, 0.001, 0.001, 0.0]
    Engine.current().timer(Odd(spans, lambda: None), done.open)
    assert done.wait(Deadline(PATIENCE))
    assert spans == []


def test_a_timer_cancelled_while_it_looks_at_the_clock_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    timers: list[Timer] = []
    in_io_thread(
        lambda: timers.append(
            Timer(Engine.current(), Odd([0.0], lambda: timers[0].cancel()), lambda: None)
        )
    )
    in_io_thread(lambda: None)
    assert caplog.records == []
