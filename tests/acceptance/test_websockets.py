"""websockets' test that a server closes on a request that is not HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from operator import methodcaller
from typing import Any

import pytest
from websockets.sync.server import Server, serve

from mutants import expecting
from pytest_sockets import Connection, MismatchError


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(lambda websocket: None, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@expecting(methodcaller("expect_eof"), methodcaller("expect_reset"), MismatchError)
def test_junk_handshake_request(
    server: Server,
    raw_client: Callable[..., Connection],
    expected: Callable[[Connection], None],
    outcome: Any,
) -> None:
    client = raw_client(server.socket.getsockname())
    client.send(b"HELO relay.invalid\r\n")
    with outcome():
        expected(client)
    client.assert_nothing_received()
