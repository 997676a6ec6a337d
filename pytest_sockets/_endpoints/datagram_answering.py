"""Rules on datagrams: each is a frame, and replies go to its source."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pytest_sockets._endpoints.datagram_sending import NOBODY_THERE
from pytest_sockets._wire.errors import MismatchError, SocketsError
from pytest_sockets._wire.events import Datagram
from pytest_sockets._wire.rendering import show, show_address
from pytest_sockets._wire.rules import Rules

if TYPE_CHECKING:
    from pytest_sockets._endpoints.datagram_peer import DatagramPeer

LOST = NOBODY_THERE | {errno.EAGAIN, errno.EWOULDBLOCK}
"""Errors of a reply that has no receiver any more, or one whose queue is full: datagrams promise
nothing, and what the code under test makes of it is its own affair."""


class DatagramAnswering:
    """Answers the datagrams of one peer, in order, from the first that the test has not taken."""

    def __init__(self, peer: DatagramPeer) -> None:
        self.rules = Rules(of_datagrams=True)
        self._peer = peer
        self._next = peer._consumed
        self._is_busy = False

    def catch_up(self) -> None:
        """Answer what came before there was a rule. In the I/O thread."""
        with self._peer._lock:
            self.go_on()

    def go_on(self) -> None:
        """Answer what has come. In the I/O thread, with the lock held."""
        if self._is_busy:  # a reply function made another rule: its datagram comes first
            return
        __tracebackhide__ = True
        peer, record = self._peer, self._peer._datagrams
        self._is_busy = True
        try:
            while self._next < record.received_chunks and not peer._problems:
                datagram = record.datagram(self._next)
                self._next += 1
                self._answer(datagram)
        except BaseException as error:  # of the test's own function: pytest.fail() is one of these
            peer._add_problem(error)
        finally:
            self._is_busy = False

    def _answer(self, datagram: Datagram) -> None:
        __tracebackhide__ = True
        peer, source = self._peer, datagram.source
        pieces = self.rules.answer(datagram.data, datagram)
        if pieces is None:
            misfit = self.rules.misfit(datagram.data)
            text = f"{peer.name}, a datagram from {show_address(source)}: {misfit}"
            peer._add_problem(MismatchError(text))
            return
        for piece in pieces:
            if source is None:
                msg = (
                    f"{peer.name} cannot answer {show(datagram.data)}: it came from an unnamed "
                    "socket; the client has to bind, or the rule's reply to be None"
                )
                raise SocketsError(msg)
            try:
                peer._part_for(source).send(piece, source)
            except OSError as error:
                if error.errno not in LOST:
                    raise
