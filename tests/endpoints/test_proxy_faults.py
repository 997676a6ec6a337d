"""What a proxy does on command to either direction; plain sockets judge on both of its sides."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from fault_ends import GREETING, faults_of, nothing_comes, read_exactly, read_to_the_end
from proxied import Proxied, accept, listening, proxied, stall
from pytest_sockets import Connection, Sockets
from pytest_sockets._endpoints.two_sides import Way
from pytest_sockets.faults import (
    Close,
    Corrupt,
    Delay,
    Effect,
    HalfClose,
    Inject,
    Reset,
    Slice,
    Stall,
    StopReading,
    Throttle,
)
from stream_ends import plain_client, read_to_eof

pytestmark = pytest.mark.timeout(120)

FAMILIES = ["ipv4", "ipv6", "unix"]
WAYS: list[Way] = ["request", "reply"]


@pytest.fixture(params=FAMILIES)
def line(request: pytest.FixtureRequest, sockets: Sockets) -> Iterator[Proxied]:
    with proxied(sockets, request.param) as line:
        yield line


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    way: Way = request.param
    return way


def ends(line: Proxied, way: Way) -> tuple[socket.socket, socket.socket, Connection]:
    """Return who sends in a direction, who receives, and the proxy's side that sends to that."""
    if way == "request":
        return line.client, line.server, line.upstream_side
    return line.server, line.client, line.client_side


def is_corrupted(sock: socket.socket) -> bool:
    data = read_exactly(sock, len(GREETING))
    return data[2:] == GREETING[2:] and all(
        one != two for one, two in zip(data[:2], GREETING[:2], strict=True)
    )


PASSING: dict[Effect, Callable[[socket.socket], bool]] = {
    Stall(): nothing_comes,
    HalfClose(): lambda sock: sock.recv(100) == b"",
    Slice(4): lambda sock: [sock.recv(100) for _ in range(3)] == [b"hell", b"o wo", b"rld"],
    Throttle(1e6): lambda sock: read_exactly(sock, len(GREETING)) == GREETING,
    Delay(0.01): lambda sock: read_exactly(sock, len(GREETING)) == GREETING,
    Corrupt(2): is_corrupted,
    Inject(b"INJ"): lambda sock: read_exactly(sock, 14) == b"INJ" + GREETING,
}
"""Effects that leave the other direction alone, and what the receiver sees of a greeting."""


@pytest.mark.parametrize("effect", PASSING, ids=repr)
def test_an_effect_is_of_one_direction(line: Proxied, way: Way, effect: Effect) -> None:
    sender, receiver, side = ends(line, way)
    fault = line.proxy.fault(effect, direction=way)
    sender.sendall(GREETING)
    assert line.proxy.transcript  # looking at it has all passed on that the kernel holds
    assert PASSING[effect](receiver)
    receiver.sendall(GREETING)
    assert read_exactly(sender, len(GREETING)) == GREETING
    assert fault.hits == 1
    assert [note.split(":")[0] for note in faults_of(side)] == [repr(effect)]
    other = line.client_side if way == "request" else line.upstream_side
    assert faults_of(other) == []
    if effect == Stall():
        fault.lift()
        assert read_exactly(receiver, len(GREETING)) == GREETING


@pytest.mark.parametrize("effect", [Close(), Reset()], ids=repr)
def test_an_end_reaches_both_sides(line: Proxied, way: Way, effect: Effect) -> None:
    sender, receiver, side = ends(line, way)
    line.proxy.fault(effect, direction=way)
    for sock in (receiver, sender):
        is_path = sock.family == socket.AF_UNIX  # which has no RST
        end = "ECONNRESET" if effect == Reset() and not is_path else "EOF"
        assert read_to_the_end(sock) == (b"", end)
    assert len(faults_of(side)) == 1


def test_a_sender_that_is_not_read_blocks_soon_and_goes_on(sockets: Sockets, way: Way) -> None:
    with listening() as listener:
        proxy = sockets.tcp_proxy(listener.getsockname())
        fault = proxy.fault(StopReading(), direction=way)
        with plain_client(proxy.address) as client, accept(listener) as server:
            fault.wait_hit()
            sender, receiver = (client, server) if way == "request" else (server, client)
            taken = stall(sender, None, bytes(4_000_000))
            assert 0 < taken < 1_000_000
            assert nothing_comes(receiver)
            receiver.sendall(GREETING)
            assert read_exactly(sender, len(GREETING)) == GREETING
            fault.lift()
            sender.shutdown(socket.SHUT_WR)
            assert read_to_eof(receiver) == bytes(taken)


def test_who_is_told_eof_from_the_beginning_may_still_ask(sockets: Sockets) -> None:
    with listening() as listener:
        proxy = sockets.tcp_proxy(listener.getsockname())
        proxy.fault(HalfClose())
        with plain_client(proxy.address) as client:
            assert client.recv(1) == b""
            client.sendall(GREETING)
            with accept(listener) as server:
                assert read_exactly(server, len(GREETING)) == GREETING


@pytest.mark.parametrize("effect", [Close(), Reset()], ids=repr)
def test_who_is_ended_from_the_beginning_does_not_reach_the_upstream(
    sockets: Sockets, effect: Effect
) -> None:
    upstream = sockets.tcp_server()
    proxy = sockets.tcp_proxy(upstream)
    proxy.fault(effect)
    try:
        with plain_client(proxy.address) as client:
            read_to_the_end(client)
    except ConnectionResetError:
        assert effect == Reset()
    proxy.client.wait_closed(1)
    upstream.assert_connections(0)
