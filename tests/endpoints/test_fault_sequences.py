"""Any faults in any order: what arrives is what a model says, and nothing hangs or is left."""

import gc
import random
import socket
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sockets import Settings, Sockets, WaitTimeout
from pytest_sockets._engine.engine import Engine
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    BeforeSend,
    Corrupt,
    Delay,
    Effect,
    HalfClose,
    Inject,
    Moment,
    Slice,
    Stall,
    StopReading,
    Throttle,
)
from stream_ends import PATIENCE, Background, plain_client, read_to_eof
from threads import eager_threads

pytestmark = pytest.mark.timeout(120)

Plan = Sequence[tuple[Effect, Moment | None]]

EFFECTS = st.one_of(
    st.builds(Inject, st.binary(min_size=1, max_size=4)),
    st.builds(Corrupt, st.integers(1, 5)),
    st.builds(Slice, st.integers(1, 9)),
    st.just(Slice()),
    st.just(Throttle(1e7)),
    st.just(Delay(1e-6)),
)
MOMENTS = st.one_of(st.none(), st.just(BeforeSend()), st.builds(AfterSent, st.integers(0, 30)))
PLANS = st.lists(st.tuples(EFFECTS, MOMENTS), max_size=6)
WRITES = st.lists(st.binary(min_size=1, max_size=12), max_size=4)


class Model:
    """What goes out, byte by byte, and which of it is corrupted how often."""

    def __init__(self, plan: Plan, writes: Sequence[bytes]) -> None:
        self.out: list[int] = []
        self.ranges: list[range] = []
        self._waiting = list(plan)
        self._act([None, AfterSent(0)])
        for data in writes:
            self._act([BeforeSend()])
            self._send(data)

    def _act(self, moments: list[Moment | None]) -> None:
        due = [entry for entry in self._waiting if entry[1] in moments]
        self._waiting = [entry for entry in self._waiting if entry[1] not in moments]
        for effect, _ in due:
            if isinstance(effect, Inject):
                self._send(effect.data)
            elif isinstance(effect, Corrupt):
                self.ranges.append(range(len(self.out), len(self.out) + effect.size))

    def _send(self, data: bytes) -> None:
        for byte in data:
            self.out.append(byte)
            self._act([AfterSent(len(self.out))])

    def admits(self, data: bytes) -> bool:
        """Whether these bytes can have gone out: those of two corruptions may be as they were."""
        return len(data) == len(self.out) and all(
            hit > 1 or (seen == sent) == (not hit)
            for at, (seen, sent) in enumerate(zip(data, self.out, strict=True))
            for hit in [sum(at in places for places in self.ranges)]
        )


@pytest.mark.parametrize("reads", ["at once", "late"])
@pytest.mark.parametrize("family", ["ipv4", "unix"])
@settings(max_examples=150, deadline=None, derandomize=True)
@given(plan=PLANS, writes=WRITES)
def test_what_arrives_is_what_the_model_says(
    family: str, reads: str, plan: Plan, writes: Sequence[bytes]
) -> None:
    with Sockets(Settings(timeout=PATIENCE)) as sockets, Background(1) as pool:
        server = sockets.stream_server(family=family)
        faults = [server.fault(effect, at=at, must_hit=False) for effect, at in plan]
        with plain_client(server.address) as client:
            begun = threading.Event()
            if reads == "at once":
                begun.set()
            reading = pool.submit(lambda: begun.wait() and read_to_eof(client))
            conn = server.accept()
            for data in writes:
                conn.send(data)
            begun.set()
            conn.close()
            data = reading.result()
            model = Model(plan, writes)
            assert model.admits(data), (data, bytes(model.out))
            assert conn.sent == data
        met = [at is None or not isinstance(at, BeforeSend) or bool(writes) for _, at in plan]
        for fault, (_, at), can in zip(faults, plan, met, strict=True):
            if isinstance(at, AfterSent):
                can = at.n <= len(data)
            assert fault.hits == can


BENIGN: list[Effect] = [Slice(), Throttle(1e9), Delay(1e-6), Stall(), StopReading()]


def test_faults_that_come_and_go_lose_nothing() -> None:
    data = random.Random(1).randbytes(10_000_000)
    with Sockets(Settings(timeout=PATIENCE)) as sockets, Background(3) as pool, eager_threads():
        echo = sockets.echo_server()
        over = threading.Event()
        with plain_client(echo.address) as client:

            def meddle(seed: int) -> None:
                draw = random.Random(seed)
                made = 0
                while made < 6 or not over.is_set():
                    place = draw.randrange(len(data))
                    moments = [None, BeforeSend(), AfterSent(place), AfterReceived(place)]
                    moment = draw.choice(moments)
                    with echo.fault(draw.choice(BENIGN), at=moment, must_hit=False):
                        made += 1

            def talk() -> None:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)

            try:
                talking = pool.submit(talk)
                meddling = [pool.submit(meddle, seed) for seed in range(2)]
                assert read_to_eof(client) == data
            finally:
                over.set()
            talking.result()
            for task in meddling:
                task.result()
        echo.assert_received(data)
        echo.assert_sent(data)


HOLDING: list[Effect] = [Stall(), Delay(3600), Throttle(1e-3), Slice(1), StopReading()]


@pytest.mark.parametrize("effect", HOLDING, ids=repr)
def test_the_end_waits_for_nothing_that_is_kept_back(effect: Effect) -> None:
    before = scheduled()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with Sockets(Settings(timeout=3600)) as sockets:  # a wait would meet pytest-timeout
            echo = sockets.echo_server()
            fault = echo.fault(effect)
            clients = [plain_client(echo.address) for _ in range(100)]
            for client in clients:
                client.sendall(b"hello world")
            fault.wait_hit(100)
            with suppress(WaitTimeout):
                echo.wait_closed(1, timeout=0)
        for client in clients:
            client.close()
        del echo, fault, sockets
        gc.collect()
    assert scheduled() <= before


def scheduled() -> int:
    """Return how many timers wait on the I/O loop, once it has forgotten those cancelled."""
    done = threading.Event()
    found: list[int] = []

    def look() -> None:
        timers = Engine.current().loop._scheduled  # type: ignore[attr-defined]  # asyncio's own
        found.append(sum(not timer.cancelled() for timer in timers))
        done.set()

    Engine.current().post(look)
    done.wait()
    return found[0]


def test_a_half_close_in_the_middle_of_a_flood_in_both_directions() -> None:
    data = bytes(3_000_000)
    with Sockets(Settings(timeout=PATIENCE)) as sockets, Background(1) as pool:
        echo = sockets.echo_server()
        echo.fault(HalfClose(), at=AfterSent(1_234_567))
        with plain_client(echo.address) as client:
            sending = pool.submit(client.sendall, data)
            assert read_to_eof(client) == data[:1_234_567]
            sending.result()
            client.shutdown(socket.SHUT_WR)
            echo.assert_received(data)
