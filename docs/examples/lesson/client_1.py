"""A client that sends a line to a server and returns the line that comes back."""

import socket


def ask(address, question):
    with socket.create_connection(address) as sock:
        sock.sendall(question.encode() + b"\n")
        with sock.makefile("rb") as lines:
            return lines.readline().decode().rstrip("\r\n")
