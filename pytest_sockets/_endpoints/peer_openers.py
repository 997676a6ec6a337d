"""Opening what has no listener: datagram sockets, pairs and clients."""

from __future__ import annotations

import os
from typing import Any, Literal, overload

from pytest_sockets._endpoints.connection import Connection
from pytest_sockets._endpoints.datagram_peer import (
    UDPEchoServer,
    UDPPeer,
    UnixDatagramPeer,
)
from pytest_sockets._endpoints.faces import verb
from pytest_sockets._endpoints.factory import Factory
from pytest_sockets._endpoints.single import DatagramPair, SocketPair, open_connection
from pytest_sockets._engine.waiting import Steps


class PeerOpeners(Factory):
    """The methods of `Sockets` that open datagram sockets, pairs and clients."""

    # -- datagrams

    def udp_peer(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        name: str | None = None,
    ) -> UDPPeer:
        """Open a UDP socket that records, and sends what it is told."""
        return self._open(UDPPeer, name, family=self._choose(family, host), host=host, port=port)

    def udp_echo_server(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        name: str | None = None,
    ) -> UDPEchoServer:
        """Open a UDP socket that sends each datagram back to its source (RFC 862)."""
        family = self._choose(family, host)
        return self._open(UDPEchoServer, name, family=family, host=host, port=port)

    def unix_datagram_peer(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        abstract: bool = False,
        name: str | None = None,
    ) -> UnixDatagramPeer:
        """Open an AF_UNIX datagram socket that records, and sends what it is told."""
        return self._open(UnixDatagramPeer, name, path=path, abstract=abstract)

    # -- pairs and clients

    def unix_socket_pair(self, *, name: str | None = None) -> SocketPair:
        """Open a connected pair of AF_UNIX stream sockets."""
        return self._open(SocketPair, name or self._number("unix_socket_pair"), family="unix")

    def tcp_socket_pair(self, *, name: str | None = None) -> SocketPair:
        """Open a connected pair of TCP sockets over loopback."""
        return self._open(SocketPair, name or self._number("tcp_socket_pair"), family="tcp")

    @overload
    def socket_pair(
        self, type: Literal["stream", "seqpacket"] = "stream", *, name: str | None = None
    ) -> SocketPair: ...
    @overload
    def socket_pair(
        self, type: Literal["datagram"], *, name: str | None = None
    ) -> DatagramPair: ...
    def socket_pair(
        self,
        type: Literal["stream", "seqpacket", "datagram"] = "stream",
        *,
        name: str | None = None,
    ) -> SocketPair | DatagramPair:
        """Open a connected pair of AF_UNIX sockets of any type (socketpair(2))."""
        name = name or self._number("socket_pair")
        if type == "datagram":
            return self._open(DatagramPair, name)
        return self._open(SocketPair, name, family="unix", type=type)

    @verb
    def connect(
        self,
        address: Any,
        *,
        family: int | None = None,
        timeout: float | None = None,
        name: str | None = None,
    ) -> Steps[Connection]:
        r"""Connect to a stream server and return the recorded `Connection`.

        Args:
            address: `(host, port)`, an AF_UNIX path, ``"\0name"`` for an abstract one, or an
                endpoint of ours that listens there.
            family: a `socket.AF_…` number where the address does not tell.
            timeout: seconds; `None` means the default.
            name: what messages and reports call it.

        Raises:
            OSError: it cannot connect, as the kernel says: ConnectionRefusedError, TimeoutError, …
        """
        self._check_open()
        name = name or self._number("raw_client")
        conn = yield from open_connection(
            address, family=family, timeout=timeout, name=name, settings=self._settings
        )
        self._keep(conn.endpoint)
        return conn
