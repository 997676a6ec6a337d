"""Programs that speak to datagram sockets."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from programs import DATAGRAM_CLIENTS, LIMIT, ask, heard, program, running, tell
from pytest_sockets import UDPEchoServer, UnixDatagramPeer

# Programs start in their own time.
pytestmark = pytest.mark.sockets(timeout=LIMIT)

QUESTION = bytes(range(256)) * 16  # as much as goes through a pipe in one piece (PIPE_BUF)


@pytest.mark.parametrize("client", DATAGRAM_CLIENTS)
def test_a_program_gets_its_datagram_back(any_udp_echo_server: UDPEchoServer, client: str) -> None:
    assert ask(DATAGRAM_CLIENTS, client, any_udp_echo_server, QUESTION) == QUESTION

    any_udp_echo_server.assert_received(QUESTION)
    assert any_udp_echo_server.sent == [QUESTION]


@pytest.fixture
def short_folder() -> Iterator[str]:
    # An AF_UNIX path has at most 107 bytes, and pytest's tmp_path can be longer.
    with tempfile.TemporaryDirectory(prefix="ps-", dir="/tmp") as folder:
        yield folder


@pytest.mark.parametrize("client", ["nc", "socat"])
def test_a_program_is_answered_at_its_path(
    unix_datagram_peer: UnixDatagramPeer, short_folder: str, client: str
) -> None:
    path, own = unix_datagram_peer.path, f"{short_folder}/own"
    commands = {
        "nc": ["nc.openbsd", "-u", "-U", "-q0", "-s", own, path],
        "socat": ["socat", "-t0", "-", f"UNIX-SENDTO:{path},bind={own}"],
    }
    name, *arguments = commands[client]
    with running(program(name), *arguments) as process:
        tell(process, QUESTION)
        assert unix_datagram_peer.expect(QUESTION).source == own
        unix_datagram_peer.send(b"pong")
        assert heard(process, 4) == b"pong"
    assert unix_datagram_peer.sent == [b"pong"]


def test_a_program_without_a_path_has_no_source(unix_datagram_peer: UnixDatagramPeer) -> None:
    with running(program("socat"), "-u", "-", f"UNIX-SENDTO:{unix_datagram_peer.path}") as process:
        tell(process, b"one way")
        assert unix_datagram_peer.expect(b"one way").source is None
