"""Opening what stands before a server, or in its place."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, TypeVar

from pytest_sockets._endpoints.addresses import (
    BlackholeAddress,
    RefusedAddress,
    ReservedPort,
)
from pytest_sockets._endpoints.factory import Factory
from pytest_sockets._endpoints.proxy import TCPProxy, Upstream
from pytest_sockets._endpoints.two_sides import TwoSides
from pytest_sockets._endpoints.udp_proxy import UDPProxy, UDPUpstream

P = TypeVar("P", bound=TwoSides)


class ProxyOpeners(Factory):
    """The methods of `Sockets` that open proxies, and hold addresses where no server is."""

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
        return self._between(TCPProxy, upstream, name, family=family, host=host, port=port)

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
        return self._between(UDPProxy, upstream, name, family=family, host=host, port=port)

    def _between(
        self,
        cls: Callable[..., P],
        upstream: Any,
        name: str | None,
        *,
        family: str | None,
        host: str | None,
        port: int | str,
    ) -> P:
        self._check_open()
        kind: str = getattr(cls, "kind", "proxy")
        proxy = cls(
            upstream,
            family=self._choose(family, host),
            host=host,
            port=port,
            name=name or self._number(kind),
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
