import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from descriptors import descriptors
from processes import python
from pytest_sockets import (
    ReservedPort,
    StreamServer,
    TCPServer,
    UDPPeer,
    UnixDatagramPeer,
    UnixServer,
)
from pytest_sockets._engine import binding
from pytest_sockets._engine.binding import bind_inet, plain, resolve_port
from pytest_sockets._engine.holders import holder_of
from stream_ends import OWN_HOST, plain_client

LOOPBACKS = {"ipv4": "127.0.0.1", "ipv6": "::1"}
FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
Binder = Callable[..., Any]
HOLD = """
import socket, sys
sock = socket.socket(int(sys.argv[1]), int(sys.argv[2]))
sock.bind((sys.argv[3], 0))
if sock.type == socket.SOCK_STREAM:
    sock.listen()
print(sock.getsockname()[1], flush=True)
sys.stdin.read()
"""


# -- a port that is taken


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [TCPServer, UDPPeer])
def test_a_port_held_by_this_process_says_so(kind: Binder, family: str) -> None:
    with kind(family=family) as holder:
        told = r": \S+ is held by this process; leave port= out for a free one"
        with pytest.raises(OSError, match=told) as caught:
            kind(family=family, port=holder.port)
        host = {"ipv4": "127.0.0.1", "ipv6": "[::1]"}[family]
        assert f"{host}:{holder.port}" in str(caught.value)
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [TCPServer, UDPPeer])
def test_a_port_held_by_another_process_names_it(kind: Binder, family: str) -> None:
    sort = socket.SOCK_STREAM if kind is TCPServer else socket.SOCK_DGRAM
    arguments = (str(int(FAMILIES[family])), str(int(sort)), LOOPBACKS[family])
    with python(HOLD, *arguments) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        told = rf"held by process {process.pid} \({name}\); leave port= out"
        with pytest.raises(OSError, match=told):
            kind(family=family, port=port)


def test_a_holder_is_found_whatever_else_the_process_opens_and_closes() -> None:
    # Its numbers are listed in order, and the listing itself takes the lowest free one.
    gap = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        for number in gap:
            os.close(number)
        where = holder.getsockname()
        assert holder_of(socket.AF_INET, socket.SOCK_STREAM, where) == "this process"


@pytest.mark.parametrize(
    ("holding", "asked", "is_held"),
    [
        ("own", "own", True),
        ("own", "0.0.0.0", True),
        ("own", "127.0.0.1", False),
        ("own", "::1", False),
        ("0.0.0.0", "own", True),
        ("::ffff:own", "own", True),
        ("::ffff:own", "127.0.0.1", False),
        ("::1", "::1", True),
        ("::1", "::1%lo", True),
        ("::1", "::", True),
        ("::1", "own", False),
        ("::", "::1", True),
        ("::", "own", True),
    ],
)
def test_who_has_the_port_of_another_address_is_not_blamed(
    holding: str, asked: str, is_held: bool
) -> None:
    holding, asked = (host.replace("own", OWN_HOST) for host in (holding, asked))
    family = socket.AF_INET6 if ":" in holding else socket.AF_INET
    with socket.socket(family) as sock:
        if holding.startswith("::ffff:") or holding == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((holding, 0))
        sock.listen()
        port = sock.getsockname()[1]
        family = socket.AF_INET6 if ":" in asked else socket.AF_INET
        told = holder_of(family, socket.SOCK_STREAM, (asked, port))
    if is_held:
        assert told is not None
    else:
        assert told != "this process"  # though another one may have that port there


def test_a_holder_that_shows_nowhere_is_not_guessed() -> None:
    with socket.socket() as holder:  # bound, not listening: /proc/net/tcp has no line for it
        holder.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="held by a process that cannot be seen from here"):
            TCPServer(port=holder.getsockname()[1])


def test_a_wildcard_listener_holds_the_port_of_both_families() -> None:
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as holder:
        port = holder.getsockname()[1]
        for family in FAMILIES:
            with pytest.raises(OSError, match="held by this process"):
                TCPServer(family=family, port=port)


def test_connections_in_time_wait_do_not_hold_a_fixed_port() -> None:
    with TCPServer(host=OWN_HOST) as server, plain_client(server.address) as client:
        server.accept().close()
        assert client.recv(1) == b""
        client.close()
        server.connections[0].wait_eof()
    with TCPServer(host=OWN_HOST, port=server.port) as again:
        assert again.port == server.port


# -- dual stack


def test_dual_stack_tries_on_where_the_second_family_holds_the_first_ones_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports: list[int] = []
    bind_one = binding._bind_one
    held: list[socket.socket] = []

    def crossed(
        family: int, address: tuple[str, int], kind: int, proto: int, *, given: bool
    ) -> Any:
        port = address[1]
        if port and len(ports) < 3:  # somebody takes it in between
            held.append(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
            held[-1].bind(("::1", port))  # raises where somebody really has it: that is one more
            # As a reserved port has it, which is no less held by somebody else.
            held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ports.append(port)
        return bind_one(family, address, kind, proto, given=given)

    def searched(family: int, kind: int, port: int) -> str:
        raise AssertionError("a port that is not the last try needs no holder")

    monkeypatch.setattr(binding, "_bind_one", crossed)
    monkeypatch.setattr(binding, "holder_of", searched)
    try:
        with StreamServer(family="dual") as server:
            assert len(ports) == 3
            assert server.port not in ports
            for address in server.addresses:
                plain_client(address).close()
            assert len({port for _, port in server.addresses}) == 1
    finally:
        for sock in held:
            sock.close()


def test_dual_stack_on_a_given_port_does_not_look_for_another() -> None:
    with ReservedPort(family="dual") as reserved:  # so that nobody else takes either half
        port = reserved.port
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            with pytest.raises(OSError, match=rf"\[::1\]:{port} is held by this process"):
                StreamServer(family="dual", port=port)
            with TCPServer(port=port):  # the first half was given back
                pass


# -- arguments that are wrong in themselves


@pytest.mark.parametrize(
    ("port", "number"), [(0, 0), ("0", 0), ("65535", 65535), (65535, 65535), ("http", 80)]
)
def test_a_port_can_be_a_number_a_string_or_a_service(port: int | str, number: int) -> None:
    if port == "http" and not Path("/etc/services").exists():
        pytest.skip("this machine has no /etc/services")
    assert resolve_port(port, socket.SOCK_STREAM) == number


@pytest.mark.parametrize(
    ("port", "error", "told"),
    [
        ("no-such", ValueError, "port='no-such' is no number and no tcp service that this machine"),
        ("", ValueError, "port='' is no number and no tcp service"),
        ("-1", ValueError, "port='-1' is no number and no tcp service"),
        ("\N{SUPERSCRIPT TWO}", ValueError, "is no number and no tcp service"),
        (65536, ValueError, r"between 0 and 65535 \(0: any free one\), not 65536"),
        ("65536", ValueError, "between 0 and 65535 .* not 65536"),
        (-1, ValueError, "between 0 and 65535 .* not -1"),
        (None, TypeError, "a number, a numeric string or a service name, not None"),
        (True, TypeError, "not True"),
        (80.0, TypeError, "not 80.0"),
    ],
)
def test_a_bad_port_is_refused_by_name(port: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        TCPServer(port=port)


def test_a_service_of_the_other_protocol_is_none() -> None:
    with pytest.raises(ValueError, match="no udp service"):
        resolve_port("no-such", socket.SOCK_DGRAM)


@pytest.mark.parametrize(
    ("family", "host", "told"),
    [
        (None, "no-such.invalid", r"host='no-such.invalid' cannot be resolved: \w+"),
        ("ipv6", "127.0.0.1", r"host='127.0.0.1' cannot be resolved as ipv6: \w+"),
        ("ipv4", "::1", r"host='::1' cannot be resolved as ipv4: \w+"),
    ],
)
def test_a_host_that_does_not_resolve_is_refused_by_name(
    family: str | None, host: str, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        TCPServer(family=family, host=host)


def test_an_address_of_another_machine_says_so() -> None:
    told = r"192\.0\.2\.1 is no address of this machine"  # RFC 5737: nobody's
    with pytest.raises(OSError, match=told) as caught:
        TCPServer(host="192.0.2.1")
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_failure_leaves_no_socket_behind() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as holder:
        before = descriptors()
        for _ in range(2):
            with pytest.raises(OSError, match="held by"):
                bind_inet("dual", None, holder.getsockname()[1], socket.SOCK_STREAM)
        assert descriptors() == before


# -- paths


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Relative paths: the folder's own is longer than AF_UNIX takes.
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", [UnixServer, UnixDatagramPeer])
def test_a_path_of_107_bytes_binds_and_of_108_does_not(kind: Binder, folder: Path) -> None:
    for longest in ("a" * 107, "\N{LATIN SMALL LETTER E WITH ACUTE}" * 53 + "a"):
        assert len(longest.encode()) == 107
        with kind(longest) as endpoint:
            assert endpoint.address == longest
        told = "path is 108 bytes long and AF_UNIX takes at most 107"
        with pytest.raises(ValueError, match=told):
            kind(longest + "a")
    assert list(folder.iterdir()) == []


def test_the_kernel_draws_the_line_there_too(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(OSError, match="path too long"):
            sock.bind("a" * 109)
        sock.bind("a" * 107)


@pytest.mark.parametrize("kind", [UnixServer, UnixDatagramPeer])
def test_a_bad_path_is_refused_with_what_to_do(kind: Binder, folder: Path) -> None:
    (folder / "taken").write_text("a file")
    with pytest.raises(FileNotFoundError, match="directory of gone/s does not exist: make 'gone'"):
        kind("gone/s")
    with pytest.raises(OSError, match="taken exists already; remove it first") as caught:
        kind("taken")
    assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(NotADirectoryError, match="taken/s"):
        kind("taken/s")
    with pytest.raises(ValueError, match="path='' names nothing"):
        kind("")
    assert (folder / "taken").read_text() == "a file"


# -- addresses as they are handed out


@pytest.mark.parametrize(
    ("family", "kernels", "ours"),
    [
        (socket.AF_INET, ("127.0.0.1", 80), ("127.0.0.1", 80)),
        (socket.AF_INET6, ("::1", 80, 0, 0), ("::1", 80)),
        (socket.AF_INET6, ("fe80::1", 80, 0, 2), ("fe80::1%2", 80)),
        (socket.AF_INET6, ("fe80::1%lo", 80, 0, 1), ("fe80::1%lo", 80)),
        (socket.AF_UNIX, "/tmp/s", "/tmp/s"),
        (socket.AF_UNIX, b"\0name", "\0name"),
        (socket.AF_UNIX, b"\0\xff", "\0\udcff"),
        (socket.AF_UNIX, "", None),
        (socket.AF_UNIX, b"", None),
    ],
)
def test_a_kernels_address_becomes_one_that_connect_takes(
    family: int, kernels: Any, ours: Any
) -> None:
    assert plain(family, kernels) == ours
