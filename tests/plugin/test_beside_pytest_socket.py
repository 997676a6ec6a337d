"""Beside pytest-socket, which blocks sockets: what a test sends to our endpoints passes."""

from __future__ import annotations

import pytest

from inner_runs import Inner, has_ipv6, needs


@pytest.fixture(autouse=True)
def _installed() -> None:
    needs("pytest_socket")


OUTSIDE = "('192.0.2.1', 80)"  # TEST-NET-1: documentation only, routed nowhere (RFC 5737)
CLIENTS = f"""
import asyncio
import socket
import pytest
from pytest_socket import SocketBlockedError, SocketConnectBlockedError

pytestmark = pytest.mark.filterwarnings("ignore:A test tried to use socket")

def exchange(address):
    with socket.create_connection(address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5, socket.MSG_WAITALL) == b"hello"

def assert_outside_is_blocked():
    with socket.socket() as sock, pytest.raises(SocketConnectBlockedError):
        sock.connect({OUTSIDE})
"""
USES = """
@pytest.fixture
def through_another(echo_server):
    return echo_server.address

def test_tcp(echo_server):
    exchange(echo_server.address)
    assert_outside_is_blocked()

def test_through_another_fixture(through_another):
    exchange(through_another)
    assert_outside_is_blocked()

@pytest.mark.sockets(family="ipv6")
def test_ipv6(echo_server):
    exchange(echo_server.address)

def test_udp(udp_echo_server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(udp_echo_server.address)
        sock.send(b"hello")
        assert sock.recv(5) == b"hello"

def test_asyncio(echo_server):
    async def main():
        reader, writer = await asyncio.open_connection(*echo_server.address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()
    asyncio.run(main())

def test_pair(tcp_socket_pair, unix_socket_pair):
    for sock, peer in (tcp_socket_pair, unix_socket_pair):
        sock.sendall(b"hello")
        peer.expect(b"hello")

def test_own_client(raw_client, tcp_server):
    raw_client(tcp_server.address).send(b"hello")
    tcp_server.accept().expect(b"hello")
"""
BLOCKED = """
def test_others_stay_blocked():
    with pytest.raises(SocketBlockedError):
        socket.socket()
"""


@pytest.mark.parametrize("name", ["socket", "pytest_socket"])
def test_endpoints_are_reached_while_sockets_are_disabled(run: Inner, name: str) -> None:
    result = run(CLIENTS + USES + BLOCKED, "--disable-socket", "--strict-markers", plugins=[name])
    result.assert_outcomes(passed=7 + has_ipv6(), skipped=not has_ipv6())


def test_unix_endpoints_need_the_option_for_unix_sockets(run_plain: Inner) -> None:
    source = (
        CLIENTS
        + """
def test_unix(unix_server):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(unix_server.address)
        unix_server.assert_connections(1)
"""
    )
    without = run_plain(source, "--disable-socket", plugins=["socket"])
    without.assert_outcomes(failed=1)
    without.stdout.fnmatch_lines("*SocketConnectBlockedError*")
    with_it = run_plain(source, "--disable-socket", "--allow-unix-socket", plugins=["socket"])
    with_it.assert_outcomes(passed=1)


ALLOWED = """
def attempt(host):
    with socket.socket() as sock:
        sock.setblocking(False)
        try:
            sock.connect((host, 9))
        except SocketConnectBlockedError:
            return "blocked"
        except OSError:
            pass
    return "allowed"

def hosts(*names):
    return [attempt(f"127.0.0.{n}") for n in names]

def test_as_asked(echo_server):
    exchange(echo_server.address)
    assert hosts(2, 3, 4) == ["allowed", "blocked", "blocked"]

@pytest.mark.allow_hosts(["127.0.0.3"])
def test_marker_as_a_list(echo_server):
    exchange(echo_server.address)
    assert hosts(2, 3, 4) == ["blocked", "allowed", "blocked"]

@pytest.mark.allow_hosts("127.0.0.3,127.0.0.4")
def test_marker_as_text(udp_peer, echo_server):
    exchange(echo_server.address)
    assert hosts(2, 3, 4) == ["blocked", "allowed", "allowed"]

@pytest.mark.allow_hosts("127.0.0.0/29")
def test_marker_as_network(echo_server):
    exchange(echo_server.address)
    assert hosts(2, 3, 9) == ["allowed", "allowed", "blocked"]

def test_without_our_fixtures():
    assert hosts(1, 2, 3) == ["blocked", "allowed", "blocked"]

@pytest.mark.disable_socket
def test_explicitly_disabled(udp_peer):
    with pytest.raises(SocketBlockedError):
        socket.socket()

@pytest.mark.enable_socket
def test_explicitly_enabled(echo_server):
    exchange(echo_server.address)
    assert hosts(2, 3, 4) == ["allowed"] * 3
"""


@pytest.mark.parametrize("disable", [(), ("--disable-socket",)], ids=["enabled", "disabled"])
def test_hosts_that_are_allowed_are_kept(run: Inner, disable: tuple[str, ...]) -> None:
    args = (*disable, "--allow-hosts=127.0.0.2", "--strict-markers")
    run(CLIENTS + ALLOWED, *args, plugins=["socket"]).assert_outcomes(passed=7)


def test_a_rerun_finds_them_allowed_again(run_plain: Inner) -> None:
    source = (
        CLIENTS
        + """
attempts = []

def test_second_time(echo_server):
    exchange(echo_server.address)
    assert_outside_is_blocked()
    attempts.append(1)
    assert len(attempts) == 2
"""
    )
    args = ("--disable-socket", "--reruns=1")
    result = run_plain(source, *args, plugins=["socket", "rerunfailures"])
    result.assert_outcomes(passed=1)


def test_nothing_changes_where_sockets_are_enabled(run_plain: Inner) -> None:
    source = (
        CLIENTS
        + """
def test_unrestricted(echo_server):
    exchange(echo_server.address)
    with socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(("127.0.0.2", 9)) != 0
"""
    )
    run_plain(source, plugins=["socket"]).assert_outcomes(passed=1)
