"""Your own asyncio server, run on a recorded listener."""

import asyncio
import socket


class Counter(asyncio.Protocol):
    """Answers each chunk with the number of bytes so far."""

    def connection_made(self, transport):
        self.transport = transport
        self.total = 0

    def data_received(self, data):
        self.total += len(data)
        self.transport.write(b"%d\n" % self.total)


def test_a_protocol(sockets):
    server = sockets.serve_protocol(Counter)

    with socket.create_connection(server.address) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"5\n"

    server.assert_received(b"hello")
    server.assert_sent(b"5\n")


class Greeter(asyncio.Protocol):
    def __init__(self, greeting):
        self.greeting = greeting

    def connection_made(self, transport):
        transport.write(self.greeting)
        transport.close()


def test_a_protocol_with_arguments(sockets):
    server = sockets.serve_protocol(lambda: Greeter(b"220 ready\r\n"))

    with socket.create_connection(server.address) as client:
        assert client.makefile("rb").read() == b"220 ready\r\n"


async def shout(reader, writer):
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
    writer.close()


def test_a_callback(sockets):
    server = sockets.serve_protocol(shout, family="unix")

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(server.path)
        client.sendall(b"hello\n")
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == b"HELLO\n"

    server.assert_sent(b"HELLO\n")
