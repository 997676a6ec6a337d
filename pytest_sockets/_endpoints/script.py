"""A plan for one connection: the verbs of `Connection`, written down before they happen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast, final, overload

from pytest_sockets._endpoints.gate import Gate, as_gate
from pytest_sockets._endpoints.passing import as_descriptors
from pytest_sockets._endpoints.sending import as_pieces
from pytest_sockets._engine.clock import CLOCK, as_seconds
from pytest_sockets._engine.waiting import Signal
from pytest_sockets._wire.errors import UnsupportedError
from pytest_sockets._wire.framing import (
    Exactly,
    Frame,
    Prefixed,
    Until,
    UpTo,
    count_of,
    expectation,
)
from pytest_sockets._wire.matching import as_bytes, show_expected
from pytest_sockets._wire.rendering import count, seconds, show_log
from pytest_sockets._wire.rules import Rules
from pytest_sockets._wire.script import Kind, Plan, Step

if TYPE_CHECKING:
    from pytest_sockets._endpoints.connection import Connection
    from pytest_sockets._endpoints.server import StreamServer

SHOWN = 8
"""Connections that the report tells of for each script."""


@final
class Script:
    """Steps that a server plays on a connection, made by `StreamServer.script`.

    Each method appends a step, which does what the verb of that name does on a `Connection`, and
    returns the script; nothing blocks. The steps are played one after the other, on one connection,
    or with ``each=True`` on several. A script that neither closes nor resets leaves its connection
    open. It is a problem, which fails the test, if there are:

    - other bytes than a step expects, or the peer's end before the last required step;
    - steps that were not reached when the test ends, but for those after `optional()`;
    - bytes after the last step, unless the script was made with ``strict=False``.

    `timeout=` of a step is in seconds; `None` means the script's, and where that is `None` too, the
    server's. The clock of a step starts when the step before it is done. Two exceptions leave an
    idle client its time: no clock runs before the first byte of a connection, in either direction,
    and that of the last step starts with the first byte that it can take. Gates have no deadline.

    `save=` is a name: what the step received is kept as ``conn.saved[name]``.

    Raises:
        TypeError, ValueError: a step's argument is wrong, or the step can never be reached, such
            as one after `close()`. Raised at once, where the script is written.
        UnsupportedError: the step needs AF_UNIX, and the server is of another family.
    """

    def __init__(
        self, server: StreamServer, number: int, *, each: bool, strict: bool, timeout: float | None
    ) -> None:
        self._server = server
        self._name = "the script for each connection" if each else f"script {number}"
        self._is_strict = strict
        self._timeout = None if timeout is None else as_seconds(timeout)
        self._plan = Plan()
        self._written = Signal()  # level: steps
        self._written_at = CLOCK.patience()
        self._players: list[Player] = []

    # -- sending

    def send(self, data: bytes, *, timeout: float | None = None) -> Script:
        """Send bytes, and go on when the kernel has all of them."""
        return self._add("send", "send", as_bytes(data, name="data"), timeout=timeout)

    def send_apart(self, *pieces: bytes, timeout: float | None = None) -> Script:
        """Send pieces such that the peer cannot read two of them at once."""
        return self._add("send_apart", "send", *as_pieces(pieces), timeout=timeout)

    def send_fds(self, data: bytes, fds: Sequence[int], *, timeout: float | None = None) -> Script:
        """Send bytes, and open files with the first of them; AF_UNIX only.

        The descriptors have to be open still when the step is played.
        """
        self._need_unix("send_fds")
        content, numbers = as_bytes(data, name="data"), as_descriptors(fds)
        return self._add("send_fds", "send", content, numbers, timeout=timeout)

    def wait_peer_read(self, *, timeout: float | None = None) -> Script:
        """Wait until the peer has read all that was sent to it."""
        return self._add("wait_peer_read", "end", timeout=timeout)

    # -- receiving

    def recv_fds(self, n: int, maxfds: int, *, save: str, timeout: float | None = None) -> Script:
        """Take up to `n` bytes and the open files that come with them; AF_UNIX only.

        What `save` keeps is the bytes and a list of descriptors, which are the test's to close.
        """
        self._need_unix("recv_fds")
        most = count_of(maxfds, name="maxfds")
        return self._take("recv_fds", UpTo(n), n, most, save=save, timeout=timeout)

    def recv(self, n: int, *, save: str | None = None, timeout: float | None = None) -> Script:
        """Take up to `n` bytes, of one packet of SOCK_SEQPACKET, once there are any or EOF."""
        return self._take("recv", UpTo(n), n, save=save, timeout=timeout)

    def recv_exactly(
        self, n: int, *, save: str | None = None, timeout: float | None = None
    ) -> Script:
        """Take exactly `n` bytes."""
        return self._take("recv_exactly", Exactly(n), n, save=save, timeout=timeout)

    def recv_until(
        self, separator: bytes, *, save: str | None = None, timeout: float | None = None
    ) -> Script:
        """Take everything up to and including `separator`."""
        frame = Until(separator)
        return self._take("recv_until", frame, separator, save=save, timeout=timeout)

    def recv_line(self, *, save: str | None = None, timeout: float | None = None) -> Script:
        r"""Take everything up to and including the next ``b"\n"``."""
        return self._take("recv_line", Until(b"\n"), save=save, timeout=timeout)

    def recv_prefixed(
        self, format: str, *, save: str | None = None, timeout: float | None = None
    ) -> Script:
        """Take a length in a `struct` format such as ``">H"``, and so many bytes."""
        return self._take("recv_prefixed", Prefixed(format), format, save=save, timeout=timeout)

    def recv_to_eof(self, *, save: str | None = None, timeout: float | None = None) -> Script:
        """Take everything up to the peer's EOF."""
        wanted = "everything up to EOF"
        return self._add("recv_to_eof", "receive", save=save, timeout=timeout, wanted=wanted)

    # -- expecting

    @overload
    def expect(
        self, expected: bytes, *, save: str | None = None, timeout: float | None = None
    ) -> Script: ...
    @overload
    def expect(
        self,
        expected: re.Pattern[bytes],
        *,
        until: bytes | int,
        save: str | None = None,
        timeout: float | None = None,
    ) -> Script: ...
    def expect(
        self,
        expected: Any,
        *,
        until: bytes | int | None = None,
        save: str | None = None,
        timeout: float | None = None,
    ) -> Script:
        r"""Require what comes next: bytes, or a frame that a pattern fully matches.

        With a pattern, `until` says where the frame ends: a separator such as ``b"\r\n"``, or a
        number of bytes; `save` then keeps the match.
        """
        wanted, frame = expectation(expected, until)
        options = {} if frame is None else {"until": until}
        return self._add(
            "expect",
            "receive",
            wanted,
            options=options,
            save=save,
            timeout=timeout,
            wanted=show_expected(wanted),
        )

    def expect_eof(self, *, timeout: float | None = None) -> Script:
        """Require that the peer's EOF comes next."""
        return self._add("expect_eof", "receive", timeout=timeout, wanted="EOF")

    def expect_reset(self, *, timeout: float | None = None) -> Script:
        """Require that the peer resets the connection; unread bytes do not matter."""
        return self._add("expect_reset", "receive", timeout=timeout, wanted="a reset")

    def expect_nothing(self, *, until: Gate | None = None, within: float | None = None) -> Script:
        """Require that no byte comes until the test releases a gate, or for `within` seconds."""
        if (until is None) == (within is None):
            msg = "expect_nothing needs until=, a gate, or within=, in seconds"
            raise TypeError(msg)
        if until is not None:
            as_gate(until)._expect(self._server)
            return self._add(
                "expect_nothing",
                "wait",
                options={"until": until},
                wanted=f"nothing until {until.name}",
            )
        span = as_seconds(within, name="within")
        return self._add(
            "expect_nothing",
            "wait",
            options={"within": span},
            wanted=f"nothing for {seconds(span)}",
        )

    def wait_eof(self, *, timeout: float | None = None) -> Script:
        """Wait for the peer's EOF, whatever comes before it."""
        return self._add("wait_eof", "receive", timeout=timeout, wanted="EOF")

    # -- ends and gates

    def send_eof(self, *, timeout: float | None = None) -> Script:
        """End our side when the kernel has our bytes, and go on receiving (half-close)."""
        return self._add("send_eof", "end", timeout=timeout)

    def close(self, *, timeout: float | None = None) -> Script:
        """End in order: FIN follows our bytes, and what the peer still sends is drained."""
        return self._add("close", "end", timeout=timeout)

    def reset(self) -> Script:
        """End abruptly, with RST."""
        return self._add("reset", "end")

    def hold(self, gate: Gate) -> Script:
        """Stop here until the test releases a gate; it has no deadline."""
        as_gate(gate)._expect(self._server)
        return self._add("hold", "wait", gate)

    def optional(self) -> Script:
        """Let the peer leave at any time from here on: no step after this one has to be reached.

        It is also how a client that is cancelled or killed is allowed.
        """
        self._plan.make_optional()
        return self

    # -- inside

    def _need_unix(self, name: str) -> None:
        if self._server.family != "unix":
            msg = (
                f"{name} needs AF_UNIX, and {self._server.name} is {self._server.family}: "
                "descriptors do not travel over a network"
            )
            raise UnsupportedError(msg)

    def _take(
        self, name: str, frame: Frame, *arguments: Any, save: str | None, timeout: float | None
    ) -> Script:
        return self._add(
            name, "receive", *arguments, save=save, timeout=timeout, wanted=frame.wanted
        )

    def _add(
        self,
        name: str,
        kind: Kind,
        *arguments: Any,
        options: dict[str, Any] | None = None,
        save: str | None = None,
        timeout: float | None = None,
        wanted: str = "",
    ) -> Script:
        span = None if timeout is None else as_seconds(timeout)
        if save is not None and not isinstance(cast("object", save), str):
            msg = f"save must be a name, under which conn.saved keeps the bytes, not {save!r}"
            raise TypeError(msg)
        # First the time: who sees no new step must not see an old time either.
        self._written_at = CLOCK.patience()
        self._plan.add(Step(name, kind, arguments, options or {}, span, save, wanted))
        self._written.advance(len(self._plan.steps))
        return self

    def _text(self, *, is_spared: bool) -> str:
        """Return how far it has come, for the report.

        It is spared where a fault has ended the connection that would have taken it.
        """
        total = len(self._plan.steps)
        if not total:
            return f"{self._name}: no steps"
        if not self._players:
            why = "a fault ended its connection at once" if is_spared else "nobody connected for it"
            return f"{self._name}, {count(total, 'step')}: {why}"
        states = [player.text for player in self._players[:SHOWN]]
        if len(self._players) > SHOWN:
            states.append(f"and {count(len(self._players) - SHOWN, 'connection')} more")
        return f"{self._name}: {'; '.join(states)}"

    def __repr__(self) -> str:
        steps = "".join(f".{step}" for step in self._plan.steps)
        return f"<Script of {self._server.name}, {count(len(self._plan.steps), 'step')}: {steps}>"


class Player:
    """How far a script has come on one connection."""

    def __init__(self, script: Script, conn: Connection, rules: Rules) -> None:
        self.script = script
        self.conn = conn
        self.rules = rules
        self.requests = rules.unread()
        self.position = 0
        self.start = 0  # of what the step may consume

    @property
    def step(self) -> Step | None:
        """The step that is being played; `None` when all that were written are done."""
        steps = self.script._plan.steps
        return steps[self.position] if self.position < len(steps) else None

    def timeout(self, step: Step) -> float | None:
        """Return the seconds of a step; `None` means the server's."""
        return self.script._timeout if step.timeout is None else step.timeout

    @property
    def place(self) -> str:
        """Where it is: ``step 3 of 5``."""
        return f"step {self.position + 1} of {len(self.script._plan.steps)}"

    @property
    def text(self) -> str:
        """How far it has come, for the report."""
        step = self.step
        where = f"connection {self.conn.index}"
        if step is None:
            return f"all of {count(len(self.script._plan.steps), 'step')} done on {where}"
        return f"at {self.place} on {where}, {step}"

    @property
    def unread(self) -> int:
        """How many bytes have come and were not consumed."""
        return self.conn._unread

    def bytes_of_step(self) -> bytes:
        """Return what the step has consumed in vain, or what there is to consume."""
        with self.conn._endpoint._lock:  # of the record, too: a sender may be writing to it
            return self.conn._log.read(self.start, self._stop)

    @property
    def _stop(self) -> int:
        """Where the bytes end that the step has consumed in vain, or could."""
        consumed, log = self.conn._consumed, self.conn._log
        if consumed > self.start:
            return consumed
        step = self.step
        if step is not None and step.verb == "expect":
            frame = expectation(step.arguments[0], step.options.get("until"))[1]
            found, stop = (False, 0) if frame is None else frame.find(log, self.start)
            if found:  # given back, as it does not match
                return stop
        return log.size

    def got(self) -> str:
        """Say what there is in place of what was wanted."""
        step = self.step
        over = self.conn._why_over("received")
        is_end = step is not None and step.verb in ("expect_reset", "wait_eof")
        with self.conn._endpoint._lock:
            if self._stop > self.start and not is_end:
                return show_log(self.conn._log, self.start, self._stop)
        return f"nothing: {over}" if over else "nothing"
