from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_sockets import (
    EndpointClosedError,
    MismatchError,
    Sockets,
    SocketsError,
    StreamServer,
    TCPServer,
    UnixServer,
)
from resp import resp
from stream_ends import Background, abort, plain_client, read_to_eof

FAMILIES = ["ipv4", "ipv6", "dual", "unix"]

pytestmark = pytest.mark.timeout(120)

Start = Callable[..., StreamServer]


@pytest.fixture(params=FAMILIES)
def start(request: pytest.FixtureRequest, sockets: Sockets) -> Start:
    def start(framing: Any = None) -> StreamServer:
        return sockets.stream_server(family=request.param, framing=framing, name="server")

    return start


@pytest.fixture
def lines(sockets: Sockets) -> StreamServer:
    return sockets.tcp_server(framing=b"\r\n", name="server")


@pytest.fixture
def client(lines: StreamServer) -> Iterator[socket.socket]:
    with plain_client(lines.address) as client:
        yield client


def command(*words: bytes) -> bytes:
    parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n%s" % (len(words), b"".join(parts))


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        assert more, f"EOF after {data!r}"
        data += more
    return data


def talk(sock: socket.socket, request: bytes, reply: bytes) -> None:
    sock.sendall(request)
    assert exactly(sock, len(reply)) == reply


def redis(start: Start) -> StreamServer:
    server = start(resp)
    stored: dict[bytes, bytes] = {}

    def put(match: re.Match[bytes]) -> bytes:
        stored[match[1]] = match[2]
        return b"+OK\r\n"

    def get(match: re.Match[bytes]) -> list[bytes]:
        value = stored.get(match[1])
        return [b"$-1\r\n"] if value is None else [b"$%d\r\n" % len(value), value, b"\r\n"]

    server.on(command(b"PING"), b"+PONG\r\n")
    server.on(re.compile(rb"(?s)\*3\r\n\$3\r\nSET\r\n\$\d+\r\n(.*)\r\n\$\d+\r\n(.*)\r\n"), put)
    server.on(re.compile(rb"(?s)\*2\r\n\$3\r\nGET\r\n\$\d+\r\n(.*)\r\n"), get)
    return server


# -- answers


def test_a_small_redis_answers_pipelined_and_split_commands(start: Start) -> None:
    server = redis(start)
    value = b"two\r\n*1\r\n" * 200
    for address in server.addresses:
        with plain_client(address) as one, plain_client(address) as two:
            talk(one, command(b"PING"), b"+PONG\r\n")
            talk(one, command(b"SET", b"key", value) + command(b"PING"), b"+OK\r\n+PONG\r\n")
            head = b"$%d\r\n" % len(value)
            talk(two, command(b"GET", b"key"), head + value + b"\r\n")
            for byte in command(b"GET", b"other"):
                two.sendall(bytes([byte]))
                server.check()  # it has come
            assert exactly(two, 5) == b"$-1\r\n"
            events = server.connections[-1].transcript
            chunks = [event.data for event in events if event.kind == "received"]
            assert chunks[1:] == [bytes([byte]) for byte in command(b"GET", b"other")]
            pipeline = b"".join(command(b"GET", b"%d" % number) for number in range(500))
            talk(two, pipeline, b"$-1\r\n" * 500)
    server.check()
    assert server.problems == ()


def test_a_length_prefix_frames_binary_requests(start: Start) -> None:
    server = start(">H")
    server.on(b"\0\3abc", b"\0\1A")
    server.on(re.compile(rb"(?s)..(.+)"), lambda match: b"\0\1" + match[1][:1])
    server.on(b"\0\0", None)
    with plain_client(server.address) as client:
        talk(client, b"\0\3abc\0\0\0\2\r\n\0", b"\0\1A\0\1\r")
        talk(client, b"\3abc", b"\0\1A")
    server.check()


def test_without_framing_bytes_are_answered_as_they_come(start: Start) -> None:
    server = start()
    server.on(b"\5\1\0", b"\5\0")
    server.on(b"\5\2\0\1", [b"\5", b"\1"], times=1)
    server.on(b"\1user", b"\1\0")
    with plain_client(server.address) as client:
        talk(client, b"\5\1\0\5\2\0\1\1us", b"\5\0\5\1")
        talk(client, b"er", b"\1\0")
    assert server.received == b"\5\1\0\5\2\0\1\1user"
    server.assert_sent(b"\5\0\5\1\1\0")


def test_rules_count_over_all_connections(lines: StreamServer) -> None:
    lines.on(b"A\r\n", b"1", times=2)
    lines.on(b"A\r\n", b"2")
    for reply in (b"1", b"1", b"2"):
        with plain_client(lines.address) as client:
            talk(client, b"A\r\n", reply)


def test_a_reply_may_be_silence_or_empty(lines: StreamServer, client: socket.socket) -> None:
    lines.on(b"A\r\n", None)
    lines.on(b"B\r\n", b"")
    lines.on(b"C\r\n", lambda frame: [])
    lines.on(b"D\r\n", lambda frame: frame.lower())
    talk(client, b"A\r\nB\r\nC\r\nD\r\n", b"d\r\n")
    lines.assert_sent(b"d\r\n")


def test_a_large_reply_waits_for_a_client_that_reads_late(
    lines: StreamServer, client: socket.socket
) -> None:
    content = bytes(range(256)) * 4096 * 16
    lines.on(b"GET\r\n", [content, b"end"])
    client.sendall(b"GET\r\n")
    client.shutdown(socket.SHUT_WR)
    lines.assert_received(b"GET\r\n")
    assert read_to_eof(client) == content + b"end"


def test_our_side_is_closed_after_the_last_answer_when_the_client_ends(start: Start) -> None:
    server = start(b"\n")
    server.on(b"a\n", b"b\n")
    with plain_client(server.address) as client:
        client.sendall(b"a\na\nhalf a fra")
        client.shutdown(socket.SHUT_WR)
        assert read_to_eof(client) == b"b\nb\n"
    server.wait_closed(1)
    (conn,) = server.connections
    assert conn.received == b"a\na\nhalf a fra"
    server.check()


def test_clients_that_vanish_are_no_problem(lines: StreamServer) -> None:
    lines.on(b"A\r\n", b"x" * 1000)
    lines.on(b"B\r\n", None)
    with plain_client(lines.address) as staying:
        leaving = plain_client(lines.address)
        leaving.sendall(b"A\r\n" * 10)
        abort(leaving)
        half = plain_client(lines.address)
        half.sendall(b"B\r\nhalf")
        abort(half)
        talk(staying, b"B\r\nA\r\n", b"x" * 1000)
    lines.check()


def test_many_clients_at_once_are_all_answered(lines: StreamServer) -> None:
    lines.on(re.compile(rb"(\d+)\r\n"), lambda match: b"%d\r\n" % (int(match[1]) * 2))

    def ask(number: int) -> bytes:
        with plain_client(lines.address) as client:
            client.sendall(b"%d\r\n" % number)
            return exactly(client, len(b"%d\r\n" % (number * 2)))

    with Background() as pool:
        assert list(pool.map(ask, range(200))) == [b"%d\r\n" % (2 * n) for n in range(200)]


def test_framing_can_be_given_wherever_a_server_is_made(sockets: Sockets) -> None:
    with TCPServer(framing=b";") as tcp, UnixServer(framing=b";") as unix:
        made = [
            tcp,
            unix,
            sockets.tcp_server(framing=b";"),
            sockets.unix_server(framing=b";"),
            sockets.stream_server(framing=b";"),
        ]
        for server in made:
            server.on(re.compile(rb".;"), b"!")
            with plain_client(server.address) as client:
                talk(client, b"a;", b"!")


# -- who drives


def test_open_connections_that_nobody_used_are_answered_too(lines: StreamServer) -> None:
    with (
        plain_client(lines.address) as quiet,
        plain_client(lines.address) as early,
        plain_client(lines.address) as used,
        plain_client(lines.address) as gone,
    ):
        early.sendall(b"A\r\nA")
        gone.sendall(b"A\r\n")
        gone.shutdown(socket.SHUT_WR)
        lines.wait_connections(4)
        lines.connections[2].send(b"by the test\r\n")
        used.sendall(b"anything\r\n")
        lines.on(b"A\r\n", b"1")
        assert [conn.sent for conn in lines.connections] == [b"", b"1", b"by the test\r\n", b"1"]
        assert read_to_eof(gone) == b"1"
        assert exactly(early, 1) == b"1"
        talk(early, b"\r\n", b"1")
        talk(quiet, b"A\r\n", b"1")
        assert lines.connections[2].recv_line() == b"anything\r\n"
        assert exactly(used, 13) == b"by the test\r\n"
    lines.check()


def test_what_the_kernel_held_before_the_rule_is_answered_when_it_is_made(
    sockets: Sockets,
) -> None:
    for _ in range(50):
        server = sockets.tcp_server(framing=b"\n")
        with plain_client(server.address) as client:
            client.sendall(b"first\n")
            server.on(b"first\n", b"1")
            server.on(b"second\n", b"2")
            assert server.accept().sent == b"1"


def test_a_connection_driven_by_rules_is_not_the_tests_to_use(
    lines: StreamServer, client: socket.socket
) -> None:
    lines.on(b"A\r\n", b"1")
    conn = lines.accept()
    for verb, call in {
        "send": lambda: conn.send(b"x"),
        "recv": lambda: conn.recv(1),
        "expect": lambda: conn.expect(b"A"),
    }.items():
        with pytest.raises(SocketsError) as caught:
            call()
        assert str(caught.value) == (
            f"server connection 0 is driven by its rules (on), so the test cannot {verb}() on it; "
            "wait, assert and read the record, or open another server without rules"
        )
    talk(client, b"A\r\n", b"1")
    conn.assert_received(b"A\r\n")
    conn.assert_sent(b"1")


@pytest.mark.parametrize("kind", ["echo", "silent", "discard", "chargen"])
def test_a_server_with_a_behaviour_takes_no_rules(sockets: Sockets, kind: str) -> None:
    server: StreamServer = getattr(sockets, f"{kind}_server")()
    with pytest.raises(SocketsError) as caught:
        server.on(b"A", b"B")
    assert str(caught.value) == (
        f"{kind}_server is driven by its {kind} behaviour, so a rule would never answer: "
        "use tcp_server or unix_server instead"
    )


def test_a_closed_server_takes_no_rules(lines: StreamServer) -> None:
    lines.close()
    with pytest.raises(EndpointClosedError, match="server is closed: use it before close"):
        lines.on(b"A\r\n", b"B")


def test_a_refused_rule_leaves_the_server_as_it_was(
    lines: StreamServer, client: socket.socket
) -> None:
    with pytest.raises(ValueError, match="is not exactly one"):
        lines.on(b"A", b"B")
    client.sendall(b"anything\r\n")
    assert lines.accept().recv_line() == b"anything\r\n"


# -- problems


@pytest.mark.usefixtures("forgiven")
def test_a_frame_that_no_rule_answers_is_a_problem_at_once(start: Start) -> None:
    server = start(b"\r\n")
    server.on(b"A\r\n", b"1", times=1)
    server.on(re.compile(rb"B+\r\n"), b"2")
    with plain_client(server.address) as client, plain_client(server.address) as other:
        talk(client, b"A\r\n", b"1")
        client.sendall(b"BB\r\nA\r\nnever looked at\r\n")
        with pytest.raises(MismatchError) as caught:
            server.wait_connections(3)
        assert str(caught.value) == (
            "server connection 0: no rule answers b'A\\r\\n'\n"
            "  on(b'A\\r\\n', b'1', times=1), used up\n"
            "  on(re.compile(b'B+\\\\r\\\\n'), b'2')"
        )
        assert server.problems == (caught.value,)
        gone = b"" if server.family == "unix" else None
        for sock in (client, other):
            assert_ended(sock, gone)
    assert_refused_or_ended(server.address, gone)
    assert server.sent == b"12"
    (event,) = (event for event in server.transcript if event.kind == "problem")
    assert event.note == f"MismatchError: {caught.value}"


@pytest.mark.usefixtures("forgiven")
def test_a_pattern_that_misses_the_separator_is_told_so(lines: StreamServer) -> None:
    lines.on(re.compile(rb"GET \w"), b"1")
    with plain_client(lines.address) as client:
        client.sendall(b"GET a\r\n")
        with pytest.raises(MismatchError) as caught:
            lines.wait_connections(2)
    assert str(caught.value) == (
        r"server connection 0: no rule answers b'GET a\r\n'"
        "\n  on(re.compile(b'GET \\\\w'), b'1') matches without the separator b'\\r\\n', "
        "and has to match that too"
    )


def assert_refused_or_ended(address: Any, eof: bytes | None) -> None:
    """Require a reset, which may come while the client connects."""
    try:
        sock = plain_client(address)
    except ConnectionResetError:
        return
    with sock:
        assert_ended(sock, eof)


def assert_ended(sock: socket.socket, eof: bytes | None) -> None:
    """Require a reset; AF_UNIX has none where nothing was unread."""
    try:
        rest = read_to_eof(sock)
    except ConnectionResetError:
        return
    assert eof is not None
    assert rest in (b"", b"2")


@pytest.mark.usefixtures("forgiven")
def test_without_framing_the_first_byte_that_fits_no_rule_is_a_problem(sockets: Sockets) -> None:
    server = sockets.tcp_server(name="server")
    server.on(b"GET ", b"1")
    server.on(b"PUT ", b"2")
    with plain_client(server.address) as client:
        client.sendall(b"P")
        server.check()
        client.sendall(b"I")
        with pytest.raises(MismatchError, match="server connection 0: no rule answers b'PI'\n"):
            server.check()


def boom(_: object) -> bytes:
    raise LookupError("in the reply")


@pytest.mark.usefixtures("forgiven")
def test_what_a_reply_function_raises_is_the_problem_itself(
    lines: StreamServer, client: socket.socket
) -> None:
    lines.on(b"A\r\n", boom)
    client.sendall(b"A\r\n")
    with pytest.raises(LookupError, match="in the reply") as caught:
        lines.check()
    assert caught.traceback[-1].name == "boom"
    assert lines.problems == (caught.value,)
    with pytest.raises(LookupError):
        lines.accept()


@pytest.mark.usefixtures("forgiven")
@pytest.mark.parametrize(
    ("give_up", "kind"),
    [
        (lambda frame: pytest.fail("by hand"), pytest.fail.Exception),
        (lambda frame: exit(3), RuntimeError),
        (lambda frame: "text", TypeError),
    ],
)
def test_whatever_ends_a_reply_function_does_not_end_the_io_thread(
    sockets: Sockets, lines: StreamServer, client: socket.socket, give_up: Any, kind: Any
) -> None:
    lines.on(b"A\r\n", give_up)
    client.sendall(b"A\r\n")
    with pytest.raises(kind):
        lines.check()
    with plain_client(sockets.echo_server().address) as other:
        talk(other, b"still served", b"still served")


@pytest.mark.usefixtures("forgiven")
@pytest.mark.parametrize("length", [0, -1, True, 1.0, 999])
def test_a_framing_function_that_returns_no_length_is_a_problem(
    sockets: Sockets, length: Any
) -> None:
    def measure(buffer: bytes) -> Any:
        return length if buffer.startswith(b"x") else len(buffer)

    server = sockets.tcp_server(framing=measure)
    server.on(b"A", b"1")
    with plain_client(server.address) as client:
        client.sendall(b"x")
        kind = ValueError if type(length) is int else TypeError
        with pytest.raises(kind, match=f"framing function measure returned {length} for b'x'"):
            server.check()


@pytest.mark.usefixtures("forgiven")
def test_a_length_below_zero_is_a_problem_of_its_connection(sockets: Sockets) -> None:
    server = sockets.tcp_server(framing=">h", name="server")
    server.on(b"\0\1a", None)
    with plain_client(server.address) as client:
        client.sendall(b"\0\1a\xff\xff")
        with pytest.raises(MismatchError) as caught:
            server.check()
    assert str(caught.value) == "server connection 0: the length at byte 3 is -1, below 0"


@pytest.mark.usefixtures("forgiven")
def test_everybody_who_waits_is_told_of_a_problem(
    lines: StreamServer, client: socket.socket, armed: threading.Semaphore
) -> None:
    lines.on(b"A\r\n", None)
    conn = lines.accept()
    with Background() as pool:
        waits = [pool.submit(lines.accept), pool.submit(conn.wait_eof)]
        for _ in waits:
            armed.acquire()
        client.sendall(b"B\r\n")
        for wait in waits:
            with pytest.raises(MismatchError, match="no rule answers b'B"):
                wait.result()


# -- reply functions


def test_a_reply_function_may_read_the_record_and_make_rules(
    lines: StreamServer, client: socket.socket
) -> None:
    def grow(frame: bytes) -> bytes:
        lines.on(b"C\r\n", b"grown")
        return b"%d %s" % (len(lines.connections), lines.received)

    lines.on(b"B\r\n", grow, times=1)
    talk(client, b"B\r\nC\r\n", b"1 B\r\nC\r\ngrown")


def test_a_request_that_comes_while_a_reply_is_made_is_answered_after_it(
    lines: StreamServer, client: socket.socket
) -> None:
    def first(frame: bytes) -> bytes:
        client.sendall(b"C\r\n")
        assert lines.received == b"B\r\nC\r\n"
        return b"1"

    lines.on(b"B\r\n", first)
    lines.on(b"C\r\n", b"2")
    talk(client, b"B\r\n", b"12")


@pytest.mark.usefixtures("forgiven")
def test_a_reply_function_that_waits_is_told_that_it_cannot(
    lines: StreamServer, client: socket.socket
) -> None:
    lines.on(b"A\r\n", lambda frame: lines.wait_connections(2))  # type: ignore[arg-type]  # must not be called there
    client.sendall(b"A\r\n")
    with pytest.raises(SocketsError) as caught:
        lines.check()
    assert str(caught.value) == (
        "a function that the I/O thread calls, such as a reply of on(), cannot wait: "
        "everything it waits for comes through this thread"
    )


def test_a_reply_function_may_close_the_server(lines: StreamServer, client: socket.socket) -> None:
    def last(frame: bytes) -> bytes:
        lines.close()
        return b"too late"

    lines.on(b"A\r\n", last)
    client.sendall(b"A\r\n")
    assert read_to_eof(client) == b""
    lines.close()  # waits for the lock, and so for the end of the other close
    assert lines.problems == ()


# -- the report


def test_rules_that_never_answered_are_noted(lines: StreamServer, client: socket.socket) -> None:
    lines.on(b"A\r\n", b"1")
    lines.on(b"B\r\n", b"2", times=2)
    talk(client, b"A\r\n", b"1")
    assert lines._notes() == [r"on(b'B\r\n', b'2', times=2) never answered"]
