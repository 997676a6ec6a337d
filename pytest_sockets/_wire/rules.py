"""Rules: what is answered to which whole frame.

Of a stream without framing only the beginning of what is unread can be compared, so there a request
is bytes that say themselves where they end.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from pytest_sockets._wire.errors import MismatchError
from pytest_sockets._wire.framing import Frame, misses_bounds, name_of, positive
from pytest_sockets._wire.matching import as_bytes, as_expectation
from pytest_sockets._wire.rendering import count, show, show_value
from pytest_sockets._wire.spool import ByteLog, Spool

Answer: TypeAlias = bytes | list[bytes] | tuple[bytes, ...] | None
"""What is sent: bytes, several pieces one after the other, or nothing (`None`)."""
Request: TypeAlias = "bytes | re.Pattern[bytes]"

SHOWN = 12
"""Rules that a message lists."""


class Rule:
    """One request and its reply."""

    __slots__ = ("_function", "_pieces", "fired", "request", "times")

    def __init__(self, request: Request, reply: object, times: int | None) -> None:
        self.request = request
        self.times = times
        """How often it answers at most; `None` means without end."""
        self.fired = 0
        """How often it has answered."""
        self._function: Callable[[Any], object] | None = None
        self._pieces: tuple[bytes, ...] = ()
        if callable(reply):
            if inspect.iscoroutinefunction(reply):
                msg = f"reply={name_of(reply)} must be a plain function, not an async one"
                raise TypeError(msg)
            self._function = cast("Callable[[Any], object]", reply)
        else:
            self._pieces = _pieces_of(reply, "reply", " or a function")

    @property
    def is_used_up(self) -> bool:
        """Whether it has answered as often as it may."""
        return self.times is not None and self.fired >= self.times

    def match(self, frame: bytes) -> bytes | re.Match[bytes] | None:
        """Return what a reply function gets, or `None` where the request is another."""
        if isinstance(self.request, bytes):
            return frame if frame == self.request else None
        return self.request.fullmatch(frame)

    def misses_bounds(self, data: bytes, frame: Frame | None) -> str | None:
        """Say that a pattern would match a frame without its separator or length."""
        if isinstance(self.request, bytes):
            return None
        return misses_bounds(self.request, data, frame)

    def covers(self, other: Rule) -> bool:
        """Whether it answers everything that another rule could, as far as can be known."""
        if self.request == other.request:  # patterns are equal with their flags
            return True
        return isinstance(other.request, bytes) and self.match(other.request) is not None

    def fire(self, given: object) -> tuple[bytes, ...]:
        """Count an answer and return its pieces.

        Args:
            given: what a reply function gets.

        Raises:
            TypeError: the reply function returned something else than an answer.
            RuntimeError: it called `exit()`.
        """
        __tracebackhide__ = True
        self.fired += 1
        if self._function is None:
            return self._pieces
        try:
            answer = self._function(given)
        except SystemExit as error:  # as it is, it would end whoever is told of it
            msg = f"reply function {name_of(self._function)} called exit({error.code!r})"
            raise RuntimeError(msg) from error
        if inspect.iscoroutine(answer):
            answer.close()  # else Python warns that nobody has awaited it
        return _pieces_of(answer, f"what reply function {name_of(self._function)} returns")

    def __repr__(self) -> str:
        request = show(self.request) if isinstance(self.request, bytes) else repr(self.request)
        if self._function is not None:
            reply = name_of(self._function)
        elif len(self._pieces) > 1:
            reply = f"[{', '.join(map(show, self._pieces))}]"
        else:
            reply = show(self._pieces[0]) if self._pieces else "None"
        times = "" if self.times is None else f", times={self.times}"
        return f"on({request}, {reply}{times})"


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that has come as a whole, or bytes that are the beginning of none."""

    frame: bytes
    stop: int
    """Where in the log it ends."""
    rule: Rule | None
    """What answers it; `None` where no rule can."""


class Rules:
    """The rules of one endpoint, in order of creation: the first that matches answers.

    Not safe for threads by itself: the endpoint's lock guards it.

    Args:
        framing: what makes the `Frame` of a stream; `None` means without framing.
        of_datagrams: whether each frame is a datagram, which may be empty.
    """

    def __init__(
        self, framing: Callable[[], Frame] | None = None, *, of_datagrams: bool = False
    ) -> None:
        self.framing = framing
        self._of_datagrams = of_datagrams
        self._rules: list[Rule] = []

    def __len__(self) -> int:
        return len(self._rules)

    @property
    def never_fired(self) -> tuple[Rule, ...]:
        """Those that have answered nothing so far."""
        return tuple(rule for rule in self._rules if not rule.fired)

    def add(self, request: object, reply: object, times: object = None) -> None:
        """Add a rule behind those there are.

        Args:
            request: bytes, equal to the whole frame, or a compiled bytes pattern, which must match
                all of it.
            reply: bytes, `None` (silence), a list of bytes (one after the other), or a function
                that gets the match, for a bytes request the frame, and returns one of these.
            times: how often it answers at most; `None` means without end.

        Raises:
            TypeError: an argument is of a wrong type, or a pattern has no framing.
            ValueError: the rule could never answer, or not be told from another.
        """
        wanted = self._as_request(request)
        rule = Rule(wanted, reply, None if times is None else positive(times, name="times"))
        self._check_frame(rule)
        self._check_others(rule)
        self._rules.append(rule)

    def find(self, frame: bytes) -> Rule | None:
        """Return the rule that answers a frame; `None` where no rule can."""
        for rule in self._rules:
            if not rule.is_used_up and rule.match(frame) is not None:
                return rule
        return None

    def answer(self, frame: bytes, given: object = None) -> tuple[bytes, ...] | None:
        """Return the pieces to send to a frame, none for silence; `None` where no rule can.

        Args:
            frame: the whole frame.
            given: what a reply function gets; `None` means the match.
        """
        __tracebackhide__ = True
        rule = self.find(frame)
        if rule is None:
            return None
        return rule.fire(rule.match(frame) if given is None else given)

    def unread(self) -> Unread:
        """Return what takes the requests from one stream."""
        return Unread(self)

    def begin(self, log: ByteLog, start: int) -> Taken | int:
        """Look at the beginning of what is unread, without framing; see `Unread.take`."""
        live = [
            (rule, rule.request)
            for rule in self._rules
            if isinstance(rule.request, bytes) and not rule.is_used_up
        ]
        longest = max((len(request) for _, request in live), default=1)
        buffer = log.read(start, start + longest)
        for rule, request in live:
            if buffer.startswith(request):
                return Taken(request, start + len(request), rule)
        if not buffer or any(request.startswith(buffer) for _, request in live):
            return log.size + 1
        return Taken(log.read(start), log.size, None)

    def misfit(self, frame: bytes) -> str:
        """Say that no rule answers a frame, and which rules there are."""
        own = None if self.framing is None else self.framing()
        near = {
            rule: f"{rule!r} {why}"
            for rule in self._rules
            if not rule.is_used_up and (why := rule.misses_bounds(frame, own))
        }
        lines = [f"no rule answers {show(frame)}"]
        for rule in self._rules[:SHOWN]:
            lines.append(f"{rule!r}, used up" if rule.is_used_up else near.pop(rule, repr(rule)))
        if len(self._rules) > SHOWN:
            more = [f"… and {count(len(self._rules) - SHOWN, 'more rule')}", *near.values()]
            lines.append(", of which ".join(more[:2]))
        return "\n  ".join(lines)

    # -- what is refused

    def _as_request(self, request: object) -> Request:
        if not isinstance(request, re.Pattern):
            wanted = as_bytes(request, name="request")
            if not wanted and not self._of_datagrams:
                msg = "request=b'' is no frame: name at least one byte"
                raise ValueError(msg)
            return wanted
        pattern: re.Pattern[bytes] = as_expectation(cast("object", request), name="request")
        if self._of_datagrams:
            return pattern
        if self.framing is None:
            msg = (
                f"on({pattern!r}, …) needs framing=: TCP has no messages, so say where a frame "
                r"ends, for example tcp_server(framing=b'\r\n')"
            )
            raise TypeError(msg)
        if pattern.fullmatch(b"") is not None:
            msg = (
                f"on({pattern!r}, …) matches b'', which is never a frame: "
                "have it ask for at least one byte, as .+ does where .* does not"
            )
            raise ValueError(msg)
        return pattern

    def _check_frame(self, rule: Rule) -> None:
        """Refuse bytes that are not exactly one frame: no frame is ever equal to them."""
        if self.framing is None or not isinstance(rule.request, bytes):
            return
        log = ByteLog(Spool(len(rule.request)))
        log.append(rule.request)
        frame = self.framing()
        try:
            is_one = frame.find(log, 0) == (True, log.size)
        except MismatchError:
            is_one = False
        if not is_one:
            msg = (
                f"{rule!r} can never answer: a frame here is {frame.wanted}, with its separator or "
                f"prefix, and {show(rule.request)} is not exactly one"
            )
            raise ValueError(msg)

    def _check_others(self, rule: Rule) -> None:
        for other in self._rules:
            if other.times is None and other.covers(rule):
                msg = (
                    f"{rule!r} can never answer: {other!r}, made before it, always does; "
                    "give that one times=, or make this one first"
                )
                raise ValueError(msg)
            if not self._is_framed and _begins(rule, other):
                msg = (
                    f"{rule!r} and {other!r} cannot be told apart without framing=: one request is "
                    "the beginning of the other, and TCP does not say where the first one ends"
                )
                raise ValueError(msg)

    @property
    def _is_framed(self) -> bool:
        return self._of_datagrams or self.framing is not None


class Unread:
    """Takes the requests from one stream, one after the other."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._frame = None if rules.framing is None else rules.framing()

    def take(self, log: ByteLog, start: int) -> Taken | int:
        """Return the request that begins at `start`, which only grows from call to call.

        Fire its rule with `reply` once it counts as consumed.

        Returns:
            What was taken. A number means that it has not come as a whole: look again when the log
            has so many bytes.

        Raises:
            MismatchError: what is there cannot be a frame, such as a length below 0.
            TypeError, ValueError: a framing function returned no length.
        """
        __tracebackhide__ = True
        if self._frame is None:
            return self._rules.begin(log, start)
        found, offset = self._frame.find(log, start)
        if not found:
            return offset
        frame = log.read(start, offset)
        return Taken(frame, offset, self._rules.find(frame))

    @staticmethod
    def reply(taken: Taken) -> tuple[bytes, ...]:
        """Fire the rule of a request and return the pieces to send; none for silence."""
        __tracebackhide__ = True
        assert taken.rule is not None, "no rule answers it"
        return taken.rule.fire(taken.rule.match(taken.frame))


def _begins(rule: Rule, other: Rule) -> bool:
    """Whether one request is a proper beginning of the other."""
    one, two = rule.request, other.request
    if not isinstance(one, bytes) or not isinstance(two, bytes) or one == two:
        return False
    return one.startswith(two) or two.startswith(one)


def _pieces_of(value: object, name: str, more: str = "") -> tuple[bytes, ...]:
    if value is None:
        return ()
    if isinstance(value, (list, tuple)):
        pieces = cast("list[object]", value)
        return tuple(as_bytes(piece, name=f"each piece of {name}") for piece in pieces)
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        return (as_bytes(cast("object", value), name=name),)
    kind = type(value).__name__
    msg = (
        f"{name} must be bytes, None (silence), a list of bytes{more}, "
        f"not {kind} {show_value(value)}"
    )
    raise TypeError(msg)
