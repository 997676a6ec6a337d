"""paho's test of a message of QoS 2 whose connection is lost twice on the way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mutants import mutations
from processes import python
from pytest_sockets import Connection, TCPServer

CONNECT = b"\x10\x1d\x00\x04MQTT\x04\x00\x00\x3c\x00\x11publish-qos2-test"
CONNACK = b"\x20\x02\x00\x00"
PUBLISH = b"\x34\x18\x00\x0dpub/qos2/test\x00\x01message"
PUBLISH_DUP = b"\x3c" + PUBLISH[1:]
PUBREC, PUBREL, PUBCOMP = b"\x50\x02\x00\x01", b"\x62\x02\x00\x01", b"\x70\x02\x00\x01"
DISCONNECT = b"\xe0\x00"

CLIENT = """
    import sys
    from paho.mqtt.client import CallbackAPIVersion, Client

    def on_connect(client, published, flags, reason, properties):
        if not published:
            published.append(client.publish("pub/qos2/test", "message", qos=2))

    def on_publish(client, published, number, reason, properties):
        client.disconnect()

    def on_disconnect(client, published, flags, reason, properties):
        if reason.is_failure:
            client.reconnect()
        else:
            print("done")
            sys.exit()

    client = Client(
        CallbackAPIVersion.VERSION2, "publish-qos2-test", clean_session=False, userdata=[]
    )
    client.on_connect, client.on_disconnect = on_connect, on_disconnect
    client.on_publish = on_publish
    client.connect(sys.argv[1], int(sys.argv[2]))
    while True:
        client.loop()
"""


@pytest.fixture
def client(tcp_server: TCPServer) -> Iterator[subprocess.Popen[str]]:
    with python(CLIENT, tcp_server.host, str(tcp_server.port)) as process:
        yield process


@contextmanager
def connected(server: TCPServer) -> Iterator[Connection]:
    with server.accept(timeout=60) as conn:  # a process may start slowly
        conn.expect(CONNECT)
        conn.send(CONNACK)
        yield conn


@mutations(
    (
        "expect(PUBLISH)",
        "expect(PUBLISH_DUP)",
        r"difference at byte 0: expected 0x3c '<', received",
    ),
    (
        "(PUBLISH)",
        "(PUBLISH[:-1] + b'E')",
        "difference at byte 25: expected 0x45 'E', received 0x65",
    ),
    ("expect(PUBLISH_DUP)", "expect(PUBLISH)", r"at byte 0: expected 0x34 '4', received 0x3c '<'"),
    ("send(PUBREC)", "send(PUBCOMP)", "difference at byte 0: expected 0x62 'b', received 0xe0"),
    (
        "send(PUBREC)\n        conn.expect(PUBREL)",
        "expect(PUBREL, timeout=0.5)",  # only this is waited for in vain
        r"waited [\d.]+ s for b'b\\x02\\x00\\x01'",
    ),
    ("send(PUBCOMP)", "send(PUBREC)", "difference at byte 0: expected 0xe0, received 0x62 'b'"),
    (
        "expect(DISCONNECT)",
        "expect(DISCONNECT + PUBREL)",
        "received less(.*\n)+.*the peer sent EOF",
    ),
    ("conn.expect(DISCONNECT)", "pass", r"expected EOF, but 2 bytes came: b'\\xe0\\x00'"),
    (
        "output, _",
        "tcp_server.assert_connections(4, timeout=0.5); _, _",
        r"waited [\d.]+ s for 4 connections, 3 came",
    ),
    ('"done\\n"', '"lost\\n"', "AssertionError"),
)
def test_publish_c2b_qos2_disconnect(tcp_server: TCPServer, client: subprocess.Popen[str]) -> None:
    with connected(tcp_server) as conn:
        conn.expect(PUBLISH)
    with connected(tcp_server) as conn:
        conn.expect(PUBLISH_DUP)
        conn.send(PUBREC)
        conn.expect(PUBREL)
    with connected(tcp_server) as conn:
        conn.expect(PUBREL)
        conn.send(PUBCOMP)
        conn.expect(DISCONNECT)
        conn.expect_eof()
    output, _ = client.communicate(timeout=60)
    assert (output, client.returncode) == ("done\n", 0)
