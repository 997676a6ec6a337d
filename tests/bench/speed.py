"""How long things take: each row runs in a fresh process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack

import peers
from measure import (
    MIB,
    PLENTY,
    Result,
    at_least,
    at_most,
    helper,
    in_turns,
    isolated,
    per_call,
    rate,
    span,
)

from pytest_sockets import EchoServer, Settings, TCPServer


def start(quick: bool) -> list[Result]:
    """Start and stop an endpoint."""
    calls, rounds = (300, 3) if quick else (2000, 9)
    ours, bare = in_turns(
        rounds,
        per_call(lambda: TCPServer().close(), calls),
        per_call(lambda: socket.create_server(("127.0.0.1", 0)).close(), calls),
    )
    return [
        Result(
            "start and stop of an endpoint",
            ours.show(span),
            "`socket.create_server()` and `close()`",
            bare.show(span),
            ours.over(bare),
            at_most(3),
        )
    ]


def exchange(quick: bool) -> list[Result]:
    """Connect, send 64 bytes, receive them, close."""
    calls, rounds = (300, 3) if quick else (1000, 9)

    def recorded() -> float:
        with EchoServer() as server:
            return per_call(lambda: peers.exchange(server.address), calls)()

    with helper(peers.bare_echo_process) as pipe:
        address = pipe.recv()
        ours, bare = in_turns(rounds, recorded, per_call(lambda: peers.exchange(address), calls))
    return [
        Result(
            "connect, 64 bytes there and back, close; recorded",
            ours.show(span),
            "bare blocking echo loop in another process",
            bare.show(span),
            ours.over(bare),
            at_most(2.5),
        )
    ]


def roundtrip(quick: bool) -> list[Result]:
    """Send 64 bytes over an open connection and receive them."""
    calls, rounds = (1000, 3) if quick else (5000, 9)

    with ExitStack() as stack:
        server = stack.enter_context(EchoServer())
        others = (peers.protocol_server(peers.EchoProtocol), peers.threading_server())
        addresses = [server.address, *map(stack.enter_context, others)]
        cases: list[Callable[[], float]] = []
        for address in addresses:
            sock = stack.enter_context(peers.connected(address))

            def turn(sock: socket.socket = sock) -> None:
                sock.sendall(peers.PAYLOAD)
                peers.receive(sock, len(peers.PAYLOAD))

            cases.append(per_call(turn, calls))
        ours, protocol, threaded = in_turns(rounds, *cases)
        stack.pop_all().close()
    what = "echo round trip, 64 bytes, recorded"
    return [
        Result(
            what,
            ours.show(span),
            "bare asyncio `Protocol` in a thread",
            protocol.show(span),
            ours.over(protocol),
            at_most(1.5),
        ),
        Result(
            what,
            ours.show(span),
            "`socketserver`, a thread for each connection",
            threaded.show(span),
            ours.over(threaded),
        ),
    ]


def throughput(quick: bool) -> list[Result]:
    """Echo many bytes to a client in another process."""
    total, rounds = (48 * MIB, 2) if quick else (200 * MIB, 5)

    def case(limit: int | None) -> Callable[[], float]:
        # A process of its own for each: a second run would reuse the memory of the first one.
        return lambda: total / isolated(echo_seconds, total, limit)

    memory, spilling, bare = in_turns(
        rounds, case(PLENTY), case(8 * MIB), case(None), warm_up=False
    )
    against = "asyncio `Protocol` in a thread, not recording"
    results = []
    for where, ours, hold in (("in memory", memory, 0.4), ("spilling to a file", spilling, 0.3)):
        what = f"echo of {total // MIB} MiB, recorded {where}"
        ratio = ours.over(bare)
        results.append(
            Result(what, ours.show(rate), against, bare.show(rate), ratio, at_least(hold))
        )
    return results


def echo_seconds(total: int, limit: int | None) -> float:
    """Return the seconds of one echo of `total` bytes; `limit` of the record, `None`: no record."""
    if limit is None:
        with (
            peers.protocol_server(peers.EchoProtocol) as address,
            helper(peers.bulk_client, address, total) as client,
        ):
            return client.recv()
    with (
        EchoServer(settings=Settings(record_limit=limit)) as server,
        helper(peers.bulk_client, server.address, total) as client,
    ):
        seconds: float = client.recv()
        assert len(server.received) == len(server.sent) == total, "it is not a whole record"
        return seconds


def assertion(quick: bool) -> list[Result]:
    """Assert what is true already: the price of being sure."""
    calls, rounds = (500, 3) if quick else (3000, 9)
    with ExitStack() as stack:
        server = stack.enter_context(TCPServer())
        stack.enter_context(peers.connected(server.address)).sendall(peers.PAYLOAD)
        loop = stack.enter_context(peers.asyncio_thread())

        def hop() -> None:
            reached = threading.Event()
            loop.call_soon_threadsafe(reached.set)
            reached.wait()

        ours, theirs = in_turns(
            rounds,
            per_call(lambda: server.assert_received(peers.PAYLOAD), calls),
            per_call(hop, calls),
        )
        stack.pop_all().close()
    return [
        Result(
            "`assert_received` of what is there already",
            ours.show(span),
            "a hop to a bare event loop and back",
            theirs.show(span),
            ours.over(theirs),
        )
    ]
