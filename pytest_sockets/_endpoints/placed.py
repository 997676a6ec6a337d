"""Where an endpoint is, as its user asks."""

from __future__ import annotations

from typing import Any

from pytest_sockets._endpoints.place import Place
from pytest_sockets._wire.events import Address


class Placed:
    """The address of an endpoint that is bound somewhere, in all its forms."""

    name: str
    _place_: Place

    @property
    def address(self) -> Any:
        """Where it is: `(host, port)` for IPv4 and IPv6, a path for AF_UNIX."""
        return self._place_.address

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All addresses it listens on: two for ``"dual"``, else one as a rule."""
        return self._place_.addresses

    @property
    def host(self) -> str:
        """The literal address, ``127.0.0.1`` or ``::1``, or the host that was asked for."""
        return self._place_.host(self.name)

    @property
    def port(self) -> int:
        """The port, held for as long as the endpoint is open."""
        return self._place_.port(self.name)

    @property
    def path(self) -> str:
        """The AF_UNIX path; an abstract name begins with a NUL."""
        return self._place_.path(self.name)

    @property
    def family(self) -> str:
        """``"ipv4"``, ``"ipv6"``, ``"dual"``, ``"unix"``, or the kernel's name of another."""
        return self._place_.family

    def url(self, scheme: str) -> str:
        """Return ``scheme://host:port``, with brackets around an IPv6 address.

        Raises:
            ValueError: `scheme` is none; it is given without the ``://``.
            AttributeError: the address is a path.
        """
        return self._place_.url(scheme, self.name)
