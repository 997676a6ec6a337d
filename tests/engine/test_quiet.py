"""The engine says nothing: no log line, no warning, nothing on stderr, whatever Python's mode."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import pytest

from processes import run_quietly
from pytest_sockets._engine.engine import Loop
from pytest_sockets._engine.selector import EpollSelector
from threads import eager_threads

MODES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "plain": ((), {}),
    "warnings": (("-W", "error"), {}),
    "dev": (("-X", "dev", "-W", "error"), {}),
    "PYTHONDEVMODE": ((), {"PYTHONDEVMODE": "1"}),
    "PYTHONASYNCIODEBUG": (("-W", "error"), {"PYTHONASYNCIODEBUG": "1"}),
    "optimised": (("-OO", "-W", "error"), {}),
}

USE = """
    import gc, logging, socket, sys
    from pytest_sockets import Settings, Sockets, UDPPeer
    from pytest_sockets._engine.clock import Deadline
    from pytest_sockets._engine.waiting import Latch

    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    logging.captureWarnings(True)

    def use(sockets):
        echo = sockets.echo_server()
        with socket.create_connection(echo.address) as client:
            client.sendall(b"ping")
            client.recv(4)
        server = sockets.tcp_server(family="dual")
        gone, kept = [sockets.connect(address) for address in server.addresses]
        first, second = server.accept(), server.accept()
        first.send(bytes(3_000_000))
        gone.recv_exactly(3_000_000)
        gone.close()
        first.expect_eof()
        second.send(b"left unread")
        try:
            second.send(bytes(30_000_000), timeout=0)
        except AssertionError:
            pass
        sockets.unix_server()
        sockets.udp_echo_server()
        sockets.unix_datagram_peer()
        sockets.tcp_socket_pair().socket.sendall(b"left unread")
        sockets.socket_pair("datagram")
        # Longer than a callback may take before a loop in debug mode complains.
        server._engine.post(Latch().wait, Deadline(0.15))
        server.received
"""


ENDINGS = {
    "closed": "with Sockets() as sockets: use(sockets)",
    "left open": "sockets = Sockets(); use(sockets)",
    "forgotten": "use(Sockets()); gc.collect()",
    # Registered after the engine's own, so called before it.
    "closed at exit": """
import atexit
sockets = Sockets()
atexit.register(sockets.close)
use(sockets)
""",
    # After the engine's own end: when the modules are torn down.
    "closed too late": """
class Late:
    sockets = Sockets()
    def __del__(self): self.sockets.close()
late = Late()
use(late.sockets)
""",
}


@pytest.mark.parametrize(
    ("mode", "ending"),
    [(mode, "left open") for mode in MODES]
    + [("dev", ending) for ending in ENDINGS if ending != "left open"],
)
def test_a_run_in_any_mode_is_silent_to_its_end(mode: str, ending: str) -> None:
    flags, env = MODES[mode]
    run_quietly(dedent(USE) + ENDINGS[ending], flags=flags, **env)


def test_nobody_is_left_waiting_at_the_end() -> None:
    # A daemon thread that waits when the process ends gets an answer, or ends with the process.
    out = run_quietly(
        """
        import atexit, threading
        # Registered before the engine's own end, so called after it: the thread may speak.
        atexit.register(lambda: waiting.join(60))
        from pytest_sockets import EndpointClosedError, TCPServer
        from pytest_sockets._engine.waiting import Wait
        server = TCPServer()
        begun, arm = threading.Event(), Wait.arm
        def arm_and_tell(wait, wake):
            arm(wait, wake)
            begun.set()
        Wait.arm = arm_and_tell
        def wait():
            try:
                server.accept(timeout=3600)
            except EndpointClosedError:
                print("answered")
        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        begun.wait()
        """,
        flags=("-X", "dev", "-W", "error"),
    )
    assert out == "answered"


def test_endpoints_left_open_at_the_end_leave_no_file() -> None:
    # `tmp_path` may be too long for an AF_UNIX path, which then goes elsewhere.
    with TemporaryDirectory(dir="/tmp") as folder:
        path = run_quietly(
            "from pytest_sockets import UnixServer; server = UnixServer(); print(server.path)",
            TMPDIR=folder,
        )
        assert Path(path).is_relative_to(folder)
        assert list(Path(folder).iterdir()) == []


# -- log lines


def test_starting_a_loop_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        loop = Loop(EpollSelector())
        loop.close()
        assert caplog.records == []
        asyncio.new_event_loop().close()
    assert [record.name for record in caplog.records] == ["asyncio"]  # the control


def test_starting_a_loop_keeps_no_other_threads_log_line(caplog: pytest.LogCaptureFixture) -> None:
    together = threading.Barrier(2)

    def theirs() -> None:
        together.wait()
        for number in range(200):
            logging.getLogger("asyncio").debug("theirs %d", number)

    with caplog.at_level(logging.DEBUG), eager_threads(), ThreadPoolExecutor() as pool:
        logging_on = pool.submit(theirs)
        together.wait()
        for _ in range(50):
            Loop(EpollSelector()).close()
        logging_on.result()
    assert [record.getMessage() for record in caplog.records] == [
        f"theirs {number}" for number in range(200)
    ]
    assert logging.getLogger("asyncio").filters == []
