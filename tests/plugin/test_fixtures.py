from __future__ import annotations

import re

import pytest

from fixture_names import FIXTURES
from inner_runs import Inner, reports

LISTENING = ("echo_server", "silent_server", "tcp_server", "unix_server")
PAIRS = ("tcp_socket_pair", "unix_socket_pair")

CONNECT = """
import socket

def connect(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock
"""


def test_every_fixture_is_listed_with_a_whole_sentence(run_plain: Inner) -> None:
    result = run_plain("", "--fixtures")
    listed = re.findall(r"^(\w+)(.*) -- .*plugin\.py:\d+\n    (.+)$", result.stdout.str(), re.M)
    assert sorted(name for name, _, _ in listed) == sorted(FIXTURES)
    for name, scope, first_line in listed:
        assert not scope, f"{name} is function-scoped: only other scopes are printed"
        assert re.fullmatch(r"An? .+\.|The .+\.", first_line), first_line
        assert len(first_line) <= 100, first_line


def test_fixtures_are_ready_when_they_return_and_closed_after_the_test(run: Inner) -> None:
    result = run(
        CONNECT
        + f"""
import pytest
from pytest_sockets import Sockets

@pytest.mark.parametrize("name", {LISTENING})
def test_server(request, opened, name):
    server = request.getfixturevalue(name)
    opened.append(server)
    with connect(server.address):
        server.assert_connections(1)

@pytest.mark.parametrize("name", {PAIRS})
def test_pair(request, name):
    sock, peer = request.getfixturevalue(name)
    sock.sendall(b"ready")
    peer.expect(b"ready")

def test_udp(udp_peer, udp_echo_server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"ready", udp_peer.address)
        udp_peer.expect(b"ready")
        sock.sendto(b"ready", udp_echo_server.address)
        assert sock.recv(100) == b"ready"

def test_unix_datagrams(unix_datagram_peer):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"ready", unix_datagram_peer.address)
    unix_datagram_peer.expect(b"ready")

def test_client(raw_client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with raw_client(listener.getsockname()) as conn:
            accepted, _ = listener.accept()
            with accepted:
                conn.send(b"ready")
                assert accepted.recv(5) == b"ready"

def test_proxy(tcp_proxy, echo_server, opened):
    proxy = tcp_proxy(echo_server)
    opened.append(proxy)
    with connect(proxy.address) as client:
        client.sendall(b"ready")
        assert client.recv(5) == b"ready"

def test_factory(sockets, opened):
    assert isinstance(sockets, Sockets)
    server = sockets.discard_server()
    opened.append(server)
    connect(server.address).close()
""",
        # Not connected to: others may have taken their ports by then.
        conftest="""
import pytest

@pytest.fixture(autouse=True)
def opened():
    opened = []
    yield opened
    assert all(endpoint.is_closed for endpoint in opened)
""",
    )
    result.assert_outcomes(passed=11)


def test_each_test_gets_endpoints_of_its_own(run: Inner) -> None:
    result = run(
        CONNECT
        + """
import pytest

@pytest.mark.parametrize("turn", range(6))
def test_fresh(turn, tcp_server, sockets):
    assert sockets.endpoints == (tcp_server,)
    assert tcp_server.transcript == ()
    connect(tcp_server.address).close()
    tcp_server.accept().expect_eof()
""",
    )
    result.assert_outcomes(passed=6)


def test_a_connection_left_open_neither_hangs_its_test_nor_stains_the_next(run: Inner) -> None:
    result = run(
        CONNECT
        + """
import pytest

@pytest.fixture(scope="module")
def kept():
    kept = []
    yield kept
    for sock in kept:
        sock.close()

@pytest.mark.parametrize("name", ["silent_server", "echo_server", "tcp_server", "unix_server"] * 2)
def test_leaves(request, kept, name):
    server = request.getfixturevalue(name)
    for sock in kept:
        while sock.recv(100):  # its server has ended
            pass
    kept.append(connect(server.address))
    kept[-1].sendall(b"unread")
    server.assert_received(b"unread")
""",
    )
    result.assert_outcomes(passed=8)


@pytest.mark.parametrize(
    "override",
    ["sockets", "tcp_server", "echo_server"],
)
def test_an_overridden_fixture_does_not_break_the_others(run_plain: Inner, override: str) -> None:
    result = run_plain(
        """
def test_overridden(OVERRIDE):
    assert OVERRIDE == "mine"

def test_others(OTHERS):
    for endpoint in (OTHERS):
        assert endpoint != "mine"
""".replace("OVERRIDE", override).replace(
            "OTHERS", ", ".join(name for name in FIXTURES if name != override)
        ),
        conftest=f"""
import pytest

@pytest.fixture
def {override}():
    return "mine"
""",
    )
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("scope", ["module", "session"])
def test_a_wider_endpoint_joins_the_tests_in_which_something_happens_on_it(
    run: Inner, scope: str
) -> None:
    result = run(
        CONNECT
        + f"""
import pytest
from pytest_sockets import TCPServer

@pytest.fixture(scope="{scope}")
def server():
    with TCPServer(name="shared") as server:
        yield server

def test_opens(server):
    pass

def test_without_it(echo_server):
    assert False

def test_quiet(server):
    assert False

def test_busy(server, echo_server):
    connect(server.address).close()
    assert False
""",
        "--dist=loadfile" if run.workers else "-q",
    )
    result.assert_outcomes(passed=1, failed=3)
    shown = reports(result)
    assert "shared  tcp 127.0.0.1:PORT   1 connection" in shown["test_busy"]
    assert "echo_server  tcp 127.0.0.1:PORT   0 connections" in shown["test_busy"]
    assert "shared  tcp" not in shown["test_without_it"]
    assert "sockets:" not in shown["test_quiet"]
