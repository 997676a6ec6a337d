"""What a failed test's report looks like, word for word."""

from __future__ import annotations

import re

import pytest

from inner_runs import Inner, blocks, normal, reports

SOURCE = r"""
import socket, struct

def test_echo_mismatch(echo_server):
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"PING 2\r\n")
        sock.recv(8, socket.MSG_WAITALL)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    echo_server.assert_received(b"PING 1\r\n")

def test_wait_timeout(tcp_server):
    with socket.create_connection(tcp_server.address) as sock:
        sock.sendall(b"HEL")
        tcp_server.assert_received(b"HELLO", timeout=0)

def test_udp(udp_peer):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"one", udp_peer.address)
        sock.sendto(b"two", udp_peer.address)
    udp_peer.assert_received(b"one", b"three")

def test_unix(unix_server):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(unix_server.address)
        unix_server.accept().send(b"220 ready\r\n")
        sock.sendall(b"QUIT\r\n")
        sock.shutdown(socket.SHUT_WR)
        unix_server.connections[0].expect(b"EHLO\r\n")

def test_client(raw_client, sockets):
    conn = raw_client(sockets.tcp_server(name="under_test").address)
    sockets.endpoints[0].accept().close()
    conn.recv_line()
"""

EXPECTED = r"""
______________________________ test_echo_mismatch ______________________________

echo_server = <EchoServer tcp 127.0.0.1:PORT, 1 connection, reset by peer, open>

    def test_echo_mismatch(echo_server):
        with socket.create_connection(echo_server.address) as sock:
            sock.sendall(b"PING 2\r\n")
            sock.recv(8, socket.MSG_WAITALL)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
>       echo_server.assert_received(b"PING 1\r\n")
E       pytest_sockets.MismatchError: echo_server received something else
E         expected  b'PING 1\r\n'
E         received  b'PING 2\r\n'
E         first difference at byte 5: expected 0x31 '1', received 0x32 '2'

test_it.py:8: MismatchError
---------------- sockets: test_echo_mismatch (seed 1389251351) -----------------
echo_server  tcp 127.0.0.1:PORT   1 connection, reset by peer
  +TIME  #0 accepted from 127.0.0.1:PORT
  +TIME  #0 received    8  00000000  50 49 4e 47 20 32 0d 0a                           |PING 2..|
  +TIME  #0 sent        8  00000000  50 49 4e 47 20 32 0d 0a                           |PING 2..|
  +TIME  #0 reset by peer
  +TIME  #0 closed
______________________________ test_wait_timeout _______________________________

tcp_server = <TCPServer tcp 127.0.0.1:PORT, 1 connection, EOF from peer, open>

    def test_wait_timeout(tcp_server):
        with socket.create_connection(tcp_server.address) as sock:
            sock.sendall(b"HEL")
>           tcp_server.assert_received(b"HELLO", timeout=0)
E           pytest_sockets.WaitTimeout: tcp_server: waited 0 s for b'HELLO'
E             received so far: b'HEL' (3 bytes), and nothing says that no more will come

test_it.py:13: WaitTimeout
----------------- sockets: test_wait_timeout (seed 2830069072) -----------------
tcp_server  tcp 127.0.0.1:PORT   1 connection, EOF from peer
  +TIME  #0 accepted from 127.0.0.1:PORT
  +TIME  #0 received    3  00000000  48 45 4c                                          |HEL|
  +TIME  #0 EOF from peer
___________________________________ test_udp ___________________________________

udp_peer = <UDPPeer udp 127.0.0.1:PORT, 2 datagrams received, 0 sent, open>

    def test_udp(udp_peer):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"one", udp_peer.address)
            sock.sendto(b"two", udp_peer.address)
>       udp_peer.assert_received(b"one", b"three")
E       pytest_sockets.MismatchError: udp_peer: datagram 1 is something else
E         expected  b'three'
E         received  b'two'
E         first difference at byte 1: expected 0x68 'h', received 0x77 'w'

test_it.py:19: MismatchError
--------------------- sockets: test_udp (seed 2723217554) ----------------------
udp_peer  udp 127.0.0.1:PORT   2 datagrams received, 0 sent
  +TIME  received    3  00000000  6f 6e 65                                          |one|  from 127.0.0.1:PORT
  +TIME  received    3  00000000  74 77 6f                                          |two|  from 127.0.0.1:PORT
__________________________________ test_unix ___________________________________

unix_server = <UnixServer unix /PATH, 1 connection, EOF from peer, open>

    def test_unix(unix_server):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(unix_server.address)
            unix_server.accept().send(b"220 ready\r\n")
            sock.sendall(b"QUIT\r\n")
            sock.shutdown(socket.SHUT_WR)
>           unix_server.connections[0].expect(b"EHLO\r\n")
E           pytest_sockets.MismatchError: unix_server connection 0 received something else
E             expected  b'EHLO\r\n'
E             received  b'QUIT\r\n'
E             first difference at byte 0: expected 0x45 'E', received 0x51 'Q'

test_it.py:27: MismatchError
---------------------- sockets: test_unix (seed 82352421) ----------------------
unix_server  unix /PATH   1 connection, EOF from peer
  +TIME  #0 accepted from an unnamed socket
  +TIME  #0 sent       11  00000000  32 32 30 20 72 65 61 64  79 0d 0a                 |220 ready..|
  +TIME  #0 received    6  00000000  51 55 49 54 0d 0a                                 |QUIT..|
  +TIME  #0 EOF from peer
_________________________________ test_client __________________________________

raw_client = <bound method Sockets.connect of <Sockets 2 endpoints>>
sockets = <Sockets 2 endpoints>

    def test_client(raw_client, sockets):
        conn = raw_client(sockets.tcp_server(name="under_test").address)
        sockets.endpoints[0].accept().close()
>       conn.recv_line()
E       pytest_sockets.PeerGoneError: raw_client: recv_line wanted bytes up to b'\n', but the peer sent EOF

test_it.py:32: PeerGoneError
-------------------- sockets: test_client (seed 928947417) ---------------------
under_test  tcp 127.0.0.1:PORT   1 connection
  +TIME  #0 accepted from 127.0.0.1:PORT
  +TIME  #0 EOF sent
raw_client  to 127.0.0.1:PORT   0 bytes received, 0 sent
  +TIME  #0 connected to 127.0.0.1:PORT
  +TIME  #0 EOF from peer
"""  # noqa: E501 - what is printed is as long as it is


def test_a_failed_test_shows_what_happened_on_the_wire(run: Inner) -> None:
    result = run(SOURCE)
    result.assert_outcomes(failed=5)
    assert reports(result) == blocks(EXPECTED)


def test_the_times_in_a_report_count_from_the_first_event_and_grow(run_plain: Inner) -> None:
    shown = run_plain(SOURCE, "-k", "echo").stdout.str()
    times = [float(time) for time in re.findall(r"^  \+(\d+\.\d{6})  #0 ", shown, re.M)]
    assert times[0] == 0.0
    assert times == sorted(times)
    assert len(times) == 5


ECHO = blocks(EXPECTED)["test_echo_mismatch"]
SECTION = ECHO[ECHO.index("-------") :]


@pytest.mark.parametrize("style", ["auto", "long", "short", "native"])
def test_the_section_is_there_in_every_style_of_traceback(run_plain: Inner, style: str) -> None:
    result = run_plain(SOURCE, "-k", "echo", f"--tb={style}", "--show-capture=no")
    assert SECTION in normal(result.stdout.str())


def test_a_traceback_of_one_line_has_the_message_and_may_have_the_section(run_plain: Inner) -> None:
    shown = normal(run_plain(SOURCE, "-k", "echo", "--tb=line").stdout.str())
    assert "test_it.py:8: pytest_sockets.MismatchError: echo_server received something" in shown
    if pytest.version_tuple >= (9,):  # before, pytest shows nothing but that line
        assert SECTION in shown


def test_without_tracebacks_there_is_no_section(run_plain: Inner) -> None:
    result = run_plain(SOURCE, "-k", "echo", "--tb=no")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*sockets:*")


@pytest.mark.parametrize("style", ["long", "short"])
def test_no_frame_of_ours_is_shown(run_plain: Inner, style: str) -> None:
    result = run_plain(
        """
import socket
import struct
import pytest

@pytest.fixture
def setup_fails(broken):
    pass

@pytest.fixture
def teardown_fails(broken_late):
    pass

def test_assertion(echo_server):
    echo_server.assert_received(b"never", timeout=0)

def test_wait(tcp_server):
    tcp_server.accept(timeout=0)

def test_expect(tcp_socket_pair):
    sock, peer = tcp_socket_pair
    sock.close()
    peer.expect(b"x")

def test_peer_gone(tcp_socket_pair):
    sock, peer = tcp_socket_pair
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    peer.recv(1)

def test_nobody_there(unix_datagram_peer):
    unix_datagram_peer.send(b"x", to=unix_datagram_peer.path + "-none")

def test_check(echo_server):
    echo_server._fail(RuntimeError("problem"))
    echo_server.check()

def test_problem(echo_server):
    echo_server._fail(RuntimeError("problem"))

def test_closed(udp_peer):
    udp_peer.close()
    udp_peer.expect(b"x")

def test_setup(setup_fails):
    pass

def test_teardown(teardown_fails):
    pass
""",
        f"--tb={style}",
        conftest="""
import pytest

@pytest.fixture
def broken():
    raise LookupError

@pytest.fixture
def broken_late():
    yield
    raise LookupError
""",
    )
    result.assert_outcomes(failed=8, passed=1, errors=2)
    shown = reports(result)
    assert len(shown) == 10
    for name, text in shown.items():
        assert "pytest_sockets/" not in text, name
        arrow = r"^>       \w" if style == "long" else r"^(test_it|conftest)\.py:\d+: in "
        own_line = name != "test_problem"  # raised after the test: there is no line to point at
        assert len(re.findall(arrow, text, re.M)) == own_line, name


@pytest.mark.parametrize("style", ["long", "short"])
def test_an_argument_that_is_refused_is_shown_in_the_users_line(
    run_plain: Inner, style: str
) -> None:
    result = run_plain(
        """
import pytest
from pytest_sockets import Settings, TCPServer, capabilities
from pytest_sockets.faults import Corrupt, Drop, Reset

CALLS = {
    "fault": lambda sockets: sockets.tcp_server().fault(Drop()),
    "port": lambda sockets: sockets.tcp_server(port=70000),
    "used port": lambda sockets: sockets.tcp_server(port=sockets.udp_peer().port, host="1.2.3.4"),
    "class": lambda sockets: TCPServer(family="ipx"),
    "effect": lambda sockets: Corrupt(size=-1),
    "step": lambda sockets: sockets.tcp_server().script().send("x"),
    "rule": lambda sockets: sockets.udp_peer().on("x", b""),
    "wait": lambda sockets: sockets.tcp_server().accept(timeout=-1),
    "connect": lambda sockets: sockets.connect("no such path"),
    "name": lambda sockets: capabilities["fly"],
    "settings": lambda sockets: Settings(timeout=-1),
}

@pytest.mark.parametrize("name", CALLS)
def test_call(sockets, name):
    CALLS[name](sockets)

def test_reserved(reserved_port):
    reserved_port.release()
    reserved_port.socket

def test_sweep(sweep):
    sweep(lambda sockets: sockets.tcp_server(port=70000), Reset())
""",
        f"--tb={style}",
    )
    result.assert_outcomes(failed=13)
    shown = reports(result)
    assert len(shown) == 13
    for name, text in shown.items():
        assert "pytest_sockets/" not in text, name
        lines = re.findall(r"^test_it\.py:(\d+): ", text, re.M)
        assert len(lines) == (1 if name == "test_reserved" else 2), name


def test_a_mistake_of_our_own_keeps_its_frames(run_plain: Inner) -> None:
    result = run_plain(
        """
from pytest_sockets._endpoints import server

def test_python(sockets, monkeypatch):
    monkeypatch.setattr(server, "place_for", None)
    sockets.tcp_server()

def test_assert(sockets, monkeypatch):
    def place_for(*args, **options):
        raise AssertionError
    place_for = type(place_for)(place_for.__code__, vars(server))
    monkeypatch.setattr(server, "place_for", place_for)
    sockets.tcp_server()
""",
        "--tb=short",
    )
    result.assert_outcomes(failed=2)
    for name, text in reports(result).items():
        assert "pytest_sockets/_endpoints/factory.py" in text, name
        assert "pytest_sockets/_endpoints/server.py" in text, name


def test_a_passed_test_shows_nothing(run: Inner) -> None:
    result = run(
        """
import pytest

def test_passes(echo_server):
    pass

@pytest.mark.xfail
def test_fails_as_expected(echo_server):
    assert False

def test_skips(echo_server):
    pytest.skip()
""",
        "-rA",
    )
    result.assert_outcomes(passed=1, xfailed=1, skipped=1)
    result.stdout.no_fnmatch_line("*sockets:*")


def test_only_the_endpoints_of_the_failed_test_are_shown(run: Inner) -> None:
    result = run(
        """
import pytest

@pytest.mark.parametrize("turn", range(4))
def test_fails(turn, sockets):
    sockets.tcp_server(name=f"server-of-{turn}")
    assert False

def test_without_endpoints():
    assert False
""",
    )
    shown = reports(result)
    for turn in range(4):
        assert re.findall(r"server-of-\d", shown[f"test_fails[{turn}]"])[-1:] == [
            f"server-of-{turn}"
        ]
        assert shown[f"test_fails[{turn}]"].count("  tcp 127.0.0.1:PORT  ") == 1
    assert "sockets:" not in shown["test_without_endpoints"]


@pytest.mark.parametrize("variable", ["NO_COLOR", "FORCE_COLOR"])
def test_the_section_itself_has_no_colours(
    run_plain: Inner, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    monkeypatch.delenv("PY_COLORS")  # set by pytester
    result = run_plain(SOURCE, "-k", "echo", apart=True)
    shown = result.stdout.str()
    assert SECTION in normal(shown)
    assert ("\x1b[" in shown) == (variable == "FORCE_COLOR")
