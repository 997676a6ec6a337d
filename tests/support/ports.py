"""Attempts to take a port that somebody holds."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import ExitStack

from stream_ends import family_of

OPTIONS = {
    "plain": (),
    "reuseaddr": (socket.SO_REUSEADDR,),
    "reuseport": (socket.SO_REUSEPORT,),
    "both": (socket.SO_REUSEADDR, socket.SO_REUSEPORT),
}
"""What others set before they bind."""
BINDS = 300
IP_LOCAL_PORT_RANGE = 51
"""Since Linux 6.3 (ip(7)): the ports that bind(0) chooses from."""


def opened(stack: ExitStack, address: tuple[str, int], how: str, kind: int) -> socket.socket:
    """Return a socket of another program, with its options set."""
    sock = stack.enter_context(socket.socket(family_of(address), kind))
    for option in OPTIONS[how]:
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    return sock


def can_bind(address: tuple[str, int], how: str, kind: int = socket.SOCK_STREAM) -> bool:
    """Whether another program that asks for the port gets it."""
    with ExitStack() as stack:
        return binds(opened(stack, address, how, kind), address)


def is_given_away(address: tuple[str, int], how: str, kind: int = socket.SOCK_STREAM) -> bool:
    """Whether another program that asks for any port can get this one."""
    anywhere = (address[0], 0)
    with ExitStack() as stack:
        for _ in range(BINDS):
            sock = opened(stack, address, how, kind)
            sock.bind(anywhere)
            if sock.getsockname()[1] == address[1]:
                return True
        sock = opened(stack, address, how, kind)
        only = struct.pack("=I", address[1] << 16 | address[1])
        try:
            sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, only)
        except OSError:  # an older kernel
            return False
        return binds(sock, anywhere)


def binds(sock: socket.socket, address: tuple[str, int]) -> bool:
    """Whether a socket can be bound, or finds the address taken."""
    try:
        sock.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
