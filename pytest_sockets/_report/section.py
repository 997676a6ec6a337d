"""The section of a failed test's report: every endpoint and what happened on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

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
    def records(self) -> tuple[Record, ...]:
        """Its records."""
        ...

    @property
    def summary(self) -> tuple[str, str]:
        """Where it is and what has happened on it."""
        ...


def text(endpoints: Sequence[Reported], *, with_bytes: bool) -> str:
    """Return the section's text; without bytes it shows how many they were."""
    shown = [(endpoint, ends(endpoint.records, HEAD, TAIL)) for endpoint in endpoints]
    first = min((head[0].time for _, (head, _, _) in shown if head), default=0.0)
    return "\n".join(
        _block(endpoint, first, *events, with_bytes=with_bytes) for endpoint, events in shown
    )


def _block(
    endpoint: Reported,
    zero: float,
    head: list[Event],
    omitted: int,
    tail: list[Event],
    *,
    with_bytes: bool,
) -> str:
    place, summary = endpoint.summary
    lines = [f"{endpoint.name}  {place}   {summary}"]
    offsets: dict[tuple[int | None, str], int] = {}
    lines += _events(head, zero, offsets, with_bytes=with_bytes)
    if omitted:
        lines.append(f"  … {count(omitted, 'event')} not shown …")
        # Offsets after a gap count from the end: that the record's size is known makes it cheap.
        for record in endpoint.records:
            for kind, size in (("received", record.received.size), ("sent", record.sent.size)):
                later = sum(
                    len(e.data) for e in tail if e.kind == kind and e.connection == record.index
                )
                offsets[record.index, kind] = size - later
    lines += _events(tail, zero, offsets, with_bytes=with_bytes)
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
        key = (event.connection, event.kind)
        offset = offsets.get(key, 0)
        offsets[key] = offset + len(event.data)
        if (
            event.connection is None
        ):  # a datagram: its own bytes from 0, and who is at the other end
            offset = 0
            way = "from" if event.kind == "received" else "to"
            who = f"  {way} {show_address(event.peer)}" if event.peer is not None else ""
        else:
            who = ""
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
    at = (len(data) - half) // ROW * ROW
    hidden = count(at - half, "byte")
    return [*rows(data[:half], offset), f"… {hidden} not shown …", *rows(data[at:], offset + at)]


def _words(event: Event) -> str:
    if event.kind == "accepted":
        return f"accepted from {show_address(event.peer)}"
    if event.kind == "connected":
        return f"connected to {show_address(event.peer)}" if event.peer else "connected"
    if event.kind == "problem":
        return f"PROBLEM {event.note}"
    note = f" ({event.note})" if event.note and event.kind != "peer_reset" else ""
    return _WORDS[event.kind] + note
