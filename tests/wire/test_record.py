from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sockets import Datagram, Event, PeerCredentials
from pytest_sockets._wire.record import Packets, Record, ends, merged
from pytest_sockets._wire.spool import Spool
from wire_samples import BULK, CHUNKS, LIMITS, STEADY, record_of

MARKS = st.sampled_from(
    [
        ("accepted", ("127.0.0.1", 1), ""),
        ("peer_eof", None, ""),
        ("peer_reset", None, "Connection reset by peer"),
        ("closed", None, ""),
    ]
)
PEERS = st.sampled_from([None, ("127.0.0.1", 1), ("127.0.0.1", 2), "/run/a", "\0b"])
STEPS = st.tuples(st.sampled_from(["received", "sent"]), CHUNKS) | MARKS
STREAM_STEPS = st.lists(STEPS, max_size=25)
DATAGRAM_STEPS = st.lists(
    st.tuples(st.sampled_from(["received", "sent"]), CHUNKS | st.just(b""), PEERS), max_size=25
)


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=4))), st.data())
def test_a_packet_ends_where_its_chunk_does(chunks: list[tuple[bool, bytes]], data: Any) -> None:
    record = Record("pair", 0, Spool(1 << 20))
    packets = Packets(record)
    offset = 0
    for time, (is_sent, content) in enumerate(chunks):
        (record.add_sent if is_sent else record.add_received)(time, content)
        ends = list(accumulate(len(chunk) for sent, chunk in chunks[: time + 1] if not sent))
        while offset < record.received.size and data.draw(st.booleans()):
            assert packets.end_of(offset) == next(end for end in ends if end > offset)
            offset += data.draw(st.integers(1, 3))


START = 10**15
"""Nanoseconds: a machine that has been up for eleven days."""


def write(record: Record, stamp: int, step: tuple[Any, ...]) -> Event:
    """Write one step into a record, and return the event that should come out."""
    kind, data, peer, note = step[0], b"", None, ""
    if kind not in ("received", "sent"):
        _, peer, note = step
        record.mark(stamp, kind, peer=peer, note=note)
    elif len(step) == 3:
        _, data, peer = step
        record.add_datagram(stamp, data, peer, sent=kind == "sent")
    else:
        _, data = step
        (record.add_sent if kind == "sent" else record.add_received)(stamp, data)
    return Event(stamp * 1e-9, record.endpoint, record.index, kind, data, peer, note)


def play(record: Record, steps: list[tuple[Any, ...]]) -> list[Event]:
    return [write(record, START + time, step) for time, step in enumerate(steps)]


def joined(events: list[Event], kind: str) -> bytes:
    return b"".join(event.data for event in events if event.kind == kind)


@settings(STEADY)
@given(steps=STREAM_STEPS, noted=st.sets(st.integers(0, 24)))
def test_a_note_stays_with_its_chunk(steps: list[tuple[Any, ...]], noted: set[int]) -> None:
    record = record_of()
    expected: list[Event] = []
    for time, step in enumerate(steps):
        event = write(record, START + time, step)
        if time in noted and event.data:
            record.annotate("with 2 descriptors")
            event = replace(event, note="with 2 descriptors")
        expected.append(event)
    assert list(record) == expected
    assert list(reversed(record)) == expected[::-1]


@settings(STEADY, max_examples=150)
@given(steps=STREAM_STEPS | DATAGRAM_STEPS, limit=LIMITS)
def test_a_record_gives_back_what_was_written_forward_and_in_reverse(
    steps: list[tuple[Any, ...]], limit: int
) -> None:
    record = record_of(limit=limit)
    events = play(record, steps)
    assert list(record) == events
    assert list(reversed(record)) == events[::-1]
    assert len(record) == len(events)
    assert all(before.time < after.time for before, after in pairwise(record))
    assert record.last_time == (START + len(events) - 1 if events else 0)
    assert record.received.read() == joined(events, "received")
    assert record.sent.read() == joined(events, "sent")
    assert record.received_chunks == sum(event.kind == "received" for event in events)
    assert record.sent_chunks == sum(event.kind == "sent" for event in events)
    assert record.kinds == tuple(e.kind for e in events if e.kind not in ("received", "sent"))


@settings(STEADY, max_examples=100)
@given(steps=DATAGRAM_STEPS, limit=LIMITS)
def test_datagrams_keep_their_ends_their_source_and_their_time(
    steps: list[tuple[Any, ...]], limit: int
) -> None:
    record = record_of(index=None, limit=limit)
    events = [event for event in play(record, steps) if event.kind == "received"]
    expected = [Datagram(event.data, event.peer, event.time) for event in events]
    assert list(record.datagrams()) == expected
    assert [record.datagram(index) for index in range(len(expected))] == expected


SENDERS = st.sampled_from([None, PeerCredentials(1, 2, 3), PeerCredentials(2, 2, 3)])


@settings(STEADY, max_examples=100)
@given(steps=st.lists(st.tuples(st.booleans(), SENDERS), max_size=25))
def test_a_datagram_keeps_who_sent_it(steps: list[tuple[bool, PeerCredentials | None]]) -> None:
    record = record_of(index=None)
    for time, (sent, sender) in enumerate(steps):
        record.add_datagram(START + time, b"x", None, sent=sent, sender=None if sent else sender)
    expected = [sender for sent, sender in steps if not sent]
    assert [datagram.credentials for datagram in record.datagrams()] == expected


def test_datagrams_of_one_sender_share_its_credentials() -> None:
    record = record_of(index=None)
    for time in range(3):
        sender = PeerCredentials(int("70000"), 0, 0)
        record.add_datagram(START + time, b"x", None, sent=False, sender=sender)
    first, *others = (datagram.credentials for datagram in record.datagrams())
    assert all(other is first for other in others)


@settings(STEADY, max_examples=60)
@given(steps=STREAM_STEPS, data=st.data())
def test_the_time_of_a_byte_is_that_of_its_chunk(
    steps: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    record = record_of()
    events = play(record, steps)
    for kind in ("received", "sent"):
        total = len(joined(events, kind))
        with pytest.raises(IndexError, match=f"{total} is beyond the {total} recorded bytes"):
            record.time_of(total, sent=kind == "sent")
        if not total:
            continue
        offset = data.draw(st.integers(0, total - 1))
        sizes = (len(event.data) * (event.kind == kind) for event in events)
        position = next(at for at, end in enumerate(accumulate(sizes)) if offset < end)
        assert record.time_of(offset, sent=kind == "sent") == START + position


@settings(STEADY, max_examples=100)
@given(
    steps=st.lists(st.tuples(st.integers(0, 2), STEPS), max_size=25),
    head=st.integers(0, 12),
    tail=st.integers(0, 12),
)
def test_several_records_merge_into_one_order_and_can_be_shortened_in_the_middle(
    steps: list[tuple[int, tuple[Any, ...]]], head: int, tail: int
) -> None:
    spool = Spool(1 << 40)
    records = [Record("end", index, spool) for index in range(3)]
    events = [write(records[which], START + time, step) for time, (which, step) in enumerate(steps)]
    assert list(merged(records)) == events
    omitted = max(0, len(events) - head - tail)
    shortened = events[:head], omitted, events[len(events) - tail :]
    assert ends(records, head, tail) == (shortened if omitted else (events, 0, []))


@pytest.mark.parametrize("direction", [iter, reversed])
def test_events_are_those_of_the_moment_when_the_first_was_read(
    direction: Callable[[Record], Any],
) -> None:
    record = record_of()
    events = play(record, [("received", b"PING"), ("peer_eof", None, "")])
    reading = direction(record)
    found = [next(reading)]
    record.mark(START + 10, "closed")
    record.add_received(START + 11, b" later")
    record.mark(START + 12, "closed")
    found += reading
    assert sorted(found, key=lambda event: event.time) == events


def memory_of(write: Callable[[Record], int], limit: int = 1 << 40) -> tuple[int, int]:
    """Return the bytes recorded, and those that the record holds in memory for them."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        record = record_of(limit=limit)
        recorded = write(record)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert record.received.size + record.sent.size == recorded
    return recorded, after - before


def write_stream(record: Record, size: int, total: int) -> int:
    for time in range(0, total, 2 * size):
        # A new object each time, as the kernel's answers are.
        record.add_received(START + time, BULK[time % 1000 : time % 1000 + size])
        record.add_sent(START + time + 1, BULK[time % 1000 : time % 1000 + size])
    return record.received.size + record.sent.size


@pytest.mark.parametrize("size", [64, 100, 1000, 4000, 5000, 100_000])
def test_a_record_takes_at_most_1_3_times_the_memory_of_its_bytes(size: int) -> None:
    recorded, held = memory_of(lambda record: write_stream(record, size, 2 << 20))
    assert held <= 1.3 * recorded


def test_beyond_its_limit_a_record_keeps_only_what_is_packed_of_each_chunk() -> None:
    limit = 1 << 19
    recorded, held = memory_of(lambda record: write_stream(record, 64, 3 << 20), limit)
    chunks = recorded // 64
    assert held <= 1.3 * limit + 16 * chunks


def test_datagrams_of_one_peer_share_its_address() -> None:
    def write_datagrams(record: Record) -> int:
        for time in range(5000):
            record.add_datagram(START + time, BULK[:64], ("127.0.0.1", int("40000")), sent=False)
        return record.received.size

    recorded, held = memory_of(write_datagrams)
    assert held <= 1.7 * recorded
