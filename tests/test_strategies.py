from __future__ import annotations

import importlib
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from pytest_sockets import Settings, SocketPair, TCPServer
from pytest_sockets.faults import (
    AfterSent,
    Close,
    Corrupt,
    Effect,
    HalfClose,
    Inject,
    Reset,
    Slice,
)
from pytest_sockets.strategies import chunkings, fault_schedules
from stream_ends import PATIENCE
from wire_samples import STEADY

DATA = b"OK 5\r\nhello"
SEARCH = settings(database=None, derandomize=True, max_examples=2_000, deadline=None)


# -- chunkings


@settings(STEADY)
@given(
    st.binary(min_size=1, max_size=60).flatmap(
        lambda data: st.tuples(st.just(data), chunkings(data))
    )
)
def test_pieces_are_never_empty_and_all_of_it_together(drawn: tuple[bytes, list[bytes]]) -> None:
    data, pieces = drawn
    assert b"".join(pieces) == data
    assert all(pieces)


def test_one_piece_is_the_simplest() -> None:
    assert find(chunkings(DATA), lambda pieces: True, settings=SEARCH) == [DATA]
    assert find(chunkings(b"x"), lambda pieces: True, settings=SEARCH) == [b"x"]


def test_a_failing_one_shrinks_to_the_cut_that_matters() -> None:
    inside = find(chunkings(DATA), lambda pieces: not _ends_whole(pieces), settings=SEARCH)
    assert inside == [b"OK 5\r", b"\nhello"]


def test_a_failing_one_shrinks_to_few_cuts() -> None:
    three = find(chunkings(DATA), lambda pieces: len(pieces) >= 3, settings=SEARCH)
    assert len(three) == 3


@pytest.mark.parametrize(("size", "most"), [(2, 2), (11, 11), (200, 150), (10_000, 7_500)])
def test_nearly_each_byte_apart_comes_often(size: int, most: int) -> None:
    data = bytes(size)
    few = settings(SEARCH, max_examples=20, phases=[Phase.generate])
    assert len(find(chunkings(data), lambda pieces: len(pieces) >= most, settings=few)) >= most


def _ends_whole(pieces: list[bytes]) -> bool:
    """Whether no line end is in two pieces."""
    at = DATA.index(b"\r\n") + 1
    ends = [len(b"".join(pieces[:number])) for number in range(1, len(pieces))]
    return at not in ends


# -- schedules of faults


@settings(STEADY)
@given(st.data(), st.integers(1, 50), st.integers(0, 5))
def test_faults_are_in_order_and_nothing_follows_an_end(
    data: st.DataObject, sent: int, most: int
) -> None:
    schedule = data.draw(fault_schedules(sent, most=most))

    assert len(schedule) <= most
    offsets = [moment.n for _, moment in schedule]
    assert offsets == sorted(offsets)
    assert all(0 <= offset < sent for offset in offsets)
    assert all(type(moment) is AfterSent for _, moment in schedule)
    assert all(isinstance(effect, Slice) for effect, _ in schedule[:-1])


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        (lambda schedule: True, ()),
        (lambda schedule: schedule, ((Slice(), AfterSent(0)),)),
        (lambda schedule: len(schedule) == 2, ((Slice(), AfterSent(0)), (Slice(), AfterSent(0)))),
        (lambda schedule: _has(schedule, Reset), ((Reset(), AfterSent(0)),)),
        (lambda schedule: _has(schedule, HalfClose), ((HalfClose(), AfterSent(0)),)),
        (
            lambda schedule: any(moment.n > 6 for _, moment in schedule),
            ((Slice(), AfterSent(7)),),
        ),
        (
            lambda schedule: any(
                (getattr(effect, "size", None) or 0) > 2 for effect, _ in schedule
            ),
            ((Slice(3), AfterSent(0)),),
        ),
    ],
)
def test_a_failing_schedule_shrinks_to_the_faults_that_matter(
    holds: Callable[[Any], bool], expected: object
) -> None:
    assert find(fault_schedules(10), holds, settings=SEARCH) == expected


def test_effects_that_are_given_are_the_only_ones_and_the_first_is_the_simplest() -> None:
    chosen = (Corrupt(2), Inject(b"x"))
    schedules = fault_schedules(10, effects=chosen)

    assert find(schedules, bool, settings=SEARCH) == ((Corrupt(2), AfterSent(0)),)
    with pytest.raises(NoSuchExample):
        find(
            schedules,
            lambda schedule: any(effect not in chosen for effect, _ in schedule),
            settings=settings(SEARCH, max_examples=100),
        )


def _has(schedule: tuple[tuple[Effect, AfterSent], ...], kind: type[Effect]) -> bool:
    return any(isinstance(effect, kind) for effect, _ in schedule)


# -- what they are for: a client with a planted bug is found


def careless(sock: socket.socket) -> bytes:
    """Read a line, and take what comes behind it in the same piece for the whole body."""
    data = b""
    while b"\r\n" not in data:
        data += sock.recv(100)
    head, _, body = data.partition(b"\r\n")
    return body or sock.recv(int(head.removeprefix(b"OK ")))


def careful(sock: socket.socket) -> bytes:
    with sock.makefile("rb") as lines:
        return lines.read(int(lines.readline().removeprefix(b"OK ")))


def read_in_pieces(client: Callable[[socket.socket], bytes], pieces: list[bytes]) -> bytes:
    """Return what a client makes of a reply that has boundaries between the pieces."""
    with SocketPair(settings=Settings(timeout=PATIENCE)) as pair:
        at = 0
        for piece in pieces[:-1]:
            at += len(piece)
            pair.fault(Slice(), at=AfterSent(at), must_hit=False)
        pair.peer.send(DATA)
        return client(pair.socket)


QUICK = settings(
    database=None,
    derandomize=True,
    deadline=None,
    max_examples=60,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def test_a_parser_that_is_wrong_about_a_cut_is_found() -> None:
    found = find(
        chunkings(DATA), lambda pieces: read_in_pieces(careless, pieces) != b"hello", settings=QUICK
    )
    assert len(found) == 2
    assert b"ello".endswith(found[1])  # a cut inside the body


@settings(QUICK, max_examples=25)
@given(chunkings(DATA))
def test_a_parser_that_is_right_is_let_pass(pieces: list[bytes]) -> None:
    assert read_in_pieces(careful, pieces) == b"hello"


def test_a_client_that_takes_a_part_for_the_whole_is_found() -> None:
    def is_deceived(schedule: tuple[tuple[Effect, AfterSent], ...]) -> bool:
        with TCPServer(settings=Settings(timeout=PATIENCE)) as server:
            server.script().send(DATA).close()
            for effect, moment in schedule:
                server.fault(effect, at=moment, must_hit=False)
            try:
                with socket.create_connection(server.address, timeout=PATIENCE) as sock:
                    return careful(sock) != b"hello"
            except (OSError, ValueError):
                return False

    found = find(fault_schedules(len(DATA)), is_deceived, settings=QUICK)
    assert found == ((Close(), AfterSent(4)),)  # a length, and EOF


# -- mistakes


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: chunkings(b""), ValueError, "data is b'': it has no pieces"),
        (
            lambda: chunkings("OK"),  # type: ignore[arg-type]  # the mistake that is made
            TypeError,
            "data must be bytes, not str 'OK'; a socket carries bytes: write b'OK'",
        ),
        (lambda: fault_schedules(0), ValueError, "sent must be at least 1, not 0"),
        (
            lambda: fault_schedules(b"OK"),  # type: ignore[arg-type]  # the mistake that is made
            TypeError,
            "sent must be a whole number, not bytes b'OK'",
        ),
        (lambda: fault_schedules(5, most=-1), ValueError, "most must be at least 0"),
        (lambda: fault_schedules(5, effects=[]), ValueError, "effects is empty"),
        (
            lambda: fault_schedules(5, effects=[Reset]),  # type: ignore[list-item]  # as above
            TypeError,
            "effects must be some of pytest_sockets.faults, such as Reset(): <class",
        ),
    ],
)
def test_a_wrong_argument_is_named(
    call: Callable[[], object], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)


def test_without_hypothesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pytest_sockets.strategies")
    monkeypatch.setitem(sys.modules, "hypothesis", None)

    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("pytest_sockets.strategies")
    assert str(caught.value) == (
        "pytest_sockets.strategies needs Hypothesis, which is not installed: "
        "pip install 'pytest-sockets[hypothesis]'"
    )
    assert caught.value.name == "hypothesis"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_nothing_else_imports_hypothesis() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None; "
        "import pytest_sockets, pytest_sockets.plugin, pytest_sockets.faults"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
