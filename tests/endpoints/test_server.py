import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from pytest_sockets import (
    EndpointClosedError,
    MismatchError,
    Sockets,
    StreamServer,
    TCPServer,
    UnixServer,
    WaitTimeout,
)
from stream_ends import FOREVER, OWN_HOST, Background, Interrupted, abort, plain_client, read_to_eof

FAMILIES = ["ipv4", "ipv6", "dual", "unix"]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=FAMILIES)
def server(request: pytest.FixtureRequest, sockets: Sockets) -> StreamServer:
    return sockets.stream_server(family=request.param)


# -- connections


def test_connections_are_accepted_in_order_of_arrival(server: StreamServer) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(plain_client(server.address)) for _ in range(20)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        accepted = [server.accept() for _ in clients]
        for number, conn in enumerate(accepted):
            conn.assert_received(b"%d" % number)
            assert conn.index == number
        assert server.connections == tuple(accepted)
        assert server.received == b"".join(b"%d" % number for number in range(20))
        for conn in reversed(accepted):
            conn.send(b"<%d>" % conn.index)
        assert server.sent == b"".join(b"<%d>" % number for number in range(20))


def test_accept_waits_for_a_client(server: StreamServer, armed: threading.Semaphore) -> None:
    with Background() as pool:
        waiting = pool.submit(server.accept, timeout=FOREVER)
        armed.acquire()
        with plain_client(server.address) as client:
            client.sendall(b"hello")
            waiting.result().expect(b"hello")


def test_accept_says_where_nobody_connected(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    where = rf"127\.0\.0\.1:{server.port}"
    with pytest.raises(
        WaitTimeout,
        match=rf"^tcp_server: nobody connected to tcp {where} within 0 s \(0 connections before\)$",
    ):
        server.accept(timeout=0)
    with plain_client(server.address):
        server.accept()
        with pytest.raises(WaitTimeout, match=r"within 0 s \(1 connection before\)"):
            server.accept(timeout=0)


def test_a_connection_that_ended_long_ago_can_still_be_accepted_and_read(
    server: StreamServer,
) -> None:
    with plain_client(server.address) as client:
        client.sendall(b"in passing")
    server.close()
    assert server.accept().recv_to_eof() == b"in passing"
    with pytest.raises(EndpointClosedError, match="stream_server is closed: use it before close"):
        server.accept()


def test_closing_wakes_everybody_who_waits_on_the_server(
    server: StreamServer, armed: threading.Semaphore
) -> None:
    with Background(8) as pool:
        waits: list[Any] = [
            pool.submit(server.accept, timeout=FOREVER),
            pool.submit(server.wait_connections, 1, timeout=FOREVER),
            pool.submit(server.wait_closed, 1, timeout=FOREVER),
        ]
        asserts = [
            pool.submit(server.assert_connections, 1, timeout=FOREVER),
            pool.submit(server.assert_received, b"x", timeout=FOREVER),
            pool.submit(server.assert_sent, b"x", timeout=FOREVER),
        ]
        for _ in (*waits, *asserts):
            armed.acquire()
        server.close()
        assert {type(wait.exception()) for wait in waits} == {EndpointClosedError}
        assert {type(claim.exception()) for claim in asserts} == {MismatchError}


def test_wait_connections_is_at_least_and_assert_connections_exactly(
    server: StreamServer, armed: threading.Semaphore
) -> None:
    server.assert_connections(0, timeout=0)
    server.wait_connections(0, timeout=0)
    with plain_client(server.address), Background() as pool:
        waiting = pool.submit(server.wait_connections, 2, timeout=FOREVER)
        exactly = pool.submit(server.assert_connections, 2, timeout=FOREVER)
        armed.acquire()
        armed.acquire()
        with plain_client(server.address):
            waiting.result()
            exactly.result()
            server.wait_connections(1, timeout=0)
            server.assert_connections(2, timeout=0)
            with pytest.raises(MismatchError, match="stream_server has 2 connections, expected 1"):
                server.assert_connections(1, timeout=FOREVER)
            with pytest.raises(WaitTimeout, match="waited 0 s for 3 connections, 2 came"):
                server.assert_connections(3, timeout=0)
            with pytest.raises(WaitTimeout, match="waited 0 s for 3 connections, 2 so far"):
                server.wait_connections(3, timeout=0)


def test_a_client_that_connected_before_an_assertion_counts(server: StreamServer) -> None:
    with ExitStack() as clients:
        for before in range(100):
            clients.enter_context(plain_client(server.address))
            with pytest.raises(MismatchError, match=f", expected {before}$"):
                server.assert_connections(before, timeout=FOREVER)


def test_wait_closed_counts_the_ends_of_our_side(
    server: StreamServer, armed: threading.Semaphore
) -> None:
    with plain_client(server.address) as first, plain_client(server.address) as second:
        server.wait_connections(2)
        first.shutdown(socket.SHUT_WR)
        server.connections[0].wait_eof()
        with pytest.raises(WaitTimeout, match="waited 0 s for 1 closed connection, 0 so far"):
            server.wait_closed(1, timeout=0)
        with Background() as pool:
            armed.acquire()  # that of the wait which has timed out
            waiting = pool.submit(server.wait_closed, 2, timeout=FOREVER)
            armed.acquire()
            server.connections[0].close()
            server.wait_closed(1, timeout=FOREVER)
            server.connections[1].reset()
            waiting.result()
        assert second.fileno() != -1


def test_a_connection_that_the_peer_resets_is_an_end_of_our_side_too(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    abort(plain_client(server.address))
    server.wait_closed(1, timeout=FOREVER)
    server.accept().expect_reset()


def test_hundreds_of_clients_at_once_are_all_served(server: StreamServer) -> None:
    def talk(number: int) -> None:
        with plain_client(server.address) as client:
            client.sendall(b"%d" % number)

    with Background(16) as pool:
        list(pool.map(talk, range(500)))
    server.assert_connections(500)
    assert sorted(int(conn.received) for conn in server.connections) == list(range(500))


# -- where it is


@pytest.mark.parametrize(
    ("family", "hosts"),
    [("ipv4", ["127.0.0.1"]), ("ipv6", ["::1"]), ("dual", ["127.0.0.1", "::1"])],
)
def test_addresses_are_literal_pairs(sockets: Sockets, family: str, hosts: list[str]) -> None:
    server = sockets.tcp_server(family=family)
    assert server.family == family
    assert server.addresses == tuple((host, server.port) for host in hosts)
    assert server.address == server.addresses[0]
    assert server.host == hosts[0]
    for address in server.addresses:
        with plain_client(address) as client:
            assert client.getpeername()[:2] == address
            assert server.accept().peer_address == client.getsockname()[:2]
    shown = f"[{server.host}]" if ":" in server.host else server.host
    assert server.url("http") == f"http://{shown}:{server.port}"


def test_a_path_has_no_port_and_a_port_no_path(sockets: Sockets) -> None:
    tcp, unix = sockets.tcp_server(), sockets.unix_server()
    assert unix.address == unix.path
    with pytest.raises(AttributeError, match=f"tcp_server is at 127.0.0.1:{tcp.port}: it has a ho"):
        _ = tcp.path
    for name in ("host", "port"):
        with pytest.raises(AttributeError, match=rf"is at {unix.path}: it has a path, no {name}$"):
            getattr(unix, name)
    with pytest.raises(AttributeError, match="it has a path, no url"):
        unix.url("http")


@pytest.mark.parametrize("scheme", ["http", "H2", "git+ssh", "a.b-c", "oracle+cx_oracle"])
def test_a_scheme_comes_before_the_address(sockets: Sockets, scheme: str) -> None:
    server = sockets.tcp_server()
    assert server.url(scheme) == f"{scheme}://127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("scheme", "kind", "text"),
    [
        ("http://", ValueError, "scheme='http://' is no scheme, .*: write 'http'$"),
        ("redis:", ValueError, "scheme='redis:' is no scheme, .*: write 'redis'$"),
        ("http\n", ValueError, r"scheme='http\\n' is no scheme, .*: write 'http'$"),
        ("", ValueError, "scheme='' is no scheme, .*: write 'http'$"),
        ("2", ValueError, "scheme='2' is no scheme, .*: write 'http'$"),
        (b"http", TypeError, "scheme must be a name such as 'http', not bytes b'http'$"),
    ],
)
def test_what_is_no_scheme_is_refused(
    sockets: Sockets, scheme: Any, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        sockets.tcp_server().url(scheme)


@pytest.mark.parametrize(("family", "host"), [("ipv4", "127.0.0.1"), ("ipv6", "[::1]")])
def test_a_server_shows_what_it_is(sockets: Sockets, family: str, host: str) -> None:
    server = sockets.tcp_server(family=family)
    where = f"tcp {host}:{server.port}"
    assert repr(server) == f"<TCPServer {where}, 0 connections, open>"
    with plain_client(server.address):
        server.accept()
        assert repr(server) == f"<TCPServer {where}, 1 connection, open>"
        server.close()
    assert repr(server) == f"<TCPServer {where}, 1 connection, closed>"
    assert repr(server.aio) == repr(server) + ".aio"


# -- start and stop


def test_two_servers_never_share_a_port() -> None:
    held: set[int] = set()
    twice: list[int] = []
    lock = threading.Lock()

    def open_and_close(count: int) -> None:
        for _ in range(count):
            with TCPServer() as first, TCPServer() as second:
                ports = (first.port, second.port)
                with lock:
                    twice.extend(port for port in ports if port in held)
                    held.update(ports)
                with lock:
                    held.difference_update(ports)

    with Background(4) as pool:
        list(pool.map(open_and_close, [1250] * 4))  # 10,000 servers
    assert twice == []


def test_a_closed_server_refuses_and_its_port_can_be_taken_at_once(sockets: Sockets) -> None:
    first = sockets.tcp_server(host=OWN_HOST)
    with plain_client(first.address) as client:
        first.accept().close()  # ends first, so that TIME_WAIT stays on our side
        assert read_to_eof(client) == b""
    first.close()
    first.close()
    assert first.is_closed
    with pytest.raises(ConnectionRefusedError):
        plain_client(first.address)
    second = sockets.tcp_server(host=OWN_HOST, port=first.port)
    with plain_client(second.address):
        second.accept()
    first.assert_connections(1)


def test_clients_of_a_server_that_closes_are_not_left_hanging(server: StreamServer) -> None:
    with plain_client(server.address) as open_one, plain_client(server.address) as queued:
        server.wait_connections(2)
        server.close()
        for client in (open_one, queued):
            assert client.recv(1) == b""


def test_a_client_that_nobody_has_accepted_yet_is_in_the_record_of_a_closed_server(
    server: StreamServer,
) -> None:
    with server._lock:  # the I/O thread does not accept before the close
        with plain_client(server.address) as client:
            client.sendall(b"just in time")
            server.close()
    server.assert_received(b"just in time")


LOOKS: dict[str, Callable[[StreamServer], Any]] = {
    "accept": lambda server: server.accept(timeout=FOREVER),
    "wait_connections": lambda server: server.wait_connections(1, timeout=FOREVER),
    "wait_closed": lambda server: server.wait_closed(1, timeout=FOREVER),
    "assert_connections": lambda server: server.assert_connections(1, timeout=FOREVER),
    "assert_received": lambda server: server.assert_received(b"x", timeout=FOREVER),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_client_that_comes_and_a_server_that_closes_while_a_verb_looks_are_not_missed(
    server: StreamServer, name: str
) -> None:
    def come_and_close() -> None:
        with plain_client(server.address) as client:
            client.sendall(b"x")
            server.close()

    server._lock = Interrupted(server._lock, come_and_close)
    LOOKS[name](server)
    assert server.is_closed


def test_servers_stop_while_clients_come() -> None:
    def serve(number: int) -> int:
        # A client that comes late must not find another server of the test at a port given up.
        with TCPServer(host=f"127.{78 + number % 100}.{OWN_HOST.split('.', 2)[2]}") as server:
            talking = pool.submit(_talk_to, server.address)
        talking.result()
        for conn in server.connections:
            assert conn.received in (b"", b"hello")
        return len(server.connections)

    with Background(8) as pool, Background(4) as servers:
        counts = list(servers.map(serve, range(500)))
    assert set(counts) <= {0, 1}


def _talk_to(address: Any) -> None:
    try:
        with plain_client(address) as client:
            client.sendall(b"hello")
    except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
        return


@pytest.mark.parametrize("opener", [partial(TCPServer, host=OWN_HOST), UnixServer])
def test_a_server_works_alone_as_a_context_manager(opener: Callable[[], StreamServer]) -> None:
    with opener() as server:
        with plain_client(server.address) as client:
            client.sendall(b"x")
            server.accept().expect(b"x")
    assert server.is_closed
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        plain_client(server.address)
