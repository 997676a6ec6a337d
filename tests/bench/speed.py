"""How long things take: each row runs in a fresh process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import peers
from measure import (
    MIB,
    PLENTY,
    Result,
    Spread,
    at_least,
    at_most,
    helper,
    in_turns,
    isolated,
    per_call,
    rate,
    span,
)

from pytest_sockets import EchoServer, Settings, TCPProxy, TCPServer
from pytest_sockets.faults import AfterReceived, Reset


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
        ours, protocol, threaded = _round_trips(rounds, calls, addresses)
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


def fault(quick: bool) -> list[Result]:
    """Send 64 bytes and receive them, while a fault waits for its moment."""
    calls, rounds = (1000, 3) if quick else (5000, 9)
    with EchoServer() as faulty, EchoServer() as plain:
        faulty.fault(Reset(), at=AfterReceived(PLENTY), must_hit=False)
        ours, without = _round_trips(rounds, calls, [faulty.address, plain.address])
    return [
        Result(
            "echo round trip, 64 bytes, recorded, with a fault that waits for its moment",
            ours.show(span),
            "the same without a fault",
            without.show(span),
            ours.over(without),
        )
    ]


def proxy(quick: bool) -> list[Result]:
    """Send 64 bytes through a proxy and receive them; then many bytes."""
    calls, rounds = (1000, 3) if quick else (5000, 9)
    total, few = (48 * MIB, 2) if quick else (200 * MIB, 5)
    against = "asyncio relay in a thread, not recording"
    with _relayed(recorded=True) as address, _relayed(recorded=False) as other:
        ours, bare = _round_trips(rounds, calls, [address, other])
    many, theirs = in_turns(
        few,
        lambda: total / isolated(proxy_seconds, total, True),
        lambda: total / isolated(proxy_seconds, total, False),
        warm_up=False,
    )
    return [
        Result(
            "echo round trip through a proxy, 64 bytes, both sides recorded",
            ours.show(span),
            against,
            bare.show(span),
            ours.over(bare),
        ),
        Result(
            f"echo of {total // MIB} MiB through a proxy, both sides recorded in memory",
            many.show(rate),
            against,
            theirs.show(rate),
            many.over(theirs),
        ),
    ]


def proxy_seconds(total: int, recorded: bool) -> float:
    """Return the seconds of one echo of `total` bytes through a proxy."""
    with (
        _relayed(recorded=recorded) as address,
        helper(peers.bulk_client, address, total) as client,
    ):
        return client.recv()


@contextmanager
def _relayed(*, recorded: bool) -> Iterator[Any]:
    """Yield the address of a proxy before an echo loop of its own: ours, or a bare one."""
    with helper(peers.bare_echo_process) as pipe, ExitStack() as stack:
        upstream = pipe.recv()
        if recorded:
            settings = Settings(record_limit=PLENTY)
            yield stack.enter_context(TCPProxy(upstream, settings=settings)).address
        else:
            yield stack.enter_context(peers.relay(upstream))


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


def _round_trips(rounds: int, calls: int, addresses: Iterable[Any]) -> list[Spread]:
    """Measure 64 bytes there and back, over one open connection to each address."""
    with ExitStack() as stack:
        cases: list[Callable[[], float]] = []
        for address in addresses:
            sock = stack.enter_context(peers.connected(address))

            def turn(sock: socket.socket = sock) -> None:
                sock.sendall(peers.PAYLOAD)
                peers.receive(sock, len(peers.PAYLOAD))

            cases.append(per_call(turn, calls))
        return in_turns(rounds, *cases)


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
