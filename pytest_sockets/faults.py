"""What can go wrong on a connection, and when: effects and moments, for `endpoint.fault`.

All are frozen values that compare equal, and whose `repr` is how they are written; pytest shows it
in a parametrised test's id. An effect says what happens on the wire, a moment says when; `cuts` and
`splits` give every place of a reply.
"""

from pytest_sockets._wire.effects import (
    Close,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Effect,
    FailHandshake,
    HalfClose,
    Inject,
    RaggedEOF,
    Refuse,
    Reorder,
    Reset,
    Slice,
    Stall,
    StopReading,
    Throttle,
    Truncate,
    Unreachable,
    WrongSource,
)
from pytest_sockets._wire.moments import (
    AfterReceived,
    AfterSent,
    AtAccept,
    AtEOF,
    BeforeSend,
    Moment,
    OnFirstByte,
)
from pytest_sockets._wire.sweeps import cuts, splits

__all__ = [
    "AfterReceived",
    "AfterSent",
    "AtAccept",
    "AtEOF",
    "BeforeSend",
    "Close",
    "Corrupt",
    "Delay",
    "Drop",
    "Duplicate",
    "Effect",
    "FailHandshake",
    "HalfClose",
    "Inject",
    "Moment",
    "OnFirstByte",
    "RaggedEOF",
    "Refuse",
    "Reorder",
    "Reset",
    "Slice",
    "Stall",
    "StopReading",
    "Throttle",
    "Truncate",
    "Unreachable",
    "WrongSource",
    "cuts",
    "splits",
]

for _name in __all__:
    if isinstance(globals()[_name], type):  # tracebacks and the manual show what users import
        globals()[_name].__module__ = __name__
