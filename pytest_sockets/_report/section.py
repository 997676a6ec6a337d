"""The section of a failed test's report: every endpoint and what happened on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from pytest_sockets._report.hexdump import ROW, rows
from pytest_sockets._wire.events import Event
from pytest_sockets._wire.record import Record, ends
from pytest_sockets._wire.rendering import count, show_address

HEAD, TAIL = 40, 40
"""Events shown of an endpoint: its first and its last ones."""
DUMP_ROWS = 16
"""Rows of a chunk shown, half of them from its end."""

_WORDS = {
    "peer_eof": "EOF from peer",
    "peer_reset": "reset by peer",
    "eof_sent": "EOF sent",
    "reset_sent": "reset sent",
    "closed": "closed",
}


class Reported(Protocol):
    """What the report needs of an endpoint."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def _lock(self) -> AbstractContextManager[object]:
        """What guards its records."""
        ...

    @property
    def records(self) -> tuple[Record, ...]:
        """Its records."""
        ...

    def _notes(self) -> list[str]:
        """Return lines about what has not happened."""
        ...

    @property
    def summary(self) -> tuple[str, str]:
        """Where it is and what has happened on it."""
        ...


class _Cut(NamedTuple):
    """What is shown of an endpoint's events."""

    head: list[Event]
    omitted: int
    tail: list[Event]
    offsets: dict[tuple[int | None, str], int]
    """Where the tail's bytes begin, by connection and kind."""


def text(endpoints: Sequence[Reported], *, with_bytes: bool) -> str:
    """Return the section's text; without bytes it shows how many they were."""
    shown = [(endpoint, _cut(endpoint)) for endpoint in endpoints]
    first = min((cut.head[0].time for _, cut in shown if cut.head), default=0.0)
    return "\n".join(_block(endpoint, first, cut, with_bytes=with_bytes) for endpoint, cut in shown)


def _cut(endpoint: Reported) -> _Cut:
    offsets: dict[tuple[int | None, str], int] = {}
    with endpoint._lock:  # clients may still be sending
        records = endpoint.records
        head, omitted, tail = ends(records, HEAD, TAIL)
        if omitted:
            # Offsets after the gap count from the end: nobody has to look at what lies in it.
            for record in records:
                offsets[record.index, "received"] = record.received.size
                offsets[record.index, "sent"] = record.sent.size
            for event in tail:
                if event.data:
                    offsets[event.connection, event.kind] -= len(event.data)
    return _Cut(head, omitted, tail, offsets)


def _block(endpoint: Reported, zero: float, cut: _Cut, *, with_bytes: bool) -> str:
    place, summary = endpoint.summary
    lines = [f"{endpoint.name}  {place}   {summary}"]
    lines += [f"  {note}" for note in endpoint._notes()]
    lines += _events(cut.head, zero, {}, with_bytes=with_bytes)
    if cut.omitted:
        lines.append(f"  … {count(cut.omitted, 'event')} not shown …")
    lines += _events(cut.tail, zero, cut.offsets, with_bytes=with_bytes)
    return "\n".join(lines)


def _events(
    events: Iterable[Event],
    zero: float,
    offsets: dict[tuple[int | None, str], int],
    *,
    with_bytes: bool,
) -> list[str]:
    lines: list[str] = []
    for event in events:
        number = "" if event.connection is None else f"#{event.connection} "
        lead = f"  +{event.time - zero:.6f}  {number}"
        if event.kind not in ("received", "sent"):
            lines.append(lead + _words(event))
            continue
        offset, who = 0, ""
        if event.connection is not None:
            key = (event.connection, event.kind)
            offset = offsets.get(key, 0)
            offsets[key] = offset + len(event.data)
        elif event.peer is not None:  # a datagram: its bytes count from 0
            who = f"  {'from' if event.kind == 'received' else 'to'} {show_address(event.peer)}"
        if event.note:
            who += f"  {event.note}"
        lead += f"{event.kind:<8} {len(event.data):>4}"
        dump = _dump(event.data, offset) if with_bytes else []
        if not dump:
            lines.append(lead + who)
            continue
        lines.append(f"{lead}  {dump[0]}{who}")
        lines += [" " * (len(lead) + 2) + row for row in dump[1:]]
    return lines


def _dump(data: bytes, offset: int) -> list[str]:
    if len(data) <= DUMP_ROWS * ROW:
        return rows(data, offset)
    half = DUMP_ROWS // 2 * ROW
    at = -((half - len(data)) // ROW) * ROW
    hidden = count(at - half, "byte")
    return [*rows(data[:half], offset), f"… {hidden} not shown …", *rows(data[at:], offset + at)]


def _words(event: Event) -> str:
    if event.kind == "accepted":
        return f"accepted from {show_address(event.peer)}"
    if event.kind == "connected":
        return f"connected to {show_address(event.peer)}" if event.peer else "connected"
    if event.kind == "note":
        return event.note.replace("\n", "\n    ")
    if event.kind == "fault":
        return f"FAULT {event.note}"
    if event.kind == "problem":
        return "PROBLEM " + event.note.replace("\n", "\n    ")
    note = f" ({event.note})" if event.note and event.kind != "peer_reset" else ""
    return _WORDS[event.kind] + note
