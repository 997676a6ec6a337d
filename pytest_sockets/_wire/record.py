"""The record of one stream or datagram socket, packed, and the transcript made of several."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice

from pytest_sockets._wire.events import Address, Datagram, Event, Kind, PeerCredentials
from pytest_sockets._wire.spool import ByteLog, Spool

NANOSECOND = 1e-9


class Record:
    """Every byte and every event of one socket, in order.

    Chunks are packed (12 bytes each beside their content): an object per chunk took 3.4 times
    the memory of 64-byte chunks. `Event` objects are built only when somebody reads them.
    The caller holds the endpoint's lock while writing; times are given, in nanoseconds.
    """

    __slots__ = (
        "_arrivals",
        "_marks",
        "_notes",
        "_peers",
        "_senders",
        "_sizes",
        "_times",
        "endpoint",
        "index",
        "received",
        "received_chunks",
        "sent",
    )

    def __init__(self, endpoint: str, index: int | None, spool: Spool) -> None:
        self.endpoint = endpoint
        self.index = index
        self.received = ByteLog(spool)
        self.sent = ByteLog(spool)
        self.received_chunks = 0
        self._times = array("q")
        self._sizes = array("I")  # size * 2, plus 1 when sent
        self._peers: list[Address | None] | None = None  # of datagrams only, as the next
        self._senders: list[PeerCredentials | None] | None = None  # of each received one
        self._arrivals: array[int]  # of each received one: its offset, its position
        self._marks: list[tuple[int, int, Kind, Address | None, str]] = []
        self._notes: dict[int, str] = {}  # of chunks, by position

    def add_received(self, time: int, data: bytes) -> None:
        """Record bytes that the kernel handed us."""
        self._times.append(time)
        self._sizes.append(len(data) << 1)
        self.received_chunks += 1
        self.received.append(data)

    def add_sent(self, time: int, data: bytes) -> None:
        """Record bytes that the kernel took."""
        self._times.append(time)
        self._sizes.append(len(data) << 1 | 1)
        self.sent.append(data)

    def add_datagram(
        self,
        time: int,
        data: bytes,
        peer: Address | None,
        *,
        sent: bool,
        sender: PeerCredentials | None = None,
    ) -> None:
        """Record a whole datagram, what is at its other end, and who sent one that came."""
        if self._peers is None:
            self._peers = []
            self._arrivals = array("Q")
        elif self._peers[-1] == peer:
            peer = self._peers[-1]  # the kernel's answers are new objects, twice a small datagram
        self._peers.append(peer)
        if sender is not None and self._senders is None:
            unknown: list[PeerCredentials | None] = [None]
            self._senders = unknown * self.received_chunks
        if not sent:
            if self._senders is not None:
                last = self._senders[-1] if self._senders else None
                self._senders.append(last if last == sender else sender)
            self._arrivals.extend((self.received.size, len(self._times)))
        (self.add_sent if sent else self.add_received)(time, data)

    def annotate(self, note: str) -> None:
        """Record what came or went beside the newest chunk."""
        self._notes[len(self._times) - 1] = note

    def mark(self, time: int, kind: Kind, *, peer: Address | None = None, note: str = "") -> None:
        """Record something that is not bytes."""
        self._marks.append((time, len(self._times), kind, peer, note))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of all that is not bytes, in order."""
        return tuple(mark[2] for mark in self._marks)

    @property
    def last_time(self) -> int:
        """The time of the newest event in nanoseconds; 0 when there is none."""
        newest_mark = self._marks[-1][0] if self._marks else 0
        return max(newest_mark, self._times[-1] if self._times else 0)

    def __len__(self) -> int:
        return len(self._times) + len(self._marks)

    def __iter__(self) -> Iterator[Event]:
        marks = tuple(self._marks)
        received = sent = done = 0
        count = len(self._times)
        for position in range(count + 1):
            while done < len(marks) and marks[done][1] == position:
                yield self._mark_event(marks[done])
                done += 1
            if position == count:
                return
            size, is_sent = self._sizes[position] >> 1, self._sizes[position] & 1
            log, start = (self.sent, sent) if is_sent else (self.received, received)
            yield self._chunk_event(position, log.read(start, start + size), bool(is_sent))
            sent, received = sent + size * is_sent, received + size * (1 - is_sent)

    def __reversed__(self) -> Iterator[Event]:
        marks = list(self._marks)
        count = len(self._times)
        stops = {0: self.received.size, 1: self.sent.size}
        for position in range(count, -1, -1):
            while marks and marks[-1][1] >= position:
                yield self._mark_event(marks.pop())
            if position == 0:
                return
            size, is_sent = self._sizes[position - 1] >> 1, self._sizes[position - 1] & 1
            log = self.sent if is_sent else self.received
            stop = stops[is_sent]
            yield self._chunk_event(position - 1, log.read(stop - size, stop), bool(is_sent))
            stops[is_sent] = stop - size

    def datagrams(self) -> Iterator[Datagram]:
        """Yield the received datagrams in order."""
        return map(self.datagram, range(self.received_chunks))

    def datagram(self, index: int) -> Datagram:
        """Return one received datagram."""
        assert self._peers is not None, "a stream has no datagrams"
        offset, position = self._arrivals[2 * index : 2 * index + 2]
        data = self.received.read(offset, offset + (self._sizes[position] >> 1))
        sender = None if self._senders is None else self._senders[index]
        time = self._times[position] * NANOSECOND
        return Datagram(data, self._peers[position], time, sender)

    @property
    def sent_chunks(self) -> int:
        """How many chunks were sent."""
        return len(self._times) - self.received_chunks

    def time_of(self, offset: int, *, sent: bool) -> int:
        """Return when the byte at `offset` of one direction was recorded, in nanoseconds."""
        end = 0
        for time, packed in zip(self._times, self._sizes, strict=False):
            if packed & 1 == sent:
                end += packed >> 1
                if offset < end:
                    return time
        msg = f"{offset} is beyond the {end} recorded bytes"
        raise IndexError(msg)

    def _mark_event(self, mark: tuple[int, int, Kind, Address | None, str]) -> Event:
        time, _, kind, peer, note = mark
        return Event(time * NANOSECOND, self.endpoint, self.index, kind, peer=peer, note=note)

    def _chunk_event(self, position: int, data: bytes, is_sent: bool) -> Event:
        peer = self._peers[position] if self._peers is not None else None
        kind: Kind = "sent" if is_sent else "received"
        time = self._times[position] * NANOSECOND
        note = self._notes.get(position, "")
        return Event(time, self.endpoint, self.index, kind, data, peer, note)


class Packets:
    """Where the packets end that a stream has received: of SOCK_SEQPACKET each chunk is one.

    Not safe for threads by itself: the endpoint's lock guards it, as the record.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._position = 0  # of the next chunk to look at
        self._end = 0

    def end_of(self, offset: int) -> int:
        """Return where the packet ends that a received byte is of; `offset` only grows."""
        sizes = self._record._sizes
        while self._end <= offset:
            packed = sizes[self._position]
            self._position += 1
            self._end += 0 if packed & 1 else packed >> 1
        return self._end


def merged(records: Iterable[Iterable[Event]]) -> Iterator[Event]:
    """Yield the events of several records, or transcripts, in the order in which they happened."""
    return heapq.merge(*records, key=_time)


def ends(records: Iterable[Record], head: int, tail: int) -> tuple[list[Event], int, list[Event]]:
    """Return the first `head` and last `tail` events, and how many lie between them."""
    records = tuple(records)
    total = sum(len(record) for record in records)
    if total <= head + tail:
        return list(merged(records)), 0, []
    last = heapq.merge(*map(reversed, records), key=_time, reverse=True)
    return list(islice(merged(records), head)), total - head - tail, list(islice(last, tail))[::-1]


def _time(event: Event) -> float:
    return event.time
