"""Writing to a stream, through a queue that faults may hold."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.selector import WRITE
from pytest_sockets._engine.stream_reading import StreamReading
from pytest_sockets._wire.rendering import count

NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)
NOT_BROKEN = frozenset({errno.EMSGSIZE, errno.ETOOMANYREFS})
"""What a send may be refused with and the connection still works: a message too long for
SOCK_SEQPACKET, or more descriptors under way than the process may have open."""


class StreamWriting(StreamReading):
    """How the queue is filled, by whoever sends or by a fault, and emptied into the kernel."""

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

    def insert(self, data: bytes) -> None:
        """Send bytes before all that has not gone out yet, EOF included."""
        if self._socket is None or self._eof_sent:
            return
        place, ahead = 0, self.ahead
        while ahead > 0:
            ahead -= len(self._queue[place])
            place += 1
        others = len(self._queue) - place
        self._queue.insert(place, data)
        self._queued += len(data)
        self.inserted += len(data)
        self.ahead += len(data)
        if self.descriptors is not None:
            self.descriptors.shift(len(data))
        assert self.faults is not None, "a fault inserts"
        self.faults.on_queued(len(data), in_front=True)
        self._flush(keep=others)  # now: the next fault of this moment may drop what is queued

    def drop(self) -> None:
        """Forget what has not gone out."""
        if self.faults is not None and self._queued:
            self.faults.on_lost(self._queued)
        self._queue.clear()
        self._queued = self.inserted = self.ahead = 0
        self._closing = None
        if self.descriptors is not None:
            self.descriptors.close_leaving()

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
                    self.inserted -= min(lost, self.inserted)
                    self.ahead = max(0, self.ahead - lost)
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
            inserted = min(taken, self.inserted)
            self.inserted -= inserted
            self._inserted_taken += inserted
            self.ahead = 0
            self.record.add_sent(time, bytes(data[:taken]))
            if descriptors is not None and descriptors.gone:
                self.record.annotate(f"with {count(descriptors.gone, 'descriptor')}")
            if not self.sent.level:
                self._on_first(sent=True)
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
                self._on_drained()
        if not self._queue and self._closing is not None and self._may_end:
            closing, self._closing = self._closing, None
            closing()

    @property
    def _may_end(self) -> bool:
        return self.faults is None or self.faults.may_end()

    def _on_drained(self) -> None:
        """Tell who drives it that there is room again."""
        raise NotImplementedError
