# pyright: reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_type

import pytest

from pytest_sockets import (
    Address,
    Endpoint,
    EndpointClosedError,
    EndpointError,
    Event,
    MismatchError,
    PeerGoneError,
    SocketsError,
    UnsupportedError,
    WaitTimeout,
)


def an_event(event: Event) -> None:
    assert_type(event.time, float)
    assert_type(event.endpoint, str)
    assert_type(event.connection, int | None)
    assert_type(event.data, bytes)
    assert_type(event.peer, Address | None)
    assert_type(event.note, str)
    kind: Literal[
        "accepted",
        "connected",
        "received",
        "sent",
        "peer_eof",
        "peer_reset",
        "eof_sent",
        "reset_sent",
        "closed",
        "problem",
        "note",
        "fault",
    ] = event.kind
    assert kind


def errors() -> None:
    failures: list[type[AssertionError]] = [MismatchError, WaitTimeout]
    others: list[type[SocketsError]] = [
        EndpointClosedError,
        EndpointError,
        PeerGoneError,
        UnsupportedError,
    ]
    with pytest.raises(WaitTimeout) as caught:
        assert failures
    assert others
    assert_type(caught.value, WaitTimeout)


def pytest_sockets_endpoint_opened(item: pytest.Item | None, endpoint: Endpoint) -> None:
    assert_type(endpoint.name, str)


@pytest.hookimpl(optionalhook=True)
def pytest_sockets_transcripts_complete(item: pytest.Item, endpoints: Sequence[Endpoint]) -> None:
    for endpoint in endpoints:
        assert_type(endpoint.transcript, tuple[Event, ...])


def wrong(event: Event) -> None:
    event.data = b""  # type: ignore[misc]  # wrong on purpose
    oserror: type[OSError] = WaitTimeout  # type: ignore[assignment]  # wrong on purpose
    if event.kind == "lost":  # type: ignore[comparison-overlap]  # wrong on purpose
        assert oserror
