"""How scripts, handlers and gates are used: read by type checkers, never run."""

import re
from typing import Any, assert_type

from pytest_sockets import AsyncConnection, Connection, Gate, Script, Sockets, TCPServer


def scripts(tcp_server: TCPServer, sockets: Sockets) -> None:
    gate = sockets.gate(name="ready")
    assert_type(gate, Gate)
    script = tcp_server.script(each=True, strict=False, timeout=0.5)
    assert_type(script, Script)
    assert_type(script.expect(b"PING", save="ping", timeout=1), Script)
    assert_type(script.expect(re.compile(rb"\d+"), until=b"\n"), Script)
    assert_type(script.send(b"PONG").hold(gate).optional().recv_line(save="x").close(), Script)
    assert_type(tcp_server.accept().saved, dict[str, Any])
    assert_type(gate.wait_reached(2, timeout=1), None)
    assert_type(gate.release(), None)


def handlers(tcp_server: TCPServer) -> None:
    @tcp_server.serve
    def plain(conn: Connection) -> None:
        assert_type(conn.recv_line(), bytes)

    @tcp_server.serve
    async def awaited(conn: AsyncConnection) -> int:
        assert_type(await conn.recv_line(), bytes)
        await conn.send(b"x")
        return 1

    assert_type(plain(tcp_server.accept()), None)
    del awaited


async def gates(gate: Gate) -> None:
    assert_type(await gate.aio.wait_reached(), None)


def wrong(tcp_server: TCPServer, script: Script) -> None:
    script.expect("PING")  # type: ignore[call-overload]  # wrong on purpose
    script.expect(re.compile(rb"PING"))  # type: ignore[call-overload]  # wrong on purpose
    script.send("PONG")  # type: ignore[arg-type]  # wrong on purpose
    script.hold("gate")  # type: ignore[arg-type]  # wrong on purpose
    tcp_server.serve(1)  # type: ignore[type-var]  # wrong on purpose
