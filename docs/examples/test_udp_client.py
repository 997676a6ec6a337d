"""A UDP client under test, and peers that show what it sends."""

import re
import socket


def log_to(address, *lines):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for line in lines:
            sock.sendto(line.encode(), address)


def ask(address, question):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(address)
        sock.send(question)
        return sock.recv(512)


def test_each_line_is_a_datagram(udp_peer):
    log_to(udp_peer.address, "started", "stopped")

    udp_peer.assert_received(b"started", b"stopped")


def test_lines_may_come_in_any_order(udp_peer):
    log_to(udp_peer.address, "took 12 ms", "started")

    udp_peer.assert_received(b"started", re.compile(rb"took \d+ ms"), any_order=True)


def test_datagrams_stay_small(udp_peer):
    log_to(udp_peer.address, "a" * 512, "b" * 512)

    udp_peer.assert_datagrams(2, max_size=512)


def test_a_burst_is_recorded_whole(udp_peer):
    log_to(udp_peer.address, *["x" * 1000] * 150)

    udp_peer.assert_datagrams(150)


def test_the_client_gets_its_answer(udp_echo_server):
    assert ask(udp_echo_server.address, b"ping") == b"ping"

    udp_echo_server.assert_received(b"ping")


def test_an_answer_goes_to_where_the_question_came_from(udp_peer):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"what time is it?", udp_peer.address)

        question = udp_peer.expect(b"what time is it?")
        udp_peer.send(b"noon")

        client.settimeout(10)
        assert client.recv(512) == b"noon"
        assert question.source[1] == client.getsockname()[1]
