"""The factory behind every fixture."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from pytest_sockets._endpoints import problems
from pytest_sockets._endpoints.addresses import (
    BlackholeAddress,
    HeldAddress,
    RefusedAddress,
    ReservedPort,
)
from pytest_sockets._endpoints.capabilities import capabilities
from pytest_sockets._endpoints.connection import Connection
from pytest_sockets._endpoints.datagram_peer import (
    DatagramPeer,
    UDPEchoServer,
    UDPPeer,
    UnixDatagramPeer,
)
from pytest_sockets._endpoints.endpoint import Endpoint, Settings
from pytest_sockets._endpoints.faces import Face, Twin, verb
from pytest_sockets._endpoints.gate import Gate
from pytest_sockets._endpoints.order import require_order
from pytest_sockets._endpoints.protocol_server import (
    ProtocolFactory,
    ProtocolServer,
    StreamCallback,
)
from pytest_sockets._endpoints.proxy import TCPProxy, Upstream
from pytest_sockets._endpoints.server import StreamServer
from pytest_sockets._endpoints.servers import (
    ChargenServer,
    DiscardServer,
    EchoServer,
    SilentServer,
    TCPServer,
    UnixServer,
)
from pytest_sockets._endpoints.single import DatagramPair, SocketPair, open_connection
from pytest_sockets._endpoints.udp_proxy import UDPProxy, UDPUpstream
from pytest_sockets._engine.binding import check_family
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.waiting import Steps
from pytest_sockets._wire.errors import EndpointClosedError, UnsupportedError
from pytest_sockets._wire.events import Event
from pytest_sockets._wire.framing import Framing
from pytest_sockets._wire.record import merged

E = TypeVar("E", bound=Endpoint)
A = TypeVar("A", bound=HeldAddress)


class Sockets:
    """Opens endpoints and closes them all together; the fixture `sockets` is one.

    Each method returns a new endpoint that is ready. `name=` is what messages and reports call it;
    without one it has the method's name, and a number from the second on. The other arguments, and
    what is raised where one cannot be had, are as for `StreamServer`.

    Args:
        settings: timeouts and limits of the endpoints it opens.
        family: the family of those that are given none and could have any.
    """

    def __init__(self, settings: Settings | None = None, *, family: str | None = None) -> None:
        self._settings = settings or Settings()
        self._family = None if family is None else check_family(family)
        self._endpoints: list[Endpoint] = []
        self._gates: list[Gate] = []
        self._addresses: list[HeldAddress] = []
        self._skip: Callable[[str], object] | None = None  # set by a test framework
        self._is_closed = False
        self._names: dict[str, int] = {}
        # Checkers of leaked threads forgive one that starts in a fixture, not in the test.
        Engine.current()

    # -- servers

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

    # -- proxies

    def tcp_proxy(
        self,
        upstream: Upstream,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        name: str | None = None,
    ) -> TCPProxy:
        """Open a TCP proxy before a real server; the arguments are as for `TCPProxy`."""
        self._check_open()
        proxy = TCPProxy(
            upstream,
            family=self._choose(family, host),
            host=host,
            port=port,
            name=name or self._number(TCPProxy.kind),
            settings=self._settings,
        )
        for side in proxy.endpoints:
            self._keep(side)
        return proxy

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

    def udp_proxy(
        self,
        upstream: UDPUpstream,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        name: str | None = None,
    ) -> UDPProxy:
        """Open a UDP proxy before a real server; the arguments are as for `UDPProxy`."""
        self._check_open()
        proxy = UDPProxy(
            upstream,
            family=self._choose(family, host),
            host=host,
            port=port,
            name=name or self._number(UDPProxy.kind),
            settings=self._settings,
        )
        for side in proxy.endpoints:
            self._keep(side)
        return proxy

    # -- held addresses

    def refused_address(
        self, *, family: str | None = None, host: str | None = None, name: str | None = None
    ) -> RefusedAddress:
        """Hold an address that refuses connections, and that nobody else can take."""
        return self._hold(RefusedAddress, name, family=self._choose(family, host), host=host)

    def blackhole_address(
        self, *, family: str | None = None, host: str | None = None, name: str | None = None
    ) -> BlackholeAddress:
        """Hold an address that does not answer, so that `connect` hangs there."""
        return self._hold(BlackholeAddress, name, family=self._choose(family, host), host=host)

    def reserved_port(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        type: int = socket.SOCK_STREAM,
        name: str | None = None,
    ) -> ReservedPort:
        """Hold a port until a server under test binds it, or takes its socket."""
        family = self._choose(family, host)
        return self._hold(ReservedPort, name, family=family, host=host, type=type)

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
            address: `(host, port)` or an AF_UNIX path, ``"\0name"`` for an abstract one.
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

    def gate(self, *, name: str | None = None) -> Gate:
        """Make a gate: a place where a script, a handler or a verb stops until the test says go.

        It is released when the test ends.
        """
        gate = Gate(name=name or self._number("gate"), settings=self._settings)
        gate._among = self._endpoints
        self._gates.append(gate)
        return gate

    # -- all together

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints opened here, in order."""
        return tuple(self._endpoints)

    def require(self, *names: str) -> None:
        """Require what this machine has to be able to do, by the names of `capabilities`.

        Under pytest a test is skipped where it cannot.

        Raises:
            UnsupportedError: it cannot; outside of pytest.
            ValueError: there is no capability of that name.
        """
        __tracebackhide__ = True
        known = tuple(capabilities)
        for name in names:
            if name not in known:
                msg = f"{name!r} is no capability; there are {', '.join(known)}"
                raise ValueError(msg)
        for name in names:
            if capabilities[name] == "no":
                reason = capabilities.why_not(name)
                if self._skip is not None:
                    self._skip(reason)
                raise UnsupportedError(reason)

    @property
    def seed(self) -> int:
        """A number for the test's own random choices, from its id; failure reports show it."""
        return self._settings.seed

    @property
    def transcript(self) -> tuple[Event, ...]:
        """What happened on all endpoints, in one order."""
        __tracebackhide__ = True
        for endpoint in self._endpoints:
            endpoint._sync()
        return tuple(merged([endpoint.transcript for endpoint in self._endpoints]))

    def assert_order(self, *moments: Event | bytes) -> None:
        """Require that things happened in this order, over all endpoints.

        Args:
            moments: events of a transcript, or bytes, which stand for the moment when they had
                first been received or sent as a whole, anywhere.

        Raises:
            MismatchError: bytes that never came, or two moments in the other order.
        """
        __tracebackhide__ = True
        if len(moments) < 2:
            msg = "assert_order needs at least two moments to compare"
            raise ValueError(msg)
        for endpoint in self._endpoints:
            endpoint._sync()
        require_order(self._endpoints, moments)

    def check(self) -> None:
        """Raise what has gone wrong on any endpoint's side, the oldest first, others as notes."""
        __tracebackhide__ = True
        problems.check(self._endpoints)

    def close(self) -> None:
        """Close all endpoints and addresses, the newest first. Idempotent; does not block."""
        self._is_closed = True
        with ExitStack() as stack:  # one that fails to close does not keep the others open
            for address in self._addresses:
                stack.callback(address.close)
            for gate in self._gates:  # last: who holds at one is told that its endpoint is closed
                stack.callback(gate.release)
            for endpoint in self._endpoints:
                stack.callback(endpoint.close)

    @property
    def aio(self) -> AsyncSocketsFace:
        """The waiting methods, awaitable, for asyncio and trio."""
        return AsyncSocketsFace(self)

    def __enter__(self) -> Sockets:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        try:
            if exc_type is None and (untold := problems.gather(self._endpoints)):
                problems.raise_problems(untold)
        finally:
            self.close()

    def __repr__(self) -> str:
        return f"<Sockets {len(self._endpoints)} endpoints>"

    # -- inside

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

    def _open(self, cls: Callable[..., E], name: str | None, **options: Any) -> E:
        self._check_open()
        kind: str = getattr(cls, "kind", "endpoint")
        endpoint = cls(name=name or self._number(kind), settings=self._settings, **options)
        self._keep(endpoint)
        return endpoint

    def _keep(self, endpoint: Endpoint) -> None:
        """Close it with the others. Nobody has it yet."""
        self._endpoints.append(endpoint)

    def _hold(self, cls: Callable[..., A], name: str | None, **options: Any) -> A:
        self._check_open()
        kind: str = getattr(cls, "kind", "address")
        held = cls(name=name or self._number(kind), **options)
        self._addresses.append(held)
        return held

    def _check_open(self) -> None:
        if self._is_closed:
            msg = "these sockets are closed, as they are after the test: open endpoints before that"
            raise EndpointClosedError(msg)

    def _choose(self, family: str | None, host: str | None) -> str | None:
        return self._family if family is None and host is None else family

    def _number(self, kind: str) -> str:
        number = self._names[kind] = self._names.get(kind, 0) + 1
        return kind if number == 1 else f"{kind}-{number}"


class AsyncSocketsFace(Face):
    """The awaitable methods of `Sockets`: `sockets.aio`."""

    connect = Twin(Sockets.connect)
