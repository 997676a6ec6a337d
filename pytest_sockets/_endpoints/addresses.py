"""Addresses that are held although nobody serves them: refused, silent, or kept for a server."""

from __future__ import annotations

import _socket
import atexit
import os
import socket
from typing import ClassVar, TypeVar, cast

from pytest_sockets._endpoints.place import Place, place_for
from pytest_sockets._endpoints.placed import Placed
from pytest_sockets._endpoints.single import PlainSocket
from pytest_sockets._engine.blackhole import fill_queue
from pytest_sockets._wire.errors import EndpointClosedError

A = TypeVar("A", bound="HeldAddress")


class HeldAddress(Placed):
    """An address that is ours until it is closed. Nothing is recorded of it.

    It is a context manager, which closes it.
    """

    kind: ClassVar[str]

    def __init__(self, place: Place, name: str | None) -> None:
        self.name = name or self.kind
        """The name in messages."""
        self._place_ = place
        self._sockets: list[_socket.socket] = place.sockets
        _open[id(self)] = self

    @property
    def is_closed(self) -> bool:
        """Whether it is held no more."""
        return all(sock.fileno() < 0 for sock in self._sockets)

    def close(self) -> None:
        """Let go of the address. Idempotent; does not block."""
        _open.pop(id(self), None)
        self._close_sockets()
        self._place_.remove()

    def _after_fork(self) -> None:
        """Close the copies of a forked child, which would hold the address beyond the parent."""
        self._close_sockets()
        self._place_.remove = lambda: None  # the file is the parent's

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()

    def __enter__(self: A) -> A:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "held"
        return f"<{type(self).__name__} {self._place_.text}, {state}>"


class RefusedAddress(HeldAddress):
    """An address that refuses connections: nobody listens there, and nobody else can.

    It is bound and never listens, so that `connect` gets ECONNREFUSED at once.

    Args:
        family: ``"ipv4"`` (the default), ``"ipv6"``, ``"dual"`` (both loopbacks on one port) or
            ``"unix"`` (a short path of ours, where the file of a socket lies).
        host: an address or name of this machine; `None` means loopback.
        name: what messages call it.

    Raises:
        OSError: it cannot be bound.
        UnsupportedError: this machine has no such family.
        ValueError: an argument is wrong in itself.
    """

    kind = "refused_address"

    def __init__(
        self, *, family: str | None = None, host: str | None = None, name: str | None = None
    ) -> None:
        super().__init__(place_for(family, host, 0, None, socket.SOCK_STREAM, 0, None), name)


class PortAddress(HeldAddress):
    """A held address that has a port."""

    def __init__(self, family: str | None, host: str | None, type: int, name: str | None) -> None:
        if family in ("unix", socket.AF_UNIX):
            msg = f"{self.kind} cannot have family='unix': it is a host and a port"
            raise ValueError(msg)
        super().__init__(place_for(family, host, 0, None, type, 0, None), name)

    @property
    def address(self) -> tuple[str, int]:
        """Where it is: `(host, port)`, for IPv6 too."""
        return cast("tuple[str, int]", super().address)


class BlackholeAddress(PortAddress):
    """An address that does not answer: `connect` hangs there until the client gives up.

    It listens with a queue that is full, so that the kernel drops each SYN. That this kernel does
    has been seen when the object is made.

    Args:
        family: ``"ipv4"`` (the default), ``"ipv6"`` or ``"dual"`` (both loopbacks on one port).
        host: an address or name of this machine; `None` means loopback.
        name: what messages call it.

    Raises:
        OSError: it cannot be bound.
        UnsupportedError: this machine has no such family, or its kernel lets clients in.
        ValueError: an argument is wrong in itself.
    """

    kind = "blackhole_address"

    def __init__(
        self, *, family: str | None = None, host: str | None = None, name: str | None = None
    ) -> None:
        super().__init__(family, host, socket.SOCK_STREAM, name)
        try:
            for sock in tuple(self._sockets):
                self._sockets += fill_queue(sock)
        except BaseException:
            self.close()
            raise


class ReservedPort(PortAddress):
    """A port for a server under test: ours until that server binds it.

    Three ways to it. A server that sets SO_REUSEADDR before it binds, as those of `asyncio`,
    `socketserver` and `http.server` do, is given the port's number: it can bind, listen and be
    started again, while ``bind(0)`` gives the port to nobody. One that does not is given it after
    `release()`. And one that takes a bound socket or a descriptor gets `socket` or `fileno()`.

    Until a server listens, connections are refused.

    Args:
        family: ``"ipv4"`` (the default), ``"ipv6"`` or ``"dual"`` (both loopbacks on one port).
        host: an address or name of this machine; `None` means loopback.
        type: `socket.SOCK_STREAM` or `socket.SOCK_DGRAM`. A UDP port can only be handed over, or
            bound after `release()`.
        name: what messages call it.

    Raises:
        OSError: it cannot be bound.
        UnsupportedError: this machine has no such family.
        ValueError: an argument is wrong in itself.
    """

    kind = "reserved_port"

    def __init__(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        type: int = socket.SOCK_STREAM,
        name: str | None = None,
    ) -> None:
        if type not in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            msg = f"type of a reserved port must be SOCK_STREAM or SOCK_DGRAM, not {type!r}"
            raise ValueError(msg)
        super().__init__(family, host, type, name)
        self._is_lent = False
        bound, self._sockets = self._sockets, []
        for sock in bound:
            # Behind bind: before, it could get a port that somebody else has reserved like this.
            # Of UDP the option would share the port with a bind(0) of anybody who has it too.
            if type == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # One object owns each descriptor, whoever closes it: no number is closed twice.
            plain = PlainSocket(sock.family, sock.type, sock.proto, sock.detach())
            plain.setblocking(True)
            self._sockets.append(plain)

    @property
    def socket(self) -> PlainSocket:
        """The bound socket itself, for a server that takes one; the same object each time.

        It blocks, and does not listen yet. Whoever takes it may close it; else `close()` does.

        Raises:
            EndpointClosedError: it was released, or closed by whoever took it.
            ValueError: ``"dual"`` has two, one for each loopback.
        """
        if self.is_closed:
            msg = f"{self.name} was released or closed: take its socket before that"
            raise EndpointClosedError(msg)
        if len(self._sockets) > 1:
            msg = f"{self.name} has {len(self._sockets)} sockets: one can be had of a single family"
            raise ValueError(msg)
        self._is_lent = True
        return cast("PlainSocket", self._sockets[0])

    def fileno(self) -> int:
        """Return the descriptor's number, which stays ours: who would close it takes `os.dup()`.

        Pass it to a subprocess with ``pass_fds=[port.fileno()]``, which has it inherited.

        Raises:
            EndpointClosedError: as for `socket`.
            ValueError: as for `socket`.
        """
        return self.socket.fileno()

    def release(self) -> None:
        """Let go of the port, for a server that binds without SO_REUSEADDR. Idempotent.

        From now on anybody could take it: start that server at once. `port` stays readable.
        """
        self.close()

    def _after_fork(self) -> None:
        if not self._is_lent:  # else the child may be the server that it was lent to
            super()._after_fork()


_open: dict[int, HeldAddress] = {}


@atexit.register
def _close_all() -> None:
    # What nobody closed would warn as the process ends, and leave its path behind.
    for held in tuple(_open.values()):
        held.close()


def _after_fork_in_child() -> None:
    inherited = tuple(_open.values())
    _open.clear()
    for held in inherited:
        held._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
