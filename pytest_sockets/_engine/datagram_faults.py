"""The faults of one datagram endpoint: each datagram that it sends passes them."""

from __future__ import annotations

import _socket
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_sockets._engine.binding import LOOPBACK, new_socket
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.datagram_stages import STAGES, Outgoing, Stage
from pytest_sockets._engine.descriptors import close_all, copies_of
from pytest_sockets._engine.stream_faults import Cause
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.rendering import show_error

if TYPE_CHECKING:
    from pytest_sockets._engine.datagrams import DatagramSocket
    from pytest_sockets._engine.engine import Engine
    from pytest_sockets._engine.parties import Lock
    from pytest_sockets._wire.record import Record

UNSENDABLE = (OSError, TypeError, ValueError, OverflowError)
"""What a socket raises about one datagram: the kernel's refusals, and addresses that are none."""


class DatagramFaults:
    """What faults do to the datagrams of an endpoint. The endpoint's lock guards it.

    A datagram passes the faults in the order in which they were made; each gets what those before
    it have let pass.
    """

    def __init__(self, lock: Lock, engine: Engine, record: Record) -> None:
        self.lock = lock
        self.engine = engine
        self.record = record
        self._stages: list[Stage] = []
        self._number = record.sent_chunks
        self._refusal: Exception | None = None
        self._elsewhere: dict[DatagramSocket, _socket.socket] = {}
        self._copies: set[int] = set()

    # -- faults come and go

    def add(self, cause: Cause) -> None:
        """Have a fault act on what is sent from now on."""
        self._stages.append(STAGES[type(cause.effect)](self, cause))

    def lift(self, cause: Cause) -> None:
        """Have a fault act no more; what it has kept back goes on."""
        for stage in self._stages:
            if stage.cause is cause:
                self.record.mark(CLOCK.stamp(), "note", note=f"{cause.effect!r} lifted")
                for kept in stage.release():
                    self.let_go(stage, kept)
                self._stages.remove(stage)
                return

    def close(self) -> None:
        """End all of them with their endpoint: what they have kept back is never sent."""
        for stage in self._stages:
            stage.release()
        self._stages.clear()
        self.abandon()

    def abandon(self) -> None:
        """Close our own sockets and copies of descriptors, which nothing else knows of."""
        for sock in self._elsewhere.values():
            sock.close()
        self._elsewhere.clear()
        close_all(self._copies)
        self._copies.clear()

    # -- datagrams

    def send(
        self, part: DatagramSocket, data: bytes, to: Address | None, fds: Sequence[int]
    ) -> None:
        """Send what the faults make of a datagram.

        Raises the plain `OSError` where the kernel does not take it now. What goes out later, or
        besides, is lost in silence then, as datagrams are; the record has a note.
        """
        one = Outgoing(part, data, to, fds, self._number)
        self._number += 1
        self._pass(one, self._stages)
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def keep(self, one: Outgoing) -> Outgoing:
        """Return a datagram that may be kept back: it has copies of the caller's descriptors."""
        copies = copies_of(one.fds)
        self._copies.update(copies)
        return replace(one, fds=copies, is_late=True)

    def go_on(self, stage: Stage, one: Outgoing) -> None:
        """Have a datagram pass the faults behind a stage."""
        self._pass(one, self._stages[self._stages.index(stage) + 1 :])

    def let_go(self, stage: Stage, kept: Outgoing) -> None:
        """Send what a stage has kept back."""
        self.go_on(stage, kept)
        close_all(kept.fds)
        self._copies.difference_update(kept.fds)

    def elsewhere(self, part: DatagramSocket) -> _socket.socket:
        """Return a socket of the same family at another address than a part's; made once."""
        sock = self._elsewhere.get(part)
        if sock is None:
            sock = new_socket(part.family, part.kind)
            try:
                # For AF_UNIX the kernel chooses an abstract name (unix(7): autobind).
                sock.bind((part.host, 0) if part.family in LOOPBACK else "")
            except BaseException:
                sock.close()
                raise
            self._elsewhere[part] = sock
        return sock

    # -- inside

    def _pass(self, one: Outgoing, stages: Sequence[Stage]) -> None:
        if not stages:
            self._put(one)
            return
        try:
            passed = stages[0].pass_on(one)
        except OSError as error:  # a socket or a descriptor that the fault needs cannot be had
            self._lose(one, error)
            return
        for out in passed:
            self._pass(out, stages[1:])

    def _put(self, one: Outgoing) -> None:
        try:
            one.part.put(one.data, one.to, one.fds, one.through)
        except UNSENDABLE as error:
            self._lose(one, error)

    def _lose(self, one: Outgoing, error: Exception) -> None:
        if not one.is_late:
            self._refusal = error
            return
        note = f"lost: {one}: {show_error(error)}"
        self.record.mark(CLOCK.stamp(), "note", note=note)
