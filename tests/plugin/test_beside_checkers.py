"""Beside checkers of what a test leaves behind."""

from __future__ import annotations

import pytest

from inner_runs import Inner

CLIENTS = """
import socket
import threading
import pytest

def test_streams(tcp_server, echo_server, silent_server, unix_server):
    socks = [socket.create_connection(s.address) for s in (tcp_server, echo_server, silent_server)]
    for sock in socks:
        sock.sendall(b"left open at the end of the test, with unread bytes")
    for sock in socks:
        sock.close()

def test_left_open(tcp_server, kept):
    kept.append(socket.create_connection(tcp_server.address))

def test_datagrams(udp_peer, udp_echo_server, unix_datagram_peer):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"one", udp_echo_server.address)
        udp_echo_server.assert_received(b"one")

def test_pairs(tcp_socket_pair, unix_socket_pair, sockets):
    for type in ("stream", "seqpacket", "datagram"):
        sock, peer = sockets.socket_pair(type)
        sock.send(b"x")
        peer.expect(b"x")

def test_client(raw_client, echo_server):
    raw_client(echo_server.address).send(b"x")

def test_wait_in_a_thread(tcp_server):
    found = []
    thread = threading.Thread(target=lambda: found.append(tcp_server.accept()))
    thread.start()
    with socket.create_connection(tcp_server.address):
        thread.join()
    assert found

def test_by_hand():
    from pytest_sockets import EchoServer, UDPPeer
    with EchoServer() as server, UDPPeer() as peer:
        socket.create_connection(server.address).close()

def test_by_hand_and_dropped():
    from pytest_sockets import TCPServer
    TCPServer().close()
"""
KEPT = """
import gc
import pytest

@pytest.fixture(scope="session")
def kept():
    kept = []
    yield kept
    for sock in kept:
        sock.close()

@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()
"""


def test_nothing_warns_when_warnings_are_errors(run: Inner) -> None:
    result = run(CLIENTS, "-W", "error", conftest=KEPT, apart=True)
    result.assert_outcomes(passed=8)
    assert "Warning" not in result.stdout.str() + result.stderr.str()


def test_nothing_warns_in_development_mode(
    run_plain: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    result = run_plain(CLIENTS, "-W", "error", conftest=KEPT, apart=True)
    result.assert_outcomes(passed=8)
    assert not result.stderr.str()


FIXTURES = ("tcp_server", "echo_server", "udp_peer", "unix_server", "raw_client", "sockets")


@pytest.mark.parametrize("fixture", FIXTURES)
def test_the_thread_starts_in_the_setup_of_the_first_of_our_fixtures(
    run_plain: Inner, fixture: str
) -> None:
    # In a process of its own: where an earlier test has started the thread, no later one does.
    source = f"""
    import threading

    def test_first({fixture}):
        assert "pytest-sockets I/O" in [thread.name for thread in threading.enumerate()]
    """
    run_plain(source, apart=True).assert_outcomes(passed=1)


def test_no_thread_starts_in_a_test_that_opens_more(run: Inner) -> None:
    result = run(
        """
import socket
import threading
import pytest

def test_opens_more(sockets):
    server = sockets.echo_server()
    with socket.create_connection(server.address) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    sockets.udp_peer()
    sockets.tcp_socket_pair()

@pytest.fixture
def end():
    end = threading.Event()
    yield end
    end.set()

def test_the_checker_sees_others(end, sockets):
    threading.Thread(target=end.wait).start()
""",
        conftest="""
import threading
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    before = set(threading.enumerate())
    result = yield
    left = set(threading.enumerate()) - before
    assert not left
    return result
""",
        apart=True,
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines("FAILED *::test_the_checker_sees_others *")
