"""Code under test that looks at a frozen clock, and endpoints that do not."""

import datetime
import socket

import pytest

freezegun = pytest.importorskip("freezegun", reason="this example is about freezegun")


def send_time(address):
    with socket.create_connection(address) as sock:
        sock.sendall(datetime.datetime.now().isoformat().encode())


def test_the_time_is_sent(tcp_server):
    with freezegun.freeze_time("2030-01-01 12:00"):
        send_time(tcp_server.address)
        tcp_server.assert_received(b"2030-01-01T12:00:00")
