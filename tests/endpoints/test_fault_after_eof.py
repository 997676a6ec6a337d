"""What a fault meets when our EOF is out: nothing, unless it is about more than what is sent."""

import socket

import pytest

from fault_ends import GREETING, faults_of, nothing_comes
from pytest_sockets import Sockets, TCPServer
from pytest_sockets.faults import (
    AfterReceived,
    AtEOF,
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
from told import told

pytestmark = pytest.mark.timeout(120)

ON_SENDING = [
    Stall(),
    HalfClose(),
    Slice(1),
    Throttle(1.0),
    Delay(1.0),
    Corrupt(),
    Inject(b"JUNK"),
]
"""Effects on what is sent, of which there will be no more."""


@pytest.fixture
def server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("effect", ON_SENDING, ids=repr)
def test_an_effect_on_what_is_sent_has_met_nothing(server: TCPServer, effect: Effect) -> None:
    server.script().send(GREETING).send_eof().expect_eof()
    fault = server.fault(effect, at=AtEOF())
    with plain_client(server.address) as client:
        assert read_to_eof(client) == GREETING
        client.shutdown(socket.SHUT_WR)
        server.connections[0].wait_eof()
    assert fault.hits == 0
    (text,) = told(server)
    assert f"the fault {effect!r} at AtEOF() met nothing: " in text
    assert faults_of(server.connections[0]) == []


@pytest.mark.parametrize("effect", [Reset(), Close(), StopReading()], ids=repr)
def test_other_effects_still_act(server: TCPServer, effect: Effect) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send_eof()
        fault = server.fault(effect, at=AfterReceived(5))
        client.sendall(GREETING)
        fault.wait_hit()
        assert fault.hits == 1
        assert len(faults_of(conn)) == 1


def test_an_eof_that_is_kept_back_is_not_out(server: TCPServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        with server.fault(Stall()):
            conn.send_eof()
            fault = server.fault(Inject(b"before it"))
            assert nothing_comes(client)
        assert fault.hits == 1
        assert read_to_eof(client) == b"before it"
