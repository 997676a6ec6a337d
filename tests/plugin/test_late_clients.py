"""A client that knows a server of an earlier test, or has not left it yet."""

from __future__ import annotations

import pytest

from inner_runs import Inner
from stream_ends import OWN_HOST

SERVERS = {
    "tcp": f"""
@pytest.fixture
def server(sockets):
    return sockets.tcp_server(host={OWN_HOST!r})

REFUSED = ConnectionRefusedError

@pytest.fixture
def vacant(old):
    # By nobody who listens: else the kernel could give the port away meanwhile.
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(old.address)
        yield

def test_third(sockets, old, out_of_reach):
    host, port = old.address
    is_clean(sockets.tcp_server(host=host, port=port), old)
""",
    "unix": """
@pytest.fixture
def server(unix_server):
    return unix_server

REFUSED = FileNotFoundError

@pytest.fixture
def vacant():
    pass

def test_third(unix_server, old, out_of_reach):
    is_clean(unix_server, old)
""",
}
CLIENTS = """
import contextlib
import socket
from types import SimpleNamespace
import pytest

def client_of(address):
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    client.settimeout(60)
    try:
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client

def comes_too_late(old):
    with pytest.raises(REFUSED):
        client_of(old.address)
    old.attempts += 1

def is_clean(server, old):
    with contextlib.suppress(ConnectionError):
        for _ in range(2):
            old.client.send(b"for the first")
    assert server.transcript == ()
    with client_of(server.address) as client:
        client.sendall(b"for this one")
        server.assert_received(b"for this one")
        client.shutdown(socket.SHUT_WR)
        server.accept().wait_eof()
    assert [event.kind for event in server.transcript] == ["accepted", "received", "peer_eof"]
    assert server.problems == ()

@pytest.fixture(scope="module")
def old():
    old = SimpleNamespace(attempts=0)
    yield old
    comes_too_late(old)
    old.client.close()
    assert old.attempts == 5

@pytest.fixture
def out_of_reach(old):
    comes_too_late(old)

@pytest.fixture
def behind(old):
    yield  # set up before the server, so torn down behind it
    comes_too_late(old)

def test_first(behind, server, old):
    old.address, old.client = server.address, client_of(server.address)
    old.client.sendall(b"for the first")
    server.assert_received(b"for the first")

def test_second(vacant, behind, server, old):
    assert server.address != old.address
    comes_too_late(old)
    assert old.client.recv(1) == b""
    is_clean(server, old)
"""


@pytest.mark.parametrize("kind", SERVERS)
def test_it_is_refused_and_the_next_tests_are_clean(run: Inner, kind: str) -> None:
    together = ("--dist", "loadfile") if run.workers else ()
    run(CLIENTS + SERVERS[kind], *together).assert_outcomes(passed=3)
