from __future__ import annotations

from typing import get_args

import pytest

from pytest_sockets import capabilities
from pytest_sockets._endpoints.capabilities import Capabilities, Capability
from pytest_sockets._engine import peer, trials


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
