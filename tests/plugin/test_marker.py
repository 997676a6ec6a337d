"""`@pytest.mark.sockets`: settings for the fixtures of one test."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from inner_runs import Inner, has_ipv6, reports

WITHOUT_IPV6 = (
    "unshare",
    "--map-root-user",
    "--net",
    "sh",
    "-ec",
    'ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; exec "$@"',
    "sh",
)


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.fixture
def without_ipv6() -> tuple[str, ...]:
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("unshare (util-linux) and ip (iproute2) make a network without IPv6")
    tried = subprocess.run([*WITHOUT_IPV6, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no network namespace of our own: {tried.stderr.strip()}")
    return WITHOUT_IPV6


@needs_ipv6
def test_the_closest_marker_wins_each_argument_by_itself(run: Inner) -> None:
    run(
        """
import pytest

pytestmark = pytest.mark.sockets(timeout=1, family="dual")

def test_module(tcp_server):
    assert tcp_server.settings.timeout == 1
    assert tcp_server.family == "dual"

@pytest.mark.sockets(timeout=2)
class TestClass:
    def test_class(self, tcp_server):
        assert tcp_server.settings.timeout == 2
        assert tcp_server.family == "dual"

    @pytest.mark.sockets(family="ipv4")
    def test_function(self, tcp_server, sockets):
        assert tcp_server.settings.timeout == 2
        assert tcp_server.family == "ipv4"
        assert sockets.udp_peer().family == "ipv4"

    @pytest.mark.sockets(timeout=4, family="ipv4")
    @pytest.mark.sockets(timeout=3, family="ipv6")
    def test_two(self, echo_server):
        assert echo_server.settings.timeout == 3
        assert echo_server.family == "ipv6"

    @pytest.mark.sockets(timeout=None, family=None)
    def test_default(self, tcp_server):
        assert tcp_server.settings.timeout == 0.5
        assert tcp_server.family == "ipv4"
""",
        ini="sockets_timeout = 0.5",
    ).assert_outcomes(passed=5)


def test_the_marker_makes_scripts_strict_or_not(run: Inner) -> None:
    result = run("""
import socket
import pytest

pytestmark = pytest.mark.sockets(strict=False)

def talk(server):
    server.script().expect(b"hello").send(b"goodbye")
    with socket.create_connection(server.address) as sock:
        sock.sendall(b"hello, hello")
        assert sock.recv(100) == b"goodbye"
        socket.create_connection(server.address).close()

def test_lenient(tcp_server, sockets):
    talk(tcp_server)
    talk(sockets.tcp_server())
    assert not tcp_server.settings.strict

@pytest.mark.sockets(strict=True)
def test_strict(tcp_server):
    assert tcp_server.settings.strict
    talk(tcp_server)

@pytest.mark.sockets(timeout=4)
def test_each_by_itself(tcp_server):
    assert not tcp_server.settings.strict
""")
    result.assert_outcomes(passed=2, failed=1)
    shown = reports(result)["test_strict"]
    assert "after the last of 2 steps: expected nothing more, got b', hello'" in shown
    assert "connection 1 had no plan" in shown


def test_without_the_marker_scripts_are_strict(run_plain: Inner) -> None:
    run_plain("""
def test_default(tcp_server):
    assert tcp_server.settings.strict
""").assert_outcomes(passed=1)


@needs_ipv6
def test_the_family_is_for_endpoints_that_can_have_any(run_plain: Inner) -> None:
    run_plain("""
import pytest

@pytest.mark.sockets(family="unix")
def test_unix(echo_server, silent_server, sockets, unix_server, unix_datagram_peer):
    opened = echo_server, silent_server, sockets.stream_server(), unix_server, unix_datagram_peer
    assert {endpoint.family for endpoint in opened} == {"unix"}
    assert sockets.tcp_server(family="ipv4").family == "ipv4"

@pytest.mark.sockets(family="ipv6")
def test_named(unix_server, sockets, raw_client):
    assert unix_server.family == "unix"
    assert sockets.tcp_server(host="127.0.0.1").family == "ipv4"
    assert sockets.tcp_server().host == "::1"
""").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("arguments", "fixture", "sentence"),
    [
        ("tls=True", "tcp_server", "it takes timeout=, family= and strict=, not tls="),
        ("5", "tcp_server", "it takes timeout=, family= and strict=, not 5"),
        ("timeout='x'", "tcp_server", "timeout must be a number of seconds, not str 'x'"),
        (
            "timeout=-1",
            "sockets",
            "timeout must be a number of seconds, 0 or more and finite, not -1",
        ),
        ("strict='no'", "tcp_server", "strict must be True or False, not 'no'"),
        ("strict=None", "sockets", "strict must be True or False, not None"),
        ("strict=0", "sockets", "strict must be True or False, not 0"),
        (
            "family='ipx'",
            "sockets",
            "family must be one of ipv4, ipv6, dual, unix, not 'ipx'; "
            "for any other use sockets.server(family=socket.AF_…, type=…)",
        ),
        (
            "family='unix'",
            "tcp_server",
            "a TCP server cannot have family='unix': use unix_server or UnixServer",
        ),
        (
            "family='unix'",
            "udp_peer",
            "udp_peer cannot have family='unix': use unix_datagram_peer",
        ),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    run_plain: Inner, arguments: str, fixture: str, sentence: str
) -> None:
    result = run_plain(f"""
import pytest

@pytest.mark.sockets({arguments})
def test_marked({fixture}):
    pass
""")
    result.assert_outcomes(errors=1)
    shown = reports(result)["ERROR at setup of test_marked"]
    assert shown == f"@pytest.mark.sockets: {sentence}\n\ntest_it.py:3: Failed\n"


def test_a_marker_without_our_fixtures_does_nothing(run_plain: Inner) -> None:
    run_plain(
        """
import pytest

@pytest.mark.sockets(timeout=1)
def test_marked():
    pass
""",
        "--strict-markers",
    ).assert_outcomes(passed=1)


def test_a_family_that_the_machine_lacks_skips_with_the_reason(
    run_plain: Inner, without_ipv6: tuple[str, ...]
) -> None:
    result = run_plain(
        """
import pytest

@pytest.mark.sockets(family="ipv6")
@pytest.mark.parametrize("name", ["tcp_server", "echo_server", "udp_peer", "silent_server"])
def test_marked(request, name):
    request.getfixturevalue(name)

@pytest.mark.sockets(family="ipv6")
def test_asks_by_itself(sockets):
    sockets.tcp_server()

def test_plain(tcp_server):
    assert tcp_server.family == "ipv4"
""",
        "-rs",
        through=without_ipv6,
    )
    result.assert_outcomes(skipped=4, failed=1, passed=1)
    result.stdout.re_match_lines(r"SKIPPED \[\d\] .*: this machine has no IPv6 loopback")
    assert "UnsupportedError: this machine has no" in reports(result)["test_asks_by_itself"]
