"""What a stream consists of, and what can be asked of it."""

from __future__ import annotations

import _socket
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_sockets._engine.binding import take_urgent
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.credentials import credentials_of
from pytest_sockets._engine.descriptors import Descriptors
from pytest_sockets._engine.engine import Engine, Timer
from pytest_sockets._engine.parties import Driver, Owner
from pytest_sockets._engine.peer import (
    UNSEEN,
    PeerState,
    Sight,
    is_tcp,
    outgoing,
    sight_of_peer,
    state_of_peer,
)
from pytest_sockets._engine.waiting import Signal
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.record import Record

if TYPE_CHECKING:
    from pytest_sockets._engine.stream_faults import StreamFaults

AF_UNIX = getattr(socket, "AF_UNIX", None)
HAS_QUICKACK = hasattr(socket, "TCP_QUICKACK")  # Linux
FIRST_READ = 8 * 1024
LARGE_READ = 256 * 1024
"""A read buffer grows from the first size to this one while reads fill it: allocating 256 KiB for
64 bytes costs more than reading them."""

PeerEnd: TypeAlias = Literal["eof", "reset"]


class StreamBase:
    """The state of a stream, all of it, and the questions to it."""

    def __init__(
        self,
        owner: Owner,
        engine: Engine,
        sock: _socket.socket,
        record: Record,
        peer_address: Address | None,
        drain_timeout: float,
    ) -> None:
        self.record = record
        self.peer_address = peer_address
        self.driver: Driver | None = None
        self.peer_ended: PeerEnd | None = None
        self.reset_error: OSError | None = None
        self.received = Signal()  # level: bytes
        self.sent = Signal()  # level: bytes the kernel took
        self.peer_end = Signal()  # finished by EOF, reset, or our own end
        self.ended = Signal()  # finished when our FIN is out
        self.descriptors = Descriptors() if sock.family == AF_UNIX else None
        self.credentials = None if self.descriptors is None else credentials_of(sock)
        self.faults: StreamFaults | None = None  # made with the first
        self.has_messages = sock.type == socket.SOCK_SEQPACKET
        self._relief: Signal | None = None  # most streams have no fault
        self._owner = owner
        self._engine = engine
        self._socket: _socket.socket | None = sock
        self._drain_timeout = drain_timeout
        self._timer: Timer | None = None
        self._queue: deque[bytes | memoryview] = deque()
        self._queued = 0
        self.inserted = 0  # bytes at the queue's front that faults have put in
        self._inserted_taken = 0  # such bytes that the kernel has taken
        self.ahead = 0  # those of them that what is put in next goes behind
        self._closing: Callable[[], None] | None = None
        self._eof_sent = False
        self._was_seen = False  # the peer's socket
        self._unseen: Deadline | None = None  # after which it is somewhere else
        self._room = 0  # the receive buffer before faults stopped reading
        self._waits_for_room = False
        self._pauses: dict[object, bool] = {}  # by reason: whether our close ends it
        self._read_size = FIRST_READ
        self._delays_acks = HAS_QUICKACK and is_tcp(sock)
        self._is_plain = not self.has_messages and self.descriptors is None
        self._interest = 0
        if self.descriptors is not None:  # others have it since before they were connected
            take_urgent(sock)

    @property
    def is_open(self) -> bool:
        """Whether the descriptor is still ours."""
        return self._socket is not None

    @property
    def can_send(self) -> bool:
        """Whether bytes given now could still go out."""
        return self._socket is not None and not self._eof_sent and self._closing is None

    @property
    def is_eof_sent(self) -> bool:
        """Whether our FIN is out."""
        return self._eof_sent

    @property
    def queued(self) -> int:
        """Bytes that wait for the peer to make room."""
        return self._queued

    @property
    def taken(self) -> int:
        """Bytes that the kernel has taken from us."""
        return self.record.sent.size

    @property
    def under_way(self) -> int:
        """Bytes of the queue that wait for their time, not for the peer. With the lock held."""
        return 0 if self.faults is None else self.faults.under_way

    @property
    def own_queued(self) -> int:
        """Bytes that wait for the peer to make room, without those that faults have put in."""
        return self._queued - self.inserted

    @property
    def own_taken(self) -> int:
        """Bytes that the kernel has taken from us, without those that faults have put in."""
        return self.taken - self._inserted_taken

    @property
    def unacknowledged(self) -> int:
        """Bytes of ours, all counted, that the peer's kernel has not acknowledged; 0 if unknown."""
        return 0 if self._socket is None else outgoing(self._socket)

    def look(self) -> Sight:
        """Look what the peer has read. With the endpoint's lock held, while it is open.

        GONE is a peer that was there before, or has ended. One that has never been seen counts as
        UNREAD for some time, which its end may need to get here, and as BLIND from then on.
        """
        assert self._socket is not None
        sight = sight_of_peer(self._socket, self.taken)
        if sight is not Sight.GONE:
            self._was_seen = self._was_seen or sight is not Sight.BLIND
            return sight
        if self._was_seen or self.peer_ended is not None:
            return sight
        self._unseen = self._unseen or Deadline(UNSEEN)
        return Sight.UNREAD if self._unseen.remaining() else Sight.BLIND

    def peer_state(self) -> PeerState | None:
        """Return what the kernel says of the peer's socket; `None` where it says nothing."""
        with self._owner._lock:
            return None if self._socket is None else state_of_peer(self._socket)

    @property
    def is_relieved(self) -> bool:
        """Whether a fault keeps or has dropped what we send, so that nobody has to wait for it."""
        return self.faults is not None and self.faults.is_relieving

    @property
    def relief(self) -> Signal:
        """A signal that rises when `is_relieved` may have become true. From any thread."""
        with self._owner._lock:
            if self._relief is None:
                self._relief = Signal()
            return self._relief

    def timer(self, deadline: Deadline, action: Callable[[], None]) -> Timer:
        """Run `action` in the I/O thread when the deadline passes."""
        return self._engine.timer(deadline, action)

    # -- what its parts need of the whole

    def on_failure(self, error: Exception) -> None:
        """Take an error of our own."""
        raise NotImplementedError

    def _watch(self, interest: int) -> None:
        """Be called when the socket is ready for this."""
        raise NotImplementedError

    def _lose(self, error: OSError) -> None:
        """Take the kernel's word that the connection is broken."""
        raise NotImplementedError

    def _on_first(self, *, sent: bool) -> None:
        """Tell the owner of the first bytes of one direction."""
        raise NotImplementedError
