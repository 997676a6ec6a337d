import re
import socket
import threading
from collections.abc import Callable

import pytest
from stream_ends import CONSUMING, FOREVER, Ends, abort, plain_client

from pytest_sockets import EchoServer, MismatchError, PeerGoneError, Sockets, TCPServer, WaitTimeout

pytestmark = pytest.mark.timeout(120)


class Interrupted:
    """An endpoint's lock, behind whose first release by this thread something happens."""

    def __init__(self, lock: threading.RLock, action: Callable[[], object]) -> None:
        self._lock = lock
        self._action: Callable[[], object] | None = action
        self._caller = threading.get_ident()

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.__exit__(None, None, None)
        if threading.get_ident() == self._caller and self._action is not None:
            action, self._action = self._action, None
            action()


def interrupt(ends: Ends, action: Callable[[], object]) -> None:
    def happen() -> None:
        action()
        assert ends.conn.transcript  # what happened is in the record now

    ends.conn.endpoint._lock = Interrupted(ends.conn.endpoint._lock, happen)


@pytest.mark.parametrize("name", CONSUMING)
def test_bytes_and_eof_that_come_while_a_verb_looks_are_not_missed(ends: Ends, name: str) -> None:
    verb, piece = CONSUMING[name]
    ends.peer.sendall(piece[:-1])
    ends.conn.assert_received(piece[:-1])

    def finish() -> None:
        ends.peer.sendall(piece[-1:])
        ends.peer.shutdown(socket.SHUT_WR)

    interrupt(ends, finish)
    assert verb(ends.conn, timeout=FOREVER) == piece


@pytest.mark.parametrize("name", ["expect_eof", "wait_eof"])
def test_an_eof_that_comes_while_a_verb_looks_is_not_missed(ends: Ends, name: str) -> None:
    interrupt(ends, lambda: ends.peer.shutdown(socket.SHUT_WR))
    getattr(ends.conn, name)(timeout=FOREVER)


def test_a_reset_that_comes_while_a_verb_looks_is_not_missed(ends: Ends) -> None:
    if not ends.is_tcp:
        ends.conn.send(b"never read")
    interrupt(ends, lambda: abort(ends.peer))
    ends.conn.expect_reset(timeout=FOREVER)
