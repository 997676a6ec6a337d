# pyright: reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, assert_type

from pytest_sockets import Connection, Datagram, Sockets, TCPServer, UDPPeer


async def of_a_server(tcp_server: TCPServer, anything: object) -> None:
    assert_type(await tcp_server.aio.accept(), Connection)
    assert_type(await tcp_server.aio.accept(timeout=1), Connection)
    await tcp_server.aio.wait_connections(1)
    await tcp_server.aio.wait_closed(1, timeout=1)
    await tcp_server.aio.assert_connections(1)
    await tcp_server.aio.assert_received(anything, timeout=1)
    await tcp_server.aio.assert_received(contains=b"some of it")
    await tcp_server.aio.assert_sent(b"all of it")
    await tcp_server.aio.assert_nothing_received()


async def of_a_connection(conn: Connection) -> None:
    assert_type(await conn.aio.recv(10), bytes)
    assert_type(await conn.aio.recv_exactly(10), bytes)
    assert_type(await conn.aio.recv_until(b"\r\n"), bytes)
    assert_type(await conn.aio.recv_line(timeout=1), bytes)
    assert_type(await conn.aio.recv_prefixed(">H"), bytes)
    assert_type(await conn.aio.recv_to_eof(), bytes)
    assert_type(await conn.aio.expect(b"PING"), bytes)
    assert_type(await conn.aio.expect(re.compile(rb"PING"), until=4), re.Match[bytes])
    await conn.aio.send(b"PONG", timeout=1)
    await conn.aio.send_eof()
    await conn.aio.expect_eof()
    await conn.aio.expect_reset()
    await conn.aio.expect_nothing(within=0.05)
    await conn.aio.wait_eof()
    await conn.aio.wait_closed()
    await conn.aio.assert_received(b"PING")
    await conn.aio.assert_sent(b"PONG")
    await conn.aio.assert_nothing_received()
    await conn.aio.close()


async def of_a_datagram_peer(udp_peer: UDPPeer) -> None:
    assert_type(await udp_peer.aio.expect(b"hello"), Datagram)
    await udp_peer.aio.send(b"hello", to=("127.0.0.1", 514))
    await udp_peer.aio.wait_datagrams(1)
    await udp_peer.aio.assert_datagrams(1, max_size=512)
    await udp_peer.aio.assert_received(b"one", b"two", any_order=True)
    await udp_peer.aio.assert_nothing_received()


async def of_the_factory(sockets: Sockets) -> None:
    assert_type(await sockets.aio.connect(("127.0.0.1", 80), timeout=1), Connection)


async def as_tasks(tcp_server: TCPServer, conn: Connection) -> None:
    coming: Coroutine[Any, Any, Connection] = tcp_server.aio.accept()
    assert_type(await asyncio.wait_for(coming, 1), Connection)
    task = asyncio.create_task(tcp_server.aio.accept())
    assert_type(task, asyncio.Task[Connection])
    async with asyncio.TaskGroup() as tasks:
        assert_type(tasks.create_task(conn.aio.recv_line()), asyncio.Task[bytes])
    both = await asyncio.gather(tcp_server.aio.accept(), conn.aio.recv_line())
    assert_type(both, tuple[Connection, bytes])
    with await tcp_server.aio.accept() as entered:
        assert_type(entered, Connection)


def in_a_loop_of_its_own(tcp_server: TCPServer) -> None:
    assert_type(asyncio.run(tcp_server.aio.accept()), Connection)


async def wrong(tcp_server: TCPServer, conn: Connection) -> None:
    tcp_server.aio.accept().recv(1)  # type: ignore[attr-defined]  # wrong on purpose
    await tcp_server.aio.accept(1)  # type: ignore[call-arg]  # wrong on purpose
    await tcp_server.accept()  # type: ignore[misc]  # wrong on purpose
    await conn.aio.expect(re.compile(rb"PING"))  # type: ignore[call-overload]  # wrong on purpose
    await conn.aio.send("PONG")  # type: ignore[arg-type]  # wrong on purpose
    text: str = await conn.aio.recv_line()  # type: ignore[assignment]  # wrong on purpose
    assert text
