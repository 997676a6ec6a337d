import collections
import itertools
import re
import socket
import threading

import pytest

from pytest_sockets import EndpointClosedError, PeerGoneError, Sockets, WaitTimeout
from stream_ends import CONSUMING, Background, Ends, Verb, read_to_eof

LARGE = bytes(range(256)) * (8 * 1024 * 1024 // 256)
CLOSED_VERBS: dict[str, Verb] = {
    "send": lambda conn: conn.send(b"x"),
    **{name: verb for name, (verb, _) in CONSUMING.items()},
    "expect_eof": lambda conn: conn.expect_eof(),
    "expect_reset": lambda conn: conn.expect_reset(),
    "wait_eof": lambda conn: conn.wait_eof(),
}
GONE_VERBS = {name: verb for name, verb in CLOSED_VERBS.items() if not name.startswith("expect")}

pytestmark = pytest.mark.timeout(120)


def test_send_eof_ends_one_direction_only(ends: Ends) -> None:
    ends.conn.send(b"question")
    ends.conn.send_eof()
    assert read_to_eof(ends.peer) == b"question"
    assert ends.conn.is_closed
    ends.peer.sendall(b"answer")
    assert ends.conn.recv_exactly(6) == b"answer"
    with pytest.raises(EndpointClosedError, match=r"ended by close\(\), send_eof\(\) or reset\(\)"):
        ends.conn.send(b"more")
    ends.conn.send_eof()
    assert [event.kind for event in ends.conn.transcript].count("eof_sent") == 1


def test_the_peers_half_close_leaves_our_side_open(ends: Ends) -> None:
    assert ends.conn.peer_ended is None
    ends.peer.shutdown(socket.SHUT_WR)
    ends.conn.expect_eof()
    assert (ends.conn.peer_ended, ends.conn.is_closed) == ("eof", False)
    ends.conn.send(b"still here")
    ends.conn.close()
    assert read_to_eof(ends.peer) == b"still here"


def test_close_sends_fin_behind_the_bytes_although_input_is_unread(ends: Ends) -> None:
    ends.peer.sendall(b"unread")
    ends.conn.assert_received(b"unread")
    ends.conn.send(b"last words")
    ends.conn.close()
    assert ends.conn.is_closed
    # A reset here would be ConnectionResetError.
    assert read_to_eof(ends.peer) == b"last words"
    ends.peer.sendall(b", and later")
    ends.peer.close()
    ends.conn.wait_eof()
    assert ends.conn.received == b"unread, and later"
    ends.conn.close()


def test_reset_is_abrupt(ends: Ends) -> None:
    ends.conn.reset()
    if ends.is_tcp:
        with pytest.raises(ConnectionResetError):
            ends.peer.recv(1)
    else:
        assert ends.peer.recv(1) == b""
    assert ends.conn.is_closed
    ends.conn.reset()
    ends.conn.close()
    ends.conn.wait_closed()
    assert [event.kind for event in ends.conn.transcript][1:] == ["reset_sent"]


def test_leaving_a_connection_as_a_context_closes_it_in_order(ends: Ends) -> None:
    with ends.conn as conn:
        conn.send(b"bye")
    assert read_to_eof(ends.peer) == b"bye"
    assert ends.conn.is_closed


@pytest.mark.parametrize("name", CLOSED_VERBS)
def test_a_verb_on_a_connection_that_we_reset_says_so(ends: Ends, name: str) -> None:
    ends.conn.reset()
    with pytest.raises(EndpointClosedError, match=r"closed on our side|its side was ended by"):
        CLOSED_VERBS[name](ends.conn)


@pytest.mark.parametrize("name", CLOSED_VERBS)
def test_a_verb_on_a_closed_endpoint_names_it(ends: Ends, name: str) -> None:
    ends.conn.endpoint.close()
    with pytest.raises(EndpointClosedError, match=rf"{ends.conn.endpoint.name} is closed: use it"):
        CLOSED_VERBS[name](ends.conn)


@pytest.mark.parametrize("name", [name for name in CLOSED_VERBS if name != "send"])
def test_closing_the_endpoint_wakes_a_verb_that_waits(
    ends: Ends, armed: threading.Semaphore, name: str
) -> None:
    with Background() as pool:
        waiting = pool.submit(CLOSED_VERBS[name], ends.conn)
        armed.acquire()
        ends.conn.endpoint.close()
        with pytest.raises(EndpointClosedError):
            waiting.result()


@pytest.mark.parametrize("name", GONE_VERBS)
def test_after_the_peers_reset_a_verb_has_the_oserror_as_cause(ends: Ends, name: str) -> None:
    ends.reset_by_peer()
    ends.conn.expect_reset()
    assert ends.conn.peer_ended == "reset"
    with pytest.raises(PeerGoneError, match="the peer reset the connection") as caught:
        GONE_VERBS[name](ends.conn)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_sending_to_a_peer_that_has_closed_is_peer_gone(ends: Ends) -> None:
    ends.peer.close()
    ends.conn.wait_eof()
    # The first ones reach a kernel that only then answers with RST.
    sends = map(ends.conn.send, itertools.repeat(b"x", 100_000))
    with pytest.raises(PeerGoneError, match="cannot send") as caught:
        collections.deque(sends, maxlen=0)
    assert isinstance(caught.value.__cause__, (BrokenPipeError, ConnectionResetError))


def test_bytes_before_a_reset_are_received(ends: Ends) -> None:
    ends.peer.sendall(b"last words")
    ends.reset_by_peer()
    assert ends.conn.recv_exactly(10) == b"last words"
    ends.conn.expect_reset()
    ends.conn.assert_received(b"last words")


def test_the_record_stays_readable_after_the_end(ends: Ends, sockets: Sockets) -> None:
    ends.peer.sendall(b"ping")
    ends.conn.expect(b"ping")
    ends.conn.send(b"pong")
    ends.peer.shutdown(socket.SHUT_WR)
    ends.conn.expect_eof()
    ends.conn.close()
    sockets.close()
    conn = ends.conn
    assert (conn.received, conn.sent, conn.peer_ended) == (b"ping", b"pong", "eof")
    first, *kinds = [event.kind for event in conn.transcript]
    assert first in ("accepted", "connected")
    assert kinds == ["received", "sent", "peer_eof", "eof_sent", "closed"]
    times = [event.time for event in conn.transcript]
    assert times == sorted(set(times))
    conn.assert_received(b"ping")
    conn.assert_sent(b"pong")
    assert conn.recv_to_eof() == b""


def test_closing_the_endpoint_records_what_the_kernel_still_holds(ends: Ends) -> None:
    with ends.conn.endpoint._lock:  # the I/O thread does not read before the close
        ends.peer.sendall(b"last words")
        ends.peer.shutdown(socket.SHUT_WR)
        ends.conn.endpoint.close()
    assert ends.conn.received == b"last words"
    kinds = [event.kind for event in ends.conn.transcript][-3:]
    assert kinds == ["received", "peer_eof", "closed"]


def test_large_transfers_arrive_whole_in_both_directions_at_once(ends: Ends) -> None:
    def talk() -> None:
        ends.peer.sendall(LARGE)
        ends.peer.shutdown(socket.SHUT_WR)

    with Background() as pool:
        talking, reading = pool.submit(talk), pool.submit(read_to_eof, ends.peer)
        ends.conn.send(LARGE)
        ends.conn.send_eof()
        assert ends.conn.recv_exactly(len(LARGE) // 2) == LARGE[: len(LARGE) // 2]
        assert ends.conn.recv_to_eof() == LARGE[len(LARGE) // 2 :]
        talking.result()
        assert reading.result() == LARGE
    assert ends.conn.received == ends.conn.sent == LARGE


def test_sending_to_a_peer_that_does_not_read_says_how_much_went_and_the_rest_follows(
    ends: Ends,
) -> None:
    with pytest.raises(WaitTimeout) as caught:
        ends.conn.send(LARGE, timeout=0)
    found = re.search(r"the kernel took ([\d,]+) of 8,388,608 bytes", str(caught.value))
    assert found is not None
    taken = int(found[1].replace(",", ""))
    assert 0 < taken < len(LARGE)
    assert ends.conn.sent == LARGE[:taken]
    with pytest.raises(WaitTimeout, match=r"send_eof waited 0 s for the peer to read"):
        ends.conn.send_eof(timeout=0)
    assert not ends.conn.is_closed
    assert read_to_eof(ends.peer) == LARGE  # the rest, and the EOF behind it
    ends.conn.assert_sent(LARGE)
    ends.conn.wait_closed()


def test_a_peer_that_leaves_while_we_send_ends_the_send(ends: Ends) -> None:
    with Background() as pool:
        sending = pool.submit(ends.conn.send, LARGE)
        ends.peer.recv(1)
        ends.peer.close()
        with pytest.raises(PeerGoneError, match=r"[\d,]+ bytes did not go out") as caught:
            sending.result()
    assert isinstance(caught.value.__cause__, (BrokenPipeError, ConnectionResetError))
    assert len(ends.conn.sent) < len(LARGE)


def test_bytes_before_a_reset_that_a_send_meets_first_are_received(ends: Ends) -> None:
    with ends.conn.endpoint._lock:  # the I/O thread does not read before the send
        ends.peer.sendall(b"last words")
        ends.reset_by_peer()
        with pytest.raises(PeerGoneError):
            ends.conn.send(b"x")
    assert ends.conn.received == b"last words"
    ends.conn.assert_received(b"last words")


def test_a_reset_drops_what_is_queued(ends: Ends) -> None:
    with pytest.raises(WaitTimeout):
        ends.conn.send(LARGE, timeout=0)
    ends.conn.reset()
    with pytest.raises(EndpointClosedError, match=r"ended by close\(\), send_eof\(\) or reset\(\)"):
        ends.conn.send(b"more")
    assert len(ends.conn.sent) < len(LARGE)
