"""Calls with one bad argument each, and what has to be said of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from pytest_sockets import Connection, Sockets, TCPServer, UDPPeer
from stream_ends import plain_client


@dataclass
class Desk:
    """One open object of each kind."""

    sockets: Sockets
    server: TCPServer
    conn: Connection
    peer: UDPPeer


@contextmanager
def open_desk(sockets: Sockets) -> Generator[Desk, None, None]:
    """Open one object of each kind."""
    server = sockets.tcp_server()
    with plain_client(server.address):
        yield Desk(sockets, server, server.accept(), sockets.udp_peer())


Call = Callable[[Desk], object]
Case = tuple[Call, type[Exception], str]


def check(desk: Desk, case: Case) -> None:
    """Require the error and its text, and that nothing was opened or broken."""
    call, kind, text = case
    opened = len(desk.sockets.endpoints)
    with pytest.raises(kind) as caught:
        call(desk)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert len(desk.sockets.endpoints) == opened
    desk.sockets.check()
