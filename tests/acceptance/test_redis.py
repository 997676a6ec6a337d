"""redis-py's tests of what it sends on connecting, over TCP and over a unix socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from mutants import mutations
from pytest_sockets import Connection, Sockets, StreamServer

NAME = "test-suite-client"
COMMANDS = {(b"CLIENT", b"SETNAME", NAME.encode()): b"+OK\r\n"}


def redis_server(conn: Connection) -> None:
    """Answer each command of COMMANDS, however they are cut, and refuse all others."""
    while True:
        words = int(conn.recv_line().removeprefix(b"*"))
        command = [conn.recv_exactly(int(conn.recv_line()[1:]) + 2)[:-2] for _ in range(words)]
        conn.send(COMMANDS.get(tuple(command), b"-ERR\r\n"))


def tcp(server: StreamServer) -> redis.Connection:
    return redis.Connection(host=server.host, port=server.port, client_name=NAME, protocol=2)


def uds(server: StreamServer) -> redis.Connection:
    return redis.UnixDomainSocketConnection(path=server.path, client_name=NAME, protocol=2)
