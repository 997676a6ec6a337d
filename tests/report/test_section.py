# ruff: noqa: E501 (lines of a report are longer)
from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sockets._report.hexdump import rows
from pytest_sockets._report.section import DUMP_ROWS, HEAD, TAIL, text
from pytest_sockets._wire.events import Event
from pytest_sockets._wire.record import Record
from pytest_sockets._wire.spool import Spool
from wire_samples import BULK, STEADY

MICROSECOND = 1000
PEER = ("127.0.0.1", 51514)


class GuardedRecord(Record):
    """A record that may be read only while its endpoint's lock is held."""

    __slots__ = ("owner",)

    def __init__(self, owner: Shown, index: int | None) -> None:
        super().__init__(owner.name, index, Spool(1 << 40))
        self.owner = owner

    def __iter__(self) -> Iterator[Event]:
        assert self.owner.held
        return super().__iter__()

    def __reversed__(self) -> Iterator[Event]:
        assert self.owner.held
        return super().__reversed__()

    def __len__(self) -> int:
        assert self.owner.held
        return super().__len__()


@dataclass
class Shown:
    """An endpoint, as the report sees one."""

    name: str = "tcp_server"
    summary: tuple[str, str] = ("tcp 127.0.0.1:40213", "1 connection")
    records: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()
    held: int = 0
    clock: list[int] = field(default_factory=lambda: [10**12])

    @property
    def _lock(self) -> AbstractContextManager[object]:
        return self._hold()

    @contextmanager
    def _hold(self) -> Iterator[None]:
        self.held += 1
        yield
        self.held -= 1

    def _notes(self) -> list[str]:
        return list(self.notes)

    def record(self, index: int | None = 0) -> Record:
        record = GuardedRecord(self, index)
        self.records += (record,)
        return record

    def now(self, after: int = 0) -> int:
        self.clock[0] += after * MICROSECOND + 1
        return self.clock[0] - 1


def report(*endpoints: Shown, with_bytes: bool = True) -> str:
    shown = text(endpoints, with_bytes=with_bytes)
    assert not any(endpoint.held for endpoint in endpoints)
    return "\n" + shown


def ping() -> Shown:
    server = Shown("echo_server", ("tcp 127.0.0.1:40213", "1 connection, reset by peer"))
    record = server.record()
    record.mark(server.now(), "accepted", peer=PEER)
    record.add_received(server.now(104), b"PING 2\r\n")
    record.add_sent(server.now(27), b"PING 2\r\n")
    record.mark(server.now(819), "peer_reset", note="Connection reset by peer")
    return server


def test_a_short_transcript_is_shown_whole() -> None:
    expected = """
echo_server  tcp 127.0.0.1:40213   1 connection, reset by peer
  +0.000000  #0 accepted from 127.0.0.1:51514
  +0.000104  #0 received    8  00000000  50 49 4e 47 20 32 0d 0a                           |PING 2..|
  +0.000131  #0 sent        8  00000000  50 49 4e 47 20 32 0d 0a                           |PING 2..|
  +0.000950  #0 reset by peer"""
    assert report(ping()) == expected


def test_notes_stand_under_the_name_of_their_endpoint() -> None:
    server = Shown("tcp_server", notes=("on(b'A', b'1') never answered", "and more"))
    server.record().mark(server.now(), "accepted", peer=PEER)
    expected = """
tcp_server  tcp 127.0.0.1:40213   1 connection
  on(b'A', b'1') never answered
  and more
  +0.000000  #0 accepted from 127.0.0.1:51514
other  tcp 127.0.0.1:40213   1 connection"""
    assert report(server, Shown("other")) == expected


def test_what_came_beside_bytes_stands_behind_them() -> None:
    server = ping()
    server.records[0].add_received(server.now(), b"take")
    server.records[0].annotate("with 2 descriptors")
    line = "  +0.000950  #0 received    4"
    shown = report(server).splitlines()[-1]
    assert shown.startswith(f"{line}  00000008  74 61 6b 65")
    assert shown.endswith("|take|  with 2 descriptors")
    assert report(server, with_bytes=False).endswith(f"{line}  with 2 descriptors")


def test_the_short_style_shows_no_byte() -> None:
    server = ping()
    server.records[0].add_sent(server.now(), b"secret" * 300)
    shown = report(server, with_bytes=False)
    expected = """
echo_server  tcp 127.0.0.1:40213   1 connection, reset by peer
  +0.000000  #0 accepted from 127.0.0.1:51514
  +0.000104  #0 received    8
  +0.000131  #0 sent        8
  +0.000950  #0 reset by peer
  +0.000950  #0 sent     1800"""
    assert shown == expected


def test_every_kind_of_event_has_its_words() -> None:
    server = Shown(summary=("tcp [::1]:80", "3 connections"))
    first, second, third = (server.record(index) for index in range(3))
    first.mark(server.now(), "accepted", peer=("::1", 40000))
    first.mark(server.now(10), "peer_eof")
    first.mark(server.now(10), "eof_sent")
    first.mark(server.now(10), "closed")
    second.mark(server.now(10), "accepted", peer=None)
    second.mark(server.now(10), "reset_sent")
    second.mark(server.now(10), "closed", note="the endpoint was closed")
    third.mark(server.now(10), "connected", peer="\0abstract")
    third.mark(server.now(10), "peer_reset", note="Broken pipe")
    expected = """
tcp_server  tcp [::1]:80   3 connections
  +0.000000  #0 accepted from [::1]:40000
  +0.000010  #0 EOF from peer
  +0.000020  #0 EOF sent
  +0.000030  #0 closed
  +0.000040  #1 accepted from an unnamed socket
  +0.000050  #1 reset sent
  +0.000060  #1 closed (the endpoint was closed)
  +0.000070  #2 connected to @abstract
  +0.000080  #2 reset by peer"""
    assert report(server) == expected


def test_a_problem_stands_out_and_its_further_lines_are_indented() -> None:
    server = Shown()
    own = server.record(None)
    own.mark(server.now(), "problem", note="ValueError: no\nsuch\nthing")
    server.record().mark(server.now(), "connected")
    expected = """
tcp_server  tcp 127.0.0.1:40213   1 connection
  +0.000000  PROBLEM ValueError: no
    such
    thing
  +0.000000  #0 connected"""
    assert report(server) == expected


def test_offsets_count_on_in_each_direction_of_each_connection() -> None:
    server = Shown()
    first, second = server.record(0), server.record(1)
    first.add_received(server.now(), b"x" * 20)
    second.add_received(server.now(), b"a")
    first.add_sent(server.now(), b"b")
    first.add_received(server.now(), b"c")
    second.add_received(server.now(), b"d")
    expected = """
tcp_server  tcp 127.0.0.1:40213   1 connection
  +0.000000  #0 received   20  00000000  78 78 78 78 78 78 78 78  78 78 78 78 78 78 78 78  |xxxxxxxxxxxxxxxx|
                               00000010  78 78 78 78                                       |xxxx|
  +0.000000  #1 received    1  00000000  61                                                |a|
  +0.000000  #0 sent        1  00000000  62                                                |b|
  +0.000000  #0 received    1  00000014  63                                                |c|
  +0.000000  #1 received    1  00000001  64                                                |d|"""
    assert report(server) == expected


def test_datagrams_are_shown_with_who_is_at_the_other_end() -> None:
    peer = Shown("udp_peer", ("udp 127.0.0.1:5353", "4 datagrams received, 1 sent"))
    peer.record(None)  # the endpoint's own, as a real one has
    record = peer.record(None)
    record.add_datagram(peer.now(), b"PING", ("127.0.0.1", 40000), sent=False)
    record.add_datagram(peer.now(1000), b"x" * 17, ("::1", 40001), sent=False)
    record.add_datagram(peer.now(1000), b"", "\0name", sent=False)
    record.add_datagram(peer.now(1000), b"?", None, sent=False)
    record.add_datagram(peer.now(1000), b"PONG", "/run/client", sent=True)
    expected = """
udp_peer  udp 127.0.0.1:5353   4 datagrams received, 1 sent
  +0.000000  received    4  00000000  50 49 4e 47                                       |PING|  from 127.0.0.1:40000
  +0.001000  received   17  00000000  78 78 78 78 78 78 78 78  78 78 78 78 78 78 78 78  |xxxxxxxxxxxxxxxx|  from [::1]:40001
                            00000010  78                                                |x|
  +0.002000  received    0  from @name
  +0.003000  received    1  00000000  3f                                                |?|
  +0.004000  sent        4  00000000  50 4f 4e 47                                       |PONG|  to /run/client"""
    assert report(peer) == expected
    expected = """
udp_peer  udp 127.0.0.1:5353   4 datagrams received, 1 sent
  +0.000000  received    4  from 127.0.0.1:40000
  +0.001000  received   17  from [::1]:40001
  +0.002000  received    0  from @name
  +0.003000  received    1
  +0.004000  sent        4  to /run/client"""
    assert report(peer, with_bytes=False) == expected


def test_endpoints_share_one_time_and_those_without_events_have_a_line() -> None:
    early, late = Shown("early"), Shown("late")
    late.record().mark(2_500_000_000, "connected")
    early.record().mark(1_000_000_000, "connected")
    expected = """
late  tcp 127.0.0.1:40213   1 connection
  +1.500000  #0 connected
idle  unix @a   0 connections
early  tcp 127.0.0.1:40213   1 connection
  +0.000000  #0 connected"""
    assert report(late, Shown("idle", ("unix @a", "0 connections")), early) == expected


def test_of_no_endpoint_there_is_nothing_to_show() -> None:
    assert text([], with_bytes=True) == ""


@pytest.mark.parametrize("connections", [1, 3])
def test_a_long_transcript_loses_its_middle_and_keeps_its_offsets(connections: int) -> None:
    server = Shown()
    records = [server.record(index) for index in range(connections)]
    lines, offsets = [], dict.fromkeys(range(2 * connections), 0)
    for turn in range(200):
        which, sent = turn % connections, turn % 7 == 0
        data = BULK[turn : turn + 1 + turn % 5]
        (records[which].add_sent if sent else records[which].add_received)(server.now(), data)
        key = 2 * which + sent
        (dump,) = rows(data, offsets[key])
        offsets[key] += len(data)
        lines.append(
            f"  +0.000000  #{which} {'sent    ' if sent else 'received'}    {len(data)}  {dump}"
        )
    shown = report(server).splitlines()[2:]
    assert shown == [*lines[:HEAD], f"  … {200 - HEAD - TAIL} events not shown …", *lines[-TAIL:]]


def test_a_transcript_that_just_fits_is_shown_whole() -> None:
    server = Shown()
    record = server.record()
    for _ in range(HEAD + TAIL):
        record.add_received(server.now(), b"x")
    assert "not shown" not in report(server)
    record.add_received(server.now(), b"x")
    assert "  … 1 event not shown …\n" in report(server)


def test_datagrams_after_a_gap_still_count_from_their_own_start() -> None:
    peer = Shown()
    record = peer.record(None)
    for _ in range(HEAD + TAIL + 9):
        record.add_datagram(peer.now(), b"PING", ("127.0.0.1", 1), sent=False)
    shown = report(peer)
    assert shown.count("  00000000  50 49 4e 47  ") == HEAD + TAIL
    assert shown.count(" from 127.0.0.1:1") == HEAD + TAIL


@settings(STEADY, max_examples=150)
@given(size=st.integers(1, 700), before=st.integers(0, 40))
def test_a_large_chunk_loses_its_middle_and_keeps_its_offsets(size: int, before: int) -> None:
    server = Shown()
    record = server.record()
    if before:
        record.add_received(server.now(), BULK[:before])
    whole = BULK[before : before + size]
    record.add_received(server.now(), whole)
    lines = report(server).splitlines()[2 + -(-before // 16) :]
    lead = f"  +0.000000  #0 received {size:>4}  "
    assert lines[0].startswith(lead)
    dump = [line[len(lead) :] for line in lines]
    if size <= DUMP_ROWS * 16:
        assert dump == rows(whole, before)
        return
    (gap,) = (at for at, line in enumerate(dump) if "not shown" in line)
    hidden = int(dump[gap].removeprefix("… ").removesuffix(" bytes not shown …"))
    assert hidden > 0
    kept = gap * 16
    assert dump[:gap] == rows(whole[:kept], before)
    assert dump[gap + 1 :] == rows(whole[kept + hidden :], before + kept + hidden)
    assert len(dump) <= DUMP_ROWS + 1


def test_a_chunk_of_megabytes_makes_a_short_report() -> None:
    server = Shown()
    record = server.record()
    for _ in range(HEAD + TAIL):
        record.add_received(server.now(), BULK)
    assert len(report(server).splitlines()) == 2 + (HEAD + TAIL) * (DUMP_ROWS + 1)
