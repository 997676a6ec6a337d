import inspect
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bad_input import Case, Desk, check, open_desk
from pytest_sockets import (
    Connection,
    DatagramPeer,
    Gate,
    MismatchError,
    Settings,
    Sockets,
    StreamServer,
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def desk(sockets: Sockets) -> Iterator[Desk]:
    with open_desk(sockets) as desk:
        yield desk


# -- numbers

NOT_A_SIZE: list[tuple[Any, type[Exception], str]] = [
    (0, ValueError, "must be at least 1, not 0"),
    (-1, ValueError, "must be at least 1, not -1"),
    (1.5, TypeError, "must be a whole number, not float 1.5"),
    (True, TypeError, "must be a whole number, not bool True"),
    ("1", TypeError, "must be a whole number, not str '1'"),
    (None, TypeError, "must be a whole number, not NoneType None"),
]
PATTERN = re.compile(rb"x")
SIZES: dict[str, tuple[str, Callable[[Desk, Any], object]]] = {
    "recv": ("n", lambda desk, n: desk.conn.recv(n)),
    "recv_exactly": ("n", lambda desk, n: desk.conn.recv_exactly(n)),
    "expect": ("until", lambda desk, n: desk.conn.expect(PATTERN, until=n)),
}
COUNTS: dict[str, tuple[str, Callable[[Desk, Any], object]]] = {
    "wait_connections": ("n", lambda desk, n: desk.server.wait_connections(n)),
    "assert_connections": ("n", lambda desk, n: desk.server.assert_connections(n)),
    "wait_closed": ("n", lambda desk, n: desk.server.wait_closed(n)),
    "wait_datagrams": ("n", lambda desk, n: desk.peer.wait_datagrams(n)),
    "assert_datagrams": ("n", lambda desk, n: desk.peer.assert_datagrams(n)),
    "max_size": ("max_size", lambda desk, n: desk.peer.assert_datagrams(0, max_size=n)),
}


@pytest.mark.parametrize(
    ("verb", "value", "kind", "text"),
    [
        (verb, *told)
        for verb in SIZES
        for told in NOT_A_SIZE
        if verb != "expect" or isinstance(told[0], (int, float))  # until= may be bytes or missing
    ],
)
def test_a_size_is_a_whole_number_of_at_least_one(
    desk: Desk, verb: str, value: Any, kind: type[Exception], text: str
) -> None:
    name, call = SIZES[verb]
    check(desk, (lambda desk: call(desk, value), kind, f"{name} {text}"))


@pytest.mark.parametrize("value", [-1, 1.5, True, "1"])
@pytest.mark.parametrize("verb", COUNTS)
def test_a_count_is_a_whole_number_of_at_least_zero(desk: Desk, verb: str, value: Any) -> None:
    name, call = COUNTS[verb]
    kind: type[Exception] = ValueError if value == -1 else TypeError
    form = "at least 0, not" if value == -1 else f"a whole number, not {type(value).__name__}"
    check(desk, (lambda desk: call(desk, value), kind, f"{name} must be {form} {value!r}"))


# -- bytes

NOT_BYTES = {
    "str": ("x", "must be bytes, not str 'x'; a socket carries bytes: write b'x'"),
    "int": (5, "must be bytes, not int 5"),
    "none": (None, "must be bytes, not NoneType None"),
}
BYTES: dict[str, tuple[str, Callable[[Desk, Any], object]]] = {
    "send": ("data", lambda desk, value: desk.conn.send(value)),
    "send-datagram": ("data", lambda desk, value: desk.peer.send(value)),
    "recv_until": ("separator", lambda desk, value: desk.conn.recv_until(value)),
    "expect": ("expected", lambda desk, value: desk.conn.expect(value)),
    "expect-datagram": ("expected", lambda desk, value: desk.peer.expect(value)),
    "assert_received": ("expected", lambda desk, value: desk.conn.assert_received(value)),
    "assert_received-server": ("expected", lambda desk, value: desk.server.assert_received(value)),
    "assert_sent": ("expected", lambda desk, value: desk.conn.assert_sent(value)),
    "contains": ("contains", lambda desk, value: desk.conn.assert_received(contains=value)),
    "assert_received-datagrams": (
        "each payload",
        lambda desk, value: desk.peer.assert_received(b"x", value),
    ),
    "assert_order": ("each moment", lambda desk, value: desk.sockets.assert_order(value, value)),
}


@pytest.mark.parametrize("kind", NOT_BYTES)
@pytest.mark.parametrize("verb", BYTES)
def test_a_socket_carries_bytes(desk: Desk, verb: str, kind: str) -> None:
    name, call = BYTES[verb]
    value, text = NOT_BYTES[kind]
    check(desk, (lambda desk: call(desk, value), TypeError, f"{name} {text}"))


VERBS: dict[str, Case] = {
    "pattern-without-until": (
        lambda desk: desk.conn.expect(PATTERN),  # type: ignore[call-overload]  # wrong on purpose
        TypeError,
        "expect(re.compile(b'x')) needs until=: TCP has no messages, so say where the frame ends",
    ),
    "until-with-bytes": (
        lambda desk: desk.conn.expect(b"x", until=b"y"),  # type: ignore[call-overload]  # wrong on purpose
        TypeError,
        "until= goes with a pattern: bytes say themselves where they end",
    ),
    "until-text": (
        lambda desk: desk.conn.expect(PATTERN, until="y"),  # type: ignore[call-overload]  # wrong on purpose
        TypeError,
        "until must be bytes, not str 'y'; a socket carries bytes: write b'y'",
    ),
    "until-empty": (
        lambda desk: desk.conn.expect(PATTERN, until=b""),
        ValueError,
        "until=b'' ends no frame: name at least one byte",
    ),
    "text-pattern": (
        lambda desk: desk.conn.expect(re.compile("x"), until=1),  # type: ignore[call-overload]  # wrong on purpose
        TypeError,
        "expected must be a bytes pattern: write re.compile(b'x')",
    ),
    "text-pattern-claim": (
        lambda desk: desk.server.assert_received(re.compile("x")),
        TypeError,
        "expected must be a bytes pattern: write re.compile(b'x')",
    ),
    "expect-object": (
        lambda desk: desk.conn.expect(Ellipsis),  # type: ignore[call-overload]  # wrong on purpose
        TypeError,
        "expect takes bytes or a compiled bytes pattern, not Ellipsis",
    ),
    "separator-empty": (
        lambda desk: desk.conn.recv_until(b""),
        ValueError,
        "separator=b'' ends no frame: name at least one byte",
    ),
    "format-nonsense": (
        lambda desk: desk.conn.recv_prefixed("nonsense"),
        ValueError,
        "format must be a struct format such as '>H', not 'nonsense'",
    ),
    "format-two": (
        lambda desk: desk.conn.recv_prefixed(">HH"),
        ValueError,
        "format must hold one whole number, as '>H' does, not '>HH'",
    ),
    "format-no-number": (
        lambda desk: desk.conn.recv_prefixed("2s"),
        ValueError,
        "format must hold one whole number, as '>H' does, not '2s'",
    ),
    "format-type": (
        lambda desk: desk.conn.recv_prefixed(5),  # type: ignore[arg-type]  # wrong on purpose
        TypeError,
        "format must be a struct format such as '>H', not int 5",
    ),
    "claim-without-content": (
        lambda desk: desk.conn.assert_received(),
        TypeError,
        "give either the expected bytes or contains=, and not both",
    ),
    "claim-with-both": (
        lambda desk: desk.server.assert_sent(b"x", contains=b"x"),
        TypeError,
        "give either the expected bytes or contains=, and not both",
    ),
    "contains-empty": (
        lambda desk: desk.server.assert_received(contains=b""),
        ValueError,
        "contains=b'' is true of every stream: name the bytes that must occur",
    ),
    "to-form": (
        lambda desk: desk.peer.send(b"x", to="/a/path"),
        TypeError,
        "to='/a/path' is no address of ipv4: ",
    ),
    "to-port": (
        lambda desk: desk.peer.send(b"x", to=("127.0.0.1", 70000)),
        ValueError,
        "to=('127.0.0.1', 70000) is no address of ipv4: ",
    ),
    "one-moment": (
        lambda desk: desk.sockets.assert_order(b"x"),
        ValueError,
        "assert_order needs at least two moments to compare",
    ),
    "empty-moment": (
        lambda desk: desk.sockets.assert_order(b"", b"x"),
        ValueError,
        "b'' is no moment: name at least one byte",
    ),
    "moment-that-never-came": (
        lambda desk: desk.sockets.assert_order(b"x", b"y"),
        MismatchError,
        "b'x' was never received or sent on any endpoint",
    ),
}


@pytest.mark.parametrize("case", VERBS)
def test_a_verb_names_the_bad_value(desk: Desk, case: str) -> None:
    check(desk, VERBS[case])


# -- seconds

BAD_SECONDS = [-1, math.nan, math.inf, -math.inf, "5", True, b"5"]
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "assert_connections": (1,),
    "assert_datagrams": (1,),
    "assert_received": (b"x",),
    "assert_sent": (b"x",),
    "expect": (b"x",),
    "recv": (1,),
    "recv_exactly": (1,),
    "recv_fds": (1, 1),
    "recv_fds-peer": (1,),
    "recv_prefixed": (">H",),
    "recv_until": (b"x",),
    "send": (b"x",),
    "send_apart": (b"x",),
    "send_fds": (b"x", [0]),
    "wait_connections": (1,),
    "wait_closed-server": (1,),
    "wait_datagrams": (1,),
    "connect": (("127.0.0.1", 9),),
    "hold": (Gate(),),
}
TIMED = [
    (owner, name)
    for owner, kind in {
        "conn": Connection,
        "server": StreamServer,
        "peer": DatagramPeer,
        "sockets": Sockets,
    }.items()
    for name, verb in inspect.getmembers(kind, inspect.isfunction)
    if not name.startswith("_")
    and "timeout" in inspect.signature(verb).parameters
    and name != "expect_nothing"  # below: it takes no argument by position
]


def test_every_verb_that_waits_is_among_those_whose_timeout_is_tested() -> None:
    assert len(TIMED) >= 27
    assert ("conn", "close") in TIMED
    assert ("sockets", "connect") in TIMED


@pytest.mark.parametrize("value", BAD_SECONDS, ids=repr)
@pytest.mark.parametrize(("owner", "name"), TIMED)
def test_a_timeout_is_a_finite_number_of_seconds(
    desk: Desk, owner: str, name: str, value: Any
) -> None:
    def call(desk: Desk) -> object:
        arguments = ARGUMENTS.get(f"{name}-{owner}", ARGUMENTS.get(name, ()))
        return getattr(getattr(desk, owner), name)(*arguments, timeout=value)

    check(desk, (call, *_told("timeout", value)))
    assert desk.conn.sent == b""


@pytest.mark.parametrize("value", BAD_SECONDS, ids=repr)
def test_other_spans_are_finite_numbers_of_seconds_too(desk: Desk, value: Any) -> None:
    check(desk, (lambda desk: desk.conn.expect_nothing(within=value), *_told("within", value)))
    until = {"until": Gate(), "timeout": value}
    check(desk, (lambda desk: desk.conn.expect_nothing(**until), *_told("timeout", value)))
    check(desk, (lambda _: Settings(timeout=value), *_told("timeout", value)))
    check(desk, (lambda _: Settings(timeout_factor=value), *_told("timeout_factor", value)))


def _told(name: str, value: Any) -> tuple[type[Exception], str]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return ValueError, f"{name} must be a number of seconds, 0 or more and finite, not {value}"
    return TypeError, f"{name} must be a number of seconds, not {type(value).__name__} {value!r}"
