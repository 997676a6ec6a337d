"""Which of our own frames a traceback shows: none of an error that we tell the user."""

from __future__ import annotations

import dis
import sys
from types import TracebackType
from typing import Protocol

PACKAGE = __name__.partition(".")[0]
RAISE = dis.opmap["RAISE_VARARGS"]
"""What a `raise` becomes, and an `assert`."""


class Raised(Protocol):
    """What pytest knows of an error: its `ExceptionInfo`."""

    @property
    def value(self) -> BaseException:
        """The error."""
        ...


def hide() -> None:
    """Have pytest ask `is_hidden` of each frame of the modules that have been imported so far.

    It reads the name that it reads in a function also in the module of the function.
    """
    for name, module in tuple(sys.modules.items()):
        if name.startswith(f"{PACKAGE}."):
            module.__dict__["__tracebackhide__"] = is_hidden


def is_hidden(raised: Raised | None) -> bool:
    """Whether the frames of ours are hidden: where the user's own line is what the error is about.

    A wrong argument is refused by a `raise` of ours. What Python raises in our code, or an `assert`
    of ours, is a mistake of our own, and its frames are what one reports.
    """
    if raised is None or type(raised.value) in (AssertionError, NotImplementedError):
        return False
    last = _last(raised.value.__traceback__)
    if last is None or not _is_ours(last):
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] == RAISE


def _last(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback


def _is_ours(traceback: TracebackType) -> bool:
    return str(traceback.tb_frame.f_globals.get("__name__", "")).startswith(f"{PACKAGE}.")
