"""One stream socket: reading into the record, writing from a queue, ending in order."""

from __future__ import annotations

import _socket
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

from pytest_sockets._engine.binding import message_size
from pytest_sockets._engine.clock import CLOCK, Deadline
from pytest_sockets._engine.credentials import credentials_of
from pytest_sockets._engine.descriptors import Descriptors
from pytest_sockets._engine.engine import Engine, Timer
from pytest_sockets._engine.parties import Driver, Owner
from pytest_sockets._engine.peer import (
    PeerState,
    Sight,
    outgoing,
    sight_of_peer,
    state_of_peer,
)
from pytest_sockets._engine.selector import READ, WRITE
from pytest_sockets._engine.stream_faults import Cause, StreamFaults
from pytest_sockets._engine.waiting import Signal
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.record import Record
from pytest_sockets._wire.rendering import count

AF_UNIX = getattr(socket, "AF_UNIX", None)
NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)
FIRST_READ = 8 * 1024
LARGE_READ = 256 * 1024
"""A read buffer grows from the first size to this one while reads fill it: allocating 256 KiB for
64 bytes costs more than reading them."""

NOT_BROKEN = frozenset({errno.EMSGSIZE, errno.ETOOMANYREFS})
"""What a send may be refused with and the connection still works: a message too long for
SOCK_SEQPACKET, or more descriptors under way than the process may have open."""

TURNS = 16
"""Reads of one stream before other sockets are served."""
LAST_TURNS = 256
"""Reads at the end: beyond any kernel buffer, yet bounded when the peer never stops sending."""

PeerEnd: TypeAlias = Literal["eof", "reset"]


class Stream:
    """A connected, non-blocking stream socket. It owns the only descriptor of its connection.

    All methods may be called from any thread: the endpoint's lock guards the socket itself, because
    closing a descriptor under another thread's system call would hand its number, and the next
    connection's bytes, to that call. Reading and drivers run in the I/O thread only.
    """

    turns = 10  # of up to 4 MiB: more than the kernel holds of a stream

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
        self.relief = Signal()  # level: faults that have acted
        self.descriptors = Descriptors() if sock.family == AF_UNIX else None
        self.credentials = None if self.descriptors is None else credentials_of(sock)
        self.faults: StreamFaults | None = None  # made with the first
        self.has_messages = sock.type == socket.SOCK_SEQPACKET
        self._owner = owner
        self._engine = engine
        self._socket: _socket.socket | None = sock
        self._drain_timeout = drain_timeout
        self._timer: Timer | None = None
        self._queue: deque[bytes | memoryview] = deque()
        self._queued = 0
        self._inserted = 0, 0  # where a fault put something in, and how many
        self._closing: Callable[[], None] | None = None
        self._eof_sent = False
        self._room = 0  # the receive buffer before faults stopped reading
        self._waits_for_room = False
        self._pauses: dict[object, bool] = {}  # by reason: whether our close ends it
        self._read_size = FIRST_READ
        self._is_plain = not self.has_messages and self.descriptors is None
        self._interest = 0

    # -- state

    @property
    def is_open(self) -> bool:
        """Whether the descriptor is still ours."""
        return self._socket is not None

    @property
    def can_send(self) -> bool:
        """Whether bytes given now could still go out."""
        return self._socket is not None and not self._eof_sent and self._closing is None

    @property
    def queued(self) -> int:
        """Bytes that wait for the peer to make room."""
        return self._queued

    @property
    def taken(self) -> int:
        """Bytes that the kernel has taken from us."""
        return self.record.sent.size

    def look(self) -> Sight:
        """Look what the peer has read. With the endpoint's lock held, while it is open."""
        assert self._socket is not None
        return sight_of_peer(self._socket, self.taken)

    def notice_reset(self) -> None:
        """Take a reset that came behind the peer's EOF: nobody reads there. With the lock held."""
        if self._socket is None or self.peer_ended != "eof":
            return
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._lose(OSError(code, os.strerror(code)))

    @property
    def unacknowledged(self) -> int:
        """Bytes of ours, all counted, that the peer's kernel has not acknowledged; 0 if unknown."""
        return 0 if self._socket is None else outgoing(self._socket)

    def peer_state(self) -> PeerState | None:
        """Return what the kernel says of the peer's socket; `None` where it says nothing."""
        with self._owner._lock:
            return None if self._socket is None else state_of_peer(self._socket)

    # -- faults: with the endpoint's lock held

    def begin_faults(self, causes: Sequence[Cause]) -> None:
        """Have faults that were made before the stream act here at their moments."""
        if causes:
            self.faults = StreamFaults(self)
            self.faults.begin(causes)

    def add_fault(self, cause: Cause) -> None:
        """Have a new fault of the endpoint act here at its moment."""
        if self._socket is not None:
            self.faults = self.faults or StreamFaults(self)
            self.faults.add(cause)

    def lift_fault(self, cause: Cause) -> None:
        """Have it act no more."""
        if self.faults is not None:
            self.faults.lift(cause)

    def break_off(self, by: str) -> None:
        """Reset it on the test's behalf: what its plan misses is the doing of that."""
        if self._socket is not None:
            self.faults = self.faults or StreamFaults(self)
            self.faults.broken_by = self.faults.ended_by = by
            self.reset()

    @property
    def is_relieved(self) -> bool:
        """Whether a fault keeps or has dropped what we send, so that nobody has to wait for it."""
        return self.faults is not None and self.faults.is_relieving

    def timer(self, deadline: Deadline, action: Callable[[], None]) -> Timer:
        """Run `action` in the I/O thread when the deadline passes."""
        return self._engine.timer(deadline, action)

    def release(self) -> None:
        """Send what a fault may let pass by now. In the I/O thread."""
        with self._owner._lock:
            if self._socket is None:
                return
            try:
                self._flush()
            except Exception as error:  # such as EMSGSIZE: whoever sent it has long returned
                self.on_failure(error)

    def release_soon(self) -> None:
        """Send it in the I/O thread's next turn. From any thread."""
        self._engine.post(self.release)

    def drop(self) -> None:
        """Forget what has not gone out."""
        if self.faults is not None and self._queued:
            self.faults.on_lost(self._queued)
        self._queue.clear()
        self._queued = 0
        self._closing = None
        if self.descriptors is not None:
            self.descriptors.close_leaving()

    def insert(self, data: bytes) -> None:
        """Send bytes before all that has not gone out yet, EOF included."""
        if self._socket is None or self._eof_sent:
            return
        place, ahead = self._inserted
        ahead = ahead if place == self.taken else 0  # what was inserted here before goes first
        self._inserted = self.taken, ahead + 1
        others = len(self._queue) - ahead
        self._queue.insert(ahead, data)
        self._queued += len(data)
        if self.descriptors is not None:
            self.descriptors.shift(len(data))
        assert self.faults is not None, "a fault inserts"
        self.faults.on_queued(len(data), in_front=True)
        self._flush(keep=others)  # now: the next fault of this moment may drop what is queued

    def stop_reading(self, reason: object) -> None:
        """Leave what comes in the kernel, also at the end, with as little room as it grants."""
        assert self._socket is not None, "only an open stream reads"
        if not self._is_stopped:
            room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self._room = room // 2  # Linux doubles what it is given (socket(7))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self.pause_reading(reason, until_close=False)

    def go_on_reading(self, reason: object) -> None:
        """End a `stop_reading`."""
        self.resume_reading(reason)
        if self._socket is not None and not self._is_stopped:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._room)

    # -- starting

    def start(self) -> None:
        """Begin to read: at once what is there, then whenever more comes."""
        if self._socket is not None and not self._pauses:
            self._watch(self._interest | READ)  # what was written before may wait for room
            self._read()

    # -- the I/O thread

    def on_ready(self, events: int) -> None:
        """Serve the socket."""
        with self._owner._lock:
            # A hang-up is told whether asked or not. Without reading, a send finds out.
            if events & WRITE or self._pauses:
                self._flush()
            if events & ~WRITE and not self._pauses:
                self._read()

    def on_failure(self, error: Exception) -> None:
        """Take an error of our own: it is the endpoint's problem, and the connection is over."""
        self._owner._fail(error)
        self.reset()

    def pause_reading(self, reason: object, *, until_close: bool = True) -> None:
        """Leave what comes in the kernel, also in `sync`, for as long as there is a reason."""
        with self._owner._lock:
            self._pauses[reason] = until_close
            self._watch(self._interest & ~READ)

    def resume_reading(self, reason: object) -> None:
        """Read again in the I/O thread's next turn, unless there is another reason not to."""
        with self._owner._lock:
            self._pauses.pop(reason, None)
            if not self._pauses and self.peer_ended is None:
                self._watch(self._interest | READ)

    @property
    def _is_stopped(self) -> bool:
        """Whether a fault has stopped reading, at the end too."""
        return bool(self._pauses) and not all(self._pauses.values())

    def _read(self, turns: int = TURNS, *, to_the_end: bool = False) -> None:
        for _ in range(turns):
            if self._socket is None or self.peer_ended is not None or self._is_stopped:
                return
            size = self._read_size
            try:
                if self.faults is not None and not self.has_messages:
                    size = self.faults.readable(size, self._peek)
                data = self._recv(size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._lose(error)
                return
            if not data:
                self._take_eof()
                return
            full = len(data) == size
            if size == self._read_size and full and size < LARGE_READ:
                self._read_size *= 8
                self._read_size = min(self._read_size, LARGE_READ)
            self._take(data)
            if not to_the_end and (not full or self._pauses):
                return

    def _peek(self, most: int) -> bytes:
        assert self._socket is not None
        return self._socket.recv(most, socket.MSG_PEEK)

    def _recv(self, most: int) -> bytes:
        sock = self._socket
        assert sock is not None
        if self._is_plain:
            return sock.recv(most)
        if self.has_messages:
            most = message_size(sock)
        if self.descriptors is not None:
            data = self.descriptors.recv(sock, most, self.record.received.size)
        else:
            data = sock.recv(most)
        # An empty message reads like EOF. Behind one, a look finds more or raises BlockingIOError.
        if not data and self.has_messages and sock.recv(1, socket.MSG_PEEK):
            return self._recv(most)
        return data

    def _take(self, data: bytes) -> None:
        self.record.add_received(CLOCK.stamp(), data)
        if self.descriptors is not None:
            self.descriptors.note(self.record, self._owner)
        if not self.received.level:
            self._owner._on_first(self, sent=False)
        self.received.advance(self.record.received.size)
        if self.faults is not None:
            self.faults.on_received()
        if self.driver is not None:
            self.driver.on_data(self, data)

    def _take_eof(self) -> None:
        self.peer_ended = "eof"
        self.record.mark(CLOCK.stamp(), "peer_eof")
        self.received.finish()
        self.peer_end.finish()
        self._watch(self._interest & ~READ)
        if self.faults is not None:
            self.faults.on_eof()
        if self._eof_sent:
            self._release()
        if self.driver is not None:
            self.driver.on_eof(self)

    def _lose(self, error: OSError) -> None:
        """Take the kernel's word that the connection is broken."""
        driver, self.driver = self.driver, None
        self._take_rest()
        if self.peer_ended is None or not self._eof_sent:
            self.peer_ended = "reset"
            self.reset_error = error
            self.record.mark(CLOCK.stamp(), "peer_reset", note=error.strerror or str(error))
        self._release()
        if driver is not None:
            driver.on_over(self, by_reset=True)

    def _take_rest(self) -> None:
        # A send that fails says nothing of the bytes that came before; the kernel still has them.
        for _ in range(LAST_TURNS):
            if self._socket is None or self.peer_ended is not None or self._is_stopped:
                return
            try:
                size = LARGE_READ
                if self.faults is not None and not self.has_messages:
                    size = self.faults.readable(size, self._peek)
                data = self._recv(size)
            except OSError:
                return
            if not data:
                return
            self._take(data)

    # -- writing

    def write(self, data: bytes) -> None:
        """Send what the kernel takes now and queue the rest."""
        if self.faults is not None and data and self.can_send:
            self.faults.on_write()
        if not data or not self.can_send:
            return
        self._queue.append(data)
        self._queued += len(data)
        if self.faults is not None:
            self.faults.on_queued(len(data))
        if len(self._queue) == 1:
            self._flush()

    def write_with(self, data: bytes, fds: Sequence[int]) -> None:
        """Send bytes, and copies of descriptors with the first of them; AF_UNIX only."""
        if not data or not self.can_send:
            return
        assert self.descriptors is not None, "only AF_UNIX passes descriptors"
        self.descriptors.give(self.taken + self._queued, fds)
        self.write(data)

    def ask_room(self) -> None:
        """Have the driver's `on_drained` called in a turn of its own, once there is room."""
        self._waits_for_room = True
        self._watch(self._interest | WRITE)

    def _flush(self, *, keep: int = 0) -> None:
        descriptors = self.descriptors
        while len(self._queue) > keep and self._socket is not None:
            front = data = self._queue[0]
            if self.faults is not None:
                data = self.faults.filtered(front)
                if not data:
                    self._waits_for_room = True
                    self._watch(self._interest & ~WRITE)
                    return
            # Stamped before the system call: the peer can answer before it returns.
            time = CLOCK.stamp()
            try:
                taken = (
                    self._socket.send(data, NO_SIGPIPE)
                    if descriptors is None
                    else descriptors.send(self._socket, data, self.taken)
                )
            except (BlockingIOError, InterruptedError):
                self._waits_for_room = True
                self._watch(self._interest | WRITE)
                return
            except OSError as error:
                if error.errno in NOT_BROKEN:
                    lost = len(self._queue.popleft())
                    self._queued -= lost
                    if self.faults is not None:
                        self.faults.on_lost(lost)
                    if descriptors is not None:
                        descriptors.drop(self.taken)
                    raise
                self._lose(error)
                return
            if taken == len(front):
                self._queue.popleft()
            else:
                # A view keeps what is left without copying it at every turn.
                self._queue[0] = memoryview(front)[taken:]
            self._queued -= taken
            self.record.add_sent(time, bytes(data[:taken]))
            if descriptors is not None and descriptors.gone:
                self.record.annotate(f"with {count(descriptors.gone, 'descriptor')}")
            if not self.sent.level:
                self._owner._on_first(self, sent=True)
            self.sent.advance(self.record.sent.size)
            if self.faults is not None:
                self.faults.on_taken(taken)
        if self._queue:
            return
        if self._waits_for_room and self._socket is not None:
            if self.driver is not None and not self._engine.is_here():
                self._watch(self._interest | WRITE)  # drivers run in the I/O thread
            else:
                self._waits_for_room = False
                self._watch(self._interest & ~WRITE)
                if self.driver is not None and self._closing is None:
                    self.driver.on_drained(self)
        if not self._queue and self._closing is not None and self._may_end:
            closing, self._closing = self._closing, None
            closing()

    # -- ending

    def send_eof(self) -> None:
        """Shut our side down once the queue is empty; the other direction goes on."""
        self._finish_with(self._shut)

    def close(self) -> None:
        """Shut our side down once the queue is empty, then drain the peer's in the background.

        A close with unread input would send RST, and the peer would lose our last bytes.
        """
        self._finish_with(self._shut_and_drain)

    def reset(self) -> None:
        """End at once with RST, where the family has one (socket(7): SO_LINGER of 0 seconds)."""
        with self._owner._lock:
            if self._socket is None:
                return
            with suppress(OSError):
                self._socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            self.record.mark(CLOCK.stamp(), "reset_sent")
            self._release(quiet=True)
            driver, self.driver = self.driver, None
            if driver is not None:
                driver.on_over(self, by_reset=True)

    def abort(self) -> None:
        """Read what the kernel still holds, and close the descriptor: the endpoint ends."""
        with self._owner._lock:
            if self._socket is not None:
                self.driver = None
                self._read(LAST_TURNS, to_the_end=True)
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

    def _finish_with(self, closing: Callable[[], None]) -> None:
        with self._owner._lock:
            if self._socket is None:
                return
            if self.faults is not None:
                self.faults.on_end()
            if self._queue or not self._may_end:
                self._closing = closing
            else:
                closing()

    @property
    def _may_end(self) -> bool:
        return self.faults is None or self.faults.may_end()

    def _shut(self) -> None:
        if self._socket is None or self._eof_sent:
            return
        self._eof_sent = True
        time = CLOCK.stamp()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:  # ENOTCONN: a reset that nobody has read yet
            self._lose(error)
            return
        self.record.mark(time, "eof_sent")
        self.sent.finish()
        self.ended.finish()
        self._owner._on_end(self)
        if self.peer_ended is not None:
            self._release()

    def _shut_and_drain(self) -> None:
        driver, self.driver = self.driver, None
        self._shut()
        if self._socket is not None and self._timer is None:
            self._timer = self._engine.timer(Deadline(self._drain_timeout), self._stop_draining)
            for reason in [reason for reason, until_close in self._pauses.items() if until_close]:
                self.resume_reading(reason)
        if driver is not None:
            driver.on_over(self, by_reset=False)

    def _stop_draining(self) -> None:
        with self._owner._lock:
            self._release()

    def _release(self, *, quiet: bool = False) -> None:
        sock, self._socket = self._socket, None
        if sock is None:
            return
        fd = sock.fileno()
        if self._interest:  # before the close: afterwards the number may be somebody else's
            self._engine.selector.remove(fd)
        if not quiet:
            self.record.mark(CLOCK.stamp(), "closed")
        sock.close()
        if self._timer is not None:
            self._timer.cancel()
        self.drop()
        if self.faults is not None:
            self.faults.close()
        was_ended = self.ended.level
        self._finish()
        if not was_ended:
            self._owner._on_end(self)

    def _finish(self) -> None:
        for signal in (self.received, self.sent, self.peer_end, self.ended):
            signal.finish()

    def _watch(self, interest: int) -> None:
        # A descriptor with no interest left is removed: epoll reports a hang-up of both sides
        # whether asked or not, and a loop would spin on it.
        sock = self._socket
        if sock is None or interest == self._interest:
            return
        selector = self._engine.selector
        if not interest:
            selector.remove(sock.fileno())
        elif not self._interest:
            selector.add(sock.fileno(), self, interest)
        else:
            selector.change(sock.fileno(), interest)
        self._interest = interest
