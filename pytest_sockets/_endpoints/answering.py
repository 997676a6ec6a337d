"""Rules as the driver of a connection that nothing else drives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sockets._endpoints.stream_view import Driven
from pytest_sockets._engine.stream import Stream
from pytest_sockets._wire.errors import MismatchError
from pytest_sockets._wire.rules import Rules, Taken

if TYPE_CHECKING:
    from pytest_sockets._endpoints.connection import Connection


class Answering:
    """Answers the whole frames of one connection by the rules of its server.

    What is left at the peer's EOF without being a whole frame stays unread: no rule has judged it.
    Then all is answered that can be, and our side is closed in order.
    """

    title = "its rules (on)"

    def __init__(self, conn: Connection, rules: Rules) -> None:
        self._conn = conn
        self._unread = rules.unread()
        self._rules = rules
        self._needed = 0  # bytes of the log before another look can find a frame
        self._is_busy = False

    def on_open(self, stream: Stream) -> None:
        """Leave a new connection alone: the client asks first."""

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Answer the frames that are whole now."""
        self._answer(stream)

    def on_eof(self, stream: Stream) -> None:
        """Close in order: nothing is left to be answered."""
        stream.close()

    def on_drained(self, stream: Stream) -> None:
        """Send no more."""

    def on_over(self, stream: Stream, *, by_reset: bool) -> None:
        """Answer no more."""

    def catch_up(self) -> None:
        """Answer what came before there was a rule. In the I/O thread."""
        stream = self._conn._stream
        with self._conn.endpoint._lock:
            self._answer(stream)
            if stream.driver is self and stream.peer_ended == "eof":
                stream.close()

    def _answer(self, stream: Stream) -> None:
        if self._is_busy:  # a reply function made another rule: its frame comes first
            return
        __tracebackhide__ = True
        self._is_busy = True
        try:
            while stream.driver is self and (taken := self._take()) is not None:
                for piece in self._unread.reply(taken):
                    stream.write(piece)
        except BaseException as error:  # of the test's own function: pytest.fail() is one of these
            self._conn.endpoint._add_problem(error)
        finally:
            self._is_busy = False

    def _take(self) -> Taken | None:
        """Consume the next request that a rule answers; `None` where there is none."""
        __tracebackhide__ = True
        conn = self._conn
        if conn._log.size < self._needed or conn.endpoint._problems:
            return None
        try:
            taken = self._unread.take(conn._log, conn._consumed)
        except MismatchError as error:
            conn.endpoint._add_problem(MismatchError(f"{conn._label}: {error}"))
            return None
        if isinstance(taken, int):
            self._needed = taken
            return None
        conn._consumed = taken.stop
        if taken.rule is None:
            text = f"{conn._label}: {self._rules.misfit(taken.frame)}"
            if conn._broken_by is not None:
                conn._note(text)
                return None
            conn.endpoint._add_problem(MismatchError(text))
            return None
        return taken


def drive_by(rules: Rules, conn: Connection) -> Answering:
    """Make rules the driver of a connection that nobody drives. With the endpoint's lock held."""
    driver = conn._stream.driver = Answering(conn, rules)
    conn._driven_by = Driven(driver.title, instead="open another server without rules")
    return driver
