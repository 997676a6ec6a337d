"""The steps of a conversation, as data: what is to be done, in order, and what may follow what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from pytest_sockets._wire.rendering import show, show_value

Kind: TypeAlias = Literal["send", "receive", "end", "wait"]
"""What a step does with the stream: whether it needs the peer to read, to send, or neither."""

ENDS_SENDING = frozenset({"close", "send_eof", "reset"})
ENDS_ALL = frozenset({"close", "reset"})
ENDS_RECEIVING = frozenset({"recv_to_eof", "expect_eof", "expect_reset", "wait_eof"})
KINDS: frozenset[Kind] = frozenset({"send", "receive", "end", "wait"})
RULED_OUT: tuple[tuple[frozenset[str], frozenset[Kind], str], ...] = (
    (ENDS_ALL, KINDS, "that ends the connection"),
    (ENDS_SENDING, frozenset({"send"}), "that ends our side"),
    (ENDS_RECEIVING, frozenset({"receive"}), "no more can come after it"),
)
"""Which verbs end what, the kinds of steps that cannot follow them, and why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One verb with its arguments."""

    verb: str
    kind: Kind
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout: float | None = None
    """Seconds; `None` means the script's."""
    save: str | None = None
    """Under which name the connection keeps the result."""
    wanted: str = ""
    """What it needs from the peer, for messages."""

    def __str__(self) -> str:
        parts = [_shown(argument) for argument in self.arguments]
        parts += [f"{name}={_shown(value)}" for name, value in self.options.items()]
        return f"{self.verb}({', '.join(parts)})"

    def may_begin_with(self, data: bytes) -> bool:
        """Whether `data` can be the start of what the step needs."""
        if self.verb == "expect" and isinstance(self.arguments[0], bytes):
            return self.arguments[0].startswith(data)
        return not data or self.verb not in ("expect_eof", "expect_nothing")


class Plan:
    """A growing list of steps that can follow each other."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.required: int | None = None
        """How many steps have to be done; `None` means all."""
        # What a new step is judged by: to look at all steps before each took a long script seconds.
        self._saves: dict[str | None, int] = {}  # name -> the number of the step that keeps it
        self._ruled_out: dict[Kind, tuple[Step, str]] = {}  # what cannot follow which step, and why

    def add(self, step: Step) -> None:
        """Append a step, or say why it can never be done."""
        if step.save is not None and not cast("object", step.save):
            msg = "save='' is no name: give the name under which conn.saved keeps the bytes"
            raise ValueError(msg)
        if step.save in self._saves:
            number = self._saves[step.save]
            msg = (
                f"save={step.save!r} is taken by step {number}, {self.steps[number - 1]}: "
                "conn.saved keeps one value of a name"
            )
            raise ValueError(msg)
        if step.kind in self._ruled_out:
            before, why = self._ruled_out[step.kind]
            msg = f"{step} cannot follow {before}: {why}"
            raise ValueError(msg)
        self.steps.append(step)
        if step.save is not None:
            self._saves[step.save] = len(self.steps)
        for verbs, kinds, why in RULED_OUT:
            if step.verb in verbs:
                for kind in kinds:
                    self._ruled_out.setdefault(kind, (step, why))

    @property
    def is_complete(self) -> bool:
        """Whether no step can follow any more."""
        return bool(self.steps) and self.steps[-1].verb in ENDS_ALL

    def make_optional(self) -> None:
        """Let the peer leave from here on."""
        if self.required is not None:
            msg = "optional() is said once: everything after it is optional"
            raise ValueError(msg)
        self.required = len(self.steps)

    def needs_only_eof(self, position: int) -> bool:
        """Whether the peer's EOF is all that the required steps from a position on want of it."""
        left = self.steps[position : self.required]
        is_eof = bool(left) and left[0].verb in ENDS_RECEIVING - {"expect_reset"}
        return is_eof and all(step.kind == "end" for step in left[1:])

    def is_required(self, position: int) -> bool:
        """Whether the step at a position has to be done."""
        return position < len(self.steps) and (self.required is None or position < self.required)


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return show(value)
    if isinstance(value, re.Pattern):
        return f"re.compile({cast('re.Pattern[bytes]', value).pattern!r})"
    name = getattr(value, "name", None)  # a gate's: how it stands now is not what the step says
    if isinstance(name, str):
        return name
    return show_value(value)
