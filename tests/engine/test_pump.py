"""Everything that was sent before is in the record, and no peer can keep it from being read."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from processes import python
from pytest_sockets import (
    ChargenServer,
    DiscardServer,
    EchoServer,
    EndpointError,
    Settings,
    Sockets,
    StreamServer,
    TCPServer,
    UDPPeer,
)
from pytest_sockets._engine.datagrams import LAST_TURN
from pytest_sockets._wire.record import Record
from stream_ends import PATIENCE, plain_client
from threads import eager_threads

PATIENT = Settings(timeout=PATIENCE)
TIMES = 6_000


@pytest.mark.parametrize("size", [1, 64])
def test_what_a_client_has_sent_is_in_the_record_at_once(size: int) -> None:
    piece, incomplete = bytes(size), 0
    with TCPServer(settings=PATIENT) as server:
        for _ in range(10):
            with plain_client(server.address) as client:
                conn = server.accept()
                for sent in range(size, size * TIMES // 10 + size, size):
                    client.sendall(piece)
                    incomplete += len(conn.received) != sent
    assert incomplete == 0


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_what_the_clients_kernel_would_hold_back_is_in_the_record(family: str) -> None:
    with (
        TCPServer(family=family, settings=PATIENT) as server,
        plain_client(server.address) as client,
    ):
        conn = server.accept()
        for number in range(1, 20):
            client.sendall(b"ask")
            conn.expect(b"ask")
            conn.send(b"answer")  # from now on our kernel acknowledges with the next answer
            assert client.recv(100) == b"answer"
            client.sendall(b"one")
            client.sendall(b"two")  # Nagle's algorithm waits until the one before is acknowledged
            assert server.received == b"askonetwo" * number
            conn.expect(b"onetwo")


def test_it_is_there_at_once_beside_a_busy_thread() -> None:
    done = False

    def count() -> None:
        number = 0
        while not done:
            number += 1

    busy = threading.Thread(target=count)
    with TCPServer(settings=PATIENT) as server, plain_client(server.address) as client:
        busy.start()
        try:
            with eager_threads():
                for sent in range(1, 201):
                    client.sendall(b"x")
                    assert server.received == b"x" * sent
        finally:
            done = True
            busy.join()


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "unix"])
def test_all_that_the_kernel_holds_is_there_at_once(family: str) -> None:
    with StreamServer(family=family, settings=PATIENT) as server:
        for _ in range(10):
            with plain_client(server.address) as client:
                conn = server.accept()
                client.setblocking(False)
                held = 0
                with server._lock, contextlib.suppress(BlockingIOError):
                    while True:  # nobody reads meanwhile: both kernel buffers are full then
                        held += client.send(bytes(100_000))
                assert held > 100_000
                assert len(conn.received) == held


def message_client(server: StreamServer) -> socket.socket:
    """Connect with messages, to a server of SOCK_SEQPACKET."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(server.address)
    return sock


def fill_with_messages(client: socket.socket) -> int:
    """Send small messages for as long as the kernel takes them, and return how many it took."""
    client.setblocking(False)
    held = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            held += client.send(b"x")
    return held


def test_all_messages_that_the_kernel_holds_are_there_at_once() -> None:
    with StreamServer(family="unix", type=socket.SOCK_SEQPACKET, settings=PATIENT) as server:
        for _ in range(10):
            with message_client(server) as client:
                conn = server.accept()
                with server._lock:  # nobody reads meanwhile
                    held = fill_with_messages(client)
                assert held > 256
                assert len(conn.received) == held


def test_all_messages_that_the_kernel_holds_are_there_at_the_end() -> None:
    with StreamServer(family="unix", type=socket.SOCK_SEQPACKET, settings=PATIENT) as server:
        with message_client(server) as client:
            conn = server.accept()
            with server._lock:
                held = fill_with_messages(client)
                server.close()
    assert held > 256
    assert len(conn.received) == held


def test_all_bytes_with_descriptors_beside_them_are_there_at_once() -> None:
    # The kernel ends each read behind the bytes that came with descriptors.
    with StreamServer(family="unix", settings=PATIENT) as server:
        for _ in range(10):
            with plain_client(server.address) as client:
                conn = server.accept()
                client.setblocking(False)
                held = 0
                with server._lock, contextlib.suppress(BlockingIOError):
                    while True:
                        held += socket.send_fds(client, [bytes(1000)], [client.fileno()])
                assert held > 50_000
                assert len(conn.received) == held


def test_bytes_that_were_given_out_stay_as_they_are_and_block_nothing() -> None:
    with TCPServer(settings=PATIENT) as server, plain_client(server.address) as client:
        held: list[bytes] = []
        for sent in range(100):
            client.sendall(b"%02d" % sent)
            held.append(server.received)
        assert held == [b"".join(b"%02d" % sent for sent in range(last + 1)) for last in range(100)]


# -- peers that never stop


def test_received_returns_although_the_peer_keeps_sending() -> None:
    with Sockets(PATIENT) as sockets:
        endless = sockets.chargen_server()
        conn = sockets.connect(endless.address)
        first = conn.received
        assert len(conn.received) > len(first) > 0
        assert conn.peer_ended is None
        assert conn.received.startswith(first)


@contextlib.contextmanager
def endless(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a snippet that goes on for ever, from the moment on when it has begun."""
    prelude = "import socket, sys\ntarget = ('127.0.0.1', int(sys.argv[1]))\n"
    with python(prelude + code, *map(str, arguments)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process


SEND_FOR_EVER = """
sock = socket.create_connection(target)
sock.sendall(bytes(1000))
print("begun", flush=True)
while True:
    sock.sendall(bytes(1 << 20))
"""
READ_FOR_EVER = """
sock = socket.create_connection(target)
buffer = bytearray(1 << 20)
sock.recv_into(buffer)
print("begun", flush=True)
while sock.recv_into(buffer):
    pass
"""
FLOOD = """
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(target)
sock.send(b"first")
print("begun", flush=True)
while True:
    try:
        sock.send(b"more")
    except ConnectionRefusedError:
        pass
"""


def test_a_peer_that_reads_as_fast_as_chargen_writes_leaves_others_their_turn() -> None:
    with ChargenServer(settings=PATIENT) as server, EchoServer(settings=PATIENT) as echo:
        with endless(READ_FOR_EVER, server.port):
            with plain_client(echo.address) as client:
                for _ in range(20):
                    client.sendall(b"ping")
                    assert client.recv(4) == b"ping"
            assert len(server.connections) == 1


@pytest.mark.parametrize("kind", [TCPServer, DiscardServer, EchoServer])
def test_a_server_ends_although_a_peer_keeps_sending(kind: type[StreamServer]) -> None:
    server = kind(settings=PATIENT)
    with endless(SEND_FOR_EVER, server.port):
        conn = server.accept()
        conn.assert_received(contains=bytes(1000))
        server.close()
    assert len(conn.received) >= 1000


def test_a_datagram_socket_ends_although_a_peer_keeps_sending(untold: None) -> None:
    peer = UDPPeer(settings=PATIENT)
    with endless(FLOOD, peer.port), endless(FLOOD, peer.port):
        with contextlib.suppress(EndpointError):  # of two floods some may be lost
            peer.wait_datagrams(2)
        peer.close()
    assert peer.received.count(b"first") >= 1


def test_closing_a_datagram_socket_ends_although_each_datagram_brings_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What a fast sender does by luck happens here each time a datagram is taken.
    add = Record.add_datagram
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:

        def refill(self: Record, *args: Any, **kwargs: Any) -> None:
            add(self, *args, **kwargs)
            sender.send(b"one more")

        with UDPPeer(settings=PATIENT) as peer:
            sender.connect(peer.address)
            with peer._lock:  # else the I/O thread would never be done with it
                sender.send(b"first")
                monkeypatch.setattr(Record, "add_datagram", refill)
                peer.close()
        assert peer.received == [b"first"] + [b"one more"] * (LAST_TURN - 1)
