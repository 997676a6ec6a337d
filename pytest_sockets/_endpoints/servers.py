"""The servers that users ask for by name: recording ones, and ready-made behaviours."""

from __future__ import annotations

import os
import socket
from typing import cast

from pytest_sockets._endpoints.behaviours import Behaviour, Chargen, Discard, Echo
from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.server import StreamServer
from pytest_sockets._wire.framing import Framing


class TCPServer(StreamServer):
    """A TCP server on loopback that records, and answers only what it is told.

    The arguments are as for `StreamServer`.
    """

    kind = "tcp_server"

    def __init__(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        framing: Framing | None = None,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if family in ("unix", socket.AF_UNIX):
            msg = "a TCP server cannot have family='unix': use unix_server or UnixServer"
            raise ValueError(msg)
        super().__init__(
            family=family, host=host, port=port, framing=framing, name=name, settings=settings
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect: `(host, port)`, for IPv6 too."""
        return cast("tuple[str, int]", super().address)


class UnixServer(StreamServer):
    """An AF_UNIX stream server that records, and answers only what it is told.

    The arguments are as for `StreamServer`.
    """

    kind = "unix_server"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        abstract: bool = False,
        framing: Framing | None = None,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(
            family="unix",
            path=path,
            abstract=abstract,
            framing=framing,
            name=name,
            settings=settings,
        )

    @property
    def address(self) -> str:
        """Where to connect: the path; an abstract name begins with a NUL."""
        return cast("str", super().address)


class EchoServer(StreamServer):
    """A server that sends everything back (RFC 862), and closes after the peer's EOF.

    The arguments are those of `StreamServer`. A connection of it is driven by the server: it can be
    waited for, asserted on and read, but the test cannot send on it or consume its bytes.
    """

    kind = "echo_server"
    _behaviour = Echo()


class SilentServer(StreamServer):
    """A server that accepts and never answers, not even an EOF.

    The arguments are those of `StreamServer`; its connections are driven, as with `EchoServer`.
    """

    kind = "silent_server"
    _behaviour = Behaviour()


class DiscardServer(StreamServer):
    """A server that reads and answers nothing (RFC 863), and closes after the peer's EOF.

    The arguments are those of `StreamServer`; its connections are driven, as with `EchoServer`.
    """

    kind = "discard_server"
    _behaviour = Discard()


class ChargenServer(StreamServer):
    """A server that sends characters for as long as the peer takes them (RFC 864).

    The arguments are those of `StreamServer`; its connections are driven, as with `EchoServer`.
    """

    kind = "chargen_server"
    _behaviour = Chargen()
