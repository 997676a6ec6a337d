"""What happened, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

Address: TypeAlias = tuple[Any, ...] | str
"""Where to connect: `(host, port)`, or a path; an abstract AF_UNIX name begins with ``"\\0"``."""

Kind: TypeAlias = Literal[
    "accepted",
    "connected",
    "received",
    "sent",
    "peer_eof",
    "peer_reset",
    "eof_sent",
    "reset_sent",
    "closed",
    "problem",
    "note",
    "fault",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened on an endpoint.

    `kind` is one of ``accepted``, ``connected``, ``received``, ``sent``, ``peer_eof``,
    ``peer_reset``, ``eof_sent``, ``reset_sent``, ``closed``, ``problem``, ``note`` and ``fault``.
    """

    time: float
    """Seconds on the monotonic clock. No two events of a process have the same time."""
    endpoint: str
    """The endpoint's name."""
    connection: int | None
    """The connection's index on its endpoint; `None` for datagrams and the endpoint itself."""
    kind: Kind
    data: bytes = b""
    """The bytes of a ``received`` or ``sent`` event, as the kernel handed them over."""
    peer: Address | None = None
    """The other end of an ``accepted`` or ``connected`` event, or of a datagram."""
    note: str = field(default="")
    """What is to be said beside it: the kernel's words of a reset, the text of a problem, that
    descriptors came with the bytes, which fault acted after how many bytes."""


class PeerCredentials(NamedTuple):
    """Who is at the other end of AF_UNIX (unix(7): SO_PEERCRED, SCM_CREDENTIALS)."""

    pid: int
    uid: int
    gid: int


for _name, _text in (
    (
        "pid",
        "The process that connected, or listened, or sent the datagram; 0 where our PID namespace "
        "has none of it.",
    ),
    ("uid", "Its user id at that moment: the effective one of a stream, the real one of a sender."),
    ("gid", "Its group id at that moment, as `uid`."),
):
    getattr(PeerCredentials, _name).__doc__ = _text  # else "Alias for field number 0"


@dataclass(frozen=True, slots=True)
class Datagram:
    """One received datagram."""

    data: bytes
    source: Address | None
    """Where it came from, as `sendto` takes it; `None` for an unnamed AF_UNIX socket."""
    time: float
    """Seconds on the monotonic clock."""
    credentials: PeerCredentials | None = None
    """Who sent it, as the kernel saw that process then; `None` for families other than AF_UNIX."""
