# pyright: reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import re
from typing import Literal, assert_type

from pytest_sockets import Address, Connection, Endpoint, Event, PeerState, capabilities


def receiving(conn: Connection) -> None:
    assert_type(conn.recv(10), bytes)
    assert_type(conn.recv_exactly(10, timeout=1), bytes)
    assert_type(conn.recv_until(b"\r\n"), bytes)
    assert_type(conn.recv_line(timeout=0), bytes)
    assert_type(conn.recv_prefixed(">H"), bytes)
    assert_type(conn.recv_to_eof(), bytes)


def expecting(conn: Connection) -> None:
    assert_type(conn.expect(b"PING\r\n"), bytes)
    assert_type(conn.expect(b"PING\r\n", timeout=1), bytes)
    found = conn.expect(re.compile(rb"PING (\d+)\r\n"), until=b"\r\n")
    assert_type(found, re.Match[bytes])
    assert_type(conn.expect(re.compile(rb"...."), until=4, timeout=1), re.Match[bytes])
    conn.expect_eof()
    conn.expect_reset(timeout=1)
    conn.expect_nothing(within=0.05)


def sending_and_ending(conn: Connection) -> None:
    conn.send(b"PONG\r\n", timeout=1)
    conn.send_eof()
    conn.wait_eof()
    conn.wait_closed()
    conn.close()
    conn.reset()
    with conn as same:
        assert_type(same, Connection)


def boundaries_and_files(conn: Connection) -> None:
    conn.send_apart(b"PO", b"NG\r\n", timeout=1)
    conn.wait_peer_read(timeout=1)
    assert_type(conn.peer_state, PeerState | None)
    state = conn.peer_state
    if state is not None:
        assert_type(state.state, str)
        assert_type(state.unread, int)
        assert_type(state.eof_read, bool | None)
    conn.send_fds(b"x", [0], timeout=1)
    assert_type(conn.recv_fds(10, 1), tuple[bytes, list[int]])
    credentials = conn.peer_credentials
    if credentials is not None:
        assert_type(credentials.pid, int)
        pid, uid, gid = credentials
        assert_type((pid, uid, gid), tuple[int, int, int])
    assert_type(capabilities["send_apart"], Literal["exact", "approximate", "no"])


async def awaitable(conn: Connection) -> None:
    await conn.aio.send_apart(b"PO", b"NG\r\n", timeout=1)
    await conn.aio.wait_peer_read()
    await conn.aio.send_fds(b"x", [0])
    assert_type(await conn.aio.recv_fds(10, 1), tuple[bytes, list[int]])


def the_record(conn: Connection, anything: object) -> None:
    assert_type(conn.index, int)
    assert_type(conn.received, bytes)
    assert_type(conn.sent, bytes)
    assert_type(conn.transcript, tuple[Event, ...])
    assert_type(conn.peer_ended, Literal["eof", "reset"] | None)
    assert_type(conn.is_closed, bool)
    assert_type(conn.peer_address, Address | None)
    endpoint: Endpoint = conn.endpoint
    assert_type(endpoint.name, str)
    conn.assert_received(anything)
    conn.assert_received(contains=b"PING")
    conn.assert_sent(re.compile(rb"PONG"), timeout=1)
    conn.assert_nothing_received()


def wrong(conn: Connection) -> None:
    conn.recv()  # type: ignore[call-arg]  # wrong on purpose
    conn.recv_until("\r\n")  # type: ignore[arg-type]  # wrong on purpose
    conn.send("PONG")  # type: ignore[arg-type]  # wrong on purpose
    conn.send_apart("PONG")  # type: ignore[arg-type]  # wrong on purpose
    conn.send_fds(b"x", 1)  # type: ignore[arg-type]  # wrong on purpose
    conn.expect("PING")  # type: ignore[call-overload]  # wrong on purpose
    conn.expect(re.compile(rb"PING"))  # type: ignore[call-overload]  # wrong on purpose
    conn.expect(re.compile("PING"), until=b"\n")  # type: ignore[arg-type]  # wrong on purpose
    conn.expect(b"PING", until=b"\n")  # type: ignore[call-overload]  # wrong on purpose
    conn.received = b""  # type: ignore[misc]  # wrong on purpose
    text: str = conn.recv_line()  # type: ignore[assignment]  # wrong on purpose
    assert text


class Derived(Connection):  # type: ignore[misc]  # wrong on purpose
    """A connection is not for subclassing."""
