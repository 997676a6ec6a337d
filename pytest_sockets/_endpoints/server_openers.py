"""Opening servers of streams."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

from pytest_sockets._endpoints.datagram_peer import DatagramPeer
from pytest_sockets._endpoints.endpoint import Endpoint
from pytest_sockets._endpoints.factory import Factory
from pytest_sockets._endpoints.protocol_server import (
    ProtocolFactory,
    ProtocolServer,
    StreamCallback,
)
from pytest_sockets._endpoints.server import StreamServer
from pytest_sockets._endpoints.servers import (
    ChargenServer,
    DiscardServer,
    EchoServer,
    SilentServer,
    TCPServer,
    UnixServer,
)
from pytest_sockets._wire.framing import Framing

E = TypeVar("E", bound=Endpoint)


class ServerOpeners(Factory):
    """The methods of `Sockets` that open servers of streams, or of any type that is told."""

    def tcp_server(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        framing: Framing | None = None,
        name: str | None = None,
    ) -> TCPServer:
        """Open a TCP server that records, and answers only what it is told."""
        family = self._choose(family, host)
        return self._open(TCPServer, name, family=family, host=host, port=port, framing=framing)

    def unix_server(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        abstract: bool = False,
        framing: Framing | None = None,
        name: str | None = None,
    ) -> UnixServer:
        """Open an AF_UNIX server that records, and answers only what it is told."""
        return self._open(UnixServer, name, path=path, abstract=abstract, framing=framing)

    def echo_server(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        path: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> EchoServer:
        """Open a server that sends everything back (RFC 862)."""
        return self._stream(EchoServer, name, family, host, port, path)

    def silent_server(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        path: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> SilentServer:
        """Open a server that accepts and never answers."""
        return self._stream(SilentServer, name, family, host, port, path)

    def discard_server(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        path: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> DiscardServer:
        """Open a server that reads and answers nothing (RFC 863)."""
        return self._stream(DiscardServer, name, family, host, port, path)

    def chargen_server(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        path: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> ChargenServer:
        """Open a server that sends characters for as long as they are taken (RFC 864)."""
        return self._stream(ChargenServer, name, family, host, port, path)

    def stream_server(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        path: str | os.PathLike[str] | None = None,
        framing: Framing | None = None,
        name: str | None = None,
    ) -> StreamServer:
        """Open a recording server of a family that a parametrised test chooses."""
        return self._stream(StreamServer, name, family, host, port, path, framing=framing)

    def serve_protocol(
        self,
        factory: ProtocolFactory | StreamCallback,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        path: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> ProtocolServer:
        """Open a server that runs your own asyncio protocol, or `(reader, writer)` callback.

        The arguments are as for `ProtocolServer`, which is also what its name comes from.
        """
        return self._stream(ProtocolServer, name, family, host, port, path, factory=factory)

    @overload
    def server(
        self,
        *,
        family: str | int,
        type: Literal[socket.SocketKind.SOCK_STREAM, socket.SocketKind.SOCK_SEQPACKET] = ...,
        address: Any = None,
        proto: int = 0,
        name: str | None = None,
    ) -> StreamServer: ...
    @overload
    def server(
        self,
        *,
        family: str | int,
        type: int,
        address: Any = None,
        proto: int = 0,
        name: str | None = None,
    ) -> StreamServer | DatagramPeer: ...
    def server(
        self,
        *,
        family: str | int,
        type: int = socket.SOCK_STREAM,
        address: Any = None,
        proto: int = 0,
        name: str | None = None,
    ) -> StreamServer | DatagramPeer:
        """Open an endpoint of any family and type that the machine has.

        Args:
            family: a `socket.AF_…` number, or a family's name here.
            type: SOCK_STREAM and SOCK_SEQPACKET give a `StreamServer`, others a `DatagramPeer`.
            address: where to bind, in the family's own form.
            proto: a protocol number such as IPPROTO_MPTCP; 0 means the family's default.
            name: what messages and reports call it.

        Raises:
            UnsupportedError: the machine has none, in the kernel's words.
        """
        streams = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
        cls: Callable[..., StreamServer | DatagramPeer] = (
            StreamServer if type in streams else DatagramPeer
        )
        name = name or self._number("server")
        return self._open(cls, name, family=family, type=type, address=address, proto=proto)

    def _stream(
        self,
        cls: Callable[..., E],
        name: str | None,
        family: str | None,
        host: str | None,
        port: int | str,
        path: str | os.PathLike[str] | None,
        **options: Any,
    ) -> E:
        if path is None:
            family = self._choose(family, host)
        return self._open(cls, name, family=family, host=host, port=port, path=path, **options)
