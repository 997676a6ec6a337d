"""Strategies for Hypothesis: how a stream is cut, and what goes wrong on it.

They need the extra: ``pip install 'pytest-sockets[hypothesis]'``. Nothing else here does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeAlias, cast

from pytest_sockets._wire.framing import count_of, positive
from pytest_sockets._wire.matching import as_bytes
from pytest_sockets.faults import AfterSent, Close, Effect, HalfClose, Reset, Slice

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as error:
    if error.name != "hypothesis":
        raise
    msg = (
        "pytest_sockets.strategies needs Hypothesis, which is not installed: "
        "pip install 'pytest-sockets[hypothesis]'"
    )
    raise ModuleNotFoundError(msg, name="hypothesis") from None

__all__ = ["chunkings", "fault_schedules"]

Schedule: TypeAlias = tuple[tuple[Effect, AfterSent], ...]
"""Faults in the order in which they act."""

ENDS = (Close, HalfClose, Reset)
"""Effects after which nothing is sent, so that a later fault would meet nothing."""
STRETCHES = 200
"""Stretches of data that are drawn to be cut everywhere, or nowhere: Hypothesis draws some thousand
values for an example, and no more."""


def chunkings(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Return a strategy of lists of pieces that are `data` together, none of them empty.

    They are for `send_apart`, or for a parser that is fed by hand. A failing one shrinks towards
    few cuts, near the beginning; one piece is the simplest.

    Args:
        data: what is cut; not empty.

    Raises:
        TypeError, ValueError: `data` is no bytes, or empty.
    """
    content = as_bytes(data, name="data")
    if not content:
        msg = "data is b'': it has no pieces that are not empty"
        raise ValueError(msg)
    size = len(content)

    def cut(places: Iterable[int]) -> list[bytes]:
        return [content[start:stop] for start, stop in pairwise([0, *sorted(places), size])]

    if size == 1:
        return st.just([content])
    some = st.frozensets(st.integers(1, size - 1))
    # By chance alone each byte apart would hardly ever come, and it finds the most. So nearly every
    # place is drawn to be cut, and shrinking takes back those that do not matter. The list is read
    # from its end, as a list is the simpler the later in it something is.
    width = -(-(size - 1) // STRETCHES)
    number = -(-(size - 1) // width)

    def apart(drawn: list[int]) -> list[int]:
        starts = [1 + at * width for at, is_cut in enumerate(reversed(drawn)) if is_cut]
        return [place for start in starts for place in range(start, min(start + width, size))]

    nearly_all = st.lists(st.integers(0, 255), min_size=number, max_size=number).map(apart)
    return st.one_of(some.map(cut), nearly_all.map(cut))


def fault_schedules(
    sent: int, *, effects: Sequence[Effect] | None = None, most: int = 3
) -> st.SearchStrategy[Schedule]:
    """Return a strategy of faults for an endpoint that sends so many bytes.

    Each value is a tuple of pairs, an effect and its moment, in the order in which they act::

        for effect, moment in schedule:
            server.fault(effect, at=moment, must_hit=False)

    Nothing follows an effect that ends the connection. A failing schedule shrinks towards none and
    early ones, and towards the effects that come first.

    Args:
        sent: how many bytes the endpoint sends when nothing goes wrong, at least 1.
        effects: what can go wrong, the simplest first. `None`: boundaries, ``Close()``,
            ``HalfClose()`` and ``Reset()``. An effect after which nothing comes, such as
            ``Stall()``, needs a client with a short timeout of its own.
        most: how many faults at most; 0 is none.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    size = positive(sent, name="sent")
    count_of(most, name="most")
    if effects is None:
        sizes = st.none() | st.integers(1, size)
        chosen: st.SearchStrategy[Effect] = st.one_of(
            sizes.map(Slice), st.just(Close()), st.just(HalfClose()), st.just(Reset())
        )
    else:
        if not effects:
            msg = "effects is empty: give some, or None for the usual ones"
            raise ValueError(msg)
        for effect in cast("Sequence[object]", effects):
            if not isinstance(effect, Effect):
                msg = f"effects must be some of pytest_sockets.faults, such as Reset(): {effect!r}"
                raise TypeError(msg)
        chosen = st.sampled_from(effects)
    pairs = st.tuples(chosen, st.integers(0, size - 1).map(AfterSent))
    return st.lists(pairs, max_size=most).map(_in_order)


def _in_order(pairs: list[tuple[Effect, AfterSent]]) -> Schedule:
    found: list[tuple[Effect, AfterSent]] = []
    for pair in sorted(pairs, key=lambda pair: pair[1].n):
        found.append(pair)
        if isinstance(pair[0], ENDS):
            break
    return tuple(found)
