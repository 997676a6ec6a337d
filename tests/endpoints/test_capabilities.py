from __future__ import annotations

import re
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest

from descriptors import descriptors
from pytest_sockets import Sockets, UnsupportedError, capabilities, faults
from pytest_sockets._endpoints import factory
from pytest_sockets._endpoints.capabilities import (
    Capabilities,
    Capability,
    _exact,
    _send_apart,
)
from pytest_sockets._engine import binding, blackhole, peer, rebinding, trials
from pytest_sockets.faults import Effect

pytestmark = pytest.mark.timeout(120)


def test_each_is_one_of_three_words() -> None:
    assert set(capabilities.values()) <= set(get_args(Capability))
    assert {"send_apart", "send_fds", "reset"} <= set(capabilities)
    assert len(capabilities) == len(list(capabilities))


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"'fly' is no capability; there are send_apart, "):
        capabilities["fly"]
    assert "fly" not in capabilities


def test_each_is_tried_once_and_only_when_asked_for() -> None:
    asked: list[str] = []

    def trial() -> Capability:
        asked.append("a")
        return "no"

    tried = Capabilities({"a": trial, "b": lambda: "exact"})
    assert tried["b"] == "exact"
    assert asked == []
    assert tried["a"] == tried["a"] == "no"
    assert asked == ["a"]
    assert repr(tried) == "<Capabilities {'a': 'no', 'b': 'exact'}>"


@pytest.mark.parametrize("told", [None, peer.Unseen()])
def test_a_kernel_that_does_not_tell_of_a_peer_is_found_out(
    monkeypatch: pytest.MonkeyPatch, told: Exception | None
) -> None:
    assert trials.tells_of_tcp.__wrapped__()

    def look(sock: object) -> None:
        if told is not None:
            raise told

    monkeypatch.setattr(peer, "find_tcp_peer", look)
    assert not trials.tells_of_tcp.__wrapped__()


def test_a_close_that_is_no_reset_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trials.resets()
    monkeypatch.setattr(trials.socket, "SO_LINGER", trials.socket.SO_KEEPALIVE)
    assert not trials.resets()


def test_the_families_and_the_addresses_of_this_machine_are_told() -> None:
    tried = {name: capabilities[name] for name in ("ipv4", "unix", "refused_address", "down")}
    assert set(tried.values()) == {"exact"}
    assert capabilities["blackhole_address"] == "exact"
    assert capabilities["ipv6"] == capabilities["dual"]


def listening(*args: Any) -> list[Any]:
    bound = binding.bind_inet("ipv4", None, 0, socket.SOCK_STREAM)
    bound[0].listen()
    return bound


def nothing(*args: Any) -> list[Any]:
    raise UnsupportedError("no such loopback")


@pytest.mark.parametrize(
    ("trial", "module", "name", "value"),
    [
        (trials.refuses, trials, "bind_inet", listening),
        (trials.refuses, trials, "bind_inet", nothing),
        (trials.has_blackhole, blackhole, "BACKLOG", 100),
        (trials.has_blackhole, blackhole, "SO_MEMINFO", 9999),
        (trials.has_blackhole, trials, "bind_inet", nothing),
        (trials.goes_down, rebinding.socket, "SO_REUSEPORT", socket.SO_KEEPALIVE),
        (trials.goes_down, trials, "bind_inet", nothing),
        (partial(trials.binds, "ipv6"), binding, "LOOPBACKS", {"ipv6": [(2, "192.0.2.1")]}),
        (trials.binds_path, trials.socket, "AF_UNIX", 99),
        (trials.makes_unreachable, trials, "LOOPBACK", {}),
    ],
    ids=[
        "refused_address",
        "refused_address-alone",
        "blackhole_address",
        "blackhole_address-blind",
        "blackhole_address-alone",
        "down",
        "down-alone",
        "ipv6-less",
        "unix",
        "unreachable",
    ],
)
def test_what_a_machine_cannot_do_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
    trial: Callable[[], bool],
    module: Any,
    name: str,
    value: Any,
) -> None:
    before = descriptors()
    assert trial()
    monkeypatch.setattr(module, name, value)
    assert not trial()
    assert descriptors() == before


# -- require


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine with IPv4 only."""
    poor = Capabilities(
        {"ipv4": lambda: "exact", "ipv6": lambda: "no", "send_apart": lambda: "approximate"},
        {"ipv6": "it has no IPv6 loopback"},
    )
    monkeypatch.setattr(factory, "capabilities", poor)


@pytest.mark.usefixtures("machine")
def test_what_there_is_can_be_required(sockets: Sockets) -> None:
    sockets.require()
    sockets.require("ipv4")
    sockets.require("send_apart", "ipv4")


@pytest.mark.usefixtures("machine")
def test_what_there_is_not_is_refused_with_the_reason(sockets: Sockets) -> None:
    reason = "this machine cannot do 'ipv6': it has no IPv6 loopback"
    with pytest.raises(UnsupportedError) as caught:
        sockets.require("ipv4", "ipv6")
    assert str(caught.value) == reason
    skipped: list[str] = []
    sockets._skip = skipped.append
    with pytest.raises(UnsupportedError):
        sockets.require("ipv6")
    assert skipped == [reason]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("name", ["fly", None, ["ipv4"]])
def test_an_unknown_requirement_is_refused_with_those_there_are(
    sockets: Sockets, name: Any
) -> None:
    with pytest.raises(ValueError, match="is no capability; there are ipv4, ipv6, send_apart"):
        sockets.require("ipv6", name)


def test_each_effect_is_told_by_its_name() -> None:
    effects = [
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        for name in faults.__all__
        if isinstance(value := getattr(faults, name), type)
        and issubclass(value, Effect)
        and value is not Effect
    ]
    assert "ragged_eof" in effects
    assert set(effects) <= set(capabilities)
    assert {name for name in effects if capabilities[name] == "no"} == {
        "fail_handshake",
        "ragged_eof",
    }
    assert capabilities["slice"] == capabilities["send_apart"]
    with pytest.raises(UnsupportedError, match="cannot do 'ragged_eof': there is no TLS here yet"):
        Sockets().require("stall", "ragged_eof")


def test_each_no_has_a_reason() -> None:
    for name, trial in capabilities._tests.items():
        if trial.__wrapped__ in (_exact, _send_apart):  # never "no"
            assert capabilities[name] != "no"
            continue
        assert re.fullmatch(
            rf"this machine cannot do '{name}': [a-z].*[^.]", capabilities.why_not(name)
        )
    assert Capabilities({"a": lambda: "no"}).why_not("a") == "this machine cannot do 'a'"
