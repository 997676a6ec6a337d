"""Rules in a test: what no rule answers, and what a reply raises, fail its call phase."""

from __future__ import annotations

import re

from inner_runs import Inner, reports

SOURCE = r"""
import socket
import pytest

def ask(address, question):
    try:
        with socket.create_connection(address) as sock:
            sock.sendall(question)
            return sock.recv(100)
    except OSError:
        return None

def test_answered(tcp_server):
    tcp_server.on(b"PING\r\n", b"+PONG\r\n")
    assert ask(tcp_server.address, b"PING\r\n") == b"+PONG\r\n"

def test_no_rule(sockets):
    server = sockets.tcp_server(framing=b"\r\n")
    server.on(b"PING\r\n", b"+PONG\r\n")
    ask(server.address, b"HELLO\r\n")

def test_reply_raises(tcp_server):
    def reply(frame):
        raise LookupError("in the reply")
    tcp_server.on(b"PING\r\n", reply)
    ask(tcp_server.address, b"PING\r\n")

def test_reply_gives_up(tcp_server):
    tcp_server.on(b"PING\r\n", lambda frame: pytest.fail("by hand"))
    ask(tcp_server.address, b"PING\r\n")

def test_datagram(udp_peer):
    udp_peer.on(b"ping", b"pong")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", udp_peer.address)

def test_failed_already(tcp_server):
    tcp_server.on(b"PING\r\n", b"+PONG\r\n")
    assert ask(tcp_server.address, b"HELLO\r\n") == b"+PONG\r\n"

def test_not_used(tcp_server, udp_peer):
    tcp_server.on(b"PING\r\n", b"+PONG\r\n")
    tcp_server.on(b"QUIT\r\n", b"+OK\r\n", times=1)
    udp_peer.on(b"ping", None)
    assert ask(tcp_server.address, b"PING\r\n") == b"+OK\r\n"
"""


def test_a_client_that_swallows_the_error_does_not_make_the_test_pass(run: Inner) -> None:
    result = run(SOURCE)
    result.assert_outcomes(failed=6, passed=1)
    shown = reports(result)
    for name, problem in {
        "test_no_rule": (
            "E   pytest_sockets.MismatchError: tcp_server connection 0: "
            r"no rule answers b'HELLO\r\n'"
        ),
        "test_reply_raises": "E       LookupError: in the reply",
        "test_reply_gives_up": "E   Failed: by hand",
        "test_datagram": "E   pytest_sockets.MismatchError: udp_peer, a datagram from 127.0.0.1:",
    }.items():
        assert problem in shown[name], shown[name]
        assert "The above exception" not in shown[name]
    cause, _, failure = shown["test_failed_already"].partition("\nThe above exception was")
    assert r"no rule answers b'HELLO\r\n'" in cause or r"no rule answers b'H'" in cause
    assert "AssertionError" in failure


def test_the_report_names_rules_that_never_answered(run_plain: Inner) -> None:
    result = run_plain(SOURCE, "-k", "test_not_used")
    result.assert_outcomes(failed=1)
    section = reports(result)["test_not_used"].partition("- sockets: ")[2]
    assert re.search(
        r"^tcp_server  tcp .*\n  on\(b'QUIT\\r\\n', b'\+OK\\r\\n', times=1\) never answered\n",
        section,
        re.MULTILINE,
    )
    assert re.search(
        r"^udp_peer  udp .*\n  on\(b'ping', None\) never answered$", section, re.MULTILINE
    )
    assert "PING" not in section.partition("never answered")[0]
