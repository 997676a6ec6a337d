import re
import socket
import threading

import pytest

from pytest_sockets import MismatchError, PeerGoneError, WaitTimeout
from stream_ends import CONSUMING, FOREVER, Background, Ends

CONVERSATION = b"".join(piece for _, piece in CONSUMING.values())

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("in_pieces", [False, True], ids=["at_once", "byte_by_byte"])
def test_leftover_bytes_survive_between_the_verbs(ends: Ends, in_pieces: bool) -> None:
    def talk() -> None:
        for piece in CONVERSATION if in_pieces else [CONVERSATION]:
            ends.peer.sendall(bytes([piece]) if in_pieces else CONVERSATION)
        ends.peer.shutdown(socket.SHUT_WR)

    with Background() as pool:
        talking = pool.submit(talk)
        taken = {name: verb(ends.conn) for name, (verb, _) in CONSUMING.items()}
        talking.result()
    assert taken == {name: piece for name, (_, piece) in CONSUMING.items()}
    ends.conn.expect_eof()
    ends.conn.assert_received(CONVERSATION)


@pytest.mark.parametrize(
    "name", [name for name in CONSUMING if name not in ("recv", "recv_to_eof")]
)
def test_a_frame_that_never_ends_leaves_its_bytes_to_the_next_verb(ends: Ends, name: str) -> None:
    verb, piece = CONSUMING[name]
    ends.peer.sendall(piece[:-1])
    ends.conn.assert_received(piece[:-1])
    with pytest.raises(WaitTimeout):
        verb(ends.conn, timeout=0)
    ends.peer.shutdown(socket.SHUT_WR)
    with pytest.raises((PeerGoneError, MismatchError), match="the peer sent EOF"):
        verb(ends.conn)
    assert ends.conn.recv_to_eof() == piece[:-1]


def test_recv_returns_what_is_there_and_nothing_after_eof(ends: Ends) -> None:
    ends.peer.sendall(b"abc")
    ends.conn.assert_received(b"abc")
    assert ends.conn.recv(2) == b"ab"
    assert ends.conn.recv(2) == b"c"
    with pytest.raises(WaitTimeout, match=r"recv waited 0 s for up to 2 bytes\n .*b'' \(0 bytes\)"):
        ends.conn.recv(2, timeout=0)
    ends.peer.shutdown(socket.SHUT_WR)
    assert [ends.conn.recv(2), ends.conn.recv(2)] == [b"", b""]


def test_a_missing_separator_is_found_across_any_boundary(ends: Ends) -> None:
    with Background() as pool:
        reading = pool.submit(ends.conn.recv_until, b"\r\n\r\n")
        for byte in b"a\r\nb\r\r\n\r\n":
            ends.peer.sendall(bytes([byte]))
        assert reading.result() == b"a\r\nb\r\r\n\r\n"


def test_expect_fails_at_the_first_differing_byte(ends: Ends) -> None:
    ends.peer.sendall(b"HELO")
    with pytest.raises(MismatchError, match="byte 2: expected 0x48 'H', received 0x4c 'L'"):
        ends.conn.expect(b"HEHO and much more", timeout=FOREVER)
    ends.conn.expect(b"HELO")


def test_expect_fails_when_the_peer_ends_too_early(ends: Ends) -> None:
    ends.peer.sendall(b"HE")
    ends.peer.shutdown(socket.SHUT_WR)
    with pytest.raises(MismatchError, match=r"(?s)received less.*byte 2: .*the peer sent EOF"):
        ends.conn.expect(b"HELO", timeout=FOREVER)
    with pytest.raises(MismatchError, match=r"(?s)less than a full match of b'HELO'.* sent EOF"):
        ends.conn.expect(re.compile(b"HELO"), until=4, timeout=FOREVER)
    ends.conn.expect(b"HE")


def test_expect_says_how_much_came_before_the_deadline(ends: Ends) -> None:
    ends.peer.sendall(b"HE")
    ends.conn.assert_received(b"HE")
    with pytest.raises(WaitTimeout, match=r"waited 0 s for b'HELO'\n.*b'HE' \(2 of 4 bytes\)"):
        ends.conn.expect(b"HELO", timeout=0)


def test_expect_gives_the_match_of_a_whole_frame(ends: Ends) -> None:
    ends.peer.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    match = ends.conn.expect(re.compile(rb"GET (\S+) HTTP/1\.1\r\n"), until=b"\r\n")
    assert match[1] == b"/a"
    with pytest.raises(MismatchError, match=r"expected  a full match of b'Host'\n  received  b'Ho"):
        ends.conn.expect(re.compile(rb"Host"), until=b"\r\n")
    ends.conn.expect(b"Host: x\r\n\r\n")


def test_a_pattern_that_nearly_matches_is_told_with_what_it_misses(ends: Ends) -> None:
    ends.peer.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    for source, miss in {
        b"GET /a .*": r"without the separator b'\r\n', and has to match that too",
        b"GET": "the beginning only, 3 of 17 bytes",
    }.items():
        with pytest.raises(MismatchError) as caught:
            ends.conn.expect(re.compile(source), until=b"\r\n")
        assert str(caught.value) == (
            f"{ends.conn._label} received something else\n"
            f"  expected  a full match of {source!r}\n"
            "  received  b'GET /a HTTP/1.1\\r\\n'\n"
            f"  the pattern matches {miss}"
        )


def test_expect_eof_fails_on_unread_bytes_and_names_them(ends: Ends) -> None:
    ends.peer.sendall(b"surplus")
    with pytest.raises(MismatchError, match=r"expected EOF, but 7 bytes came: b'surplus'"):
        ends.conn.expect_eof(timeout=FOREVER)


def test_expect_eof_fails_on_a_reset(ends: Ends) -> None:
    ends.reset_by_peer()
    with pytest.raises(MismatchError, match="expected EOF, but the peer reset the connection"):
        ends.conn.expect_eof(timeout=FOREVER)


def test_expect_reset_fails_on_eof(ends: Ends) -> None:
    ends.peer.shutdown(socket.SHUT_WR)
    with pytest.raises(MismatchError, match="expected a reset, but the peer sent EOF"):
        ends.conn.expect_reset(timeout=FOREVER)


def test_an_open_peer_is_neither_eof_nor_reset(ends: Ends) -> None:
    with pytest.raises(WaitTimeout, match="for EOF; the peer has not closed its side"):
        ends.conn.expect_eof(timeout=0)
    with pytest.raises(WaitTimeout, match="for a reset; the peer has not ended its side"):
        ends.conn.expect_reset(timeout=0)
    with pytest.raises(WaitTimeout, match="for EOF; the peer has not ended its side"):
        ends.conn.wait_eof(timeout=0)
    with pytest.raises(WaitTimeout, match="for the end of our side; nobody closed it"):
        ends.conn.wait_closed(timeout=0)


def test_expect_nothing_takes_what_was_sent_before_into_account(ends: Ends) -> None:
    ends.conn.expect_nothing(within=0)
    ends.peer.sendall(b"x")
    with pytest.raises(MismatchError, match=r"expected nothing for 0 s, but 1 byte came: b'x'"):
        ends.conn.expect_nothing(within=0)
    with pytest.raises(MismatchError):
        ends.conn.expect_nothing(within=FOREVER)
    ends.conn.expect(b"x")
    ends.peer.shutdown(socket.SHUT_WR)
    ends.conn.expect_nothing(within=FOREVER)


def test_wait_eof_does_not_look_at_bytes(ends: Ends) -> None:
    ends.peer.sendall(b"unread")
    ends.peer.shutdown(socket.SHUT_WR)
    ends.conn.wait_eof()
    assert ends.conn.recv_to_eof() == b"unread"


def test_wait_closed_ends_with_our_side(ends: Ends, armed: threading.Semaphore) -> None:
    with Background() as pool:
        waiting = pool.submit(ends.conn.wait_closed)
        armed.acquire()
        ends.conn.send_eof()
        waiting.result()
