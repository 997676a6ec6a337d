"""What a test that uses a proxy is failed for, and shown."""

from __future__ import annotations

from inner_runs import Inner

ASK = """
import socket

def ask(address, question):
    with socket.create_connection(address) as sock:
        sock.sendall(question)
        return sock.recv(100)
"""


def test_a_failing_test_shows_both_sides_the_clients_first(run: Inner) -> None:
    result = run(
        ASK
        + """
def test_ask(tcp_proxy, echo_server):
    assert ask(tcp_proxy(echo_server).address, b"ping") == b"pong"
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"-+ sockets: test_ask \(seed \d+\) -+",
            r"echo_server  tcp 127\.0\.0\.1:\d+   1 connection.*",
            r"tcp_proxy client  tcp 127\.0\.0\.1:\d+   1 connection.*",
            r"  \+\d\.\d+  #0 accepted from 127\.0\.0\.1:\d+",
            r"  \+\d\.\d+  #0 received    4  00000000  70 69 6e 67  .*",
            r"tcp_proxy upstream  to 127\.0\.0\.1:\d+   1 connection.*",
            r"  \+\d\.\d+  #0 connected to 127\.0\.0\.1:\d+",
            r"  \+\d\.\d+  #0 sent        4  00000000  70 69 6e 67  .*",
        ]
    )


def test_an_upstream_that_is_down_fails_nothing_and_is_shown_by_what_fails(run: Inner) -> None:
    result = run(
        ASK
        + """
import pytest

def test_down(tcp_proxy):
    proxy = tcp_proxy("/no/such/socket")
    with pytest.raises(ConnectionError):
        ask(proxy.address, b"ping")

def test_down_and_shown(tcp_proxy):
    ask(tcp_proxy("/no/such/socket").address, b"ping")
"""
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "tcp_proxy client  tcp 127.0.0.1:*   1 connection, reset",
            "  +* #0 upstream not reached: No such file or directory: /no/such/socket",
            "  +* #0 reset sent",
            "tcp_proxy upstream  to /no/such/socket   0 connections",
            "  +* #0 upstream not reached: No such file or directory: /no/such/socket",
        ]
    )


def test_a_connection_that_is_open_at_the_end_fails_nothing(run: Inner) -> None:
    result = run(
        """
import socket

def test_pool(tcp_proxy, silent_server, request):
    sock = socket.create_connection(tcp_proxy(silent_server).address)
    request.addfinalizer(sock.close)
    sock.sendall(b"ping")
    silent_server.assert_received(b"ping")
"""
    )
    result.assert_outcomes(passed=1)
