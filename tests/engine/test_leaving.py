"""A socket leaves the selector before it is closed.

Afterwards its number may be that of another thread's socket, which would then not be served.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxied import black_hole
from pytest_sockets import Connection, Settings, Sockets, StreamServer, UDPPeer
from pytest_sockets._endpoints.single import open_connection
from pytest_sockets._engine.connecting import Connector
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.listener import Listener
from pytest_sockets._engine.selector import EpollSelector
from pytest_sockets.faults import Unreachable
from stream_ends import PATIENCE, abort, plain_client, read_to_eof

PATIENT = Settings(timeout=PATIENCE)
GONE = "nothing"

pytestmark = pytest.mark.usefixtures("untold")


def at(number: int) -> str:
    """Name the file that has this number: ``socket:[12345]``."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return GONE


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What had the number each time when the selector was told to forget one."""
    left: list[str] = []
    remove = EpollSelector.remove

    def told(selector: EpollSelector, number: int) -> None:
        left.append(at(number))
        remove(selector, number)

    monkeypatch.setattr(EpollSelector, "remove", told)
    return left


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = Sockets(PATIENT)
    yield sockets
    sockets.close()  # and not `with`, which would raise the problems that are made here


def served(endpoint: Any) -> set[str]:
    """Return which sockets of an endpoint the selector serves."""
    sources = tuple(Engine.current().selector._sources.items())
    return {at(number) for number, source in sources if is_of(source, endpoint)}


def is_of(source: Any, endpoint: Any) -> bool:
    return getattr(source, "_owner", None) is endpoint


NOT_TODAY = RuntimeError("not today")


# -- listeners

PLACES: dict[str, dict[str, Any]] = {
    "ipv4": {},
    "dual": {"family": "dual"},
    "unix": {"family": "unix"},
}
LISTENER_ENDS: dict[str, Callable[[StreamServer, Listener], object]] = {
    "close": lambda server, listener: server.close(),
    "down": lambda server, listener: server.down(),
    "given up": lambda server, listener: listener.discard(),
    "error": lambda server, listener: listener.on_failure(NOT_TODAY),
}


@pytest.mark.parametrize("way", LISTENER_ENDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_listener_leaves_first(sockets: Sockets, left: list[str], place: str, way: str) -> None:
    server = sockets.stream_server(**PLACES[place])
    listening = served(server)
    assert len(listening) == len(server._listeners)
    for listener in tuple(server._listeners):
        LISTENER_ENDS[way](server, listener)
    assert set(left) >= listening
    assert not served(server)


# -- streams


def both(conn: Connection) -> None:
    """Wait until both sides have ended, and the I/O thread is through with it."""
    conn.wait_eof()
    assert conn.peer_ended == "eof"


STREAM_ENDS: dict[str, Callable[[Connection, socket.socket], object]] = {
    "close": lambda conn, client: (conn.close(), read_to_eof(client), client.close(), both(conn)),
    "reset": lambda conn, client: conn.reset(),
    "reset by the peer": lambda conn, client: (abort(client), conn.wait_closed()),
    "error": lambda conn, client: conn._stream.on_failure(NOT_TODAY),
    "end of the endpoint": lambda conn, client: conn.endpoint.close(),
    "drained for long enough": lambda conn, client: (conn.close(), conn._stream._stop_draining()),
}


@pytest.mark.parametrize("way", STREAM_ENDS)
@pytest.mark.parametrize("family", ["ipv4", "unix"])
def test_a_stream_leaves_first(sockets: Sockets, left: list[str], family: str, way: str) -> None:
    server = sockets.stream_server(family=family)
    listening = served(server)
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(b"unread")  # an AF_UNIX client that leaves it so resets
        reading = served(server) - listening
        assert len(reading) == 1
        STREAM_ENDS[way](conn, client)
        assert set(left) >= reading
        assert not served(server) - listening


@pytest.mark.parametrize("type", ["stream", "seqpacket", "datagram"])
def test_a_pair_leaves_first(sockets: Sockets, left: list[str], type: Any) -> None:
    pair = sockets.socket_pair(type)
    reading = served(pair)
    assert len(reading) == 1
    pair.close()
    assert set(left) >= reading


# -- datagrams

DATAGRAM_ENDS: dict[str, Callable[[UDPPeer], object]] = {
    "close": lambda peer: peer.close(),
    "error": lambda peer: peer._sockets[0].on_failure(NOT_TODAY),
    "unreachable for a while": lambda peer: peer.fault(Unreachable()).lift(),
}


@pytest.mark.parametrize("way", DATAGRAM_ENDS)
def test_a_datagram_socket_leaves_first(sockets: Sockets, left: list[str], way: str) -> None:
    peer = sockets.udp_peer()
    reading = served(peer)
    assert len(reading) == 1
    DATAGRAM_ENDS[way](peer)
    assert set(left) >= reading
    assert not served(peer) & reading


# -- connecting


@pytest.mark.parametrize("way", ["cancelled", "too late"])
def test_a_socket_that_connects_leaves_first(left: list[str], way: str) -> None:
    with black_hole() as (address, _):
        steps = open_connection(address, family=None, timeout=None, name=None, settings=PATIENT)
        next(steps)
        selector = Engine.current().selector
        [connecting] = [
            at(number)
            for number, source in tuple(selector._sources.items())
            if isinstance(source, Connector)
        ]
        if way == "cancelled":
            steps.close()
        else:
            with pytest.raises(TimeoutError):
                steps.send(False)
        assert connecting in left
