"""One stream socket: reading into the record, writing from a queue, ending in order."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import final

from pytest_sockets._engine.clock import CLOCK, Deadline
from pytest_sockets._engine.selector import READ, WRITE
from pytest_sockets._engine.stream_faults import Cause, StreamFaults
from pytest_sockets._engine.stream_reading import LAST_TURN
from pytest_sockets._engine.stream_writing import StreamWriting


@final
class Stream(StreamWriting):
    """A connected, non-blocking stream socket. It owns the only descriptor of its connection.

    All methods may be called from any thread: the endpoint's lock guards the socket itself, because
    closing a descriptor under another thread's system call would hand its number, and the next
    connection's bytes, to that call. Drivers run in the I/O thread, but for `on_over`, and reading
    too, but for the rest: a send that meets the peer's reset, and the end of the endpoint, read in
    their own thread what the kernel still holds.
    """

    turns = 10  # of up to 4 MiB or 256 messages: more than the kernel holds of a stream

    # -- the I/O thread

    def start(self) -> None:
        """Begin to read: at once what is there, then whenever more comes."""
        if self._socket is not None and not self._pauses:
            self._watch(self._interest | READ)  # what was written before may wait for room
            self._read()

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

    # -- what comes of reading and writing

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

    def _on_first(self, *, sent: bool) -> None:
        self._owner._on_first(self, sent=sent)

    def _on_drained(self) -> None:
        if self.driver is not None:
            self.driver.on_drained(self)

    def _lose(self, error: OSError) -> None:
        """Take the kernel's word that the connection is broken."""
        driver, self.driver = self.driver, None
        self._read(LAST_TURN, to_the_end=True, is_lost=True)
        if self._socket is not None:  # else a fault that was met by these bytes has ended it
            if self.peer_ended is None or not self._eof_sent:
                self.peer_ended = "reset"
                self.reset_error = error.with_traceback(None)  # it would lead into our code
                self.record.mark(CLOCK.stamp(), "peer_reset", note=error.strerror or str(error))
            self._release()
        if driver is not None:
            driver.on_over(self, by_reset=True)

    def notice_reset(self) -> None:
        """Take a reset that came behind the peer's EOF: nobody reads there. With the lock held."""
        if self._socket is None or self.peer_ended != "eof":
            return
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._lose(OSError(code, os.strerror(code)))

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
                self._read(LAST_TURN, to_the_end=True)
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
