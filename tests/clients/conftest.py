from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from pytest_sockets import EchoServer, Sockets, UDPEchoServer, UnsupportedError


@pytest.fixture
def own_name() -> str:
    """The machine's own name, where it is one of its addresses."""
    name = socket.gethostname()
    try:
        with socket.create_server((name, 0)):
            return name
    except OSError as error:
        pytest.skip(f"this machine cannot listen on its own name {name!r}: {error}")


@pytest.fixture(params=["ipv4", "ipv6", "own-name", "unix"])
def any_echo_server(request: pytest.FixtureRequest, sockets: Sockets) -> EchoServer:
    """An echo server, in each place where a stream can reach one."""
    return _opened(request, sockets.echo_server)


@pytest.fixture(params=["ipv4", "ipv6", "own-name"])
def any_udp_echo_server(request: pytest.FixtureRequest, sockets: Sockets) -> UDPEchoServer:
    """A UDP echo server, in each place where a datagram can reach one."""
    return _opened(request, sockets.udp_echo_server)


def _opened(request: pytest.FixtureRequest, factory: Callable[..., Any]) -> Any:
    if request.param == "own-name":
        return factory(host=request.getfixturevalue("own_name"))
    try:
        return factory(family=request.param)
    except UnsupportedError as error:
        pytest.skip(str(error))
