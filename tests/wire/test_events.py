from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from pytest_sockets import Datagram, Event

EVENT = Event(1.5, "server", 0, "received", b"PING", None, "")
DATAGRAM = Datagram(b"PING", ("127.0.0.1", 9), 1.5)


@pytest.mark.parametrize("value", [EVENT, DATAGRAM])
def test_what_happened_cannot_be_changed(value: Event | Datagram) -> None:
    with pytest.raises(FrozenInstanceError):
        value.data = b"PONG"  # type: ignore[misc]  # frozen: must fail
    with pytest.raises((AttributeError, TypeError)):
        value.other = 1  # type: ignore[attr-defined, union-attr]  # slots: must fail
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("value", [EVENT, DATAGRAM])
def test_events_are_values(value: Event | Datagram) -> None:
    assert value == replace(value)
    assert hash(value) == hash(replace(value))
    assert value != replace(value, data=b"PONG")
    assert pickle.loads(pickle.dumps(value)) == value


def test_an_event_needs_no_more_than_when_where_and_what() -> None:
    assert Event(1.0, "server", None, "closed") == Event(
        time=1.0, endpoint="server", connection=None, kind="closed", data=b"", peer=None, note=""
    )


def test_an_event_prints_all_it_knows() -> None:
    assert repr(EVENT) == (
        "Event(time=1.5, endpoint='server', connection=0, kind='received', data=b'PING', "
        "peer=None, note='')"
    )
    assert repr(DATAGRAM) == (
        "Datagram(data=b'PING', source=('127.0.0.1', 9), time=1.5, credentials=None)"
    )
