"""What a test is failed for, and shown, whose endpoint has lost datagrams."""

from __future__ import annotations

import re

from inner_runs import Inner, reports

LOSE = """
import socket

def lose(peer):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, peer._lock:
        peer._sockets[0]._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for _ in range(50):
            client.sendto(b"x", peer.address)
"""
PROBLEM = (
    r"{} has lost \d\d datagrams that its record lacks now: the kernel drops what comes faster "
    r"than it can be read once the receive buffer \([\d,]+ bytes\) is full; send fewer at once, "
    r"let the sender wait for answers, or raise net.core.rmem_max"
)


def test_a_loss_fails_a_test_that_claims_nothing_and_is_shown(run: Inner) -> None:
    result = run(
        LOSE
        + """
def test_silent(udp_peer):
    lose(udp_peer)

def test_claim(udp_echo_server):
    lose(udp_echo_server)
    udp_echo_server.assert_datagrams(len(udp_echo_server.received))

def test_proxy(udp_proxy, udp_peer):
    lose(udp_proxy(udp_peer).client)
"""
    )
    result.assert_outcomes(failed=3)
    shown = reports(result)
    for test, name in (
        ("test_silent", "udp_peer"),
        ("test_claim", "udp_echo_server"),
        ("test_proxy", "udp_proxy client"),
    ):
        text = " ".join(shown[test].split())
        assert re.search(rf"E pytest_sockets\.EndpointError: {PROBLEM.format(name)}", text)
        assert re.search(rf"\+TIME PROBLEM EndpointError: {PROBLEM.format(name)}", text)
