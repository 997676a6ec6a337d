"""Endpoints with exactly one connection: clients, and one half of a connected pair."""

from __future__ import annotations

import _socket
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pytest_sockets._endpoints.connection import Connection
from pytest_sockets._endpoints.datagrams import DatagramEndpoint
from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.faulty import Faulty
from pytest_sockets._endpoints.place import Place, as_path
from pytest_sockets._endpoints.placed import Placed
from pytest_sockets._engine.binding import (
    LOOPBACK,
    accept_from,
    check_host,
    check_path,
    new_socket,
    refuse,
    resolve_port,
    take_urgent,
)
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.connecting import Connector
from pytest_sockets._engine.credentials import ask_for_credentials
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.rendering import show_address

PlainSocket = socket.socket
"""Captured before pytest-socket can replace it."""


class SingleStream(Faulty):
    """An endpoint around one connected stream socket."""

    def __init__(
        self,
        sock: _socket.socket,
        peer: Address | None,
        *,
        name: str | None,
        settings: Settings | None,
    ) -> None:
        super().__init__(name=name, settings=settings)
        self._text = f"to {show_address(peer)}" if peer else "connected pair"
        record = self._new_record(0)
        record.mark(CLOCK.stamp(), "connected", peer=peer)
        patience = self._deadline(None).timeout
        self._stream = Stream(self, self._engine, sock, record, peer, patience)
        self._connection = Connection(self, self._stream, 0)
        self._stream.start()
        self._opened()

    def _on_first(self, stream: Stream, *, sent: bool) -> None:
        """See `Owner`: there is only one connection to count."""

    def _on_end(self, stream: Stream) -> None:
        """See `Owner`: there is only one connection to count."""

    def _give_up(self) -> None:
        self._stream.reset()

    def _faulty_streams(self) -> Sequence[tuple[int, Stream]]:
        return ((0, self._stream),)

    def _signals(self) -> tuple[Signal, ...]:
        stream = self._stream
        return (stream.received, stream.sent, stream.peer_end, stream.ended)

    def _stop(self) -> None:
        self._stream.abort()

    def _abandon(self) -> None:
        self._stream.abandon()

    def _place(self) -> str:
        return self._text

    def _summary(self) -> str:
        record = self._stream.record
        return f"{record.received.size} bytes received, {record.sent.size} sent"


class Client(SingleStream):
    """The client side of a connection that was opened for a test."""

    kind = "raw_client"


class SocketPair(SingleStream):
    """A connected pair: a plain socket for the code under test, a `Connection` for the test.

    ``sock, peer = pair`` works. Both ends are closed with it.

    Args:
        family: ``"unix"`` (socketpair(2)) or ``"tcp"`` (two ends of a loopback connection).
        type: ``"stream"`` or, for ``"unix"``, ``"seqpacket"``.
        name: what messages and reports call it.
        settings: timeouts and limits.
    """

    kind = "socket_pair"

    def __init__(
        self,
        family: Literal["unix", "tcp"] = "unix",
        type: Literal["stream", "seqpacket"] = "stream",
        *,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if family not in ("unix", "tcp"):
            msg = f"family of a pair must be 'unix' or 'tcp', not {family!r}"
            raise ValueError(msg)
        if family == "tcp":
            if type != "stream":
                msg = f"a TCP pair has type='stream', not {type!r}"
                raise ValueError(msg)
            ours, theirs, peer = _tcp_pair()
        else:
            if type not in ("stream", "seqpacket"):
                msg = (
                    "type of a pair must be 'stream' or 'seqpacket' "
                    f"(of a DatagramPair 'datagram'), not {type!r}"
                )
                raise ValueError(msg)
            ours, theirs = _unix_pair(type)
            peer = None
        self._socket = theirs
        super().__init__(ours, peer, name=name or f"{family}_{self.kind}", settings=settings)

    @property
    def socket(self) -> PlainSocket:
        """The end for the code under test: a plain, blocking `socket.socket`."""
        return self._socket

    @property
    def peer(self) -> Connection:
        """The end for the test."""
        return self._connection

    def __iter__(self) -> Iterator[Any]:
        return iter((self._socket, self._connection))

    def _stop(self) -> None:
        super()._stop()  # first: an EOF that is our own doing would stand in the record as theirs
        self._socket.close()


class DatagramPair(DatagramEndpoint):
    """A connected pair of AF_UNIX datagram sockets; the peer is the pair itself.

    ``sock, peer = pair`` works. Both ends are closed with it. Neither has a name, until the test
    sends: then the kernel gives its end an abstract one (unix(7): SO_PASSCRED).
    """

    kind = "unix_datagram_pair"
    _is_pair = True

    def __init__(self, *, name: str | None = None, settings: Settings | None = None) -> None:
        ours, self._socket = _unix_pair("datagram")
        super().__init__(
            Place("unix", [ours], (), "unix datagram pair"), name=name, settings=settings
        )
        self._opened()

    @property
    def socket(self) -> PlainSocket:
        """The end for the code under test: a plain, blocking `socket.socket`."""
        return self._socket

    @property
    def peer(self) -> DatagramEndpoint:
        """The end for the test."""
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter((self._socket, self))

    def _target(self, to: Address | None) -> Address | None:
        return to

    def _stop(self) -> None:
        super()._stop()
        self._socket.close()


PAIR_TYPES = {
    "stream": socket.SOCK_STREAM,
    "datagram": socket.SOCK_DGRAM,
    "seqpacket": socket.SOCK_SEQPACKET,
}


def _unix_pair(type: str) -> tuple[_socket.socket, PlainSocket]:
    try:
        ours, theirs = _socket.socketpair(socket.AF_UNIX, PAIR_TYPES[type])
    except OSError as error:
        refuse(error, f"AF_UNIX {type} pair")
        raise
    ours.setblocking(False)
    ask_for_credentials(ours)
    plain_end = PlainSocket(socket.AF_UNIX, PAIR_TYPES[type], 0, fileno=theirs.detach())
    return ours, plain_end


def _tcp_pair() -> tuple[_socket.socket, PlainSocket, Address | None]:
    """Connect two sockets over loopback, and make sure that nobody else got in between."""
    listener = new_socket(socket.AF_INET, socket.SOCK_STREAM)
    theirs = PlainSocket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((LOOPBACK[socket.AF_INET], 0))
        take_urgent(listener)  # for our end
        listener.listen(8)
        _socket.socket.connect(theirs, listener.getsockname())
        listener.setblocking(True)
        while True:
            ours, address = accept_from(listener)
            if address == theirs.getsockname():
                break
            ours.close()
    except BaseException:
        theirs.close()
        raise
    finally:
        listener.close()
    ours.setblocking(False)
    for end in (ours, theirs):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs, address


def open_connection(
    address: Any,
    *,
    family: int | None,
    timeout: float | None,
    name: str | None,
    settings: Settings,
) -> Steps[Connection]:
    """Connect, and return the connection of a new `Client`."""
    deadline = settings.deadline(timeout)
    if isinstance(address, Placed):
        if address._place_.protocol == "udp" or isinstance(address, DatagramEndpoint):
            msg = f"address must be a server that accepts connections, not {address!r}"
            raise TypeError(msg)
        address = address.address
    sock, peer = yield from Connector(candidates_of(address, family)).connect(deadline)
    return Client(sock, peer, name=name, settings=settings)._connection


def candidates_of(
    address: Any, family: int | None = None, *, name: str = "address"
) -> list[tuple[int, Any]]:
    """Return the families and kernel's addresses that a user's address may mean."""
    if family is not None and family not in LOOPBACK and family != socket.AF_UNIX:
        return [(family, address)]
    may_be_meant = family is None and isinstance(address, str) and ":" in address
    if may_be_meant and not address.startswith(("/", ".", "\0")):
        msg = (
            f"{name}={address!r} would be an AF_UNIX path: write (host, port) for a host and "
            "a port, or './…' for a path like this"
        )
        raise ValueError(msg)
    if isinstance(address, (str, bytes)) or hasattr(address, "__fspath__"):
        path = as_path(address)
        check_path(path)
        return [(socket.AF_UNIX, os.fsencode(path))]
    try:
        host, port = address[:2]
    except (TypeError, ValueError):
        msg = f"address must be a (host, port) pair or an AF_UNIX path, not {address!r}"
        raise TypeError(msg) from None
    number = resolve_port(port, socket.SOCK_STREAM)  # getaddrinfo takes 65,616 for 80
    found = _socket.getaddrinfo(check_host(host), number, family or 0, socket.SOCK_STREAM)
    return [(int(entry[0]), entry[4]) for entry in found]
