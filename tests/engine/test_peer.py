"""What the kernel answers of the other end; sockets of the standard library ask and are asked."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from descriptors import descriptors
from processes import in_child
from pytest_sockets._engine import diag, peer
from pytest_sockets._engine.credentials import credentials_of
from pytest_sockets._engine.diag import TCPPeer, Unseen, find_tcp_peer
from pytest_sockets._engine.peer import (
    PeerState,
    Sight,
    outgoing,
    sight_of_peer,
    state_of_peer,
)

Pair = tuple[socket.socket, socket.socket]
MPTCP = 262


def tcp_pair(stack: ExitStack, family: int, host: str, proto: int = 0) -> Pair:
    with socket.create_server((host, 0), family=family) as listener:
        client = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, proto))
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
    return client, stack.enter_context(accepted)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["ipv4", "ipv6"])
def pair(request: pytest.FixtureRequest, stack: ExitStack) -> Pair:
    if request.param == "ipv4":
        return tcp_pair(stack, socket.AF_INET, "127.0.0.1")
    try:
        return tcp_pair(stack, socket.AF_INET6, "::1")
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")


def test_what_arrives_in_the_middle_of_a_look_is_unread(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    ours.send(b"abc")
    theirs.recv(2)
    found = find_tcp_peer(ours)
    assert found is not None
    # Of two bytes that had come and were read, and of all that came while the kernel waited.
    torn = iter([replace(found, queued=0)])

    def look(sock: Any) -> TCPPeer | None:
        return next(torn, None) or find_tcp_peer(sock)

    monkeypatch.setattr(peer, "find_tcp_peer", look)
    assert sight_of_peer(ours, 3) is Sight.UNREAD
    theirs.recv(1)
    assert sight_of_peer(ours, 3) is Sight.READ


def test_a_fin_counts_one_until_it_is_read(pair: Pair) -> None:
    ours, theirs = pair
    ours.send(b"abc")
    ours.shutdown(socket.SHUT_WR)
    found = find_tcp_peer(ours)
    assert found is not None
    assert (found.state, found.queued, found.arrived) == ("CLOSE_WAIT", 4, 4)
    assert state_of_peer(ours) == PeerState("CLOSE_WAIT", 3, eof_read=False)
    assert sight_of_peer(ours, 3) is Sight.UNREAD
    theirs.recv(2)
    assert state_of_peer(ours) == PeerState("CLOSE_WAIT", 1, eof_read=False)
    while theirs.recv(2):
        pass
    assert state_of_peer(ours) == PeerState("CLOSE_WAIT", 0, eof_read=True)
    assert sight_of_peer(ours, 3) is Sight.READ


def test_bytes_that_have_not_arrived_were_not_read(pair: Pair) -> None:
    assert sight_of_peer(pair[0], 0) is Sight.READ
    assert sight_of_peer(pair[0], 1) is Sight.UNREAD


def test_a_peer_that_closed_is_gone(pair: Pair) -> None:
    ours, theirs = pair
    ours.send(b"unread")
    theirs.close()
    assert find_tcp_peer(ours) is None
    assert sight_of_peer(ours, 6) is Sight.GONE
    assert state_of_peer(ours) is None


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_unix_peer_that_throws_bytes_away_has_not_read_them(
    stack: ExitStack, kind: socket.SocketKind
) -> None:
    ours, theirs = map(stack.enter_context, socket.socketpair(socket.AF_UNIX, kind))
    assert sight_of_peer(ours, 0) is Sight.READ
    ours.send(b"abc")
    assert sight_of_peer(ours, 3) is Sight.UNREAD
    assert state_of_peer(ours) == PeerState("ESTABLISHED", 3, None)
    theirs.close()
    assert sight_of_peer(ours, 3) is Sight.GONE
    assert state_of_peer(ours) is None
    with pytest.raises(ConnectionResetError):  # looking has not taken the error
        ours.recv(1)


def test_an_mptcp_peer_is_not_judged_by_its_subflow(stack: ExitStack) -> None:
    try:
        client, accepted = tcp_pair(stack, socket.AF_INET, "127.0.0.1", MPTCP)
    except OSError as error:
        pytest.skip(f"this machine has no MPTCP: {error}")
    accepted.send(b"unread")
    assert sight_of_peer(accepted, 6) is Sight.BLIND
    assert state_of_peer(accepted) is None
    assert sight_of_peer(client, 0) is Sight.BLIND


def test_an_answer_about_another_socket_is_not_believed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = diag._ask
    answers: list[bytes] = []

    def keep(request: bytes) -> bytes | None:
        answer = ask(request)
        answers.append(answer or b"")
        return answer

    monkeypatch.setattr(diag, "_ask", keep)
    assert find_tcp_peer(pair[0]) is not None
    for at in (4, 6, 8, 24):  # both ports, both addresses
        (true,) = answers
        lie = true[:at] + bytes([true[at] ^ 1]) + true[at + 1 :]
        monkeypatch.setattr(diag, "_ask", lambda request, lie=lie: lie)
        assert find_tcp_peer(pair[0]) is None
    monkeypatch.setattr(diag, "_ask", lambda request: answers[0])
    assert find_tcp_peer(pair[0]) is not None


def test_a_listener_on_the_peers_port_is_not_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = diag._ask
    states: list[int] = []

    def keep(request: bytes) -> bytes | None:
        answer = ask(request)
        states.append(answer[1] if answer else 0)
        return answer

    monkeypatch.setattr(diag, "_ask", keep)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as left:
        left.bind(("127.0.0.1", 0))

        class Left:
            """A client whose server has forgotten the connection."""

            family = socket.AF_INET
            getsockname = left.getsockname
            getpeername = listener.getsockname

        assert find_tcp_peer(Left()) is None  # type: ignore[arg-type]  # only looks like a socket
    assert [diag.STATES[state] for state in states] == ["LISTEN"]


@pytest.mark.parametrize("error", [PermissionError(1, "no"), OSError(97, "no such family")])
def test_a_kernel_that_does_not_let_us_ask_leaves_us_blind(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refuse(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(diag._socket, "socket", refuse)
    with pytest.raises(Unseen):
        find_tcp_peer(pair[0])
    assert sight_of_peer(pair[0], 0) is Sight.BLIND
    assert state_of_peer(pair[0]) is None


def test_asking_leaves_no_descriptor_open(pair: Pair) -> None:
    before = descriptors()
    for _ in range(10):
        state_of_peer(pair[0])
    assert descriptors() == before


def test_a_forked_child_can_ask_too(pair: Pair) -> None:
    pair[0].send(b"abc")
    assert in_child(lambda: state_of_peer(pair[0]) == PeerState("ESTABLISHED", 3, eof_read=False))


def test_what_a_family_does_not_count_is_nothing() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM) as sock:
        assert outgoing(sock) == 0


def test_only_unix_sockets_have_credentials(pair: Pair, stack: ExitStack) -> None:
    assert credentials_of(pair[0]) is None
    ours, _ = map(stack.enter_context, socket.socketpair())
    assert credentials_of(ours) == (os.getpid(), os.getuid(), os.getgid())
