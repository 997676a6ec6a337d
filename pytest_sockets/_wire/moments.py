"""When a fault acts: the public names are in `pytest_sockets.faults`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast, final

from pytest_sockets._wire.framing import count_of
from pytest_sockets._wire.matching import as_bytes
from pytest_sockets._wire.values import DATAGRAM, STREAM, Carrier, Value


class Moment(Value):
    """When a fault acts. Bytes are counted on each connection by itself, from its beginning."""

    __slots__ = ()
    _carriers: ClassVar[frozenset[Carrier]] = STREAM
    _is_of_accepting: ClassVar[bool] = False


@final
@dataclass(frozen=True, slots=True, repr=False)
class AtAccept(Moment):
    """When a server has accepted the connection, before anything is read or sent.

    The kernel has completed the handshake by then. A client sees what happens here as the result of
    its connect, mostly where that does not block, or of the call after it.
    """

    _is_of_accepting = True


@final
@dataclass(frozen=True, slots=True, repr=False)
class OnFirstByte(Moment):
    """When the first byte has been received, before anything answers it."""


@final
@dataclass(frozen=True, slots=True, repr=False)
class AfterReceived(Moment):
    """When so much has been received, and not a byte more, before anything answers it.

    Args:
        what: a number of bytes (of datagrams, on a datagram endpoint), 0 being the beginning; or
            bytes, which are then complete for the first time since the fault was made.
    """

    what: int | bytes
    _carriers = STREAM | DATAGRAM

    def __post_init__(self) -> None:
        if isinstance(self.what, (bytes, bytearray, memoryview, str)):
            what = as_bytes(self.what, name="what")
            if not what:
                msg = "AfterReceived(b'') is true from the beginning: give bytes, or a number"
                raise ValueError(msg)
            object.__setattr__(self, "what", what)
        elif not isinstance(cast("object", self.what), int):
            msg = f"what must be a number of bytes, or bytes, not {self.what!r}"
            raise TypeError(msg)
        else:
            count_of(self.what, name="what")


@final
@dataclass(frozen=True, slots=True, repr=False)
class AfterSent(Moment):
    """When so much has been sent, and not a byte more.

    Args:
        n: bytes (datagrams, on a datagram endpoint); 0 is before the first.
    """

    n: int
    _carriers = STREAM | DATAGRAM

    def __post_init__(self) -> None:
        count_of(self.n, name="n")


@final
@dataclass(frozen=True, slots=True, repr=False)
class BeforeSend(Moment):
    """When something is about to be sent, for the first time since the fault was made.

    On a datagram endpoint: each datagram, as without a moment.
    """

    _carriers = STREAM | DATAGRAM


@final
@dataclass(frozen=True, slots=True, repr=False)
class AtEOF(Moment):
    """When the peer has sent EOF, before anything answers it."""
