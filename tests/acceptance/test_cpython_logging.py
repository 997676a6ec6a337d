"""CPython's tests of SysLogHandler, over UDP on IPv4, UDP on IPv6, and a unix socket."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import closing
from logging.handlers import SysLogHandler
from typing import Any

import pytest

from mutants import expecting
from pytest_sockets import DatagramPeer, MismatchError, Sockets, UnsupportedError


@pytest.fixture(params=["ipv4", "ipv6", "unix"])
def peer(request: pytest.FixtureRequest, sockets: Sockets) -> Any:
    try:
        return sockets.server(family=request.param, type=socket.SOCK_DGRAM)
    except UnsupportedError as error:
        pytest.skip(str(error))


@pytest.fixture
def handler(peer: DatagramPeer) -> Iterator[SysLogHandler]:
    with closing(SysLogHandler(peer.address)) as handler:
        yield handler


@pytest.fixture
def logger(handler: SysLogHandler) -> logging.Logger:
    logger = logging.Logger("slh")  # apart from the root logger, which is pytest's
    logger.addHandler(handler)
    return logger


@expecting(b"<11>h\xc3\xa4m-sp\xc3\xa4m", b"<11>sp\xc3\xa4m\x00", MismatchError)
def test_output(
    peer: DatagramPeer,
    handler: SysLogHandler,
    logger: logging.Logger,
    expected: bytes,
    outcome: Any,
) -> None:
    logger.error("sp\xe4m")
    handler.append_nul = False
    logger.error("sp\xe4m")
    handler.ident = "h\xe4m-"
    logger.error("sp\xe4m")
    with outcome():
        peer.assert_received(b"<11>sp\xc3\xa4m\x00", b"<11>sp\xc3\xa4m", expected)


@expecting(b"<11>sp\xc3\xa4m\x00", b"<11>spam\x00", MismatchError)
def test_reconnection(
    peer: DatagramPeer,
    handler: SysLogHandler,
    logger: logging.Logger,
    expected: bytes,
    outcome: Any,
) -> None:
    handler.close()
    logger.error("sp\xe4m")
    with outcome():
        peer.assert_received(expected)
