from __future__ import annotations

import re
from itertools import product

import pytest

from pytest_sockets._wire.script import Kind, Plan, Step

KINDS: dict[str, Kind] = {
    "send": "send",
    "recv": "receive",
    "recv_to_eof": "receive",
    "expect": "receive",
    "expect_eof": "receive",
    "expect_reset": "receive",
    "wait_eof": "receive",
    "expect_nothing": "wait",
    "hold": "wait",
    "send_eof": "end",
    "close": "end",
    "reset": "end",
}
IMPOSSIBLE = {
    **{(end, verb): "that ends the connection" for end in ("close", "reset") for verb in KINDS},
    ("send_eof", "send"): "that ends our side",
    **{
        (last, verb): "no more can come after it"
        for last in ("recv_to_eof", "expect_eof", "expect_reset", "wait_eof")
        for verb, kind in KINDS.items()
        if kind == "receive"
    },
}
"""What can never be done behind which step, and why."""


def plan_of(*verbs: str) -> Plan:
    plan = Plan()
    for verb in verbs:
        plan.add(Step(verb, KINDS[verb]))
    return plan


@pytest.mark.parametrize(("before", "after"), list(product(KINDS, KINDS)))
def test_a_step_that_can_never_be_reached_is_refused_and_every_other_is_not(
    before: str, after: str
) -> None:
    plan = plan_of(before)
    step = Step(after, KINDS[after])
    if why := IMPOSSIBLE.get((before, after)):
        with pytest.raises(
            ValueError, match=f"^{after}\\(\\) cannot follow {before}\\(\\): {why}$"
        ):
            plan.add(step)
        assert len(plan.steps) == 1
    else:
        plan.add(step)
        assert plan.steps == [Step(before, KINDS[before]), step]


def test_what_ended_the_connection_long_before_counts_too() -> None:
    plan = plan_of("send_eof", "recv", "hold")
    with pytest.raises(ValueError, match=r"^send\(\) cannot follow send_eof\(\)"):
        plan.add(Step("send", "send"))


def test_a_plan_is_complete_when_no_step_can_follow() -> None:
    assert not Plan().is_complete
    assert not plan_of("expect", "send_eof").is_complete
    assert plan_of("expect", "close").is_complete
    assert plan_of("expect", "reset").is_complete


def test_all_steps_are_required_but_those_after_optional() -> None:
    plan = plan_of("expect", "send")
    assert [plan.is_required(n) for n in range(4)] == [True, True, False, False]
    plan.make_optional()
    plan.add(Step("recv", "receive"))
    assert [plan.is_required(n) for n in range(4)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("verbs", "position", "needs"),
    [
        (("expect", "expect_eof"), 1, True),
        (("expect", "expect_eof"), 0, False),
        (("wait_eof", "send_eof", "close"), 0, True),
        (("recv_to_eof", "send"), 0, False),
        (("expect_eof", "hold"), 0, False),
        (("expect_reset",), 0, False),
        (("close",), 0, False),
        (("expect_eof",), 1, False),
    ],
)
def test_a_plan_knows_whether_it_only_needs_the_peers_eof(
    verbs: tuple[str, ...], position: int, needs: bool
) -> None:
    assert plan_of(*verbs).needs_only_eof(position) is needs


def test_optional_is_said_once() -> None:
    plan = plan_of("expect")
    plan.make_optional()
    plan.add(Step("send", "send"))
    with pytest.raises(ValueError, match=r"^optional\(\) is said once: everything after it is"):
        plan.make_optional()
    assert plan.required == 1


def test_a_name_is_saved_once() -> None:
    plan = Plan()
    plan.add(Step("recv_line", "receive", save="user"))
    plan.add(Step("recv_line", "receive", save="password"))
    with pytest.raises(ValueError, match=r"^save='user' is taken by step 1, recv_line\(\): "):
        plan.add(Step("recv", "receive", (3,), save="user"))
    with pytest.raises(ValueError, match=r"^save='' is no name"):
        plan.add(Step("recv", "receive", (3,), save=""))
    assert len(plan.steps) == 2


class Watched(Step):
    """A step that counts how often it is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        Watched.looks += 1
        return super().__getattribute__(name)


@pytest.mark.parametrize("kind", ["send", "receive", "end"])
def test_a_long_plan_does_not_look_at_all_of_its_steps_for_each(kind: Kind) -> None:
    Watched.looks = 0
    plan = Plan()
    verb = {"send": "send", "receive": "recv", "end": "send_eof"}[kind]
    for number in range(1000):
        plan.add(Watched(verb, kind, save=f"name {number}"))
    assert Watched.looks < 100 * 1000


class Named:
    name = "gate-2"


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step("recv_line", "receive"), "recv_line()"),
        (Step("send", "send", (b"PONG\r\n",)), r"send(b'PONG\r\n')"),
        (Step("recv", "receive", (5,)), "recv(5)"),
        (
            Step("expect", "receive", (re.compile(rb"\d+"),), {"until": b"\n"}),
            r"expect(re.compile(b'\\d+'), until=b'\n')",
        ),
        (Step("hold", "wait", (Named(),)), "hold(gate-2)"),
        (Step("expect_nothing", "wait", (), {"within": 0.5}), "expect_nothing(within=0.5)"),
        (
            Step("send", "send", (bytes(1000),)),
            f"send({bytes(48)!r} … (bytes 0 to 48 of 1,000))",
        ),
    ],
    ids=lambda value: value.verb if isinstance(value, Step) else "",
)
def test_a_step_reads_as_it_was_written(step: Step, text: str) -> None:
    assert str(step) == text


@pytest.mark.parametrize(
    ("step", "data", "may"),
    [
        (Step("expect", "receive", (b"QUIT",)), b"", True),
        (Step("expect", "receive", (b"QUIT",)), b"QU", True),
        (Step("expect", "receive", (b"QUIT",)), b"QA", False),
        (Step("expect", "receive", (b"QUIT",)), b"QUITE", False),
        (Step("expect", "receive", (re.compile(b"a"),)), b"QU", True),
        (Step("recv_line", "receive"), b"QU", True),
        (Step("expect_eof", "receive"), b"", True),
        (Step("expect_eof", "receive"), b"x", False),
        (Step("expect_nothing", "wait"), b"x", False),
    ],
)
def test_a_step_knows_what_it_may_begin_with(step: Step, data: bytes, may: bool) -> None:
    assert step.may_begin_with(data) is may
