from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sockets import MismatchError
from pytest_sockets._wire.framing import framing_of
from pytest_sockets._wire.rules import SHOWN, Rules, Taken
from wire_samples import STEADY, CountingLog, cut_at, log_of

LINES = framing_of(b"\r\n")


def lines(*rules: tuple[Any, ...]) -> Rules:
    made = Rules(LINES)
    for rule in rules:
        made.add(*rule)
    return made


def unframed(*rules: tuple[Any, ...]) -> Rules:
    made = Rules()
    for rule in rules:
        made.add(*rule)
    return made


def answers(rules: Rules, *pieces: bytes) -> tuple[list[tuple[bytes, ...]], bytes]:
    """Answer what comes in these pieces, looking only when it could help; and what is left."""
    log, start, needed = log_of(), 0, 0
    unread = rules.unread()
    found: list[tuple[bytes, ...]] = []
    for piece in pieces:
        log.append(piece)
        while log.size >= needed:
            taken = unread.take(log, start)
            if isinstance(taken, int):
                assert taken > log.size
                needed = taken
                break
            assert taken.frame == log.read(start, taken.stop)
            assert taken.rule is not None, rules.misfit(taken.frame)
            start = taken.stop
            found.append(unread.reply(taken))
    return found, log.read(start)


# -- which rule answers


def test_the_first_rule_that_matches_answers() -> None:
    rules = lines(
        (b"PING\r\n", b"1"),
        (re.compile(rb"P\w+\r\n"), b"2"),
        (re.compile(rb".+\r\n"), b"3"),
    )
    assert [rules.answer(frame) for frame in (b"PING\r\n", b"PONG\r\n", b"x\r\n", b"\r\n")] == [
        (b"1",),
        (b"2",),
        (b"3",),
        None,
    ]
    assert rules.never_fired == ()


def test_times_used_up_means_the_next_rule_and_then_none() -> None:
    rules = lines((b"A\r\n", b"1", 2), (b"A\r\n", b"2", 1))
    assert [rules.answer(b"A\r\n") for _ in range(4)] == [(b"1",), (b"1",), (b"2",), None]


@pytest.mark.parametrize(
    ("pattern", "frame", "matches"),
    [
        (rb"AB", b"AB", True),
        (rb"A", b"AB", False),
        (rb"B", b"AB", False),
        (rb"A|AB", b"AB", True),
        (rb"A.", b"A\n", False),
        (rb"(?s:A.)", b"A\n", True),
        (rb"(?i:ab)", b"AB", True),
        (rb"AB$", b"AB\n", False),
    ],
)
def test_a_pattern_has_to_match_the_whole_frame(
    pattern: bytes, frame: bytes, matches: bool
) -> None:
    rules = Rules(of_datagrams=True)
    rules.add(re.compile(pattern), b"yes")
    assert rules.answer(frame) == ((b"yes",) if matches else None)


@pytest.mark.parametrize(
    ("reply", "pieces"),
    [
        (b"one", (b"one",)),
        (b"", (b"",)),
        (bytearray(b"one"), (b"one",)),
        (None, ()),
        ([], ()),
        ([b"one"], (b"one",)),
        ((b"one", memoryview(b"two")), (b"one", b"two")),
    ],
)
def test_a_reply_is_bytes_or_several_or_silence_also_from_a_function(
    reply: Any, pieces: tuple[bytes, ...]
) -> None:
    rules = lines((b"A\r\n", reply), (b"B\r\n", lambda frame: reply))
    assert rules.answer(b"A\r\n") == pieces
    assert rules.answer(b"B\r\n") == pieces


def test_a_function_gets_the_frame_or_the_match_or_what_is_given() -> None:
    got: list[Any] = []
    rules = lines((b"A\r\n", got.append), (re.compile(rb"(\w)\r\n"), got.append))
    assert rules.answer(b"A\r\n") == ()
    assert rules.answer(b"B\r\n") == ()
    assert rules.answer(b"A\r\n", "given") == ()
    assert got[0] == b"A\r\n"
    assert got[1][1] == b"B"
    assert got[2] == "given"


def test_an_answer_counts_before_its_function_runs() -> None:
    def fail(frame: bytes) -> bytes:
        raise LookupError(frame)

    rules = lines((b"A\r\n", fail, 1))
    with pytest.raises(LookupError):
        rules.answer(b"A\r\n")
    assert rules.answer(b"A\r\n") is None
    assert rules.never_fired == ()


def test_what_never_answered_is_told_in_order() -> None:
    rules = lines((b"A\r\n", b"1", 1), (b"B\r\n", None), (b"C\r\n", b"3"))
    assert len(rules) == len(rules.never_fired) == 3
    rules.answer(b"B\r\n")
    assert [repr(rule) for rule in rules.never_fired] == [
        r"on(b'A\r\n', b'1', times=1)",
        r"on(b'C\r\n', b'3')",
    ]


async def never(frame: bytes) -> bytes:
    return frame


def named(frame: bytes) -> bytes:
    return frame


class Callee:
    def __call__(self, frame: bytes) -> bytes:
        return frame

    def __repr__(self) -> str:
        return "a callee"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((b"PING\r\n", b"+PONG\r\n", 2), r"on(b'PING\r\n', b'+PONG\r\n', times=2)"),
        ((b"PING\r\n", None), r"on(b'PING\r\n', None)"),
        ((b"PING\r\n", []), r"on(b'PING\r\n', None)"),
        ((b"PING\r\n", [b"a", b"b"]), r"on(b'PING\r\n', [b'a', b'b'])"),
        ((b"PING\r\n", named), r"on(b'PING\r\n', named)"),
        ((b"PING\r\n", Callee()), r"on(b'PING\r\n', a callee)"),
        ((re.compile(rb"A+\r\n", re.I), b""), r"on(re.compile(b'A+\\r\\n', re.IGNORECASE), b'')"),
        (
            (b"x" * 200 + b"\r\n", b""),
            f"on({b'x' * 48!r} … (bytes 0 to 48 of 202), b'')",
        ),
    ],
)
def test_a_rule_prints_as_it_was_made(arguments: tuple[Any, ...], text: str) -> None:
    (rule,) = lines(arguments).never_fired
    assert repr(rule) == text


def test_a_misfit_lists_the_rules_and_which_are_used_up() -> None:
    rules = lines((b"A\r\n", b"1", 1), (b"B\r\n", b"2"))
    rules.answer(b"A\r\n")
    assert rules.misfit(b"A\r\n") == (
        "no rule answers b'A\\r\\n'\n"
        "  on(b'A\\r\\n', b'1', times=1), used up\n"
        "  on(b'B\\r\\n', b'2')"
    )


def test_a_misfit_names_the_patterns_that_only_miss_the_separator() -> None:
    rules = lines(
        (re.compile(rb"GET"), b"the beginning only"),
        (re.compile(rb"GET a"), b"used up", 1),
        (re.compile(rb"GET a"), b"1"),
        (re.compile(rb"GET .+"), b"2"),
    )
    rules.never_fired[1].fire(None)
    misses = r" matches without the separator b'\r\n', and has to match that too"
    assert rules.misfit(b"GET a\r\n").splitlines()[1:] == [
        "  on(re.compile(b'GET'), b'the beginning only')",
        "  on(re.compile(b'GET a'), b'used up', times=1), used up",
        "  on(re.compile(b'GET a'), b'1')" + misses,
        "  on(re.compile(b'GET .+'), b'2')" + misses,
    ]
    assert misses not in rules.misfit(b"PUT a\r\n")


def test_a_misfit_names_a_pattern_that_only_misses_the_length() -> None:
    rules = Rules(framing_of("B"))
    rules.add(b"\1a", b"1")
    rules.add(re.compile(b"a+"), b"2")
    assert rules.misfit(b"\2aa").splitlines()[-1] == (
        "  on(re.compile(b'a+'), b'2') matches without the length in front, b'\\x02', "
        "and has to match that too"
    )


def test_a_misfit_does_not_list_rules_without_end() -> None:
    rules = lines(*((b"%d\r\n" % number, None) for number in range(SHOWN + 2)))
    shown = rules.misfit(b"x").splitlines()
    assert len(shown) == SHOWN + 2
    assert shown[-1] == "  … and 2 more rules"
    for source in (rb"GET .+", rb"GET .*"):
        rules.add(re.compile(source), b"1")
    assert rules.misfit(b"GET a\r\n").splitlines()[-1] == (
        "  … and 4 more rules, of which on(re.compile(b'GET .+'), b'1') matches without the "
        r"separator b'\r\n', and has to match that too"
    )


# -- what is refused


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lines(("A", b"")), TypeError, "request must be bytes, not str 'A'; a socket"),
        (lambda: lines((7, b"")), TypeError, "request must be bytes, not int 7"),
        (lambda: lines((None, b"")), TypeError, "request must be bytes, not NoneType None"),
        (
            lambda: lines((re.compile("A"), b"")),
            TypeError,
            "request must be a bytes pattern: write re.compile(b'A')",
        ),
        (lambda: lines((b"", b"")), ValueError, "request=b'' is no frame: name at least one byte"),
        (lambda: unframed((b"", b"")), ValueError, "request=b'' is no frame"),
        (lambda: lines((b"A\r\n", "B")), TypeError, "reply must be bytes, not str 'B'; a socket"),
        (
            lambda: lines((b"A\r\n", 7)),
            TypeError,
            "reply must be bytes, None (silence), a list of bytes or a function, not int 7",
        ),
        (
            lambda: lines((b"A\r\n", [b"a", "b"])),
            TypeError,
            "each piece of reply must be bytes, not str 'b'; a socket",
        ),
        (
            lambda: lines((b"A\r\n", never)),
            TypeError,
            "reply=never must be a plain function, not an async one",
        ),
        (
            lambda: lines((b"A\r\n", lambda frame: "B")).answer(b"A\r\n"),
            TypeError,
            "what reply function <lambda> returns must be bytes, not str 'B'; a socket",
        ),
        (
            lambda: lines((b"A\r\n", lambda frame: 7)).answer(b"A\r\n"),
            TypeError,
            "what reply function <lambda> returns must be bytes, None (silence), a list of bytes, "
            "not int 7",
        ),
        (
            lambda: lines((b"A\r\n", lambda frame: never(frame))).answer(b"A\r\n"),
            TypeError,
            "what reply function <lambda> returns must be bytes, None (silence), a list of bytes, "
            "not coroutine <coroutine object never",
        ),
        (lambda: lines((b"A\r\n", b"", 0)), ValueError, "times must be at least 1, not 0"),
        (lambda: lines((b"A\r\n", b"", -1)), ValueError, "times must be at least 1, not -1"),
        (
            lambda: lines((b"A\r\n", b"", 1.0)),
            TypeError,
            "times must be a whole number, not float 1.0",
        ),
        (
            lambda: lines((b"A\r\n", b"", True)),
            TypeError,
            "times must be a whole number, not bool True",
        ),
        (
            lambda: unframed((re.compile(rb"A+"), b"")),
            TypeError,
            "on(re.compile(b'A+'), …) needs framing=: TCP has no messages, so say where a frame "
            r"ends, for example tcp_server(framing=b'\r\n')",
        ),
        (
            lambda: lines((re.compile(rb"A*"), b"")),
            ValueError,
            "on(re.compile(b'A*'), …) matches b'', which is never a frame: "
            "have it ask for at least one byte, as .+ does where .* does not",
        ),
        (
            lambda: lines((b"A", b"1")),
            ValueError,
            r"on(b'A', b'1') can never answer: a frame here is bytes up to b'\r\n', with its "
            "separator or prefix, and b'A' is not exactly one",
        ),
        (lambda: lines((b"A\r\nB\r\n", b"1")), ValueError, "is not exactly one"),
        (lambda: _with(">h", b"\xff\xff"), ValueError, "is not exactly one"),
        (lambda: _with(">H", b"\0\3ab"), ValueError, "is not exactly one"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value).startswith(message) or str(caught.value).endswith(message)


def _with(framing: Any, request: bytes) -> Rules:
    rules = Rules(framing_of(framing))
    rules.add(request, b"")
    return rules


@pytest.mark.parametrize("pair", [(b"GET", b"GET /"), (b"GET /", b"GET"), (b"G", b"GET /")])
@pytest.mark.parametrize("times", [None, 1])
def test_without_framing_no_rule_may_begin_another(
    pair: tuple[bytes, bytes], times: int | None
) -> None:
    rules = unframed((pair[0], b"1", times))
    with pytest.raises(ValueError, match=r"cannot be told apart without framing=: one request is"):
        rules.add(pair[1], b"2")
    assert len(rules) == 1
    rules.add(pair[0][:-1] + b"?", b"3")


def test_with_framing_a_rule_may_begin_another() -> None:
    rules = lines((b"A\r\n", b"1"), (b"AB\r\n", b"2"))
    assert answers(rules, b"AB\r\nA\r\n") == ([(b"2",), (b"1",)], b"")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"AB", b"AB"),
        (re.compile(rb"A\w"), b"AB"),
        (re.compile(rb"A\w"), re.compile(rb"A\w")),
    ],
)
def test_a_rule_behind_one_that_always_answers_is_refused(first: Any, second: Any) -> None:
    rules = Rules(of_datagrams=True)
    rules.add(first, b"1")
    with pytest.raises(ValueError, match="can never answer") as caught:
        rules.add(second, b"2")
    assert str(caught.value) == (
        f"on({second!r}, b'2') can never answer: on({first!r}, b'1'), made before it, always does; "
        "give that one times=, or make this one first"
    )
    assert len(rules) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((b"AB", b"1", 1), (b"AB", b"2")),
        ((re.compile(rb"A\w"), b"1", 3), (b"AB", b"2")),
        ((re.compile(rb"A\w"), b"1"), (re.compile(rb"A\w", re.I), b"2")),
        ((b"AB", b"1"), (re.compile(rb"AB"), b"2")),
        ((re.compile(rb"A"), b"1"), (b"AB", b"2")),
    ],
)
def test_a_rule_that_may_still_answer_is_taken(
    first: tuple[Any, ...], second: tuple[Any, ...]
) -> None:
    rules = Rules(of_datagrams=True)
    rules.add(*first)
    rules.add(*second)
    assert len(rules) == 2


def test_a_datagram_may_be_empty() -> None:
    rules = Rules(of_datagrams=True)
    rules.add(b"", b"nothing", 1)
    rules.add(re.compile(rb".*"), b"anything")
    assert [rules.answer(frame) for frame in (b"", b"", b"x")] == [
        (b"nothing",),
        (b"anything",),
        (b"anything",),
    ]


# -- streams, cut anywhere

TALK = b"PING\r\nGET a\r\n\r\nPING\r\nGET bc\r\nPING\r\nPI"


def talk() -> Rules:
    return lines(
        (b"PING\r\n", b"+PONG\r\n", 2),
        (re.compile(rb"GET (\w+)\r\n"), lambda match: [match[1], b"\r\n"]),
        (b"\r\n", None),
        (b"PING\r\n", b"-tired\r\n"),
    )


WHOLE = [
    (b"+PONG\r\n",),
    (b"a", b"\r\n"),
    (),
    (b"+PONG\r\n",),
    (b"bc", b"\r\n"),
    (b"-tired\r\n",),
]


@settings(STEADY, max_examples=150)
@given(st.sets(st.integers(0, len(TALK))))
def test_framed_answers_do_not_depend_on_the_cuts(cuts: set[int]) -> None:
    assert answers(talk(), *cut_at(TALK, cuts)) == (WHOLE, b"PI")


@settings(STEADY, max_examples=150)
@given(st.sets(st.integers(0, 13)), st.sampled_from([0, 1, 2]))
def test_unframed_answers_do_not_depend_on_the_cuts(cuts: set[int], tail: int) -> None:
    rules = unframed((b"\x05\x01", b"ok", 1), (b"\x05\x00", b"no"), (b"\x05\x01", b"again"))
    data = b"\x05\x01\x05\x00\x05\x01\x05\x01\x05\x00\x05\x01\x05"[: 13 - tail]
    found, left = answers(rules, *cut_at(data, [cut for cut in cuts if cut <= len(data)]))
    assert (
        found
        == [(b"ok",), (b"no",), (b"again",), (b"again",), (b"no",), (b"again",)][: len(data) // 2]
    )
    assert left == data[len(data) // 2 * 2 :]


def test_unframed_bytes_that_begin_no_rule_are_a_misfit_at_the_first_byte() -> None:
    rules = unframed((b"GET ", b"1"), (b"PUT ", b"2", 1))
    log, unread = log_of(), rules.unread()
    assert unread.take(log, 0) == 1
    log.append(b"GE")
    assert unread.take(log, 0) == 3
    log.append(b"X")
    assert unread.take(log, 0) == Taken(b"GEX", 3, None)
    # All that came is told, not only as much as a rule could have been.
    assert rules.unread().take(log_of(b"PATCH /it"), 0) == Taken(b"PATCH /it", 9, None)


def test_unframed_a_rule_that_is_used_up_is_no_candidate() -> None:
    rules = unframed((b"PUT ", b"2", 1))
    assert answers(rules, b"PUT ") == ([(b"2",)], b"")
    assert rules.unread().take(log_of(b"P"), 0) == Taken(b"P", 1, None)
    assert rules.unread().take(log_of(), 0) == 1


def test_a_frame_that_no_rule_answers_is_taken_without_a_rule() -> None:
    assert lines((b"A\r\n", b"")).unread().take(log_of(b"B\r\nA"), 0) == Taken(b"B\r\n", 3, None)


def test_what_cannot_be_a_frame_is_a_mismatch() -> None:
    rules = Rules(framing_of(">h"))
    rules.add(b"\0\1a", b"")
    with pytest.raises(MismatchError, match="the length at byte 0 is -1, below 0"):
        rules.unread().take(log_of(b"\xff\xff"), 0)


def test_each_stream_is_read_by_itself() -> None:
    rules = lines((b"A\r\n", b"1", 1), (b"A\r\n", b"2"))
    one, two = rules.unread(), rules.unread()
    first, second = log_of(b"A\r"), log_of(b"A\r\n")
    assert one.take(first, 0) == 3
    taken = two.take(second, 0)
    assert isinstance(taken, Taken)
    assert two.reply(taken) == (b"1",)
    first.append(b"\n")
    taken = one.take(first, 0)
    assert isinstance(taken, Taken)
    assert one.reply(taken) == (b"2",)


def test_many_short_requests_in_one_chunk_are_not_copied_over_and_over() -> None:
    log, rules = CountingLog(), lines((b"PING\r\n", None))
    log.append(b"PING\r\n" * 20_000)
    unread, start = rules.unread(), 0
    while isinstance(taken := unread.take(log, start), Taken):
        start = taken.stop
    assert start == log.size
    assert log.looked_at < 100 * log.size
