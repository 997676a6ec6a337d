import _socket
import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from processes import run_quietly
from proxied import Proxied, black_hole, kinds, open_sockets, proxied, stall
from pytest_sockets import EndpointClosedError, EndpointError, Settings, Sockets, TCPProxy
from pytest_sockets.faults import HalfClose
from stream_ends import FOREVER, OWN_HOST, PATIENCE, Background, abort, plain_client, read_to_eof
from threads import eager_threads
from told import told

FAMILIES = ["ipv4", "ipv6", "unix"]
CONTENT = os.urandom(1 << 20) * 64

pytestmark = pytest.mark.timeout(120)

Way = tuple[socket.socket, socket.socket]


@pytest.fixture(params=FAMILIES)
def line(request: pytest.FixtureRequest, sockets: Sockets) -> Iterator[Proxied]:
    with proxied(sockets, request.param) as line:
        yield line


@pytest.fixture
def tcp_line(sockets: Sockets) -> Iterator[Proxied]:
    with proxied(sockets) as line:
        yield line


@pytest.fixture(params=["request", "reply"])
def way(request: pytest.FixtureRequest, line: Proxied) -> Way:
    """The side that sends, and the side that receives."""
    return (line.client, line.server) if request.param == "request" else (line.server, line.client)


def is_reset(sock: socket.socket) -> bool:
    with pytest.raises(ConnectionResetError):
        sock.recv(1)
    return True


def ask(proxy: TCPProxy) -> bytes:
    with plain_client(proxy.address) as client:
        return client.recv(1)


def is_reset_at_once(proxy: TCPProxy) -> bool:
    with pytest.raises(ConnectionResetError):  # of connect(2) already, or of the first read
        ask(proxy)
    return True


def write_on(sock: socket.socket) -> None:
    while True:
        sock.send(b"x")


def fail_in(proxy: TCPProxy) -> None:
    with proxy:
        proxy.upstream._fail(RuntimeError("broken"))
        raise KeyError


def notes(proxy: TCPProxy) -> list[tuple[str, int | None, str]]:
    return [
        (event.endpoint, event.connection, event.note)
        for event in proxy.transcript
        if event.kind == "note"
    ]


# -- EOF


def test_eof_is_passed_on_and_the_other_direction_goes_on(line: Proxied, way: Way) -> None:
    one, other = way
    one.sendall(b"question")
    one.shutdown(socket.SHUT_WR)
    assert read_to_eof(other) == b"question"
    assert line.client_side.is_closed != line.upstream_side.is_closed
    other.sendall(b"answer")
    assert one.recv(100) == b"answer"
    other.shutdown(socket.SHUT_WR)
    assert read_to_eof(one) == b""
    for side in line.proxy.endpoints:
        side.wait_closed(1, timeout=FOREVER)
        assert kinds(side.connections[0])[-1] == "closed"


def test_eof_is_passed_on_behind_bytes_that_still_wait(line: Proxied, way: Way) -> None:
    one, other = way
    taken = 0
    while not any(line.queued):
        one.sendall(CONTENT[taken : taken + 65536])
        taken += 65536
    one.shutdown(socket.SHUT_WR)
    assert [conn.peer_ended for conn in (line.client_side, line.upstream_side)].count("eof") == 1
    assert any(line.queued)
    other.sendall(b"answer")
    other.shutdown(socket.SHUT_WR)  # the proxy hears of it while its own EOF has to wait
    assert read_to_eof(one) == b"answer"
    assert read_to_eof(other) == CONTENT[:taken]
    for side in line.proxy.endpoints:
        side.wait_closed(1, timeout=FOREVER)
        assert "reset" not in " ".join(kinds(side.connections[0]))


def half_close_by_verb(line: Proxied) -> None:
    line.upstream_side.send_eof(timeout=FOREVER)


def half_close_by_fault(line: Proxied) -> None:
    line.proxy.fault(HalfClose(), direction="request")


@pytest.mark.parametrize("half_close", [half_close_by_verb, half_close_by_fault])
def test_a_client_that_was_held_back_can_send_on_behind_an_eof_of_the_test(
    line: Proxied, half_close: Callable[[Proxied], None]
) -> None:
    taken = stall(line.client, line.proxy, CONTENT)
    assert taken < len(CONTENT)
    with Background() as pool:
        closing = pool.submit(half_close, line)
        came = read_to_eof(line.server)
        closing.result()
    assert CONTENT.startswith(came)
    line.server.sendall(b"too large")
    assert line.client.recv(100) == b"too large"
    line.client.sendall(CONTENT)  # to nobody
    line.client.shutdown(socket.SHUT_WR)
    line.client_side.wait_eof()


def test_a_server_that_vanishes_is_an_eof_for_the_client(line: Proxied) -> None:
    line.server.sendall(b"last words")
    line.server.close()
    assert read_to_eof(line.client) == b"last words"
    line.client.close()
    line.proxy.upstream.wait_closed(1, timeout=FOREVER)
    line.proxy.check()


def test_a_client_that_writes_to_a_server_that_has_gone_is_reset(line: Proxied) -> None:
    line.server.close()
    assert read_to_eof(line.client) == b""
    with pytest.raises(ConnectionError):  # not at once: the first bytes tell the kernel
        write_on(line.client)
    assert (line.upstream_side.peer_ended, line.client_side.is_closed) == ("reset", True)
    line.proxy.check()


# -- a reset


@pytest.mark.parametrize("way", ["request", "reply"])
def test_a_reset_is_passed_on_behind_the_bytes_before_it(tcp_line: Proxied, way: str) -> None:
    one, other = tcp_line.client, tcp_line.server
    if way == "reply":
        one, other = other, one
    one.sendall(b"last words")
    assert other.recv(100) == b"last words"
    abort(one)
    assert is_reset(other)
    for side in tcp_line.proxy.endpoints:
        side.wait_closed(1, timeout=FOREVER)
    resets = {side.name: kinds(side.connections[0])[-2:] for side in tcp_line.proxy.endpoints}
    lost, ended = ["peer_reset", "closed"], "reset_sent"
    names = [side.name for side in tcp_line.proxy.endpoints]
    if way == "reply":
        names.reverse()
    assert resets[names[0]] == lost
    assert resets[names[1]][-1] == ended
    tcp_line.proxy.check()


def test_bytes_that_are_found_behind_a_failed_send_are_passed_on(tcp_line: Proxied) -> None:
    # An upload that is refused: the proxy is about to send, and has not read the answer yet.
    tcp_line.upstream_side._stream.pause_reading("the test")
    tcp_line.server.sendall(b"too much")
    abort(tcp_line.server)
    tcp_line.client.sendall(b"an upload")
    assert tcp_line.client.recv(100) == b"too much"
    assert is_reset(tcp_line.client)
    assert tcp_line.upstream_side.received == tcp_line.client_side.sent == b"too much"


def test_a_reset_by_the_client_is_an_eof_for_a_server_on_a_path(sockets: Sockets) -> None:
    with proxied(sockets, "unix") as line:
        abort(line.client)
        assert read_to_eof(line.server) == b""  # AF_UNIX has no RST
        line.proxy.check()


def test_a_server_on_a_path_that_closes_with_unread_bytes_resets_the_client(
    sockets: Sockets,
) -> None:
    with proxied(sockets, "unix") as line:
        line.client.sendall(b"never read")
        line.proxy.wait_forwarded(b"never read")
        line.server.close()
        assert is_reset(line.client)


# -- what the test ends


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_what_the_test_resets_on_one_side_is_reset_on_both(tcp_line: Proxied, side: str) -> None:
    getattr(tcp_line, f"{side}_side").reset()
    assert is_reset(tcp_line.client)
    assert is_reset(tcp_line.server)


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_what_the_test_closes_on_one_side_is_closed_on_both(line: Proxied, side: str) -> None:
    line.client.sendall(b"question")
    assert line.server.recv(100) == b"question"
    getattr(line, f"{side}_side").close()
    assert read_to_eof(line.client) == b""
    assert read_to_eof(line.server) == b""
    line.client.close()
    line.server.close()
    for conn in (line.client_side, line.upstream_side):
        conn.wait_eof(timeout=FOREVER)
        assert kinds(conn)[-1] == "closed"


def test_what_the_test_closes_after_the_server_ended_is_closed_on_both(line: Proxied) -> None:
    line.server.shutdown(socket.SHUT_WR)
    assert read_to_eof(line.client) == b""
    line.client_side.close()
    assert read_to_eof(line.server) == b""


def test_what_the_test_closes_waits_for_bytes_that_still_wait(line: Proxied) -> None:
    taken = stall(line.client, line.proxy, CONTENT)
    line.client_side.close()
    with Background() as pool:
        assert pool.submit(read_to_eof, line.server).result() == line.proxy.upstream.sent
    assert 0 < len(line.proxy.upstream.sent) <= taken


# -- an upstream that is not there


def test_a_client_is_reset_where_nobody_listens(sockets: Sockets) -> None:
    with socket.create_server((OWN_HOST, 0)) as listener:
        port = listener.getsockname()[1]
    proxy = sockets.tcp_proxy((OWN_HOST, port))
    assert is_reset_at_once(proxy)
    proxy.client.wait_closed(1, timeout=FOREVER)
    proxy.client.assert_connections(1)
    proxy.upstream.assert_connections(0)
    why = f"upstream not reached: Connection refused: {OWN_HOST}:{port}"
    assert sorted(notes(proxy)) == [("tcp_proxy client", 0, why), ("tcp_proxy upstream", 0, why)]
    assert told(proxy.client) == told(proxy.upstream) == []


def test_a_client_is_reset_where_there_is_no_such_path(sockets: Sockets) -> None:
    proxy = sockets.tcp_proxy("/no/such/socket")
    assert is_reset_at_once(proxy)
    why = "upstream not reached: No such file or directory: /no/such/socket"
    assert {note for _, _, note in notes(proxy)} == {why}


def test_a_client_is_reset_when_the_upstream_does_not_answer_in_time() -> None:
    with black_hole() as (address, _), TCPProxy(address, settings=Settings(timeout=0.01)) as proxy:
        assert is_reset_at_once(proxy)
        where = f"127.0.0.1:{address[1]}"
        why = f"upstream not reached: connecting to {where} took 0.01 s"
        assert {note for _, _, note in notes(proxy)} == {why}


def test_a_path_whose_queue_is_full_is_waited_for(sockets: Sockets) -> None:
    with contextlib.ExitStack() as stack, socket.socket(socket.AF_UNIX) as upstream:
        upstream.bind("")
        upstream.listen(0)  # takes one connection
        upstream.settimeout(PATIENCE)
        proxy = sockets.tcp_proxy(os.fsdecode(upstream.getsockname()))
        clients = [stack.enter_context(plain_client(proxy.address)) for _ in range(6)]
        proxy.client.wait_connections(6)
        assert len(proxy.client.connections) == 6  # a turn of the loop: each has tried by now
        for _ in clients:
            accepted, _ = upstream.accept()
            stack.enter_context(accepted).sendall(b"hello")
        assert [client.recv(5) for client in clients] == [b"hello"] * 6


def test_an_upstream_may_come_later(sockets: Sockets) -> None:
    path = f"\0pytest-sockets-{os.getpid()}-later"
    proxy = sockets.tcp_proxy(path)
    assert is_reset_at_once(proxy)
    sockets.echo_server(path=path)
    with plain_client(proxy.address) as client:
        client.sendall(b"ping")
        assert client.recv(4) == b"ping"
    (conn,) = proxy.upstream.connections
    assert (conn.index, conn.sent) == (1, b"ping")
    assert [conn.received for conn in proxy.client.connections] == [b"", b"ping"]
    proxy.upstream.assert_sent(b"ping")


def test_connections_of_the_upstream_are_in_the_order_of_the_clients(sockets: Sockets) -> None:
    proxy = sockets.tcp_proxy(("127.0.0.1", 9))
    pairs = [_socket.socketpair() for _ in range(3)]
    for index in (1, 2, 0):  # as they were connected
        pairs[index][1].close()
        with proxy.client._lock:
            proxy._upstream._admit(pairs[index][0], None, index, "connected")
    assert [conn.index for conn in proxy.upstream.connections] == [0, 1, 2]
    assert [stream.record.index for stream in proxy.upstream._streams] == [0, 1, 2]


# -- while it connects


def test_a_client_that_goes_while_the_upstream_is_awaited_is_given_up(sockets: Sockets) -> None:
    with black_hole() as (address, _):
        proxy = sockets.tcp_proxy(address)
        with plain_client(proxy.address) as client:
            proxy.client.assert_connections(1)
            assert len(proxy._client.opening) == 1
            abort(client)
        proxy.client.wait_closed(1, timeout=FOREVER)
        assert len(proxy._client.opening) == 0
        proxy.upstream.assert_connections(0)
        assert notes(proxy) == []


@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_test_may_end_a_client_while_the_upstream_is_awaited(
    sockets: Sockets, how: str
) -> None:
    with black_hole() as (address, _):
        proxy = sockets.tcp_proxy(address)
        with plain_client(proxy.address) as client:
            getattr(proxy.client.accept(), how)()
            if how == "close":
                assert client.recv(1) == b""
            else:
                assert is_reset(client)
        assert len(proxy._client.opening) == 0


def test_connecting_outlives_the_code_in_whose_turn_it_was_begun(sockets: Sockets) -> None:
    with black_hole() as (address, make_room), contextlib.ExitStack() as stack:
        proxy = sockets.tcp_proxy(address)

        class Reading(asyncio.Protocol):
            """Brings all records up to date in its own turn, and so has the proxy accept."""

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                stack.enter_context(plain_client(proxy.address)).sendall(b"ping")
                assert proxy.client.received == b"ping"

        server = sockets.serve_protocol(Reading)
        with plain_client(server.address):
            proxy.client.wait_connections(1)
            server.close()
        with make_room() as upstream:
            assert upstream.recv(4) == b"ping"


@pytest.mark.parametrize("closing", ["proxy", "client", "upstream", "factory"])
def test_closing_while_the_upstream_is_awaited_leaves_nothing_open(
    sockets: Sockets, closing: str
) -> None:
    with black_hole() as (address, _):
        before = open_sockets()
        proxy = sockets.tcp_proxy(address)
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(plain_client(proxy.address))
            proxy.client.assert_connections(3)
            assert len(open_sockets() - before) == 1 + 3 * 3
            ends = {
                "proxy": proxy.close,
                "client": proxy.client.close,
                "upstream": proxy.upstream.close,
                "factory": sockets.close,
            }
            ends[closing]()
            assert len(open_sockets() - before) == 3
            assert proxy._client.opening == set()


# -- closing


@pytest.mark.parametrize("closing", ["proxy", "client", "upstream"])
def test_closing_either_side_closes_both(line: Proxied, closing: str) -> None:
    sides = {"proxy": line.proxy, "client": line.proxy.client, "upstream": line.proxy.upstream}
    sides[closing].close()
    assert read_to_eof(line.client) == b""
    assert read_to_eof(line.server) == b""
    with pytest.raises(ConnectionRefusedError):
        plain_client(line.proxy.address)
    for side in line.proxy.endpoints:
        assert side.is_closed
        with pytest.raises(EndpointClosedError, match=f"^{side.name} is closed"):
            side.wait_connections(2)
    line.proxy.close()
    assert line.proxy.problems == ()


def test_open_and_full_connections_are_no_problem_and_keep_nobody(tcp_line: Proxied) -> None:
    for sock in (tcp_line.client, tcp_line.server):
        stall(sock, tcp_line.proxy, CONTENT)
    tcp_line.proxy.close()
    tcp_line.proxy.check()


def test_what_had_come_by_the_end_is_in_the_record(tcp_line: Proxied) -> None:
    tcp_line.client.sendall(b"late")
    tcp_line.server.sendall(b"later")
    tcp_line.proxy.close()
    tcp_line.proxy.client.assert_received(b"late")
    tcp_line.proxy.upstream.assert_received(b"later")


# -- problems


@pytest.mark.parametrize("side", ["client", "upstream"])
@pytest.mark.usefixtures("forgiven")
def test_a_problem_of_one_side_ends_the_connections_of_both(
    sockets: Sockets, tcp_line: Proxied, side: str
) -> None:
    proxy = tcp_line.proxy
    getattr(proxy, side)._fail(RuntimeError("broken"))
    assert is_reset(tcp_line.client)
    assert is_reset(tcp_line.server)
    assert is_reset_at_once(proxy)
    assert [str(error) for error in proxy.problems] == [
        f"tcp_proxy {side} failed on its own side: broken"
    ]
    with pytest.raises(EndpointError, match="broken"):
        proxy.check()


@pytest.mark.usefixtures("unwatched")
def test_leaving_a_proxy_raises_its_problems() -> None:
    with pytest.raises(EndpointError, match="tcp_proxy upstream failed on its own side: broken"):
        with TCPProxy(("127.0.0.1", 9)) as proxy:
            proxy.upstream._fail(RuntimeError("broken"))
    assert proxy.is_closed
    with pytest.raises(KeyError):
        fail_in(proxy := TCPProxy(("127.0.0.1", 9)))
    assert proxy.is_closed


def test_a_lack_of_files_is_a_problem_and_not_the_upstreams_fault() -> None:
    run_quietly("""
        import os, resource, socket
        from pytest_sockets import EchoServer, Settings, TCPProxy

        echo = EchoServer()
        client = socket.socket()
        client.settimeout(60)
        proxy = TCPProxy(echo, settings=Settings(timeout=60))
        used = len(os.listdir("/proc/self/fd")) - 1
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))  # one: the client's, accepted
        try:
            client.connect(proxy.address)
            client.recv(1)
        except ConnectionResetError:
            pass
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        [problem] = proxy.upstream.problems
        assert "Too many open files" in str(problem), problem
        assert proxy.client.problems == ()
        client.close()
        proxy.close()
        echo.close()
    """)


# -- all at once


def test_both_sides_may_be_ended_at_the_same_time(sockets: Sockets) -> None:
    proxy = sockets.tcp_proxy(sockets.silent_server())
    assert proxy.client._lock is proxy.upstream._lock  # with two, this could not end
    for turn in range(1, 11):
        clients = [plain_client(proxy.address) for _ in range(20)]
        proxy.upstream.wait_connections(20 * turn)  # the kernel connects before the proxy knows
        opened = proxy.upstream.connections[-20:]
        with eager_threads(), Background() as pool:
            aborting = pool.submit(lambda clients: [abort(sock) for sock in clients], clients)
            resetting = pool.submit(lambda opened: [conn.reset() for conn in opened], opened)
            aborting.result(PATIENCE)
            resetting.result(PATIENCE)
    proxy.client.wait_closed(200, timeout=FOREVER)
    proxy.upstream.wait_closed(200, timeout=FOREVER)


def test_clients_that_come_while_a_proxy_closes_are_ended(sockets: Sockets) -> None:
    rounds, threads = 40, 4
    echo = sockets.echo_server()
    unexpected: list[BaseException] = []

    def come_and_go(proxy: TCPProxy, begun: threading.Semaphore) -> None:
        try:
            while True:
                with plain_client(proxy.address) as client:
                    client.sendall(b"ping" * 100)
                    begun.release()
                    if client.recv(4) != b"ping":
                        return
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE):
                unexpected.append(error)
        finally:
            begun.release()

    with eager_threads(), Background(threads) as pool:
        for turn in range(rounds):
            proxy = sockets.tcp_proxy(echo, host=OWN_HOST)
            begun = threading.Semaphore(0)
            clients = [pool.submit(come_and_go, proxy, begun) for _ in range(threads)]
            for _ in range(turn % 7 + 1):
                assert begun.acquire(timeout=PATIENCE)
            conns = proxy.client.connections
            for conn in conns[-2:]:
                conn.reset()
            (proxy.close, proxy.upstream.close)[turn % 2]()
            for client in clients:
                client.result()
            assert proxy._client.opening == set()
            streams = [conn._stream for side in proxy.endpoints for conn in side._connections]
            assert not any(stream.is_open for stream in streams)
            proxy.check()
    assert unexpected == []
    echo.check()
