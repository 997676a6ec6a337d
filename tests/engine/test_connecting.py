import _socket
import errno
import os
import socket
from typing import Any

import pytest

from proxied import black_hole, listening
from pytest_sockets import Settings, TCPServer, UnsupportedError
from pytest_sockets._engine import connecting
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.connecting import Connector
from pytest_sockets._engine.shells import run_blocking
from stream_ends import OWN_HOST, PATIENCE

NO_FAMILY = (socket.AF_ASH, ("", 0))


def free_port() -> int:
    with socket.create_server((OWN_HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def connect(*candidates: tuple[int, Any], timeout: float = PATIENCE) -> Any:
    sock, peer = run_blocking(Connector(candidates).connect(Deadline(timeout)))
    sock.close()
    return peer


def test_the_first_that_answers_is_taken() -> None:
    with listening() as one, listening() as other:
        refused = (socket.AF_INET, (OWN_HOST, free_port()))
        where = [(socket.AF_INET, listener.getsockname()) for listener in (one, other)]
        assert connect(*where) == one.getsockname()
        assert connect(refused, where[1], where[0]) == other.getsockname()
        assert connect(NO_FAMILY, refused, where[1]) == other.getsockname()


def test_the_last_refusal_is_told() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError, match=f"Connection refused: {OWN_HOST}:{port}"):
        connect(NO_FAMILY, (socket.AF_INET, (OWN_HOST, port)))
    with pytest.raises(UnsupportedError, match="AF_ASH"):
        connect((socket.AF_INET, (OWN_HOST, port)), NO_FAMILY)


def test_an_address_that_never_answers_ends_the_search() -> None:
    with black_hole() as (address, _), TCPServer(settings=Settings(timeout=PATIENCE)) as server:
        with pytest.raises(TimeoutError, match=r"connecting to 127\.0\.0\.1:\d+ took 0\.01 s"):
            connect((socket.AF_INET, address), (socket.AF_INET, server.address), timeout=0.01)
        server.assert_connections(0)


def test_a_socket_that_has_connected_to_itself_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def bound_there(family: int, kind: int) -> _socket.socket:
        sock = _socket.socket(family, kind | socket.SOCK_NONBLOCK)
        sock.bind(address)  # as the kernel may choose it
        return sock

    address = (OWN_HOST, free_port())
    monkeypatch.setattr(connecting, "new_socket", bound_there)
    with pytest.raises(ConnectionRefusedError, match=f"Connection refused: {OWN_HOST}:"):
        connect((socket.AF_INET, address))


def test_a_peer_that_has_gone_already_is_named_all_the_same() -> None:
    with socket.socket() as sock:
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            sock.getpeername()
        assert connecting._peer(sock, socket.AF_INET, (OWN_HOST, 9)) == (OWN_HOST, 9)
