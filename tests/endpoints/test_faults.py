"""What each fault of a stream does on the wire; a plain socket judges."""

import ctypes
import errno
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fault_ends import (
    GREETING,
    faults_of,
    nothing_comes,
    read_exactly,
    read_to_the_end,
    sent_chunks,
)
from pausing import paused
from pytest_sockets import Address, Settings, Sockets, StreamServer
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.works import TICK
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    AtAccept,
    AtEOF,
    BeforeSend,
    Close,
    Corrupt,
    Delay,
    Effect,
    HalfClose,
    Inject,
    Moment,
    OnFirstByte,
    Reset,
    Slice,
    Stall,
    StopReading,
    Throttle,
)
from recv_spy import Spy, spying
from stream_ends import Ends, plain_client, read_to_eof

pytestmark = pytest.mark.timeout(120)

FAMILIES = ["ipv4", "ipv6", "unix"]
FIRST_SENT: list[tuple[Moment | None, bytes, int]] = [
    (OnFirstByte(), b"", 1),
    (AfterReceived(5), b"", 5),
    (AfterReceived(b"lo"), b"", 5),
    (AfterReceived(11), b"", 11),
    (BeforeSend(), b"", 11),
    (AfterSent(1), b"h", 11),
    (AfterSent(5), b"hello", 11),
    (AfterSent(11), b"hello world", 11),
    (AtEOF(), b"hello world", 11),
]
"""Moments, what an echo of `GREETING` has sent by then, and how much it has received."""
AT_ONCE: list[Moment | None] = [None, AtAccept(), AfterSent(0), AfterReceived(0)]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(family: str, sockets: Sockets) -> StreamServer:
    return sockets.stream_server(family=family)


@pytest.fixture
def echo(family: str, sockets: Sockets) -> StreamServer:
    return sockets.echo_server(family=family)


def ask(echo: StreamServer) -> socket.socket:
    """Send a greeting and EOF, each as one call."""
    client = plain_client(echo.address)
    client.sendall(GREETING)
    with suppress(OSError):  # ENOTCONN, where a reset was faster
        client.shutdown(socket.SHUT_WR)
    return client


# -- ends


@pytest.mark.parametrize(("at", "sent", "received"), FIRST_SENT, ids=repr)
@pytest.mark.parametrize("effect", [Close(), HalfClose(), Reset()], ids=repr)
def test_an_end_comes_after_exactly_these_bytes(
    echo: StreamServer, family: str, effect: Effect, at: Moment, sent: bytes, received: int
) -> None:
    fault = echo.fault(effect, at=at)
    with ask(echo) as client:
        data, end = read_to_the_end(client)
        assert data == sent
        if family == "unix":
            # AF_UNIX has no RST. What is closed with bytes unread there resets its peer (unix(7)).
            is_reset = effect == Reset() and received < len(GREETING)
        else:
            is_reset = effect == Reset()
        assert end == ("ECONNRESET" if is_reset else "EOF")
        (conn,) = echo.connections
        conn.wait_closed()
        note = f"{effect!r} at {at!r}: {len(sent)} byte{'s' * (len(sent) != 1)} sent, {received} "
        assert faults_of(conn) == [note + "received"]
        assert conn.sent == sent
        assert conn.received == (GREETING[:received] if effect == Reset() else GREETING)
        assert fault.hits == 1


@pytest.mark.parametrize("at", AT_ONCE, ids=repr)
@pytest.mark.parametrize("effect", [Close(), HalfClose(), Reset()], ids=repr)
def test_an_end_at_the_beginning(
    echo: StreamServer, family: str, effect: Effect, at: Moment | None
) -> None:
    fault = echo.fault(effect, at=at)
    is_reset = effect == Reset() and family != "unix"
    assert first_call(echo.address) == ("ECONNRESET" if is_reset else "EOF")
    (conn,) = echo.connections
    assert [event.kind for event in conn.transcript][:2] == ["accepted", "fault"]
    assert fault.hits == 1


def first_call(address: Address) -> str:
    """Connect and read: either can be the call that a reset after the handshake ends."""
    try:
        client = plain_client(address)
    except ConnectionResetError:
        return "ECONNRESET"
    with client:
        data, end = read_to_the_end(client)
    assert data == b""
    return end


def test_after_a_reset_the_peer_reads_eof_and_its_send_fails(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    fault = server.fault(Reset(), at=OnFirstByte())
    with plain_client(server.address) as client:
        client.send(b"x")
        assert read_to_the_end(client) == (b"", "ECONNRESET")
        assert client.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            client.send(b"x")
    with plain_client(server.address) as client:
        client.send(b"x")
        fault.wait_hit(2)
        with pytest.raises(ConnectionResetError):  # whichever call comes first has the error
            client.send(b"x")
        with pytest.raises(BrokenPipeError):
            client.send(b"x")
        assert client.recv(1) == b""


def test_a_peer_may_send_behind_a_close_for_as_long_as_it_is_drained(family: str) -> None:
    with (
        StreamServer(family=family, settings=Settings(timeout=0.05)) as server,
        server.fault(Close()),
        plain_client(server.address) as client,
    ):
        assert read_to_the_end(client) == (b"", "EOF")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_on(client)


def send_on(sock: socket.socket) -> None:
    while True:
        sock.send(b"x" * 1000)


def test_a_reset_of_a_path_is_eof_and_a_broken_pipe(sockets: Sockets) -> None:
    server = sockets.unix_server()
    fault = server.fault(Reset())
    with plain_client(server.address) as client:
        fault.wait_hit()
        with pytest.raises(BrokenPipeError):
            client.send(b"x")
        assert read_to_the_end(client) == (b"", "EOF")


def test_a_reset_in_connecting_shows_in_connect_where_it_does_not_block(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    server.fault(Reset(), at=AtAccept())
    with socket.socket() as client:
        client.setblocking(False)
        assert client.connect_ex(server.address) == errno.EINPROGRESS
        server.accept().wait_closed()
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


def states(server: StreamServer, client: socket.socket) -> list[str]:
    """Return the kernel's states of our socket towards a client (proc(5): /proc/net/tcp)."""
    ours, theirs = f":{server.port:04X}", f":{client.getsockname()[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[3] for row in rows if row[1].endswith(ours) and row[2].endswith(theirs)]


ESTABLISHED, FIN_WAIT1, FIN_WAIT2 = "01", "04", "05"


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (Reset(), []),
        (Close(), [[FIN_WAIT1], [FIN_WAIT2]]),  # the one before it is acknowledged
        (HalfClose(), [[FIN_WAIT1], [FIN_WAIT2]]),
        (Stall(), [[ESTABLISHED]]),
        (StopReading(), [[ESTABLISHED]]),
    ],
    ids=repr,
)
def test_what_is_left_of_our_socket_in_the_kernel(
    sockets: Sockets, effect: Effect, expected: list[list[str]]
) -> None:
    server = sockets.tcp_server()
    fault = server.fault(effect, at=AfterReceived(1))
    with plain_client(server.address) as client:
        client.send(b"x")
        fault.wait_hit()
        if isinstance(effect, (Reset, Close, HalfClose)):
            read_to_the_end(client)
        assert states(server, client) in (expected or [[]])


@pytest.mark.parametrize("effect", [Reset(), Close()], ids=repr)
def test_the_segment_on_the_wire(sockets: Sockets, effect: Effect) -> None:
    server = sockets.tcp_server()
    server.fault(effect, at=AfterSent(5))
    server.script().expect(b"GO").send(GREETING)
    with capturing(server.port) as wire, plain_client(server.address) as client:
        client.send(b"GO")
        read_to_the_end(client)
        seen = set[str]()
        while not seen & {"RST", "FIN"}:
            header = wire.recv(65536)
            flags = header[(header[0] & 15) * 4 + 13]
            seen |= {name for name, bit in (("FIN", 1), ("RST", 4)) if flags & bit}
    assert seen == {"RST" if effect == Reset() else "FIN"}


@contextmanager
def capturing(port: int) -> Iterator[socket.socket]:
    """Capture the TCP segments that leave a port of 127.0.0.1, and nobody else's.

    The kernel looks at each (BPF): the buffer would not hold all that there is on loopback.
    """
    program = [
        (0x30, 0, 0, 9),  # the protocol
        (0x15, 0, 4, socket.IPPROTO_TCP),
        (0xB1, 0, 0, 0),  # x = the length of the IP header
        (0x48, 0, 0, 0),  # the source port behind it
        (0x15, 0, 1, port),
        (0x06, 0, 0, 0xFFFF),  # take it
        (0x06, 0, 0, 0),  # leave it
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    try:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # nothing before the filter
    except PermissionError as error:
        pytest.skip(f"this user may not capture packets: {error}")
    with wire:
        attached = struct.pack("HL", len(program), ctypes.addressof(code))
        wire.setsockopt(socket.SOL_SOCKET, 26, attached)  # SO_ATTACH_FILTER
        wire.bind(("lo", 0x0800))  # ETH_P_IP
        wire.settimeout(60)
        yield wire


def test_after_a_close_the_peer_may_still_send_and_is_recorded(server: StreamServer) -> None:
    server.fault(Close(), at=AfterSent(5))
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(GREETING)  # does not wait for what will never go out
        assert read_to_the_end(client) == (b"hello", "EOF")
        client.sendall(b"goodbye")
        client.shutdown(socket.SHUT_WR)
        conn.assert_received(b"goodbye")
        conn.wait_eof()


def test_after_a_half_close_the_connection_goes_on_in_the_other_direction(
    server: StreamServer,
) -> None:
    server.fault(HalfClose(), at=AfterReceived(3))
    with plain_client(server.address) as client:
        conn = server.accept()
        client.sendall(b"abc")
        assert read_to_the_end(client) == (b"", "EOF")
        client.sendall(b"defg")
        assert conn.recv_exactly(7) == b"abcdefg"
        client.close()
        conn.wait_eof()


def test_an_end_drops_what_is_queued(server: StreamServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        filler = b"x" * 16_000_000
        with suppress(AssertionError):
            conn.send(filler, timeout=0)
        before = len(conn.sent)
        assert before < len(filler)
        server.fault(Close())
        data, end = read_to_the_end(client)
        assert (len(data), end) == (before, "EOF")


# -- holding back


@pytest.mark.parametrize(("at", "sent", "received"), FIRST_SENT, ids=repr)
def test_a_stall_keeps_back_exactly_the_rest_and_eof(
    echo: StreamServer, at: Moment, sent: bytes, received: int
) -> None:
    with echo.fault(Stall(), at=at) as fault, ask(echo) as client:
        fault.wait_hit()
        (conn,) = echo.connections
        assert conn.sent == sent
        assert read_exactly(client, len(sent)) == sent
        assert nothing_comes(client)
        assert conn.peer_ended == "eof"
        assert not conn.is_closed
        fault.lift()
        assert read_to_eof(client) == GREETING[len(sent) :]
        assert faults_of(conn) == [
            f"Stall() at {at!r}: {len(sent)} byte{'s' * (len(sent) != 1)} sent, {received} received"
        ]
        assert "Stall() lifted" in [event.note for event in conn.transcript]


def test_a_stall_keeps_back_a_scripts_close(server: StreamServer) -> None:
    server.script().expect(b"GO").send(GREETING).close()
    with plain_client(server.address) as client:
        with server.fault(Stall(), at=AfterSent(11)) as fault:
            client.sendall(b"GO")
            fault.wait_hit()
            assert client.recv(100) == GREETING
            assert nothing_comes(client)
        assert client.recv(100) == b""


def test_a_stall_still_receives(server: StreamServer) -> None:
    server.fault(Stall())
    with plain_client(server.address) as client:
        client.sendall(GREETING)
        server.assert_received(GREETING)


@pytest.mark.parametrize("effect", [Stall(), Delay(3600), Slice(1), Throttle(1e-3)], ids=repr)
def test_sending_does_not_wait_for_what_a_fault_keeps_back(
    server: StreamServer, effect: Effect
) -> None:
    server.fault(effect)
    with plain_client(server.address):
        conn = server.accept()
        conn.send(GREETING, timeout=3600)
        conn.send_eof(timeout=3600)
        conn.close(timeout=3600)
        assert len(conn.sent) <= 1
        assert not conn.is_closed


# -- not reading


def fill(client: socket.socket) -> int:
    """Send until the kernel takes no more for now, and return how much that was."""
    client.setblocking(False)
    size = 0
    with suppress(BlockingIOError):
        while True:
            size += client.send(b"x" * 10_000)
    client.settimeout(60)
    return size


@pytest.mark.parametrize("at", [None, AtAccept(), AfterReceived(0)], ids=repr)
def test_a_peer_that_nobody_reads_blocks_soon(server: StreamServer, at: Moment | None) -> None:
    fault = server.fault(StopReading(), at=at)
    with plain_client(server.address) as client:
        fault.wait_hit()
        (conn,) = server.connections
        size = fill(client)
        while more := fill(client):  # what has gone to the other buffer meanwhile made room
            size += more
        assert 0 < size < 1_000_000
        assert conn.received == b""
        fault.lift()
        client.sendall(b"end")
        client.shutdown(socket.SHUT_WR)
        conn.assert_received(b"x" * size + b"end")
        conn.wait_eof()


@pytest.mark.parametrize("goes_down", [False, True])
def test_a_peer_that_sends_at_once_blocks_soon_too(server: StreamServer, goes_down: bool) -> None:
    server.fault(StopReading())
    if goes_down:
        server.down()
        server.up()
    with plain_client(server.address) as client:
        size = 0
        while more := fill(client):
            size += more
        assert 0 < size < 1_000_000


def test_reading_stops_in_the_middle(server: StreamServer) -> None:
    fault = server.fault(StopReading(), at=AfterReceived(5))
    with plain_client(server.address) as client:
        client.sendall(GREETING)
        fault.wait_hit()
        server.assert_received(b"hello")
        assert server.received == b"hello"
        fault.lift()
        server.assert_received(GREETING)


def test_one_that_does_not_read_still_sends(server: StreamServer) -> None:
    server.fault(StopReading())
    with plain_client(server.address) as client:
        client.sendall(b"unread")
        server.accept().send(GREETING)
        assert read_exactly(client, 11) == GREETING
        assert server.received == b""


def test_reading_goes_on_only_when_the_last_that_stopped_it_is_lifted(
    server: StreamServer,
) -> None:
    with plain_client(server.address) as client:
        sock = server.accept()._stream._socket
        assert sock is not None
        room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        first, second = server.fault(StopReading()), server.fault(StopReading())
        client.sendall(GREETING)
        first.lift()
        assert server.received == b""
        second.lift()
        server.assert_received(GREETING)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == room


def test_close_does_not_make_it_read(server: StreamServer) -> None:
    server.fault(StopReading())
    with plain_client(server.address) as client:
        client.sendall(GREETING)
        conn = server.accept()
        conn.close()
        assert client.recv(1) == b""
        assert conn.received == b""


def test_the_end_does_not_make_it_read(family: str) -> None:
    with Sockets(Settings(timeout=60)) as sockets:
        server = sockets.stream_server(family=family)
        fault = server.fault(StopReading())
        with plain_client(server.address) as client:
            client.sendall(GREETING)
            fault.wait_hit()
            (conn,) = server.connections
            server.close()
            # Closing with bytes unread resets the peer, in every family.
            assert read_to_the_end(client) == (b"", "ECONNRESET")
    assert conn.received == b""


def test_one_that_does_not_read_costs_nothing(server: StreamServer) -> None:
    fault = server.fault(StopReading())
    with plain_client(server.address) as client:
        client.sendall(GREETING)
        fault.wait_hit()
        (conn,) = server.connections
        assert not conn._stream._interest  # level-triggered: the loop would spin


# -- boundaries and pace


@pytest.mark.parametrize("size", [1, 3, 4, 11, 100])
def test_slices_are_exactly_the_peers_reads(server: StreamServer, size: int) -> None:
    fault = server.fault(Slice(size))
    with spying(server.address) as spy:
        conn = server.accept()
        conn.send(GREETING)
        conn.close()
        expected = [GREETING[at : at + size] for at in range(0, len(GREETING), size)]
        assert spy.reads() == expected
        assert sent_chunks(conn) == expected
        assert fault.hits == 1


def test_slices_do_not_join_what_was_sent_apart(server: StreamServer) -> None:
    server.fault(Slice(4))
    with spying(server.address) as spy:
        conn = server.accept()
        for piece in (b"abc", b"defg", b"h"):
            conn.send(piece)
        conn.close()
        reads = spy.reads()
        assert b"".join(reads) == b"abcdefgh"
        assert max(map(len, reads)) <= 4


@pytest.mark.parametrize("at", [AfterSent(6), AfterSent(1), AfterSent(10)], ids=repr)
def test_one_boundary_at_a_place(server: StreamServer, at: AfterSent) -> None:
    server.fault(Slice(), at=at)
    with spying(server.address) as spy:
        conn = server.accept()
        conn.send(GREETING)
        conn.close()
        assert spy.reads() == [GREETING[: at.n], GREETING[at.n :]]


def test_several_boundaries(server: StreamServer) -> None:
    for place in (2, 3, 7):
        server.fault(Slice(), at=AfterSent(place))
    with spying(server.address) as spy:
        conn = server.accept()
        conn.send(GREETING)
        conn.close()
        assert spy.reads() == [b"he", b"l", b"lo w", b"orld"]


def test_slices_end_when_lifted(server: StreamServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        with server.fault(Slice(2)):
            conn.send(GREETING)
            conn.send(GREETING)
            conn.assert_sent(re.compile(rb"\Ahe\Z"))  # nobody has read it
        conn.assert_sent(GREETING * 2)
        conn.close()
        assert Spy(client).reads() == [GREETING * 2]


def test_a_throttle_sends_no_more_than_a_ticks_bytes_at_once(server: StreamServer) -> None:
    rate, data = 2000, bytes(range(256)) * 2
    server.fault(Throttle(rate))
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(data)
        conn.close()
        assert read_to_eof(client) == data
        assert sent_chunks(conn)[:-1] == [
            data[at : at + 100] for at in range(0, len(data) - 100, 100)
        ]
        assert rate * TICK == 100


def test_a_throttle_sends_nothing_while_no_time_passes(server: StreamServer) -> None:
    with paused():
        server.fault(Throttle(1e6))
        with plain_client(server.address) as client:
            conn = server.accept()
            conn.send(GREETING)
            assert conn.sent == b""
            assert nothing_comes(client)
            CLOCK.resume()
            assert read_exactly(client, 11) == GREETING


def test_a_delay_sends_nothing_before_its_time_and_then_all_in_order(
    server: StreamServer,
) -> None:
    fault = server.fault(Delay(0.01))
    with plain_client(server.address) as client:
        conn = server.accept()
        with paused():
            conn.send(b"hello ")
            conn.send(b"world")
            conn.close()
            assert conn.sent == b""
            assert nothing_comes(client)
        assert read_to_eof(client) == GREETING
        assert fault.hits == 1


def test_eof_is_delayed_from_when_it_was_asked_for(server: StreamServer) -> None:
    server.fault(Delay(0.01))
    with plain_client(server.address) as client:
        conn = server.accept()
        with paused():
            conn.send(GREETING)
            conn.send_eof()
            works = list(conn._stream.faults._works.values()) if conn._stream.faults else []
            (work,) = works
            ((size, due),) = work._due
            end = work._end
            assert size == len(GREETING)
            assert due.remaining() == end.remaining() > 0
        assert read_to_eof(client) == GREETING


def test_a_delay_covers_what_was_queued_before_it(server: StreamServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        stall = server.fault(Stall())
        conn.send(b"hello ")
        with paused():
            server.fault(Delay(0.01))
            stall.lift()
            conn.send(b"world")
            conn.close()
            assert conn.sent == b""
        assert read_to_eof(client) == GREETING


def test_what_a_delay_has_not_sent_at_the_end_is_dropped(family: str) -> None:
    with Sockets(Settings(timeout=60)) as sockets:
        server = sockets.stream_server(family=family)
        server.fault(Delay(3600))
        client = plain_client(server.address)
        conn = server.accept()
        conn.send(GREETING)
        conn.close()
    with client:
        assert read_to_the_end(client) == (b"", "EOF")
    assert conn.sent == b""


def test_a_lifted_delay_sends_at_once(server: StreamServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        with server.fault(Delay(3600)):
            conn.send(GREETING)
            conn.close()
        assert read_to_eof(client) == GREETING


# -- other bytes


@pytest.mark.parametrize(("size", "place"), [(1, 0), (1, 10), (3, 2), (11, 0), (5, 9)])
def test_exactly_so_many_bytes_are_corrupted_at_the_place(
    server: StreamServer, size: int, place: int
) -> None:
    server.fault(Corrupt(size), at=AfterSent(place))
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(GREETING)
        conn.close()
        data = read_to_eof(client)
        assert len(data) == len(GREETING)
        changed = [at for at in range(len(data)) if data[at] != GREETING[at]]
        assert changed == list(range(place, min(place + size, len(GREETING))))
        assert conn.sent == data  # the record is of what went out


def corrupted(seed: int, *, connection: int = 0, more: int = 0) -> bytes:
    with Sockets(Settings(timeout=60, seed=seed)) as sockets:
        server = sockets.tcp_server()
        for _ in range(more):
            server.fault(Corrupt(1), at=AfterSent(100), must_hit=False)
        server.fault(Corrupt(40))
        for _ in range(connection):
            plain_client(server.address).close()
            server.accept()
        with plain_client(server.address) as client:
            conn = server.accept()
            conn.send(bytes(40))
            conn.close()
            return read_to_eof(client)


def test_what_is_drawn_depends_on_the_seed_the_connection_and_the_fault_alone() -> None:
    assert corrupted(1) == corrupted(1)
    assert len({corrupted(1), corrupted(2), corrupted(1, connection=1), corrupted(1, more=1)}) == 4


def test_a_corruption_may_be_without_end(server: StreamServer) -> None:
    server.fault(Corrupt(10**12))
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(bytes(1000))
        conn.close()
        assert 0 not in read_to_eof(client)


@pytest.mark.parametrize(("at", "sent", "received"), FIRST_SENT, ids=repr)
def test_injected_bytes_come_at_exactly_the_place(
    echo: StreamServer, at: Moment, sent: bytes, received: int
) -> None:
    echo.fault(Inject(b"INJ"), at=at)
    with ask(echo) as client:
        assert read_to_eof(client) == sent + b"INJ" + GREETING[len(sent) :]
        (conn,) = echo.connections
        assert conn.sent == sent + b"INJ" + GREETING[len(sent) :]


@pytest.mark.parametrize("at", AT_ONCE, ids=repr)
def test_injected_bytes_come_first(echo: StreamServer, at: Moment | None) -> None:
    echo.fault(Inject(b"INJ"), at=at)
    with ask(echo) as client:
        assert read_to_eof(client) == b"INJ" + GREETING


@pytest.mark.parametrize("holding", [Stall(), Delay(0.01), Throttle(1e6), Slice(2)], ids=repr)
def test_bytes_are_injected_also_before_an_end_that_is_kept_back(
    server: StreamServer, holding: Effect
) -> None:
    server.fault(Inject(b"INJ"), at=AfterSent(5))
    fault = server.fault(holding)
    server.script().send(GREETING).close()
    with plain_client(server.address) as client:
        fault.wait_hit()
        if holding == Stall():
            (conn,) = server.connections
            assert conn.sent == b""
            fault.lift()
        assert read_to_eof(client) == b"helloINJ world"


def test_bytes_are_injected_before_an_end_alone(server: StreamServer) -> None:
    stall = server.fault(Stall())
    with plain_client(server.address) as client:
        server.accept().close()
        server.fault(Inject(b"INJ"))
        stall.lift()
        assert read_to_eof(client) == b"INJ"


def test_what_is_injected_counts_as_sent(server: StreamServer) -> None:
    server.fault(Inject(b"INJ"), at=AfterSent(2))
    server.fault(Close(), at=AfterSent(6))
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(GREETING)
        assert read_to_the_end(client) == (b"heINJl", "EOF")


# -- every kind of stream


def test_faults_of_every_kind_of_stream(ends: Ends) -> None:
    endpoint = ends.conn.endpoint
    fault = endpoint.fault(Inject(b"INJ"), at=AfterSent(5))
    endpoint.fault(HalfClose(), at=AfterSent(10))
    ends.conn.send(GREETING)
    assert read_to_the_end(ends.peer) == (b"helloINJ w", "EOF")
    assert fault.hits == 1


def test_a_reset_of_every_kind_of_stream(ends: Ends) -> None:
    ends.conn.endpoint.fault(Reset(), at=AfterReceived(5))
    ends.peer.sendall(GREETING)
    assert read_to_the_end(ends.peer) == (b"", "ECONNRESET")
    assert ends.conn.received == b"hello"


# -- messages and descriptors


def test_messages_keep_their_boundaries(sockets: Sockets) -> None:
    pair = sockets.socket_pair(type="seqpacket")
    endpoint = pair.peer.endpoint
    endpoint.fault(Slice(3))
    endpoint.fault(Throttle(1e6))
    endpoint.fault(Delay(1e-6))
    endpoint.fault(Inject(b"INJ"), at=AfterSent(11))
    spy = Spy(pair.socket)
    for message in (GREETING, b"a", b"bcdefg", b"h"):
        pair.peer.send(message)
    pair.peer.close()
    assert spy.reads() == [GREETING, b"INJ", b"a", b"bcdefg", b"h"]


@pytest.mark.parametrize("at", [AfterSent(3), AfterReceived(3), AfterReceived(b"ell")], ids=repr)
def test_a_message_is_whole_before_a_fault_acts(sockets: Sockets, at: Moment) -> None:
    pair = sockets.socket_pair(type="seqpacket")
    pair.socket.settimeout(60)
    fault = pair.peer.endpoint.fault(HalfClose(), at=at)
    pair.socket.send(GREETING)
    pair.peer.assert_received(GREETING)
    if isinstance(at, AfterSent):
        pair.peer.send(GREETING)
        assert pair.socket.recv(100) == GREETING
    assert pair.socket.recv(100) == b""
    assert fault.hits == 1


def test_a_message_that_is_too_long_is_told_to_the_endpoint(
    sockets: Sockets, forgiven: None
) -> None:
    pair = sockets.socket_pair(type="seqpacket")
    endpoint = pair.peer.endpoint
    with endpoint.fault(Delay(3600)):
        pair.peer.send(bytes(50_000_000))
    with pytest.raises(Exception, match="Message too long"):
        pair.peer.wait_eof()


@pytest.mark.parametrize(
    "effect", [Slice(1), Throttle(1e6), Delay(1e-6), Inject(b"INJ"), Corrupt(1)], ids=repr
)
def test_descriptors_go_with_the_byte_they_were_sent_with(sockets: Sockets, effect: Effect) -> None:
    pair = sockets.unix_socket_pair()
    pair.peer.endpoint.fault(effect)
    pair.peer.send(b"before")
    # In front of it while it waits: what has been kept back has the descriptor's place.
    stall = pair.peer.endpoint.fault(Stall())
    pair.peer.send_fds(b"x", [pair.socket.fileno()])
    pair.peer.endpoint.fault(Inject(b"ANOTHER"))
    stall.lift()
    pair.peer.close()
    seen = []
    while True:
        data, fds, _, _ = socket.recv_fds(pair.socket, 1, 4)
        if not data:
            break
        for fd in fds:
            socket.close(fd)
            seen.append(data)
    assert seen == [b"x"]
