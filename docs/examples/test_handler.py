"""A function serves each connection, and computes what a script cannot know."""

import socket

import pytest


class Calculator:
    """A client of a server that adds up the numbers of each line."""

    def __init__(self, address):
        self.socket = socket.create_connection(address)
        self.stream = self.socket.makefile("rwb")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.stream.close()
        self.socket.close()

    def add(self, *numbers):
        self.stream.write(" ".join(map(str, numbers)).encode() + b"\n")
        self.stream.flush()
        return int(self.stream.readline())


def total(line):
    return f"{sum(map(int, line.split()))}\n".encode()


def test_any_number_of_questions(tcp_server):
    @tcp_server.serve
    def add_up(conn):
        while True:
            conn.send(total(conn.recv_line()))

    with Calculator(tcp_server.address) as one, Calculator(tcp_server.address) as other:
        assert one.add(1, 2, 3) == 6
        assert other.add(-1) == -1
        assert one.add() == 0


def test_any_number_of_questions_on_the_loop(tcp_server):
    @tcp_server.serve
    async def add_up(conn):
        while True:
            await conn.send(total(await conn.recv_line()))

    with Calculator(tcp_server.address) as one, Calculator(tcp_server.address) as other:
        assert one.add(1, 2, 3) == 6
        assert other.add(-1) == -1
        assert one.add() == 0


def add_with_patience(address, *numbers):
    """Ask a second time where the first connection breaks."""
    try:
        with Calculator(address) as calculator:
            return calculator.add(*numbers)
    except ConnectionResetError:
        with Calculator(address) as calculator:
            return calculator.add(*numbers)


def test_a_broken_connection_is_tried_again(tcp_server):
    @tcp_server.serve
    def break_once(conn):
        line = conn.recv_line()
        if conn.index == 0:
            conn.reset()
        else:
            conn.send(total(line))

    assert add_with_patience(tcp_server.address, 1, 2) == 3


def retrieve(address, name):
    """Ask for a file, which comes over a connection of its own."""
    with socket.create_connection(address) as control, control.makefile("rwb") as stream:
        stream.write(f"RETR {name}\n".encode())
        stream.flush()
        _, _, port = stream.readline().split()
        with socket.create_connection((address[0], int(port))) as data:
            content = data.makefile("rb").read()
        if stream.readline() != b"done\n":
            raise ConnectionError("the server does not say that this was all")
        return content


def test_a_file_comes_over_a_second_connection(tcp_server, sockets):
    @tcp_server.serve
    def control(conn):
        conn.expect(b"RETR notes\n")
        data_server = sockets.tcp_server(name="data_server")
        conn.send(f"on port {data_server.port}\n".encode())
        with data_server.accept() as data:
            data.send(b"buy milk\n")
        conn.send(b"done\n")

    assert retrieve(tcp_server.address, "notes") == b"buy milk\n"


def test_the_first_connection_is_turned_away(tcp_server):
    tcp_server.script().recv_line().reset()

    @tcp_server.serve
    def add_up(conn):
        conn.send(total(conn.recv_line()))

    with Calculator(tcp_server.address) as first, pytest.raises(ConnectionResetError):
        first.add(1, 2)
    with Calculator(tcp_server.address) as second:
        assert second.add(1, 2) == 3
