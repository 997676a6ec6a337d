"""How much it bears: each row runs in a fresh process."""

from __future__ import annotations

import functools
import gc
import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import peers
from measure import (
    MIB,
    PLENTY,
    Hold,
    Result,
    Spread,
    at_most,
    helper,
    in_turns,
    isolated,
    say,
    span,
)

from pytest_sockets import DiscardServer, EchoServer, Settings, TCPServer
from pytest_sockets._wire.record import Record
from pytest_sockets._wire.spool import Spool


def connections(quick: bool) -> list[Result]:
    """Many connections open at once on one endpoint."""
    many, few, rounds = (2000, 200, 2) if quick else (10_000, 1000, 5)
    allowed = peers.raise_descriptor_limit() - 100
    if allowed < many:
        say(f"    only {allowed} descriptors are allowed here (ulimit -Hn)")
        many = allowed
    served = tried = 0
    trouble: list[str] = []

    def crowd(count: int) -> float:
        nonlocal served, tried
        with (
            EchoServer() as server,
            helper(peers.crowd_client, server.address, count) as client,
        ):
            seconds, done, errors = client.recv()
            tried += count
            served += min(done, len(server.connections))
            trouble.extend((*errors, *map(repr, server.problems)))
        return float(seconds) / count

    large, small = in_turns(rounds, lambda: crowd(many), lambda: crowd(few), warm_up=False)
    failed = Spread((float(tried - served + len(trouble)),))
    for line in trouble[:5]:
        say(f"    {line}")
    return [
        Result(
            f"{many:,} connections open at once: cost of each",
            large.show(span),
            f"the same with {few:,}",
            small.show(span),
            large.over(small),
            Hold(2, "at most 2: linear"),
        ),
        Result(
            "the same: connections not served, errors",
            f"{failed.median:.0f} of {tried:,}",
            hold=Hold(0, "0"),
            held=failed,
        ),
    ]


def memory(quick: bool) -> list[Result]:
    """Memory of a record below the limit."""
    total = (8 if quick else 60) * MIB
    results = []
    for chunk, words in ((64, "64 bytes"), (64 * 1024, "64 KiB")):
        grown = Spread(tuple(isolated(record_growth, total, chunk) for _ in range(2)))
        held = Spread(tuple(growth / total for growth in grown.values))
        results.append(
            Result(
                f"memory of a record in chunks of {words}",
                grown.show(lambda size: f"{size / MIB:.1f} MiB"),
                "the bytes themselves",
                f"{total / MIB:.0f} MiB",
                held,
                at_most(1.3),
            )
        )
    return results


def record_growth(total: int, chunk: int) -> int:
    """Return how much this process grows by a record of `total` bytes."""
    record = Record("bench", 0, Spool(Settings().record_limit))
    gc.collect()
    before = _resident()
    for number in range(total // chunk):
        data = b"x" * chunk  # a new object each time, as from the kernel
        (record.add_sent if number & 1 else record.add_received)(number, data)
    gc.collect()
    return _resident() - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def teardown(quick: bool) -> list[Result]:
    """Close an endpoint whose clients do not read."""
    count, rounds = (200, 3) if quick else (1000, 7)
    peers.raise_descriptor_limit()
    queued = b"x" * (64 * 1024)

    def recorded() -> float:
        server = TCPServer(settings=Settings(record_limit=PLENTY))
        with closing(server), helper(peers.stalled_clients, server.address, count) as clients:
            clients.recv()
            server.wait_connections(count)
            for conn in server.connections:
                conn.send(queued)
            return _seconds(server.close)

    def bare() -> float:
        with socket.create_server(("127.0.0.1", 0), backlog=count) as listener:
            with helper(peers.stalled_clients, listener.getsockname(), count) as clients:
                socks = [listener.accept()[0] for _ in range(count)]
                clients.recv()
                for sock in socks:
                    sock.sendall(queued)
                return _seconds(lambda: [sock.close() for sock in socks])

    ours, theirs = in_turns(rounds, recorded, bare, warm_up=False)
    return [
        Result(
            f"close with {count:,} stalled connections, 64 KiB queued each",
            ours.show(span),
            "`close()` of as many bare sockets",
            theirs.show(span),
            ours.over(theirs),
            Hold(0.05, "at most 50 ms"),
            held=ours,
        )
    ]


def _seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def received(quick: bool) -> list[Result]:
    """Look at what was received right after the client's `sendall` has returned."""
    turns, count = (8 if quick else 60), 100

    def incomplete(address: Any, payload: bytes, have: Callable[[], int]) -> int:
        found = 0
        with peers.connected(address) as sock:
            for number in range(1, count + 1):
                sock.sendall(payload)
                found += have() != number * len(payload)
        return found

    ours = theirs = 0
    for turn in range(turns):
        payload = b"x" * (1, 64, 1500, 16 * 1024)[turn % 4]
        buffer = bytearray()
        with (
            DiscardServer() as server,
            peers.protocol_server(functools.partial(peers.RecordingProtocol, buffer)) as address,
        ):
            ours += incomplete(server.address, payload, lambda: len(server.received))
            theirs += incomplete(address, payload, lambda: len(buffer))  # noqa: B023  # called in this turn
    return [
        Result(
            "looked at right after the client's `sendall`: incomplete",
            f"{ours:,} of {turns * count:,}",
            "asyncio `Protocol` in a thread that fills a buffer",
            f"{theirs:,} of {turns * count:,}",
            hold=Hold(0, "0"),
            held=Spread((float(ours),)),
        )
    ]
