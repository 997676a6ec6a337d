"""The two sides of a UDP proxy, and how each sends what the other has received."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Sequence
from typing import NoReturn

from pytest_sockets._endpoints.datagram_peer import UDPPeer
from pytest_sockets._endpoints.datagrams import DatagramEndpoint
from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.place import Place
from pytest_sockets._endpoints.two_sides import is_same
from pytest_sockets._engine.binding import FAMILIES, new_socket
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.datagrams import DatagramSocket
from pytest_sockets._engine.parties import Lock
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import SocketsError, UnsupportedError
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.rendering import count, show_address
from pytest_sockets.faults import Unreachable


class UpstreamSide(DatagramEndpoint):
    """The side of a UDP proxy that faces the real server: a socket of its own for each client."""

    kind = "udp_proxy upstream"
    client: ClientSide | None = None

    def __init__(
        self, family: int, address: Address, *, name: str, settings: Settings | None
    ) -> None:
        self.departed = Signal()
        self._family = family
        self._address = address
        self._clients: dict[DatagramSocket, Address] = {}
        self._by_client: dict[Address, DatagramSocket] = {}
        word = next(word for word, number in FAMILIES.items() if number == family)
        place = Place(word, [], (address,), "udp")
        super().__init__(place, name=name, settings=settings)

    def forward(self, data: bytes, client: Address) -> None:
        """Send a client's datagram to the upstream. In the I/O thread, with the lock held."""
        part = self._by_client.get(client) or self._open_for(client)
        if part is not None:
            _pass_on(self, part, data, self._address)

    # -- inside

    def _send(self, content: bytes, to: Address | None, fds: Sequence[int] = ()) -> Steps[None]:
        _refuse_to_send(self)

    def _open_for(self, client: Address) -> DatagramSocket | None:
        sock = new_socket(self._family, socket.SOCK_DGRAM)
        try:
            sock.connect(self._address)
        except OSError as error:
            sock.close()
            self._note(f"not reached for {show_address(client)}: {error.strerror}")
            return None
        part = self._new_part(sock)
        part.label = f"for {show_address(client)}"
        self._clients[part] = client
        self._by_client[client] = part
        self._sockets.append(part)
        part.start()
        return part

    def _new_part(self, sock: _socket.socket) -> DatagramSocket:
        part = super()._new_part(sock)
        part.departed = self.departed
        part.faults = self._datagram_faults
        part.on_refused = self._on_refused
        return part

    def _on_refused(self, part: DatagramSocket, error: OSError) -> None:
        self._note(f"refused a datagram {part.label}: {error.strerror}")

    def _on_datagram(self, part: DatagramSocket, data: bytes, source: Address | None) -> None:
        super()._on_datagram(part, data, source)
        if self.client is not None:
            self.client.reply(data, self._clients[part])

    def _note(self, text: str) -> None:
        self._datagrams.mark(CLOCK.stamp(), "note", note=text)

    def _check_fault(self, effect: object, at: object, connection: object, times: object) -> None:
        super()._check_fault(effect, at, connection, times)
        if isinstance(effect, Unreachable):
            msg = (
                f"{self.name} cannot have {effect!r}: it is the upstream's port that would have to "
                "refuse; the proxy's own refuses clients with direction='reply'"
            )
            raise UnsupportedError(msg)

    def _stopped(self) -> None:
        if self.client is not None:
            self.client.close()

    def _place(self) -> str:
        return f"to {show_address(self._address)}"


class ClientSide(UDPPeer):
    """The side of a UDP proxy that faces the clients."""

    kind = "udp_proxy client"
    _behaviour = "the proxy"

    def __init__(
        self,
        upstream: UpstreamSide,
        *,
        family: str | None,
        host: str | None,
        port: int | str,
        name: str,
        settings: Settings | None,
    ) -> None:
        self.departed = Signal()
        self._upstream = upstream
        upstream.client = self
        super().__init__(family=family, host=host, port=port, name=name, settings=settings)

    def reply(self, data: bytes, client: Address) -> None:
        """Send a datagram of the upstream to a client. In the I/O thread, with the lock held."""
        _pass_on(self, self._part_for(client), data, client)

    # -- inside

    def _send(self, content: bytes, to: Address | None, fds: Sequence[int] = ()) -> Steps[None]:
        _refuse_to_send(self)

    def _new_lock(self) -> Lock:
        # What comes on a socket of one side is sent on one of the other's, in one go. With a lock
        # for each, two threads could take them in two orders.
        return self._upstream._lock

    def _new_part(self, sock: _socket.socket) -> DatagramSocket:
        part = super()._new_part(sock)
        part.departed = self.departed
        return part

    def _opened(self) -> None:
        if any(is_same(ours, self._upstream._address) for ours in self.addresses):
            self.close()
            msg = (
                f"upstream={show_address(self.address)} is where the proxy itself is: "
                "leave port= out for a free one"
            )
            raise ValueError(msg)
        super()._opened()

    def _on_datagram(self, part: DatagramSocket, data: bytes, source: Address | None) -> None:
        super()._on_datagram(part, data, source)
        if source is not None:
            self._upstream.forward(data, source)

    def _stopped(self) -> None:
        self._upstream.close()


def _pass_on(
    side: UpstreamSide | ClientSide, part: DatagramSocket, data: bytes, to: Address
) -> None:
    try:
        part.send(data, to)
    except OSError as error:  # UDP promises nothing, and neither does what passes it on
        size = count(len(data), "byte")
        note = f"lost: a datagram ({size}) to {show_address(to)}: {error.strerror}"
        side._datagrams.mark(CLOCK.stamp(), "note", note=note)


def _refuse_to_send(side: UpstreamSide | ClientSide) -> NoReturn:
    msg = (
        f"{side.name} is driven by the proxy, which sends what comes on its other side: "
        "send from a client, or from the upstream"
    )
    raise SocketsError(msg)
