"""datadogpy's test of its sender's modes, over both kinds of unix socket."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from datadog.dogstatsd.base import DogStatsd

from mutants import expecting
from pytest_sockets import MismatchError, UnixDatagramPeer, UnixServer

MODES = list(itertools.product([True, False], [True, False], [True, False], [0, 1], [True, False]))


@pytest.fixture(params=MODES, ids=lambda mode: "".join(str(int(switch)) for switch in mode))
def increment(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Count one occurrence of a metric, in one of the sender's modes."""
    synchronous, unbuffered, wait, socket_timeout, stop = request.param
    clients = []

    def increment(socket_path: str) -> None:
        statsd = DogStatsd(
            telemetry_min_flush_interval=0,
            disable_background_sender=synchronous,
            disable_buffering=unbuffered,
            socket_timeout=socket_timeout,
            socket_path=socket_path,
            flush_interval=0.01,
            origin_detection_enabled=False,
            track_instance=False,
        )
        clients.append(statsd)
        statsd.increment("test.metric")
        if wait:
            statsd.wait_for_pending()
        if stop:
            statsd.stop()

    yield increment
    for statsd in clients:
        statsd.pre_fork()  # ends its threads; stop() leaves the one that flushes
        statsd.close_socket()


@expecting(b"test.metric:1|c\n", b"test.metric:2|c\n", MismatchError)
def test_sender_mode_datagram(
    unix_datagram_peer: UnixDatagramPeer,
    increment: Callable[[str], None],
    expected: bytes,
    outcome: Any,
) -> None:
    increment(unix_datagram_peer.path)
    with outcome():
        unix_datagram_peer.expect(expected)


@expecting(b"test.metric:1|c\n", b"test.metric:2|c\n", MismatchError)
def test_sender_mode_stream(
    unix_server: UnixServer, increment: Callable[[str], None], expected: bytes, outcome: Any
) -> None:
    increment(unix_server.path)
    with outcome():
        unix_server.accept().expect(struct.pack("<I", len(expected)) + expected)
