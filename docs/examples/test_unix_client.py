"""Clients of AF_UNIX sockets under test."""

import os
import socket


def notify(path, state):
    """Tell a service manager, as sd_notify(3) does, about a service."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(path)
        sock.send(state)


def store(path, file):
    """Have a service manager keep a file, as sd_pid_notify_with_fds(3) does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(path)
        socket.send_fds(sock, [b"FDSTORE=1"], [file.fileno()])


def run_command(path, command):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(command)
        sock.shutdown(socket.SHUT_WR)
        return sock.makefile("rb").read()


def hand_over(path, file):
    """Give a logging service the file to write to."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        socket.send_fds(sock, [b"log"], [file.fileno()])


def test_a_command_is_sent_to_its_end(unix_server):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(unix_server.path)
        sock.sendall(b"reload\n")

    unix_server.assert_received(b"reload\n")


def test_a_command_gets_its_answer(sockets):
    server = sockets.echo_server(family="unix")

    assert run_command(server.path, b"reload\n") == b"reload\n"


def test_the_service_says_that_it_is_ready(unix_datagram_peer):
    notify(unix_datagram_peer.path, b"READY=1")

    unix_datagram_peer.assert_received(b"READY=1")


def test_the_service_speaks_for_itself(unix_datagram_peer):
    notify(unix_datagram_peer.path, b"READY=1")

    datagram = unix_datagram_peer.expect(b"READY=1")
    assert datagram.source is None
    assert datagram.credentials.pid == os.getpid()


def test_a_file_is_stored(unix_datagram_peer, tmp_path):
    with (tmp_path / "state").open("w+") as file:
        file.write("as it was")
        file.seek(0)
        store(unix_datagram_peer.path, file)

    datagram, fds = unix_datagram_peer.recv_fds()

    assert datagram.data == b"FDSTORE=1"
    with os.fdopen(fds[0]) as file:
        assert file.read() == "as it was"


def test_a_name_needs_no_file(sockets):
    peer = sockets.unix_datagram_peer(abstract=True)

    notify(peer.path, b"READY=1")

    assert peer.path.startswith("\0")
    peer.assert_received(b"READY=1")


def test_a_socket_that_is_handed_over(unix_socket_pair):
    sock, peer = unix_socket_pair

    sock.sendall(b"hello\n")
    peer.expect(b"hello\n")

    peer.send(b"goodbye\n")
    assert sock.recv(100) == b"goodbye\n"


def test_a_file_is_handed_over(unix_server, tmp_path):
    path = tmp_path / "log"
    with path.open("w") as file:
        hand_over(unix_server.path, file)

    conn = unix_server.accept()
    data, fds = conn.recv_fds(100, 1)

    assert data == b"log"
    with os.fdopen(fds[0], "w") as file:
        file.write("started")
    assert path.read_text() == "started"
    assert conn.peer_credentials.uid == os.getuid()
