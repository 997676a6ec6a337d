"""`expect_nothing(until=gate)`: what was sent before the release counts, what comes later not."""

from __future__ import annotations

import pytest

from pytest_sockets import Gate, MismatchError, Settings, Sockets, TCPServer
from stream_ends import PATIENCE, plain_client
from threads import eager_threads

pytestmark = pytest.mark.timeout(120)

PATIENT = Settings(timeout=PATIENCE)
ROUNDS = 50
"""Half of the runs went wrong while the release itself was not a moment in the record."""


def test_what_is_sent_after_the_release_is_for_the_next_step(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    with eager_threads():
        for _ in range(ROUNDS):
            gate = sockets.gate()
            server.script().expect_nothing(until=gate).expect(b"hello").send(b"goodbye").close()
            with plain_client(server.address) as client:
                gate.wait_reached()
                gate.release()
                client.sendall(b"hello")
                assert client.recv(100) == b"goodbye"


@pytest.mark.usefixtures("unwatched")
def test_what_was_sent_before_the_release_is_a_mismatch() -> None:
    with eager_threads():
        for _ in range(ROUNDS):
            with pytest.raises(MismatchError, match=r"expected nothing until gate, got b'hello'"):
                tell_before_the_release()


def tell_before_the_release() -> None:
    gate = Gate(settings=PATIENT)
    with TCPServer(settings=PATIENT) as server:
        server.script().expect_nothing(until=gate).expect(b"hello")
        with plain_client(server.address) as client:
            gate.wait_reached()
            client.sendall(b"hello")
            gate.release()


def test_a_gate_that_was_open_before_lets_pass_what_came_after(sockets: Sockets) -> None:
    server, gate = sockets.tcp_server(), sockets.gate()
    gate.release()
    with plain_client(server.address) as client:
        client.sendall(b"hello")
        conn = server.accept()
        conn.expect_nothing(until=gate)
        conn.expect(b"hello")


def test_a_verb_sees_what_came_before_the_release(sockets: Sockets) -> None:
    server, gate = sockets.tcp_server(), sockets.gate()
    with plain_client(server.address) as client:
        conn = server.accept()
        client.sendall(b"hello")
        conn.received  # noqa: B018  # brings it into the record
        gate.release()
        with pytest.raises(MismatchError, match="5 bytes came"):
            conn.expect_nothing(until=gate)


def test_a_verb_sees_what_the_kernel_held_at_the_release(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    for _ in range(ROUNDS):
        gate = sockets.gate()
        with plain_client(server.address) as client:
            conn = server.accept()
            client.sendall(b"hello")
            gate.release()
            with pytest.raises(MismatchError, match="5 bytes came"):
                conn.expect_nothing(until=gate)
