"""Sends its input, to a host and port or to a path, and prints what comes back."""

import socket
import sys

kind, *where = sys.argv[1:]
question = sys.stdin.buffer.read()

if len(where) == 1:
    client = socket.socket(socket.AF_UNIX)
    client.connect(where[0])
else:
    type = socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM
    family, *rest, address = socket.getaddrinfo(*where, type=type)[0]
    client = socket.socket(family, type)
    client.connect(address)

with client:
    client.sendall(question)
    if kind == "stream":
        client.shutdown(socket.SHUT_WR)
    chunks = iter(lambda: client.recv(65536), b"")
    answer = b"".join(chunks) if kind == "stream" else next(chunks)

sys.stdout.buffer.write(answer)
