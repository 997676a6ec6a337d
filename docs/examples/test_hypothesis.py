"""Hypothesis chooses how a reply is cut, and what goes wrong with it."""

import socket

import pytest

pytest.importorskip("hypothesis", reason="this example is about Hypothesis")

from hypothesis import given, settings

from pytest_sockets import TCPServer
from pytest_sockets.strategies import chunkings, fault_schedules

REPLY = b"3\r\none\r\ntwo\r\nthree\r\n"


def fetch(address):
    """Read a number, and so many lines."""
    with socket.create_connection(address, timeout=5) as sock, sock.makefile("rb") as reply:
        count = int(whole(reply.readline()))
        return [whole(reply.readline()) for _ in range(count)]


def whole(line):
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the reply was cut off")
    return line.removesuffix(b"\r\n")


@settings(deadline=None, max_examples=30)
@given(pieces=chunkings(REPLY))
def test_in_any_pieces(pieces):
    with TCPServer() as server:
        server.script().send_apart(*pieces)
        assert fetch(server.address) == [b"one", b"two", b"three"]


@settings(deadline=None, max_examples=30)
@given(schedule=fault_schedules(len(REPLY)))
def test_with_any_faults(schedule):
    with TCPServer() as server:
        server.script().send(REPLY).close()
        for effect, moment in schedule:
            server.fault(effect, at=moment, must_hit=False)
        try:
            lines = fetch(server.address)
        except OSError:
            return
        assert lines == [b"one", b"two", b"three"]
