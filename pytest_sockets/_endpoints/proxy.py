"""A TCP proxy before a real server, recorded on both of its sides."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias, cast

from pytest_sockets._endpoints.datagrams import DatagramEndpoint
from pytest_sockets._endpoints.endpoint import Endpoint, Settings
from pytest_sockets._endpoints.faces import Face, Twin, verb
from pytest_sockets._endpoints.fault import Fault
from pytest_sockets._endpoints.placed import Placed
from pytest_sockets._endpoints.proxy_sides import ClientSide, UpstreamSide
from pytest_sockets._endpoints.server import StreamServer
from pytest_sockets._endpoints.single import candidates_of
from pytest_sockets._endpoints.streams import StreamEndpoint
from pytest_sockets._endpoints.two_sides import SHOWN, TwoSides, Way, check_direction
from pytest_sockets._engine.binding import plain
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import WaitTimeout
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.matching import Contains, Verdict, as_bytes
from pytest_sockets._wire.rendering import count, show
from pytest_sockets.faults import Effect, Moment


class TCPProxy(TwoSides):
    r"""A TCP server that passes everything on to a real one, and back, and records both sides.

    Args:
        upstream: the real server: `(host, port)`, an AF_UNIX path (``"\0name"`` for an abstract
            one), or a server or proxy of this package. A name is resolved once, here. Nobody has to
            listen there yet.
        family: where the proxy itself listens: ``"ipv4"`` (the default), ``"ipv6"`` or ``"dual"``.
        host: an address or name of this machine; `None` means loopback.
        port: a number, a numeric string or a service name; 0 means any free one.
        name: what messages and reports call it; its sides are called the same, with ``client`` and
            ``upstream`` behind it.
        settings: timeouts and limits.

    Each connection of a client is accepted at once, and one to the upstream is opened for it. EOF
    is passed on as EOF, one direction at a time, and a reset as a reset; an AF_UNIX upstream, which
    has no RST, sees EOF instead. When one side does not read, the proxy stops reading from the
    other one after 256 KiB, so that the sender is held back as it would be without a proxy.

    Where the upstream cannot be reached within the default timeout, the client's connection is
    reset, and a note in both transcripts says why. A client that asked the upstream itself would be
    refused; here the kernel has accepted it before the proxy can know, and a reset is the nearest
    that can be had. The client sees it when it connects, or when it first reads or writes.

    Whatever the client and the upstream do is no problem of the proxy. What the test ends on one
    side with `close()` or `reset()` of a connection ends the same way on the other side.

    It is a context manager: leaving it closes it and, when the body did not raise, raises problems.

    Raises:
        OSError: it cannot be bound; the message says why, and who holds a taken port.
        TypeError: `upstream` is nothing to connect to.
        UnsupportedError: this machine has no such family.
        ValueError: an argument is wrong in itself, or `upstream` cannot be resolved.
    """

    kind = "tcp_proxy"

    def __init__(
        self,
        upstream: Upstream,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if family in ("unix", socket.AF_UNIX):
            msg = "a TCP proxy cannot have family='unix'; its upstream can be an AF_UNIX path"
            raise ValueError(msg)
        self.name = name or self.kind
        address, candidates = _resolved(upstream)
        self._upstream = UpstreamSide(address, name=f"{self.name} upstream", settings=settings)
        self._client = ClientSide(
            self._upstream,
            candidates,
            family=family,
            host=host,
            port=port,
            name=f"{self.name} client",
            settings=settings,
        )
        self._upstream._opened()  # after the client's, as they are shown in this order
        self._place_ = self._client._place_

    # -- the sides

    @property
    def client(self) -> StreamServer:
        """The side that faces the client, an endpoint: what the client sent is *received* here.

        Its connections are driven by the proxy: they can be waited for, asserted on, read and
        ended, but the test cannot send on them or consume their bytes.
        """
        return self._client

    @property
    def upstream(self) -> StreamEndpoint:
        """The side that faces the real server, an endpoint: what the client sent is *sent* here.

        `connections` has those that could be opened, in the order of the client's. A connection's
        `index` is that of the client's connection it belongs to.
        """
        return self._upstream

    @property
    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        """Both sides, the client's first."""
        return self._client, self._upstream

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect: `(host, port)`, for IPv6 too."""
        return cast("tuple[str, int]", super().address)

    # -- misbehaving

    def fault(
        self,
        effect: Effect,
        *,
        at: Moment | None = None,
        connection: int | None = None,
        times: int | None = None,
        must_hit: bool = True,
        direction: Way | None = None,
    ) -> Fault:
        """Have the proxy misbehave from now on, until the fault is lifted or the test ends.

        A fault of the replies is one of `client`, as seen from there: it acts on what is sent to
        the client, and `AfterReceived` counts what has come from it. A fault of the requests is one
        of `upstream`. `StopReading` acts on what is received: of the requests, it stops reading
        from the client. An end that a fault makes on one side is passed on to the other one. The
        other arguments, and what is raised, are as for `StreamServer.fault`.

        Args:
            effect: what happens, a value of `pytest_sockets.faults`.
            at: when; `None`: now, and on later connections at their beginning.
            connection: the index of the only connection that it acts on; `None` is each.
            times: how often it acts at most, over all connections; `None` is without end.
            must_hit: whether it is a problem, told at the end of the test, when it has met nothing.
            direction: ``"request"``, from a client to the upstream, or ``"reply"``, back. `None`:
                the requests for `StopReading`, the replies for all others.
        """
        if direction is not None:
            check_direction(direction)
        is_on_receiving = getattr(effect, "_is_on_receiving", False)
        way = direction or ("request" if is_on_receiving else "reply")
        side = self._client if (way == "reply") != is_on_receiving else self._upstream
        return side.fault(effect, at=at, connection=connection, times=times, must_hit=must_hit)

    # -- waiting

    @verb
    def wait_forwarded(
        self, data: bytes, *, direction: Way = "request", timeout: float | None = None
    ) -> Steps[None]:
        """Wait until the bytes have been passed on: the kernel has taken them towards their end.

        Whether they have been read there, nobody on this side can see.

        Args:
            data: bytes that occur somewhere in what was passed on over one connection.
            direction: ``"request"``, from a client to the upstream, or ``"reply"``, back.
            timeout: seconds; `None` means the proxy's default, 0 only what was passed on already.

        Raises:
            WaitTimeout: they were not; the message shows what was.
            EndpointClosedError: you closed the proxy.
        """
        wanted = as_bytes(data, name="data")
        if not wanted:
            msg = "data=b'' has always been forwarded: name the bytes to wait for"
            raise ValueError(msg)
        check_direction(direction)
        side: StreamEndpoint = self._upstream if direction == "request" else self._client
        deadline = side._deadline(timeout)
        ends = [(endpoint._over(), 1.0) for endpoint in self.endpoints]
        claims: dict[int, Contains] = {}
        late = False
        while True:
            with side._lock:
                for endpoint in self.endpoints:
                    endpoint._raise_problem()
                needs: list[tuple[Signal, float]] = [*ends]
                needs.append((side._arrived, len(side._connections) + 1))
                for conn in side._connections:
                    log = conn._bytes("sent")
                    claim = claims.setdefault(conn.index, Contains(wanted))
                    if claim.judge(log) is Verdict.TRUE:
                        return
                    if (signal := conn._signal("sent")).level < math.inf:
                        needs.append((signal, log.size + 1))
                if side.is_closed:
                    side._raise_closed()
            if late:
                self._raise_late(side, wanted, direction, deadline)
            late = yield from side._waited(deadline, *needs)

    @property
    def aio(self) -> AsyncProxyFace:
        """The waiting method, awaitable, for asyncio and trio."""
        return AsyncProxyFace(self)

    # -- inside

    def _raise_late(
        self, side: StreamEndpoint, wanted: bytes, direction: Way, deadline: Deadline
    ) -> NoReturn:
        with side._lock:
            sent = [(conn.index, conn._bytes("sent").read()) for conn in side._connections]
        lines = [f"  #{index} {show(data, len(data))}" for index, data in sent if data][:SHOWN]
        so_far = ", forwarded so far:" if lines else ", and nothing has been forwarded"
        msg = "\n".join(
            [
                f"{self.name}: waited {deadline} for the {direction} {show(wanted)} to be "
                f"forwarded over {count(len(sent), 'connection')}{so_far}",
                *lines,
            ]
        )
        raise WaitTimeout(msg)


Upstream: TypeAlias = Address | os.PathLike[str] | StreamServer | TCPProxy
"""What may stand behind a proxy."""


class AsyncProxyFace(Face):
    """The awaitable method of a proxy: `proxy.aio`."""

    wait_forwarded = Twin(TCPProxy.wait_forwarded)


def _resolved(upstream: Any) -> tuple[Address, Sequence[tuple[int, Any]]]:
    """Return a real server's address, and what it may mean to the kernel."""
    is_placed = isinstance(upstream, Placed)
    if (
        isinstance(upstream, DatagramEndpoint)
        or (is_placed and upstream._place_.protocol == "udp")
        or (isinstance(upstream, Endpoint) and not is_placed)
    ):
        msg = f"upstream must be a server that accepts connections, not {upstream!r}"
        raise TypeError(msg)
    address: Any = upstream.address if isinstance(upstream, Placed) else upstream
    try:
        candidates = candidates_of(address, name="upstream")
    except TypeError as error:
        msg = f"upstream must be a (host, port) pair, an AF_UNIX path or a server: {error}"
        raise TypeError(msg) from error
    except OSError as error:
        msg = f"upstream={address!r} cannot be resolved: {error.strerror or error}"
        raise ValueError(msg) from error
    if candidates[0][0] != socket.AF_UNIX and candidates[0][1][1] == 0:
        msg = f"upstream={address!r} names no port: nobody can listen on port 0"
        raise ValueError(msg)
    if isinstance(address, tuple):
        return cast("Address", address[:2]), candidates
    return plain(*candidates[0]) or "", candidates
