"""A UDP proxy before a real server, recorded on both of its sides."""

from __future__ import annotations

import _socket
import socket
from itertools import islice
from typing import Any, TypeAlias, cast

from pytest_sockets._endpoints.datagram_peer import UDPPeer
from pytest_sockets._endpoints.datagrams import DatagramEndpoint
from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.faces import Face, Twin, verb
from pytest_sockets._endpoints.fault import Fault
from pytest_sockets._endpoints.placed import Placed
from pytest_sockets._endpoints.two_sides import SHOWN, TwoSides, Way, check_direction
from pytest_sockets._endpoints.udp_proxy_sides import ClientSide, UpstreamSide
from pytest_sockets._engine.binding import check_host, plain, resolve_port
from pytest_sockets._engine.waiting import Steps
from pytest_sockets._wire.errors import WaitTimeout
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.matching import as_bytes
from pytest_sockets._wire.rendering import show
from pytest_sockets.faults import Effect, Moment


class UDPProxy(TwoSides):
    """A UDP socket that passes everything on to a real server, and back, and records both sides.

    Args:
        upstream: the real server: `(host, port)`, or a UDP peer or proxy of this package. A name is
            resolved once, here; of several addresses one of the proxy's own family is taken.
            Nobody has to be there yet.
        family: where the proxy itself is: ``"ipv4"`` (the default) or ``"ipv6"``.
        host: an address or name of this machine; `None` means loopback.
        port: a number, a numeric string or a service name; 0 means any free one.
        name: what messages and reports call it; its sides are called the same, with ``client`` and
            ``upstream`` behind it.
        settings: timeouts and limits.

    It works as a NAT does: for each address that a client sends from, a socket of its own sends to
    the upstream, and what comes back on it goes to that client. The socket stays until the end, so
    that a late reply still finds its way. Datagrams stay as they are; none is split or joined.

    Where the upstream refuses (ICMP port unreachable) the client sees nothing, as with any datagram
    that was lost, and a note in the upstream's transcript says so. For a client that is refused
    itself there is ``proxy.fault(Unreachable())``.

    Whatever the client and the upstream do is no problem of the proxy.

    It is a context manager: leaving it closes it and, when the body did not raise, raises problems.

    Raises:
        OSError: it cannot be bound; the message says why, and who holds a taken port.
        TypeError: `upstream` is nothing to send to.
        UnsupportedError: this machine has no such family.
        ValueError: an argument is wrong in itself, or `upstream` cannot be resolved.
    """

    kind = "udp_proxy"

    def __init__(
        self,
        upstream: UDPUpstream,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if family in ("unix", socket.AF_UNIX):
            msg = "a UDP proxy cannot have family='unix': leave it out, or give 'ipv4' or 'ipv6'"
            raise ValueError(msg)
        self.name = name or self.kind
        is_ipv6 = family == "ipv6" or (isinstance(host, str) and ":" in host)
        number, address = _resolved(upstream, socket.AF_INET6 if is_ipv6 else socket.AF_INET)
        self._upstream = UpstreamSide(
            number, address, name=f"{self.name} upstream", settings=settings
        )
        self._client = ClientSide(
            self._upstream,
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
    def client(self) -> DatagramEndpoint:
        """The side that faces the clients, an endpoint: what they sent is *received* here.

        The proxy drives it: it can be read, waited for and asserted on, but the test cannot send.
        """
        return self._client

    @property
    def upstream(self) -> DatagramEndpoint:
        """The side that faces the real server, an endpoint: what the clients sent is *sent* here.

        Beside each datagram the transcript says which client it is from or for.
        """
        return self._upstream

    @property
    def endpoints(self) -> tuple[DatagramEndpoint, DatagramEndpoint]:
        """Both sides, the client's first."""
        return self._client, self._upstream

    @property
    def address(self) -> tuple[str, int]:
        """Where clients send to: `(host, port)`, for IPv6 too."""
        return cast("tuple[str, int]", super().address)

    # -- faults

    def fault(
        self,
        effect: Effect,
        *,
        at: Moment | None = None,
        direction: Way = "reply",
        times: int | None = None,
        must_hit: bool = True,
    ) -> Fault:
        """Have one direction misbehave from now on, until the fault is lifted or the test ends.

        It is a fault of the side that sends: of `client` for replies, of `upstream` for requests.
        Its moments are counted there, over all clients.

        Args:
            effect: what happens, as on any datagram endpoint. ``Unreachable()`` refuses what
                clients send to the proxy, with the direction ``"reply"``.
            at: since when; `None` is now.
            direction: ``"reply"``, what goes to clients, or ``"request"``, what goes to the
                upstream.
            times: on how many datagrams it acts at most; `None` is without end.
            must_hit: whether it is a problem, told at the end of the test, when it has met nothing.

        Raises:
            TypeError, ValueError: an argument is wrong, or datagrams can have no such effect or
                moment, or the two contradict each other.
            UnsupportedError: this machine, or this side, cannot.
            EndpointClosedError: you closed the proxy before.
        """
        __tracebackhide__ = True
        side = self._sending(direction)
        return side.fault(effect, at=at, times=times, must_hit=must_hit)

    # -- waiting

    @verb
    def wait_forwarded(
        self, data: bytes, *, direction: Way = "request", timeout: float | None = None
    ) -> Steps[None]:
        """Wait until the bytes have been passed on: the kernel has taken them towards their end.

        Args:
            data: bytes that occur in one of the datagrams that were passed on.
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
        side = self._sending(direction)
        record = side._datagrams
        deadline = side._deadline(timeout)
        yield from side._settle()
        looked_at = 0
        late = False
        while True:
            with side._lock:
                for endpoint in self.endpoints:
                    endpoint._raise_problem()
                sent = record.sent_chunks
                events = (event.data for event in reversed(record) if event.kind == "sent")
                if any(wanted in content for content in islice(events, sent - looked_at)):
                    return
                looked_at = sent
                if side.is_closed:
                    side._raise_closed()
            if late:
                with side._lock:
                    events = (event.data for event in record if event.kind == "sent")
                    lines = [
                        f"\n  {number}: {show(content)}"
                        for number, content in enumerate(islice(events, SHOWN))
                    ]
                more = f"\n  … and {sent - SHOWN} more" if sent > SHOWN else ""
                so_far = ", these were:" if lines else ", and none was"
                msg = (
                    f"{self.name}: waited {deadline} for a {direction} with {show(wanted)} to be "
                    f"forwarded{so_far}{''.join(lines)}{more}"
                )
                raise WaitTimeout(msg)
            needs = [(endpoint._over(), 1.0) for endpoint in self.endpoints]
            late = yield from side._waited(deadline, (side.departed, sent + 1), *needs)

    @property
    def aio(self) -> AsyncUDPProxyFace:
        """The waiting method, awaitable, for asyncio and trio."""
        return AsyncUDPProxyFace(self)

    # -- inside

    def _sending(self, direction: object) -> ClientSide | UpstreamSide:
        """Return the side that sends in a direction."""
        check_direction(direction)
        return self._upstream if direction == "request" else self._client


UDPUpstream: TypeAlias = Address | UDPPeer | UDPProxy


class AsyncUDPProxyFace(Face):
    """The awaitable method of a UDP proxy: `proxy.aio`."""

    wait_forwarded = Twin(UDPProxy.wait_forwarded)


def _resolved(upstream: Any, wanted: int) -> tuple[int, Address]:
    """Return the family and address of a real server, if it can be of a family that is wanted."""
    is_ours = isinstance(upstream, Placed) and upstream._place_.protocol == "udp"
    address: Any = upstream.address if is_ours else upstream
    try:
        host, port = address[:2]
    except (TypeError, ValueError):
        msg = f"upstream must be a (host, port) pair or a UDP peer, not {upstream!r}"
        raise TypeError(msg) from None
    if isinstance(address, (str, bytes)):  # of two letters
        msg = f"upstream must be a (host, port) pair or a UDP peer, not {upstream!r}"
        raise TypeError(msg)
    number = resolve_port(port, socket.SOCK_DGRAM)
    if not number:
        msg = f"upstream={address!r} names no port: nobody can be at port 0"
        raise ValueError(msg)
    try:
        found = _socket.getaddrinfo(check_host(host), number, 0, socket.SOCK_DGRAM)
    except OSError as error:
        msg = f"upstream={address!r} cannot be resolved: {error.strerror or error}"
        raise ValueError(msg) from error
    family, *_, target = min(found, key=lambda entry: entry[0] != wanted)
    resolved = plain(int(family), target)
    assert resolved is not None, "an IP address is never unnamed"
    return int(family), resolved
