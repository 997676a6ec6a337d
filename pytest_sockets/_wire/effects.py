"""What a fault does: the public names are in `pytest_sockets.faults`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from pytest_sockets._wire.framing import above_zero, count_of, positive
from pytest_sockets._wire.matching import as_bytes
from pytest_sockets._wire.values import DATAGRAM, STREAM, Carrier, Value


class Effect(Value):
    """What a fault does. Effects act on what their endpoint sends, unless they say otherwise."""

    __slots__ = ()
    _carriers: ClassVar[frozenset[Carrier]] = STREAM
    _is_breaking: ClassVar[bool] = True  # whether what the plan of a connection misses is its doing
    _needs_tls: ClassVar[bool] = False
    _is_unseen: ClassVar[bool] = False  # whether the kernel has it in our place, and tells nobody
    _is_on_receiving: ClassVar[bool] = False  # whether it acts on what the endpoint receives


# -- effects on streams


@final
@dataclass(frozen=True, slots=True, repr=False)
class Refuse(Effect):
    """Connecting is refused (ECONNREFUSED), on a port that stays ours. Open connections go on.

    The kernel refuses in our place and tells nobody: `hits` stay 0, nothing is judged, and neither
    `times=` nor `connection=` can be had. To fail a number of clients: `Reset` at `AtAccept`.
    """

    _is_unseen = True


@final
@dataclass(frozen=True, slots=True, repr=False)
class Stall(Effect):
    """Nothing is sent any more, neither bytes nor EOF; lifting it sends what has been kept."""


@final
@dataclass(frozen=True, slots=True, repr=False)
class Close(Effect):
    """The connection ends in order (FIN); what was still to be sent is not."""


@final
@dataclass(frozen=True, slots=True, repr=False)
class Reset(Effect):
    """The connection ends abruptly (RST); what was still to be sent is not.

    That includes what was sent and had no room with a peer that does not read.
    """


@final
@dataclass(frozen=True, slots=True, repr=False)
class HalfClose(Effect):
    """EOF is sent (FIN), and nothing after it; what the peer sends is still received."""


@final
@dataclass(frozen=True, slots=True, repr=False)
class StopReading(Effect):
    """Nothing is received any more, so that the peer's sending blocks; lifting it reads on.

    Made before the connection is, it takes less than 1 MB to fill the buffers between. On one that
    is open already, such as a pair, the peer's own buffer can take 4 MB.
    """

    _is_on_receiving = True


@final
@dataclass(frozen=True, slots=True, repr=False)
class Slice(Effect):
    """What is sent has real boundaries: a piece waits until the peer has read the one before.

    Args:
        size: bytes of a piece, at least 1; `None` makes one boundary, at the moment of the fault.
    """

    size: int | None = None
    _is_breaking = False

    def __post_init__(self) -> None:
        if self.size is not None:
            positive(self.size, name="size")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Throttle(Effect):
    """No more than so much is sent in a second.

    Args:
        rate: bytes per second, above 0.
    """

    rate: float
    _is_breaking = False

    def __post_init__(self) -> None:
        hint = "Stall() is for sending nothing"
        above_zero(self.rate, name="rate", unit="bytes per second", hint=hint)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Delay(Effect):
    """Everything is sent so much later, in the same order; EOF too.

    Args:
        seconds: seconds, above 0. What has not gone out when the test ends never does.
    """

    seconds: float
    _carriers = STREAM | DATAGRAM
    _is_breaking = False

    def __post_init__(self) -> None:
        above_zero(self.seconds, name="seconds", unit="seconds", hint="a delay of 0 is none")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Corrupt(Effect):
    """The next bytes are sent with other values, drawn from the seed of the test.

    On a datagram endpoint: so many bytes of each datagram that is hit, at places that are drawn.

    Args:
        size: how many bytes, at least 1.
    """

    size: int = 1
    _carriers = STREAM | DATAGRAM

    def __post_init__(self) -> None:
        positive(self.size, name="size")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Inject(Effect):
    """Bytes are sent that nobody asked for, before all that follows.

    Args:
        data: the bytes; not empty.
    """

    data: bytes

    def __post_init__(self) -> None:
        data = as_bytes(self.data, name="data")
        if not data:
            msg = "data is b'': give Inject() some bytes to send"
            raise ValueError(msg)
        object.__setattr__(self, "data", data)


@final
@dataclass(frozen=True, slots=True, repr=False)
class FailHandshake(Effect):
    """The TLS handshake fails."""

    _needs_tls = True


@final
@dataclass(frozen=True, slots=True, repr=False)
class RaggedEOF(Effect):
    """The connection ends without TLS's own closing (close_notify)."""

    _needs_tls = True


# -- effects on datagrams


@dataclass(frozen=True, slots=True, repr=False)
class _Drawn(Effect):
    """An effect that hits some datagrams only."""

    chance: float = 1.0
    _carriers = DATAGRAM

    def __post_init__(self) -> None:
        _check_chance(self.chance)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Drop(_Drawn):
    """A datagram is not sent.

    Args:
        chance: how likely each is hit, above 0 and at most 1; drawn from the seed of the test.
    """


@final
@dataclass(frozen=True, slots=True, repr=False)
class Duplicate(_Drawn):
    """A datagram is sent twice.

    Args:
        chance: how likely each is hit, above 0 and at most 1; drawn from the seed of the test.
    """


@final
@dataclass(frozen=True, slots=True, repr=False)
class Reorder(_Drawn):
    """A datagram is sent after the next one to the same address; with none, on lifting.

    Args:
        chance: how likely each is hit, above 0 and at most 1; drawn from the seed of the test.
    """


@final
@dataclass(frozen=True, slots=True, repr=False)
class Truncate(Effect):
    """Only the beginning of a datagram is sent.

    Args:
        size: bytes that are left; 0 leaves an empty datagram. A shorter one stays as it is, and is
            not hit.
    """

    size: int
    _carriers = DATAGRAM

    def __post_init__(self) -> None:
        count_of(self.size, name="size")


@final
@dataclass(frozen=True, slots=True, repr=False)
class WrongSource(Effect):
    """A datagram is sent from another address than the endpoint's own."""

    _carriers = DATAGRAM


@final
@dataclass(frozen=True, slots=True, repr=False)
class Unreachable(Effect):
    """What is sent to the endpoint is refused (ICMP port unreachable); its port stays ours.

    The kernel refuses in our place and tells nobody: see `Refuse`.
    """

    _carriers = DATAGRAM
    _is_unseen = True


def _check_chance(chance: object) -> None:
    if not isinstance(chance, (int, float)) or isinstance(chance, bool):
        msg = f"chance must be a number above 0 and at most 1, not {chance!r}"
        raise TypeError(msg)
    if not 0 < chance <= 1:
        msg = f"chance must be above 0 and at most 1, not {chance!r}"
        raise ValueError(msg)
