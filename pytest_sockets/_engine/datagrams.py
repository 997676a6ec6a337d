"""One datagram socket: every datagram into the record."""

from __future__ import annotations

import _socket
import errno
import socket
from array import array
from collections.abc import Callable, Sequence

from pytest_sockets._engine.binding import LOOPBACK, message_size, plain
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.descriptors import Descriptors
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.parties import Owner
from pytest_sockets._engine.waiting import Signal
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.record import Record
from pytest_sockets._wire.rendering import count

LARGEST_UDP = 64 * 1024
"""UDP ends at 65,507 bytes of payload (udp(7)). Other families end at the sender's buffer, so the
size of each datagram is asked for."""
TURN = 256
"""Datagrams taken before other sockets are served."""
LAST_TURN = 4096
"""Datagrams taken at the end: a receive buffer holds some hundreds, and a sender may never stop."""


class DatagramSocket:
    """A bound, non-blocking datagram socket. Methods may be called from any thread."""

    turns = 10

    def __init__(
        self,
        owner: Owner,
        engine: Engine,
        sock: _socket.socket,
        record: Record,
        arrived: Signal,
        on_datagram: Callable[[DatagramSocket, bytes, Address | None], None] | None,
    ) -> None:
        self.record = record
        self.family = sock.family
        self.descriptors = Descriptors() if sock.family == socket.AF_UNIX else None
        self._arrived = arrived  # level: datagrams of all sockets of the endpoint
        self._owner = owner
        self._engine = engine
        self._socket: _socket.socket | None = sock
        self._is_udp = sock.family in LOOPBACK
        self._on_datagram = on_datagram

    @property
    def is_open(self) -> bool:
        """Whether the descriptor is still ours."""
        return self._socket is not None

    def start(self) -> None:
        """Begin to receive."""
        assert self._socket is not None, "a stopped socket cannot start"
        self._engine.selector.add(self._socket.fileno(), self)

    def on_ready(self, events: int) -> None:
        """Take what is there."""
        with self._owner._lock:
            self._receive(TURN)

    def on_failure(self, error: Exception) -> None:
        """Stop on an error of our own and make it a problem."""
        self._owner._fail(error)
        with self._owner._lock:
            self._release()

    def send(self, data: bytes, to: Address | None, fds: Sequence[int] = ()) -> None:
        """Send one datagram, and descriptors with it, which is for AF_UNIX only.

        `None` sends on a connected socket. Raises the plain `OSError`.
        """
        with self._owner._lock:
            if self._socket is None:
                raise OSError(errno.EBADF, "the endpoint is closed")
            time = CLOCK.stamp()
            if fds:
                beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))]
                self._socket.sendmsg([data], beside, 0, to)
            elif to is None:
                self._socket.send(data)
            else:
                self._socket.sendto(data, to)
            self.record.add_datagram(time, data, to, sent=True)
            if fds:
                self.record.annotate(f"with {count(len(fds), 'descriptor')}")

    def stop(self) -> None:
        """Take what is queued already, and close."""
        with self._owner._lock:
            if self._socket is not None:
                self._on_datagram = None
                self._receive(LAST_TURN)
                self._release()
            if self.descriptors is not None:
                self.descriptors.close()

    def abandon(self) -> None:
        """Close our number in a forked child, without a word to the parent's epoll."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()
        if self.descriptors is not None:
            self.descriptors.close()

    def _receive(self, most: int) -> None:
        taken = 0
        record, descriptors, sender = self.record, self.descriptors, None
        while self._socket is not None and taken != most:
            try:
                size = LARGEST_UDP if self._is_udp else message_size(self._socket)
                if descriptors is None:
                    data, address = self._socket.recvfrom(size)
                else:
                    number = record.received_chunks
                    data, address, sender = descriptors.recv_from(self._socket, size, number)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                # An earlier send met a closed port (ICMP, or AF_UNIX with nobody there); the
                # kernel tells it once and goes on (udp(7)).
                continue
            source = plain(self.family, address)
            taken += 1
            record.add_datagram(CLOCK.stamp(), data, source, sent=False, sender=sender)
            if descriptors is not None:
                descriptors.note(record, self._owner)
            self._arrived.advance(self._arrived.level + 1)
            if self._on_datagram is not None:
                self._on_datagram(self, data, source)

    def _release(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._engine.selector.remove(sock.fileno())
            sock.close()
            self._arrived.finish()
