# pyright: reportUnnecessaryTypeIgnoreComment=true
"""What type checkers see of sweeps. Checked, never run."""

from __future__ import annotations

from typing import assert_type

import hypothesis.strategies as st

from pytest_sockets import Settings, Sockets, Sweep, cuts, splits
from pytest_sockets.faults import AfterSent, Close, Effect, Reset, Slice
from pytest_sockets.strategies import chunkings, fault_schedules


def places() -> None:
    assert_type(cuts(b"reply"), tuple[int, ...])
    assert_type(cuts(b"reply", most=3), tuple[int, ...])
    assert_type(splits(b"reply"), tuple[tuple[bytes, bytes], ...])
    for cut in cuts(b"reply"):
        AfterSent(cut)
    for head, tail in splits(b"reply"):
        assert_type(head + tail, bytes)


def talk(sockets: Sockets) -> int:
    return len(sockets.tcp_server().sent)


def sweeps(sweep: Sweep) -> None:
    assert_type(sweep(talk, Reset(), Close(), Slice(2), most=10, only=3), None)
    Sweep(Settings(timeout=1), family="ipv6")(lambda sockets: sockets.udp_peer(), Reset())
    sweep(talk, AfterSent(3))  # type: ignore[arg-type]  # wrong on purpose
    sweep(print, Reset(), most=None)  # type: ignore[arg-type]  # wrong on purpose


def strategies() -> None:
    assert_type(chunkings(b"data"), st.SearchStrategy[list[bytes]])
    schedules = fault_schedules(5, effects=[Reset(), Close()], most=2)
    assert_type(schedules, st.SearchStrategy[tuple[tuple[Effect, AfterSent], ...]])
