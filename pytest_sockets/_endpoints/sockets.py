"""The factory behind every fixture."""

from __future__ import annotations

from inspect import isfunction

from pytest_sockets._endpoints.faces import Face, Twin
from pytest_sockets._endpoints.factory import Factory
from pytest_sockets._endpoints.peer_openers import PeerOpeners
from pytest_sockets._endpoints.proxy_openers import ProxyOpeners
from pytest_sockets._endpoints.server_openers import ServerOpeners


class Sockets(ServerOpeners, ProxyOpeners, PeerOpeners):
    """Opens endpoints and closes them all together; the fixture `sockets` is one.

    Each method returns a new endpoint that is ready. `name=` is what messages and reports call it;
    without one it has the method's name, and a number from the second on. The other arguments, and
    what is raised where one cannot be had, are as for `StreamServer`.

    Args:
        settings: timeouts and limits of the endpoints it opens.
        family: the family of those that are given none and could have any.
    """

    @property
    def aio(self) -> AsyncSocketsFace:
        """The waiting methods, awaitable, for asyncio and trio."""
        return AsyncSocketsFace(self)


for _part in (Factory, ServerOpeners, ProxyOpeners, PeerOpeners):
    for _name, _value in vars(_part).items():
        if isfunction(_value):  # reports show what users call
            _value.__qualname__ = f"{Sockets.__name__}.{_name}"


class AsyncSocketsFace(Face):
    """The awaitable methods of `Sockets`: `sockets.aio`."""

    connect = Twin(Sockets.connect)
