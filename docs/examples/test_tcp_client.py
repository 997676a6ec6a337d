"""A TCP client under test, and endpoints that show what it does."""

import socket

import pytest


def send_metric(address, name, value):
    with socket.create_connection(address) as sock:
        sock.sendall(f"{name}:{value}|c\n".encode())


def shout(address, words, timeout=None):
    """Send a line to a server and return the line that it answers."""
    with socket.create_connection(address, timeout=timeout) as sock:
        sock.sendall(words.encode() + b"\r\n")
        with sock.makefile("rb") as lines:
            return lines.readline().decode().rstrip("\r\n")


def test_a_metric_is_one_line(tcp_server):
    send_metric(tcp_server.address, "logins", 1)

    tcp_server.assert_received(b"logins:1|c\n")


def test_the_answer_comes_back_without_its_line_end(echo_server):
    assert shout(echo_server.address, "hello") == "hello"

    echo_server.assert_received(b"hello\r\n")
    echo_server.assert_sent(b"hello\r\n")


def test_a_server_that_never_answers_is_given_up(silent_server):
    with pytest.raises(TimeoutError):
        shout(silent_server.address, "hello", timeout=0.1)

    silent_server.assert_received(b"hello\r\n")


def test_each_metric_has_a_connection_of_its_own(tcp_server):
    send_metric(tcp_server.address, "logins", 1)
    send_metric(tcp_server.address, "logouts", 2)

    tcp_server.assert_connections(2)
    first, second = tcp_server.connections
    first.assert_received(b"logins:1|c\n")
    second.assert_received(contains=b"logouts")


def test_the_client_closes_its_connection(tcp_server):
    send_metric(tcp_server.address, "logins", 1)

    connection = tcp_server.accept()
    connection.expect(b"logins:1|c\n")
    connection.expect_eof()


def test_connecting_sends_nothing(tcp_server):
    with socket.create_connection(tcp_server.address):
        tcp_server.assert_connections(1)
        tcp_server.assert_nothing_received()
