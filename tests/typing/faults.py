# pyright: reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

from typing import assert_type

import pytest

from pytest_sockets import Connection, EchoServer, Fault, SocketPair, TCPServer, UnixServer
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    AtAccept,
    AtEOF,
    BeforeSend,
    Close,
    Corrupt,
    Delay,
    Effect,
    HalfClose,
    Inject,
    Moment,
    OnFirstByte,
    Reset,
    Slice,
    Stall,
    StopReading,
    Throttle,
)


def faults(
    tcp_server: TCPServer, unix_server: UnixServer, echo_server: EchoServer, pair: SocketPair
) -> None:
    assert_type(tcp_server.fault(Reset()), Fault)
    unix_server.fault(Close(), at=AfterSent(5), connection=1, times=2, must_hit=False)
    pair.fault(Stall(), at=None)
    with echo_server.fault(Corrupt(3), at=AfterReceived(b"QUIT")) as fault:
        assert_type(fault, Fault)
        assert_type(fault.hits, int)
        assert_type(fault.effect, Effect)
        assert_type(fault.moment, Moment | None)
        assert_type(fault.connection, int | None)
        assert_type(fault.times, int | None)
        assert_type(fault.must_hit, bool)
        assert_type(fault.is_lifted, bool)
        fault.wait_hit()
        fault.wait_hit(2, timeout=1)
        fault.lift()


def of_a_client(conn: Connection) -> None:
    assert_type(conn.endpoint.fault(HalfClose()), Fault)


async def awaited(fault: Fault) -> None:
    await fault.aio.wait_hit(2, timeout=1.5)


@pytest.mark.parametrize("effect", [StopReading(), Slice(), Slice(3), Throttle(1e3), Delay(0.1)])
@pytest.mark.parametrize("at", [AtAccept(), OnFirstByte(), AfterReceived(3), BeforeSend(), AtEOF()])
def values(effect: Effect, at: Moment) -> None:
    assert_type(Slice().size, int | None)
    assert_type(Inject(b"x").data, bytes)
    assert_type(AfterReceived(1).what, int | bytes)


def wrong(tcp_server: TCPServer) -> None:
    tcp_server.fault(Reset)  # type: ignore[arg-type]  # wrong on purpose
    tcp_server.fault(AfterSent(1))  # type: ignore[arg-type]  # wrong on purpose
    tcp_server.fault(Reset(), at=5)  # type: ignore[arg-type]  # wrong on purpose
    tcp_server.fault(Reset(), AtEOF())  # type: ignore[call-arg]  # wrong on purpose
    Inject("x")  # type: ignore[arg-type]  # wrong on purpose
    AfterSent(1).n = 2  # type: ignore[misc]  # wrong on purpose
