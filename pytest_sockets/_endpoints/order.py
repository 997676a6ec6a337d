"""Which of several moments came first, over all endpoints."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_sockets._endpoints.endpoint import Endpoint
from pytest_sockets._wire.errors import MismatchError
from pytest_sockets._wire.events import Event
from pytest_sockets._wire.matching import as_bytes
from pytest_sockets._wire.record import NANOSECOND
from pytest_sockets._wire.rendering import seconds, show


def require_order(endpoints: Sequence[Endpoint], moments: Sequence[Event | bytes]) -> None:
    """Raise unless each moment came before the next one."""
    times = [_time(endpoints, moment) for moment in moments]
    for first, second, before, after in zip(moments, moments[1:], times, times[1:], strict=False):
        if before > after:
            gap = seconds(round(before - after, 6))
            msg = f"{_name(first)} came {gap} after {_name(second)}, expected before it"
            raise MismatchError(msg)


def _time(endpoints: Sequence[Endpoint], moment: Event | bytes) -> float:
    if isinstance(moment, Event):
        return moment.time
    wanted = as_bytes(moment, name="each moment")
    if not wanted:
        msg = "b'' is no moment: name at least one byte"
        raise ValueError(msg)
    times: list[int] = []
    for endpoint in endpoints:
        with endpoint._lock:
            for record in endpoint.records:
                for log, sent in ((record.received, False), (record.sent, True)):
                    at = log.read().find(wanted)
                    if at >= 0:
                        times.append(record.time_of(at + len(wanted) - 1, sent=sent))
    if not times:
        msg = f"{show(wanted)} was never received or sent on any endpoint"
        raise MismatchError(msg)
    return min(times) * NANOSECOND


def _name(moment: Event | bytes) -> str:
    if isinstance(moment, bytes):
        return show(moment)
    number = "" if moment.connection is None else f" #{moment.connection}"
    return f"{moment.kind} on {moment.endpoint}{number}"
