"""Where something goes wrong in each run of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from pytest_sockets._engine.stream_faults import words
from pytest_sockets._wire.rendering import count
from pytest_sockets._wire.sweeps import shares, spread
from pytest_sockets.faults import AfterSent, Effect, FailHandshake, Refuse, Slice


class Stretch(NamedTuple):
    """What one connection sends when nothing goes wrong."""

    endpoint: int
    """Which of the endpoints that are opened, in order."""
    label: str
    connection: int
    size: int


class Spot(NamedTuple):
    """Where an effect acts in one run."""

    effect: Effect
    stretch: Stretch
    offset: int

    @property
    def fault(self) -> str:
        """How the fault is written."""
        return words(self.effect, AfterSent(self.offset))

    def __str__(self) -> str:
        return f"{self.fault} on {self.stretch.label}"


def spots(
    effects: Sequence[Effect], stretches: Sequence[Stretch], *, most: int, only: int | None
) -> tuple[list[Spot], int]:
    """Return where the effects act, and how many such spots there are in all.

    Args:
        effects: what goes wrong.
        stretches: where it can.
        most: how many spots at most; of more, each effect on each stretch gets its share.
        only: the only offset that is wanted; `None` is each.
    """
    groups = [(effect, stretch) for effect in effects for stretch in stretches]
    offsets = [_offsets(effect, stretch, only) for effect, stretch in groups]
    sizes = [len(each) for each in offsets]
    found: list[Spot] = []
    for (effect, stretch), each, share in zip(groups, offsets, shares(sizes, most), strict=True):
        steps = spread(len(each), share) if share > 1 else range(share)
        found += [Spot(effect, stretch, each[step]) for step in steps]
    total = sum(sizes)
    if not total:
        _raise_empty(stretches, only)
    return found, total


def check_effects(effects: Sequence[object]) -> None:
    """Say which effect no sweep can have, before anything runs."""
    if not effects:
        msg = "a sweep needs at least one effect, such as Reset(): sweep(talk, Reset())"
        raise TypeError(msg)
    for effect in effects:
        if not isinstance(effect, Effect):
            hint = f": write {effect.__name__}()" if isinstance(effect, type) else ""
            wanted = "an effect must be one of pytest_sockets.faults, such as Reset()"
            msg = f"{wanted}, not {effect!r}{hint}"
            raise TypeError(msg)
        if "stream" not in effect._carriers:
            msg = f"a sweep counts the bytes of streams, and {effect!r} is for datagrams"
            raise ValueError(msg)
        if isinstance(effect, (FailHandshake, Refuse)):
            msg = f"{effect!r} acts before anything is sent: a sweep has no byte to count"
            raise ValueError(msg)


def _offsets(effect: Effect, stretch: Stretch, only: int | None) -> range:
    """Return where an effect can act: one boundary needs a byte on either side of it."""
    first = 1 if isinstance(effect, Slice) and effect.size is None else 0
    offsets = range(first, max(first, stretch.size))
    if only is None:
        return offsets
    return range(only, only + 1) if only in offsets else range(0)


def _raise_empty(stretches: Sequence[Stretch], only: int | None) -> NoReturn:
    if not any(stretch.size for stretch in stretches):
        n = len(stretches)
        what = f"{count(n, 'connection')} sent nothing" if n else "there was no connection"
        msg = f"nothing to sweep: {what}; talk must open its endpoints with the Sockets it gets"
        raise ValueError(msg)
    sizes = ", ".join(f"{stretch.label} sent {stretch.size:,}" for stretch in stretches[:SHOWN])
    at = "" if only is None else f" at offset {only}"
    msg = f"nothing to sweep{at}: {sizes}"
    raise ValueError(msg)


SHOWN = 8
"""Connections that the error of a sweep without a run tells of."""
