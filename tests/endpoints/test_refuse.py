"""Refusing who connects: what the kernel does then, and what it leaves alone."""

from __future__ import annotations

import pytest

from fault_ends import faults_of
from pytest_sockets import Sockets, StreamServer
from pytest_sockets.faults import Refuse
from stream_ends import plain_client
from told import told

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unwatched")]


@pytest.fixture(params=["ipv4", "ipv6", "dual", "unix"])
def server(request: pytest.FixtureRequest, sockets: Sockets) -> StreamServer:
    return sockets.stream_server(family=request.param)


def refuses(server: StreamServer) -> bool:
    try:
        plain_client(server.address).close()
    except ConnectionRefusedError:
        return True
    return False


def test_who_has_connected_goes_on(server: StreamServer) -> None:
    with plain_client(server.address) as first:
        server.wait_connections(1)
        with server._lock:  # nobody is accepted meanwhile: the second one is in the queue
            second = plain_client(server.address)
            server.fault(Refuse())
        assert refuses(server)
        with second:
            for client, conn in zip((first, second), server.connections, strict=True):
                client.sendall(b"ping")
                conn.expect(b"ping")
                conn.send(b"pong")
                assert client.recv(4) == b"pong"
                assert faults_of(conn) == []
    assert told(server) == []


def test_what_an_open_connection_misses_is_still_a_problem(server: StreamServer) -> None:
    server.script().expect(b"ping").send(b"pong")
    with plain_client(server.address):
        server.wait_connections(1)
        server.fault(Refuse())
        (problem,) = told(server)
    assert "step 1 of 2" in problem


def test_it_is_lifted_and_comes_again(server: StreamServer) -> None:
    for _ in range(3):
        with server.fault(Refuse()):
            assert refuses(server)
        assert not refuses(server)
    server.assert_connections(3)


def test_several_refuse_until_the_last_is_lifted(server: StreamServer) -> None:
    one, two = server.fault(Refuse()), server.fault(Refuse())
    one.lift()
    assert refuses(server)
    two.lift()
    assert not refuses(server)


def test_up_does_not_lift_it(server: StreamServer) -> None:
    fault = server.fault(Refuse())
    server.down()
    server.up()
    assert refuses(server)
    assert [event.note for event in server.transcript if event.kind == "note"] == [
        "down: refuses connections",
        "up: still refuses connections, by Refuse()",
    ]
    assert ", refusing" in repr(server)
    fault.lift()
    assert not refuses(server)
    assert "refusing" not in repr(server)


def test_nobody_counts_it(server: StreamServer) -> None:
    fault = server.fault(Refuse())
    assert refuses(server)
    assert fault.hits == 0
    assert repr(fault) == f"<Fault Refuse() of {server.name}, active>"
    assert server._notes() == ["Refuse()"]
    with pytest.raises(ValueError, match=r"^the hits of Refuse\(\) cannot be waited for: it is"):
        fault.wait_hit()
