"""Nobody's patches reach the engine: frozen clocks, blocked sockets."""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from textwrap import dedent

import pytest
import pytest_socket

from freezing import FREEZERS
from pausing import paused
from processes import run_quietly
from pytest_sockets import EchoServer, UDPPeer
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.shells import run_async, run_blocking
from pytest_sockets._engine.waiting import Steps, Wait, Wake
from stream_ends import PATIENCE

# Everything happens while time is frozen: the import, the start of the engine, the end.
FROZEN = """
    import _socket, asyncio, sys, threading, time
    sys.path.insert(0, sys.argv[2])
    from freezing import FREEZERS

    with FREEZERS[sys.argv[1]]():
        from pytest_sockets import Settings, Sockets, WaitTimeout

        assert time.time() == time.time()
        with Sockets(Settings(timeout=60)) as sockets:
            server = sockets.tcp_server()
            try:
                server.accept(timeout=0.01)
            except WaitTimeout:
                print("blocking wait ended")

            async def wait():
                try:
                    await server.aio.accept(timeout=0.01)
                except WaitTimeout:
                    print("awaitable wait ended")
            asyncio.run(wait())

            client = sockets.connect(server.address)
            conn = server.accept()
            sending = threading.Thread(target=client.send, args=(b"hello",))
            sending.start()
            conn.expect(b"hello")
            sending.join()
            conn.close()
            client.expect_eof()
            times = [event.time for event in sockets.transcript]
            assert len(times) >= 6, times
            assert times == sorted(set(times)), times
            assert times[-1] < time.clock_gettime(time.CLOCK_MONOTONIC) < times[0] + 3600
"""


@pytest.mark.parametrize("freezer", FREEZERS)
def test_a_process_can_live_in_frozen_time(freezer: str, request: pytest.FixtureRequest) -> None:
    support = str(request.config.rootpath / "tests" / "support")
    out = run_quietly(FROZEN, freezer, support, flags=("-W", "error"))
    assert out.splitlines() == ["blocking wait ended", "awaitable wait ended"]


SHELLS: dict[str, Callable[[Steps[bool]], bool]] = {
    "blocking": run_blocking,
    "awaitable": lambda steps: asyncio.run(run_async(steps)),
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("freezer", FREEZERS)
def test_time_frozen_in_the_middle_of_a_wait_does_not_hold_it(freezer: str, shell: str) -> None:
    begun = threading.Event()

    class Told(Wait):
        def arm(self, wake: Wake) -> None:
            super().arm(wake)
            begun.set()

    def wait() -> Steps[bool]:
        return (yield Told(Deadline(0.01)))

    came: list[bool] = []
    waiting = threading.Thread(target=lambda: came.append(SHELLS[shell](wait())), daemon=True)
    with ExitStack() as frozen:
        with paused():  # freezing takes longer than the wait
            waiting.start()
            assert begun.wait(PATIENCE)
            frozen.enter_context(FREEZERS[freezer]())
            assert came == []
        waiting.join(PATIENCE)
        assert came == [False]


BLOCKED = """
    import _socket
    import pytest_socket
    {first}
    pytest_socket.disable_socket()
    {then}
    import socket, warnings
    warnings.simplefilter("ignore")  # pytest-socket warns beside raising
    try:
        socket.socket()
    except pytest_socket.SocketBlockedError:
        print("blocked")

    with Sockets(Settings(timeout=60)) as sockets:
        for family, server in [
            (_socket.AF_INET, sockets.echo_server()),
            (_socket.AF_INET6, sockets.echo_server(family="ipv6")),
            (_socket.AF_UNIX, sockets.stream_server(family="unix")),
        ]:
            client = _socket.socket(family)
            client.connect(server.address)
            client.send(b"ping")
            server.assert_received(b"ping")
            client.close()
        sockets.connect(server.address)
        sockets.udp_echo_server()
        {pairs}
    print("served")
"""
IMPORT = "from pytest_sockets import Settings, Sockets"
PAIRS = "[sockets.unix_socket_pair(), sockets.tcp_socket_pair()]"


@pytest.mark.parametrize("early", [True, False], ids=["imported-before", "imported-after"])
def test_the_engine_starts_and_serves_while_sockets_are_blocked(early: bool) -> None:
    # The plain socket of a pair is of the class that Python had when the package was imported.
    first, then, pairs = (IMPORT, "", PAIRS) if early else ("", IMPORT, "")
    code = dedent(BLOCKED).format(first=first, then=then, pairs=pairs)
    assert run_quietly(code).split() == ["blocked", "served"]


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
def test_a_running_engine_serves_while_sockets_are_blocked(
    request: pytest.FixtureRequest,
) -> None:
    with socket.socket() as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        client.settimeout(PATIENCE)
        request.addfinalizer(pytest_socket.enable_socket)
        pytest_socket.disable_socket()
        with pytest.raises(pytest_socket.SocketBlockedError):
            socket.socket()
        with EchoServer() as server, UDPPeer() as peer:
            client.connect(server.address)
            client.sendall(b"ping")
            assert client.recv(4) == b"ping"
            sender.sendto(b"ping", peer.address)
            peer.expect(b"ping")
