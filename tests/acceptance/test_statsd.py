"""statsd's test that a pipeline keeps to the packet size."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from statsd import StatsClient

from mutants import expecting
from pytest_sockets import MismatchError, UDPPeer, WaitTimeout


def send_pipeline(peer: UDPPeer, counts: int) -> None:
    with closing(StatsClient(*peer.address)) as client:
        pipe = client.pipeline()
        for _ in range(counts):
            pipe.incr("sixteen_char_str")
        pipe.send()


@expecting(512, 500, MismatchError)
def test_pipeline_packet_size(udp_peer: UDPPeer, expected: int, outcome: Any) -> None:
    send_pipeline(udp_peer, 32)
    with outcome():
        udp_peer.assert_datagrams(2, max_size=expected)


@pytest.mark.parametrize(
    ("counts", "failure"), [(24, WaitTimeout), (64, MismatchError)], ids=["one-only", "a-third"]
)
def test_pipeline_of_another_size(
    udp_peer: UDPPeer, counts: int, failure: type[AssertionError]
) -> None:
    send_pipeline(udp_peer, counts)
    with pytest.raises(failure):
        udp_peer.assert_datagrams(2, max_size=512, timeout=0.01)
