"""A script is a plan for one connection, played in order; what else happens is a problem."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pytest_sockets import (
    Connection,
    Gate,
    MismatchError,
    Script,
    Settings,
    Sockets,
    SocketsError,
    StreamServer,
    TCPServer,
    UnsupportedError,
    WaitTimeout,
)
from stream_ends import CONSUMING, FOREVER, PATIENCE, Background, abort, plain_client, read_to_eof
from threads import eager_threads
from told import errors_of, told

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unwatched")]
NO_PLAN = (
    "MismatchError: tcp_server connection {} had no plan: {} for {}; add script(each=True), "
    "accept() it, or use strict=False"
)


@pytest.fixture
def server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


def ask(server: StreamServer, *requests: bytes) -> list[bytes]:
    """Send requests on a new connection, each after the answer to the one before."""
    with plain_client(server.address) as client:
        answers = []
        for request in requests:
            client.sendall(request)
            answers.append(client.recv(1000))
    return answers


# -- the verbs

VERBS: dict[str, tuple[Callable[[Script], Script], bytes, bytes, Any]] = {
    "recv": (lambda script: script.recv(9, save="x"), b"abc", b"", b"abc"),
    "recv_exactly": (lambda script: script.recv_exactly(2, save="x"), b"ab", b"", b"ab"),
    "recv_until": (lambda script: script.recv_until(b";", save="x"), b"a;", b"", b"a;"),
    "recv_line": (lambda script: script.recv_line(save="x"), b"a\n", b"", b"a\n"),
    "recv_prefixed": (lambda script: script.recv_prefixed("B", save="x"), b"\2ab", b"", b"ab"),
    "expect": (lambda script: script.expect(b"ab", save="x"), b"ab", b"", b"ab"),
    "expect no byte": (lambda script: script.expect(b"", save="x"), b"", b"", b""),
    "send": (lambda script: script.send(b"hello"), b"", b"hello", None),
    "expect_nothing": (lambda script: script.expect_nothing(within=0), b"", b"", None),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_step_does_what_the_verb_of_a_connection_does(server: TCPServer, verb: str) -> None:
    step, request, answer, saved = VERBS[verb]
    step(server.script()).send(b".").close()
    with plain_client(server.address) as client:
        client.sendall(request)
        assert read_to_eof(client) == answer + b"."
    assert server.accept().saved == ({} if saved is None else {"x": saved})
    assert told(server) == []


def test_a_pattern_has_to_match_a_whole_frame_and_its_match_is_kept(server: TCPServer) -> None:
    server.script().expect(re.compile(rb"GET (\S+)\r\n"), until=b"\r\n", save="get").send(b"200")
    assert ask(server, b"GET /it\r\n") == [b"200"]
    assert server.accept().saved["get"][1] == b"/it"
    assert told(server) == []


@pytest.mark.parametrize("take", ["recv_to_eof", "wait_eof", "expect_eof"])
def test_a_script_goes_on_sending_after_the_peers_eof(server: TCPServer, take: str) -> None:
    getattr(server.script(), take)().send(b"bye").close()
    with plain_client(server.address) as client:
        client.shutdown(socket.SHUT_WR)
        assert read_to_eof(client) == b"bye"
    assert told(server) == []


def test_what_comes_up_to_the_peers_eof_can_be_kept(server: TCPServer) -> None:
    server.script().recv_to_eof(save="all").close()
    with plain_client(server.address) as client:
        client.sendall(b"all\nof it")
        client.shutdown(socket.SHUT_WR)
        assert read_to_eof(client) == b""
    assert server.accept().saved == {"all": b"all\nof it"}
    assert told(server) == []


def test_pieces_are_sent_apart_and_waited_for_until_the_peer_has_read(server: TCPServer) -> None:
    server.script().send_apart(b"a", b"bc", b"d").wait_peer_read().send(b"e").close()
    with plain_client(server.address) as client:
        assert [client.recv(9) for _ in range(5)] == [b"a", b"bc", b"d", b"e", b""]
    assert told(server) == []


def test_a_piece_that_nobody_reads_meets_the_deadline_of_its_step(server: TCPServer) -> None:
    server.script(timeout=0.1).send_apart(b"a", b"b")
    with plain_client(server.address) as client:
        conn = server.accept()
        with pytest.raises(WaitTimeout) as caught:
            conn.wait_closed(timeout=FOREVER)
        assert client.fileno() >= 0
    (problem,) = told(server)
    assert problem == f"WaitTimeout: {caught.value}"
    assert problem.startswith(
        "WaitTimeout: tcp_server connection 0, step 1 of 1: send_apart(b'a', b'b') failed\n"
        "  send_apart waited 0.1 s for the peer to read piece 1 of 2, b'a' (1 byte unread); "
    )


def test_files_are_passed_by_steps(sockets: Sockets) -> None:
    server = sockets.unix_server()
    reading, writing = os.pipe()
    server.script().recv_fds(9, 1, save="it").send_fds(b"back", [reading]).close()
    with plain_client(server.address) as client:
        socket.send_fds(client, [b"there"], [writing])
        data, (got,), _, _ = socket.recv_fds(client, 9, 9)
        message, (kept,) = server.accept().saved["it"]
        os.write(kept, b"through both")
        assert (data, message, os.read(got, 99)) == (b"back", b"there", b"through both")
    for fd in (reading, writing, got, kept):
        os.close(fd)
    assert told(server) == []


def test_what_the_kernel_refuses_is_told_with_its_step(sockets: Sockets) -> None:
    server = sockets.server(family=socket.AF_UNIX, type=socket.SOCK_SEQPACKET, name="server")
    server.script().expect(b"a").send(bytes(1 << 24))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(server.address)
        client.sendall(b"a")
        with pytest.raises(OSError, match="cannot send 16,777,216 bytes: Message too long"):
            server.wait_closed(9, timeout=FOREVER)
    (error,) = errors_of(server)
    assert [note.partition(": ")[0] for note in error.__notes__] == [
        "server connection 0, step 2 of 2"
    ]


def test_files_need_a_server_of_their_family(server: TCPServer) -> None:
    script = server.script().expect(b"a").optional()
    text = "needs AF_UNIX, and tcp_server is ipv4: descriptors do not travel over a network"
    with pytest.raises(UnsupportedError, match=f"^recv_fds {text}$"):
        script.recv_fds(1, 1, save="x")
    with pytest.raises(UnsupportedError, match=f"^send_fds {text}$"):
        script.send_fds(b"x", [0])
    assert repr(script) == "<Script of tcp_server, 1 step: .expect(b'a')>"
    told(server)


def test_half_close_and_reset_are_steps(server: TCPServer) -> None:
    server.script().send_eof().expect(b"more").reset()
    with plain_client(server.address) as client:
        assert client.recv(1) == b""
        client.sendall(b"more")
        server.wait_closed(1)
        server.assert_received(b"more")
    assert [event.kind for event in server.transcript][-2:] == ["received", "reset_sent"]
    assert told(server) == []


def test_a_reset_by_the_peer_can_be_expected(server: TCPServer, sockets: Sockets) -> None:
    server.script().expect(b"a").expect_reset()
    conn = sockets.connect(server.address)
    conn.send(b"a")
    conn.reset()
    assert told(server) == []


# -- which connection

DRIVING: dict[str, Callable[[Connection], object]] = {
    "send": lambda conn: conn.send(b"x"),
    "send_apart": lambda conn: conn.send_apart(b"x", b"y"),
    "expect_eof": lambda conn: conn.expect_eof(),
    "expect_nothing": lambda conn: conn.expect_nothing(within=0),
    "hold": lambda conn: conn.hold(Gate()),
}


def test_scripts_are_played_in_their_order_one_for_each_connection(server: TCPServer) -> None:
    for n in range(3):
        server.script().expect(b"who?").send(b"%d" % n)
    assert [ask(server, b"who?") for _ in range(3)] == [[b"0"], [b"1"], [b"2"]]
    assert told(server) == []


def test_a_script_for_each_is_played_on_every_connection_without_its_own(
    server: TCPServer,
) -> None:
    server.script(each=True).expect(b"who?").send(b"each")
    server.script().expect(b"who?").send(b"first")
    assert [ask(server, b"who?") for _ in range(4)] == [[b"first"], [b"each"], [b"each"], [b"each"]]
    assert told(server) == []


def test_a_script_for_each_need_not_be_played(server: TCPServer) -> None:
    server.script(each=True).expect(b"who?").send(b"each")
    assert told(server) == []


def test_two_scripts_for_each_are_refused(server: TCPServer) -> None:
    server.script(each=True).recv_line()
    with pytest.raises(ValueError, match=r"^tcp_server has a script with each=True already$"):
        server.script(each=True)


def test_connections_alive_at_once_are_played_interleaved(server: TCPServer) -> None:
    script = server.script(each=True)
    for n in range(3):
        script.expect(b"%d" % n).send(b"%d" % n)
    clients = [plain_client(server.address) for _ in range(20)]
    for n in range(3):
        for client in reversed(clients):
            client.sendall(b"%d" % n)
        for client in clients:
            assert client.recv(9) == b"%d" % n
    for client in clients:
        client.close()
    assert told(server) == []


def test_a_late_script_adopts_the_oldest_open_connection_that_nobody_drives(
    server: TCPServer,
) -> None:
    with plain_client(server.address) as gone:
        server.accept().close()
        assert gone.recv(1) == b""
    with plain_client(server.address) as used, plain_client(server.address) as first:
        server.accept().send(b"used")
        assert used.recv(9) == b"used"
        with plain_client(server.address) as second:
            server.wait_connections(4)
            server.script().send(b"first").close()
            assert read_to_eof(first) == b"first"
            server.script().send(b"second").close()
            assert read_to_eof(second) == b"second"
    assert told(server) == []


def test_a_late_script_plays_what_came_before_it(server: TCPServer) -> None:
    with plain_client(server.address) as client:
        client.sendall(b"early")
        client.shutdown(socket.SHUT_WR)
        server.assert_received(b"early")
        server.script().expect(b"early").expect_eof().send(b"late").close()
        assert read_to_eof(client) == b"late"
    assert told(server) == []


def test_a_script_comes_before_a_handler_and_that_before_a_behaviour(sockets: Sockets) -> None:
    server = sockets.echo_server()
    assert ask(server, b"x") == [b"x"]
    server.serve(lambda conn: conn.send(b"handler"))
    server.script().expect(b"x").send(b"script")
    assert ask(server, b"x") == [b"script"]
    assert ask(server, b"x") == [b"handler"]
    assert told(server) == []


def test_a_script_for_each_comes_before_a_handler_and_that_before_rules(server: TCPServer) -> None:
    server.on(b"x", b"rule")
    server.serve(lambda conn: conn.send(b"handler"))
    assert ask(server, b"x") == [b"handler"]
    server.script(each=True).expect(b"x").send(b"each")
    server.script().expect(b"x").send(b"script")
    assert [ask(server, b"x") for _ in range(3)] == [[b"script"], [b"each"], [b"each"]]
    assert told(server) == []


def test_a_script_adopts_no_connection_that_is_driven_already(sockets: Sockets) -> None:
    server = sockets.echo_server()
    with plain_client(server.address) as client:
        server.wait_connections(1)
        server.script().send(b"script").close()
        client.sendall(b"echo")
        assert client.recv(9) == b"echo"
    assert ask(server, b"") == [b"script"]
    assert told(server) == []


@pytest.mark.parametrize("verb", [*CONSUMING, *DRIVING])
def test_a_verb_of_the_test_on_a_scripted_connection_says_who_drives_it(
    server: TCPServer, verb: str
) -> None:
    server.script().expect(b"never").optional()
    with plain_client(server.address) as client:
        conn = server.accept()
        call = CONSUMING[verb][0] if verb in CONSUMING else DRIVING[verb]
        with pytest.raises(
            SocketsError, match=r"^tcp_server connection 0 is driven by script 1, .*$"
        ) as caught:
            call(conn)
        assert str(caught.value).endswith(", or make it a step of the script")
        client.sendall(b"never")
        conn.assert_received(b"never")
    conn.wait_eof()
    assert (conn.peer_ended, conn.received) == ("eof", b"never")
    assert told(server) == []


# -- what is a problem


def test_other_bytes_than_expected_reset_the_connection_at_once(server: TCPServer) -> None:
    server.script(timeout=FOREVER).expect(b"PING\r\n").send(b"PONG")
    with plain_client(server.address) as client:
        client.sendall(b"PI")
        client.sendall(b"PE")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert told(server) == [
        r"MismatchError: tcp_server connection 0, step 1 of 2: expected b'PING\r\n', got b'PIPE'"
        "\n  first difference at byte 2: expected 0x4e 'N', received 0x50 'P'"
    ]


@pytest.mark.parametrize(
    ("source", "near"),
    [
        (b"GET /a .*", r"matches without the separator b'\r\n', and has to match that too"),
        (b"GET", "matches the beginning only, 3 of 17 bytes"),
        (b"PUT", None),
    ],
)
def test_a_frame_that_a_pattern_does_not_match_is_told_without_what_follows(
    server: TCPServer, source: bytes, near: str | None
) -> None:
    server.script().expect(re.compile(source), until=b"\r\n").send(b"ok")
    with plain_client(server.address) as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert told(server) == [
        "MismatchError: tcp_server connection 0, step 1 of 2: "
        rf"expected a full match of {source!r}, got b'GET /a HTTP/1.1\r\n'"
        + (f"\n  the pattern {near}" if near else "")
    ]


def test_a_problem_resets_every_connection_of_the_server_also_later_ones(
    server: TCPServer,
) -> None:
    server.script().expect(b"a").send(b"b")
    server.script().expect(b"a").send(b"b")
    with plain_client(server.address) as wrong, plain_client(server.address) as right:
        server.wait_connections(2)
        wrong.sendall(b"x")
        for client in (wrong, right):
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    with pytest.raises(ConnectionResetError), plain_client(server.address) as late:
        late.recv(1)
    assert len(told(server)) == 1


def test_every_pending_wait_on_the_server_raises_the_problem(server: TCPServer) -> None:
    server.script().expect(b"a").send(b"b")
    with plain_client(server.address) as client, Background() as background:
        conn = server.accept()
        waits: list[Callable[[], object]] = [
            lambda: server.accept(timeout=FOREVER),
            lambda: server.wait_connections(2, timeout=FOREVER),
            lambda: server.wait_closed(2, timeout=FOREVER),
            lambda: server.assert_connections(2, timeout=FOREVER),
            lambda: server.assert_sent(b"b", timeout=FOREVER),
            lambda: server.assert_received(b"xy", timeout=FOREVER),
            lambda: conn.wait_eof(timeout=FOREVER),
            lambda: conn.assert_sent(b"c", timeout=FOREVER),
        ]
        pending = [background.submit(wait) for wait in waits]
        client.sendall(b"x")
        raised = [future.exception(PATIENCE) for future in pending]
    assert [error is server.problems[0] for error in raised] == [True] * len(waits), raised
    assert len(told(server)) == 1


def test_required_steps_left_over_at_the_end_are_a_problem(server: TCPServer) -> None:
    server.script().expect(b"a").send(b"b").expect(b"c").send(b"d").optional().expect(b"e")
    with plain_client(server.address) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"b"
        assert told(server) == [
            "MismatchError: tcp_server connection 0, step 3 of 5: expected b'c', got nothing; "
            "2 steps left when the test ended"
        ]


LEFT: dict[str, tuple[Callable[[Script], Script], str | None]] = {
    "expect_eof": (lambda script: script.expect_eof(), "expect_eof"),
    "wait_eof": (lambda script: script.wait_eof(), "wait_eof"),
    "recv_to_eof": (lambda script: script.recv_to_eof(), "recv_to_eof"),
    "with our end behind it": (lambda script: script.expect_eof().close(), "expect_eof"),
    "up to optional": (lambda script: script.expect_eof().optional().send(b"x"), "expect_eof"),
    "a reset": (lambda script: script.expect_reset(), None),
    "bytes behind it": (lambda script: script.wait_eof().send(b"x").close(), None),
    "bytes": (lambda script: script.expect(b"x").expect_eof(), None),
}


@pytest.mark.parametrize("left", LEFT)
def test_who_only_misses_the_clients_eof_is_told_when_a_fixture_closes_its_client(
    server: TCPServer, left: str
) -> None:
    write, verb = LEFT[left]
    write(server.script().expect(b"a"))
    with plain_client(server.address) as client:
        client.sendall(b"a")
        (problem,) = told(server)
    hint = (
        "what is left is the client's EOF: one that a fixture closes is closed after this, so "
        f"close it in the test, or put optional() before {verb}()"
    )
    assert problem.partition(" left when the test ended")[2] == (f"\n  {hint}" if verb else "")


def test_a_script_that_nobody_connected_for_is_a_problem(server: TCPServer) -> None:
    server.script().expect(b"a")
    server.script().expect(b"a").send(b"b")
    with plain_client(server.address) as client:
        client.sendall(b"a")
        assert told(server) == [
            "MismatchError: tcp_server, script 2, 2 steps: never played, as nobody connected for it"
        ]


def test_a_script_that_is_optional_as_a_whole_need_not_be_played(server: TCPServer) -> None:
    server.script().optional().expect(b"a").send(b"b")
    assert told(server) == []


@pytest.mark.parametrize("clients", [0, 1])
def test_a_script_without_steps_is_a_problem_at_the_end_only(
    server: TCPServer, clients: int
) -> None:
    server.script()
    for _ in range(clients):
        with plain_client(server.address) as client:
            client.sendall(b"x")
    server.wait_connections(clients)
    assert server.problems == ()
    assert told(server) == [
        "MismatchError: tcp_server, script 1 has no steps: add some, "
        "as in script().expect(b'…').send(b'…')"
    ]


def test_bytes_after_the_end_of_a_strict_script_are_a_problem(server: TCPServer) -> None:
    server.script(timeout=0.1).expect(b"a").send(b"b")  # till then another step may follow
    with plain_client(server.address) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"b"
        client.sendall(b"more")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert told(server) == [
        "MismatchError: tcp_server connection 0, after the last of 2 steps: expected nothing more, "
        "got b'more' (4 bytes); strict=False allows it"
    ]


def test_bytes_after_the_end_are_told_at_the_end_of_the_test_too(server: TCPServer) -> None:
    server.script().expect(b"a").send(b"b").close()
    with plain_client(server.address) as client:
        client.sendall(b"a")
        assert read_to_eof(client) == b"b"
        client.sendall(b"more")
        assert [text.partition(":")[0] for text in told(server)] == ["MismatchError"]


@pytest.mark.parametrize("settings", [False, True])
def test_a_script_that_is_not_strict_ends_with_its_last_step(settings: bool) -> None:
    with Sockets(Settings(timeout=PATIENCE, strict=not settings)) as sockets:
        server = sockets.tcp_server()
        server.script(strict=None if settings else False).expect(b"a").send(b"b")
        with plain_client(server.address) as client, plain_client(server.address):
            client.sendall(b"a more")
            assert client.recv(9) == b"b"
            client.sendall(b"and more")
            assert told(server) == []


def test_a_connection_without_a_plan_is_a_problem_at_the_end_where_there_was_a_script(
    server: TCPServer,
) -> None:
    server.script().expect(b"a").send(b"b")
    assert ask(server, b"a") == [b"b"]
    with plain_client(server.address) as client:
        client.sendall(b"fine so far")
        server.connections[1].assert_received(b"fine so far")
        server.wait_connections(2)
        assert server.problems == ()
        assert told(server) == [NO_PLAN.format(1, "1 script", "2 connections")]


def test_a_connection_that_the_test_took_needs_no_plan(server: TCPServer) -> None:
    server.script().expect(b"a").send(b"b")
    assert ask(server, b"a") == [b"b"]
    with plain_client(server.address):
        server.accept()
        server.accept()
        assert told(server) == []


def test_a_connection_that_the_test_used_without_taking_it_needs_no_plan(server: TCPServer) -> None:
    with plain_client(server.address) as client:
        server.wait_connections(1)
        server.connections[0].send(b"by the test")
        assert client.recv(99) == b"by the test"
        server.script().expect(b"a").send(b"b")
        assert ask(server, b"a") == [b"b"]
        assert told(server) == []


def test_without_any_plan_a_server_records_and_nothing_is_wrong(server: TCPServer) -> None:
    for _ in range(3):
        with plain_client(server.address) as client:
            client.sendall(b"x")
    server.wait_connections(3)
    assert (server.received, told(server)) == (b"xxx", [])


# -- what never is


def test_a_connection_that_is_open_at_the_end_is_no_problem(server: TCPServer) -> None:
    server.script().expect(b"a").send(b"b")
    with plain_client(server.address) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"b"
        assert told(server) == []
        assert not server.connections[0].is_closed


@pytest.mark.parametrize("end", ["eof", "reset"])
def test_the_peers_end_after_the_last_required_step_is_no_problem(
    server: TCPServer, sockets: Sockets, end: str
) -> None:
    server.script().expect(b"a").optional().send(b"b").expect(b"QUIT").send(b"bye").close()
    conn = sockets.connect(server.address)
    conn.send(b"a")
    conn.expect(b"b")
    conn.close() if end == "eof" else conn.reset()
    assert told(server) == []


def test_the_peer_may_leave_in_the_middle_of_an_optional_step(server: TCPServer) -> None:
    server.script().optional().expect(b"QUIT").send(b"bye")
    with plain_client(server.address) as client:
        client.sendall(b"QU")
    assert told(server) == []


@pytest.mark.parametrize("end", ["eof", "reset"])
def test_a_script_that_is_done_does_not_mind_how_the_peer_ends(
    server: TCPServer, sockets: Sockets, end: str
) -> None:
    server.script().expect(b"a").send(b"b")
    conn = sockets.connect(server.address)
    conn.send(b"a")
    conn.expect(b"b")
    conn.close() if end == "eof" else conn.reset()
    server.accept().wait_eof() if end == "eof" else server.accept().expect_reset()
    assert told(server) == []


OWN_END: dict[str, Callable[[Script], Script]] = {
    "expect": lambda script: script.expect(b"QUIT"),
    "recv_line": lambda script: script.recv_line(),
    "wait_eof": lambda script: script.wait_eof(),
}


@pytest.mark.parametrize("is_optional", [False, True])
@pytest.mark.parametrize("step", OWN_END)
def test_the_test_may_reset_a_scripted_connection_whose_rest_is_optional(
    server: TCPServer, step: str, is_optional: bool
) -> None:
    script = server.script().send(b"220")
    OWN_END[step](script.optional() if is_optional else script)
    with plain_client(server.address) as client:
        assert client.recv(9) == b"220"
        server.accept().reset()
        problems = told(server)
    if is_optional:
        assert problems == []
    else:
        (problem,) = problems
        assert problem.startswith("MismatchError: tcp_server connection 0, step 2 of 2: expected ")
        assert "got nothing: the connection is closed on our side" in problem


KILLED: dict[str, Callable[[Script, Gate], Script]] = {
    "hold": lambda script, gate: script.hold(gate).send(b"x"),
    "hold, then receive": lambda script, gate: script.hold(gate).expect(b"QUIT"),
    "expect_nothing": lambda script, gate: script.expect_nothing(until=gate).expect(b"QUIT"),
    "expect_eof": lambda script, gate: script.expect_eof().close(),
    "send": lambda script, gate: script.send(bytes(1 << 26)).expect(b"QUIT"),
    "send_apart": lambda script, gate: script.send_apart(b"x", b"y").close(),
}


@pytest.mark.parametrize("step", KILLED)
def test_a_client_may_be_killed_in_the_middle_of_any_optional_step(
    server: TCPServer, sockets: Sockets, step: str
) -> None:
    gate = sockets.gate()
    KILLED[step](server.script().expect(b"a").optional(), gate)
    client = plain_client(server.address)
    client.sendall(b"a")
    if "hold" in step or "nothing" in step:
        gate.wait_reached()
    abort(client)
    server.accept().wait_closed()
    gate.release()
    assert told(server) == []


def test_an_optional_step_fails_on_other_bytes_all_the_same(server: TCPServer) -> None:
    server.script().optional().expect(b"QUIT").send(b"bye")
    with plain_client(server.address) as client:
        client.sendall(b"QA")
    assert told(server) == [
        "MismatchError: tcp_server connection 0, step 1 of 2: expected b'QUIT', got b'QA'\n"
        "  first difference at byte 1: expected 0x55 'U', received 0x41 'A'"
    ]


def test_the_end_of_the_test_ends_a_script_without_a_word(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    server.script().expect(b"a").send(b"b")
    with plain_client(server.address) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"b"
        server.close()
        assert server.problems == ()


@pytest.mark.parametrize("end", ["close", "the client's EOF", "nothing"])
def test_a_script_that_is_done_waits_in_peace(
    server: TCPServer, armed: threading.Semaphore, end: str
) -> None:
    script = server.script(strict=False).expect(b"a").send(b"b")
    if end == "close":
        script.close()
    with plain_client(server.address) as client:
        client.sendall(b"a and more")
        assert client.recv(1) == b"b"
        if end == "the client's EOF":
            client.shutdown(socket.SHUT_WR)
            server.accept().wait_eof()
        waits = 0
        for _ in range(100):
            assert server.received == b"a and more"
            while armed.acquire(blocking=False):
                waits += 1
    assert waits < 50  # else it takes a turn of the I/O loop each time
    assert told(server) == []


def test_the_end_of_the_test_in_the_middle_of_a_step_is_no_problem(sockets: Sockets) -> None:
    with eager_threads():
        for _ in range(50):
            server, gate = sockets.tcp_server(), sockets.gate()
            server.script().hold(gate).expect(b"a").send(b"b")
            with plain_client(server.address):
                gate.wait_reached()
                server.close()
            assert server.problems == ()


# -- written while the client is at it


def test_a_script_may_be_written_while_its_client_sends(sockets: Sockets) -> None:
    with Background(1) as background, eager_threads():
        for _ in range(500):
            server = sockets.tcp_server()
            begun = threading.Barrier(2)

            def client(server: TCPServer = server, begun: threading.Barrier = begun) -> bytes:
                with plain_client(server.address) as client:
                    begun.wait()
                    client.sendall(b"one\ntwo\n")
                    client.sendall(b"three\n")
                    return read_to_eof(client)

            asked = background.submit(client)
            begun.wait()
            script = server.script().recv_line().send(b"1").expect(b"two\n")
            script.recv_line(save="last").send(b"3").close()
            assert asked.result(PATIENCE) == b"13"
            assert told(server) == []
            server.close()


# -- bad input

BAD: dict[str, tuple[Callable[[Script], object], type[Exception], str]] = {
    "expect a str": (
        lambda script: script.expect("PING"),  # type: ignore[call-overload]  # wrong on purpose
        TypeError,
        "'PING'",
    ),
    "a pattern without until": (
        lambda script: script.expect(re.compile(b"a")),  # type: ignore[call-overload]  # wrong on purpose
        TypeError,
        "needs until=",
    ),
    "a pattern that matches nothing": (
        lambda script: script.expect(re.compile(b"a*"), until=b"\n"),
        ValueError,
        "is met by no bytes at all",
    ),
    "send a str": (
        lambda script: script.send("x"),  # type: ignore[arg-type]  # wrong on purpose
        TypeError,
        "data must be bytes, not str 'x'",
    ),
    "a timeout below 0": (
        lambda script: script.recv_line(timeout=-1),
        ValueError,
        "timeout must be a number of seconds, 0 or more and finite, not -1",
    ),
    "hold of something else": (
        lambda script: script.hold("gate"),  # type: ignore[arg-type]  # wrong on purpose
        TypeError,
        "gate must be a gate, as sockets.gate() makes one, not 'gate'",
    ),
    "silence without an end": (
        lambda script: script.expect_nothing(),
        TypeError,
        "expect_nothing needs until=, a gate, or within=, in seconds",
    ),
    "a step after close": (
        lambda script: script.close().send(b"x"),
        ValueError,
        "send(b'x') cannot follow close(): that ends the connection",
    ),
    "optional twice": (
        lambda script: script.optional().optional(),
        ValueError,
        "optional() is said once",
    ),
    "a name twice": (
        lambda script: script.recv_line(save="x").recv_line(save="x"),
        ValueError,
        "save='x' is taken by step 1, recv_line()",
    ),
    "a name that is none": (
        lambda script: script.recv_line(save=1),  # type: ignore[arg-type]  # wrong on purpose
        TypeError,
        "save must be a name, under which conn.saved keeps the bytes, not 1",
    ),
    "a size of 0": (lambda script: script.recv_exactly(0), ValueError, "n must be at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_step_is_refused_where_it_is_written(server: TCPServer, case: str) -> None:
    call, kind, text = BAD[case]
    with pytest.raises(kind) as caught:
        call(server.script())
    assert type(caught.value) is kind
    assert text in str(caught.value)
    told(server)


def test_a_bad_timeout_of_a_script_makes_none(server: TCPServer) -> None:
    with pytest.raises(ValueError, match=r"^timeout must be a number of seconds, 0 or more"):
        server.script(timeout=-1)
    assert told(server) == []


# -- without pytest


def test_leaving_a_server_raises_what_is_left_of_its_script() -> None:
    with pytest.raises(MismatchError, match="never played"), TCPServer() as server:
        server.script().expect(b"a")
    assert server.is_closed


def test_leaving_a_server_raises_nothing_where_the_body_did() -> None:
    server = TCPServer()
    server.script().expect(b"a")
    with pytest.raises(KeyError, match=r"^'mine'$"), server:
        raise KeyError("mine")
    assert server.is_closed
    assert told(server) == []  # nor does the end of the test


def test_a_script_shows_its_steps(server: TCPServer) -> None:
    script = server.script().expect(b"a").send(b"b")
    assert repr(script) == "<Script of tcp_server, 2 steps: .expect(b'a').send(b'b')>"
    told(server)


def test_strict_is_a_claim(server: TCPServer) -> None:
    with pytest.raises(TypeError, match=r"^strict must be True or False, not 'no'$"):
        server.script(strict="no")  # type: ignore[arg-type]  # wrong on purpose
    assert told(server) == []
