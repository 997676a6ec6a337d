"""Bound datagram sockets: UDP, AF_UNIX, and any other family."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from typing import Any, ClassVar, cast

from pytest_sockets._endpoints.datagram_answering import DatagramAnswering
from pytest_sockets._endpoints.datagrams import DatagramEndpoint
from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.place import place_for
from pytest_sockets._endpoints.placed import Placed
from pytest_sockets._engine.datagrams import DatagramSocket
from pytest_sockets._wire.errors import SocketsError
from pytest_sockets._wire.events import Address, Datagram
from pytest_sockets._wire.rules import Answer


class DatagramPeer(Placed, DatagramEndpoint):
    """A bound datagram socket of any family; the arguments are as for `StreamServer`.

    Every waiting verb takes `timeout=` in seconds (`None`: the default of `settings`; 0: only what
    has arrived already) and has an awaitable twin under `aio`. It raises `WaitTimeout` where the
    deadline passed, `MismatchError` where a claim can no longer become true, `EndpointClosedError`
    after `close()`, and a problem of the peer as soon as there is one. Properties that show the
    record bring it up to date first.
    """

    _behaviour: ClassVar[str | None] = None
    _answering: DatagramAnswering | None = None

    def __init__(
        self,
        *,
        family: str | int | None = None,
        host: str | None = None,
        port: int | str = 0,
        path: str | os.PathLike[str] | None = None,
        abstract: bool = False,
        type: int = socket.SOCK_DGRAM,
        proto: int = 0,
        address: Any = None,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if family == "dual":
            msg = "a datagram peer has one socket: family='dual' is for servers; open two peers"
            raise ValueError(msg)
        place = place_for(family, host, port, path, type, proto, address, abstract=abstract)
        super().__init__(place, name=name, settings=settings)
        self._opened()

    def on(
        self,
        request: bytes | re.Pattern[bytes],
        reply: Answer | Callable[[Datagram], Answer],
        *,
        times: int | None = None,
    ) -> None:
        """Answer each datagram that is `request`; replies go to its source.

        Of several rules that match, the one made first answers. A datagram that no rule can answer
        is a problem of the peer at once. The test can expect, assert and send as before.

        Datagrams that were sent before count too, from the first that no `expect` has taken: they
        are answered when this returns. So make all rules before the client sends. It blocks for as
        long as a read of the record does.

        Args:
            request: bytes that are the whole datagram (``b""``: an empty one), or a compiled bytes
                pattern, which must match all of it.
            reply: bytes, one datagram (``b""``: an empty one), `None` (silence), a list of bytes
                (one datagram each), or a function that gets the `Datagram` and returns one of
                these. It is called in the I/O thread, where it must not wait; what it raises is the
                problem. A reply that finds nobody there, or a full queue, is lost.
            times: how often it answers at most, at least once; then the next rule that matches
                does. `None` means without end.

        Raises:
            TypeError: an argument is of a wrong type.
            ValueError: the rule could never answer, because an earlier one always does.
            SocketsError: the peer answers by itself, as `UDPEchoServer` does.
            EndpointClosedError: you closed the peer before.
        """
        __tracebackhide__ = True
        if self._behaviour is not None:
            msg = (
                f"{self.name} is driven by {self._behaviour}, so a rule would never answer: "
                "use udp_peer instead"
            )
            raise SocketsError(msg)
        with self._lock:
            if self._closed:
                self._raise_closed()
            answering = self._answering or DatagramAnswering(self)
            answering.rules.add(request, reply, times)
            self._answering = answering
            self._engine.post(answering.catch_up)
        self._sync()

    def _on_datagram(self, part: DatagramSocket, data: bytes, source: Address | None) -> None:
        super()._on_datagram(part, data, source)
        if self._answering is not None:
            self._answering.go_on()

    def _notes(self) -> list[str]:
        notes = super()._notes()
        if self._answering is not None:
            with self._lock:
                fired = self._answering.rules.never_fired
                notes += [f"{rule!r} never answered" for rule in fired]
        return notes


class UDPPeer(DatagramPeer):
    """A UDP socket on loopback that records, and sends what it is told.

    Datagrams that come faster than they are read, and that the kernel drops for it, are a problem
    of the peer: its record is not complete. The arguments are as for `StreamServer`, without
    `"dual"`.
    """

    kind = "udp_peer"

    def __init__(
        self,
        *,
        family: str | None = None,
        host: str | None = None,
        port: int | str = 0,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if family in ("unix", socket.AF_UNIX):
            msg = f"{self.kind} cannot have family='unix': use unix_datagram_peer"
            raise ValueError(msg)
        super().__init__(family=family, host=host, port=port, name=name, settings=settings)

    @property
    def address(self) -> tuple[str, int]:
        """Where to send to: `(host, port)`, for IPv6 too."""
        return cast("tuple[str, int]", super().address)


class UDPEchoServer(UDPPeer):
    """A UDP socket that sends each datagram back to its source (RFC 862)."""

    kind = "udp_echo_server"
    _behaviour = "its echo behaviour"

    def _on_datagram(self, part: DatagramSocket, data: bytes, source: Address | None) -> None:
        super()._on_datagram(part, data, source)
        try:
            part.send(data, source)
        except OSError:  # a full queue or a port that closed meanwhile: UDP promises nothing
            return


class UnixDatagramPeer(DatagramPeer):
    """An AF_UNIX datagram socket that records, and sends what it is told.

    The arguments are as for `StreamServer`.
    """

    kind = "unix_datagram_peer"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        abstract: bool = False,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(family="unix", path=path, abstract=abstract, name=name, settings=settings)

    @property
    def address(self) -> str:
        """Where to send to: the path; an abstract name begins with a NUL."""
        return cast("str", super().address)
