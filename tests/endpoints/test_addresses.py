from __future__ import annotations

import asyncio
import errno
import os
import re
import select
import socket
import socketserver
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from descriptors import descriptors
from ports import OPTIONS, can_bind, is_given_away
from processes import forked, run_quietly
from pytest_sockets import (
    BlackholeAddress,
    EndpointClosedError,
    RefusedAddress,
    ReservedPort,
    Settings,
    Sockets,
    UnsupportedError,
)
from pytest_sockets._engine import binding, blackhole
from stream_ends import OWN_HOST, PATIENCE, family_of, plain_client, read_to_eof

pytestmark = pytest.mark.timeout(120)

FAMILIES = ("ipv4", "ipv6", "dual")
KINDS: dict[str, Callable[..., Any]] = {
    "refused": RefusedAddress,
    "blackhole": BlackholeAddress,
    "reserved": ReservedPort,
}
PLACES = {"ipv4": {"host": OWN_HOST}, "ipv6": {"family": "ipv6"}, "dual": {"family": "dual"}}
"""What is given up there is taken by nobody else meanwhile, of IPv4 at least."""
ATTEMPTS = 200


@pytest.fixture
def port() -> Iterator[ReservedPort]:
    with ReservedPort(host=OWN_HOST) as port:
        yield port


def attempt(address: Any) -> int:
    """Return what the kernel says to somebody who connects."""
    with socket.socket(family_of(address)) as client:
        client.settimeout(PATIENCE)
        return client.connect_ex(address)


# -- what all have in common


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_address_has_the_forms_of_an_endpoints(kind: str, family: str) -> None:
    with KINDS[kind](family=family) as held:
        hosts = {"ipv4": ["127.0.0.1"], "ipv6": ["::1"], "dual": ["127.0.0.1", "::1"]}[family]
        assert held.addresses == tuple((host, held.port) for host in hosts)
        assert held.address == held.addresses[0] == (held.host, held.port)
        assert held.family == family
        shown = "[::1]" if family == "ipv6" else "127.0.0.1"
        assert held.url("http") == f"http://{shown}:{held.port}"
        with pytest.raises(AttributeError, match=rf"{held.name} is at .*: it has a host"):
            _ = held.path


@pytest.mark.parametrize("kind", KINDS)
def test_a_repr_says_where_and_whether_it_is_held(kind: str) -> None:
    with KINDS[kind](family="dual") as held:
        shown = f"tcp 127.0.0.1:{held.port} and [::1]:{held.port}"
        assert repr(held) == f"<{type(held).__name__} {shown}, held>"
        assert not held.is_closed
    assert repr(held) == f"<{type(held).__name__} {shown}, closed>"
    assert held.is_closed


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_close_lets_go_of_everything_and_may_be_repeated(kind: str, place: str) -> None:
    before = descriptors()
    held = [KINDS[kind](**PLACES[place]) for _ in range(5)]
    assert descriptors() > before
    for each in held:
        address = each.address
        each.close()
        each.close()
        assert each.address == address
        assert can_bind(address, "plain")
    assert descriptors() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_host_is_taken_by_name(kind: str) -> None:
    with KINDS[kind](host="localhost") as held:
        assert held.address == ("localhost", held.port)
        assert "127.0.0.1" in [host for host, _ in held.addresses]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: RefusedAddress(family="ipv5"), ValueError, "family must be one of ipv4, ipv6"),
        (lambda: RefusedAddress(host="no.such.invalid"), ValueError, "cannot be resolved"),
        (
            lambda: RefusedAddress(family="unix", host="::1"),
            ValueError,
            "an AF_UNIX endpoint has a path, no host=",
        ),
        (lambda: RefusedAddress(host="192.0.2.1"), OSError, "192.0.2.1 is no address of this"),
        (
            lambda: BlackholeAddress(family="unix"),
            ValueError,
            "blackhole_address cannot have family='unix': it is a host and a port",
        ),
        (
            lambda: ReservedPort(family="unix"),
            ValueError,
            "reserved_port cannot have family='unix': it is a host and a port",
        ),
        (
            lambda: ReservedPort(type=socket.SOCK_RAW),
            ValueError,
            "type of a reserved port must be SOCK_STREAM or SOCK_DGRAM, not <SocketKind.SOCK_RAW",
        ),
    ],
    ids=["family", "host", "host-of-unix", "foreign", "blackhole-unix", "reserved-unix", "type"],
)
def test_bad_arguments_are_told(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    before = descriptors()
    with pytest.raises(error, match=re.escape(text)):
        call()
    assert descriptors() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_does_not_hold_the_address_for_its_parent(kind: str) -> None:
    held = KINDS[kind](host=OWN_HOST)

    def leave_it() -> bool:
        held.close()
        return bool(held.is_closed)

    with forked(leave_it) as is_closed:
        assert is_closed
        assert not held.is_closed
        assert not can_bind(held.address, "plain")
        held.close()
        assert can_bind(held.address, "plain")


def test_the_file_of_a_refused_path_survives_a_forked_child() -> None:
    with RefusedAddress(family="unix") as refused, forked(refused.close):
        assert attempt(refused.path) == errno.ECONNREFUSED


# -- refused


@pytest.mark.parametrize("family", [*FAMILIES, "unix"])
def test_a_refused_address_refuses_everybody(family: str) -> None:
    with RefusedAddress(family=family) as refused:
        for address in refused.addresses:
            answers = [attempt(address) for _ in range(ATTEMPTS)]
            assert set(answers) == {errno.ECONNREFUSED}


def test_the_path_of_a_refused_address_is_removed() -> None:
    with RefusedAddress(family="unix") as refused:
        assert os.path.exists(refused.path)
        with pytest.raises(AttributeError, match="it has a path, no port"):
            _ = refused.port
    assert not os.path.exists(os.path.dirname(refused.path))


@pytest.mark.parametrize("how", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["refused", "blackhole"])
def test_nobody_else_can_take_it(kind: str, family: str, how: str) -> None:
    with KINDS[kind](family=family) as held:
        for address in held.addresses:
            assert not can_bind(address, how)
            assert not is_given_away(address, how)


# -- blackhole


@pytest.mark.parametrize("family", FAMILIES)
def test_a_blackhole_answers_nobody(family: str) -> None:
    with BlackholeAddress(family=family) as hole, ExitStack() as stack:
        for address in hole.addresses:
            clients = select.poll()
            for _ in range(ATTEMPTS):
                client = stack.enter_context(socket.socket(family_of(address)))
                client.setblocking(False)
                assert client.connect_ex(address) == errno.EINPROGRESS
                clients.register(client, select.POLLOUT)
            assert clients.poll(0) == []
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.1)
            assert clients.poll(0) == []


def test_a_client_of_asyncio_hangs_in_a_blackhole_too() -> None:
    async def connect(hole: BlackholeAddress) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.open_connection(*hole.address), 0.1)

    with BlackholeAddress() as hole:
        asyncio.run(connect(hole))


def test_who_hangs_in_a_blackhole_is_refused_when_it_closes() -> None:
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        with BlackholeAddress(host=OWN_HOST) as hole:  # whose port nobody takes meanwhile
            client.setblocking(False)
            assert client.connect_ex(hole.address) == errno.EINPROGRESS
        client.settimeout(PATIENCE)  # its next SYN is a second away
        assert select.select([], [client], [], PATIENCE)[1] == [client]
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("constant", "value", "text"),
    [
        ("SO_MEMINFO", 9999, "this kernel does not tell what it drops (SO_MEMINFO): [Errno 92]"),
        ("FILLERS", 2, "a listening socket with a full queue still lets clients in"),
        ("BACKLOG", 100, "a listening socket with a full queue still lets clients in"),
    ],
)
def test_a_kernel_without_blackhole_is_found_out(
    monkeypatch: pytest.MonkeyPatch, constant: str, value: int, text: str
) -> None:
    monkeypatch.setattr(blackhole, constant, value)
    before = descriptors()
    with pytest.raises(UnsupportedError, match=re.escape(text)):
        BlackholeAddress(family="dual")
    assert descriptors() == before


# -- reserved


@pytest.mark.parametrize("how", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_reserved_port_goes_only_to_who_asks_for_it_with_reuseaddr(family: str, how: str) -> None:
    with ReservedPort(family=family) as port:
        for address in port.addresses:
            assert not is_given_away(address, how)
            assert can_bind(address, how) == (socket.SO_REUSEADDR in OPTIONS[how])
            assert attempt(address) == errno.ECONNREFUSED


def test_the_second_address_of_a_pair_is_not_one_that_is_reserved() -> None:
    with ReservedPort(family="ipv6") as port:
        with pytest.raises(OSError, match="in use"):
            binding._bind_one(socket.AF_INET6, port.address, socket.SOCK_STREAM, 0, given=False)
        given = binding._bind_one(socket.AF_INET6, port.address, socket.SOCK_STREAM, 0, given=True)
        given.close()


class Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"hello")


class Server(socketserver.TCPServer):
    allow_reuse_address = True


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_server_can_bind_a_reserved_port_and_be_started_again(family: str) -> None:
    with ReservedPort(family=family) as port:
        Server.address_family = family_of(port.address)
        for _ in range(3):
            with Server(port.address, Answer) as server:
                with plain_client(port.address) as client:
                    server.handle_request()  # ends first: TIME_WAIT stays on its port
                    assert read_to_eof(client) == b"hello"
            assert attempt(port.address) == errno.ECONNREFUSED
            assert not is_given_away(port.address, "reuseaddr")


@pytest.mark.parametrize("by", ["port", "sock"])
def test_a_server_of_asyncio_takes_a_reserved_port(port: ReservedPort, by: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def serve() -> bytes:
        where: dict[str, Any] = (
            {"sock": port.socket} if by == "sock" else {"host": port.host, "port": port.port}
        )
        async with await asyncio.start_server(answer, **where):
            reader, writer = await asyncio.open_connection(*port.address)
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return line

    assert asyncio.run(serve()) == b"hello\n"
    assert port.is_closed == (by == "sock")  # such a server closes what it was given


def test_a_server_in_a_subprocess_takes_a_reserved_port(port: ReservedPort) -> None:
    options = ["--bind", port.host, "--directory", os.path.dirname(__file__)]
    command = [sys.executable, "-u", "-m", "http.server", str(port.port), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            assert server.stdout is not None
            assert f"port {port.port}".encode() in server.stdout.readline()
            with urllib.request.urlopen(port.url("http"), timeout=PATIENCE) as reply:
                assert reply.status == 200
        finally:
            server.kill()


def test_a_subprocess_takes_the_descriptor(port: ReservedPort) -> None:
    code = """
        import socket, sys
        with socket.socket(fileno=int(sys.argv[1])) as listener:
            listener.listen()
            print("listening", flush=True)
            with listener.accept()[0] as conn:
                conn.sendall(b"hello")
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(port.fileno())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[port.fileno()]) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"listening\n"
            port.close()
            with plain_client(port.address) as client:
                assert read_to_eof(client) == b"hello"
        finally:
            server.kill()


def test_a_lent_socket_stays_open_in_a_forked_child(port: ReservedPort) -> None:
    lent = port.socket

    def serve() -> int:
        lent.listen()
        return lent.fileno()

    with forked(serve) as number:
        assert number == lent.fileno() >= 0
        port.close()
        assert attempt(port.address) == 0
    assert attempt(port.address) == errno.ECONNREFUSED


def test_a_server_without_reuseaddr_takes_a_released_port(port: ReservedPort) -> None:
    with socket.socket() as server:
        with pytest.raises(OSError, match="in use"):
            server.bind(port.address)
        port.release()
        port.release()
        server.bind(port.address)
        server.listen()
        assert attempt(port.address) == 0
        assert port.is_closed


def test_the_socket_is_a_plain_one_that_blocks_and_does_not_listen(port: ReservedPort) -> None:
    sock = port.socket
    assert type(sock) is socket.socket
    assert sock is port.socket
    assert sock.getblocking()
    assert os.get_blocking(sock.fileno())
    assert not sock.get_inheritable()
    assert sock.getsockname() == port.address
    assert sock.fileno() == port.fileno()
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_a_socket_that_its_taker_closed_is_not_closed_again(port: ReservedPort) -> None:
    number = port.fileno()
    port.socket.close()
    with socket.socket() as other:
        assert other.fileno() == number
        port.close()
        assert other.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM


def test_a_socket_that_its_taker_detached_is_theirs(port: ReservedPort) -> None:
    with socket.socket(fileno=port.socket.detach()) as theirs:
        port.close()
        assert theirs.getsockname() == port.address


@pytest.mark.parametrize("verb", [ReservedPort.fileno, lambda port: port.socket])
def test_a_socket_that_cannot_be_had_says_why(verb: Callable[[ReservedPort], Any]) -> None:
    with ReservedPort(family="dual", name="ours") as dual:
        with pytest.raises(ValueError, match="ours has 2 sockets: one can be had of a single fam"):
            verb(dual)
        dual.release()
        with pytest.raises(EndpointClosedError, match="ours was released or closed: take its"):
            verb(dual)


@pytest.mark.parametrize("how", OPTIONS)
def test_a_reserved_udp_port_goes_to_nobody(how: str) -> None:
    with ReservedPort(host=OWN_HOST, type=socket.SOCK_DGRAM) as port:
        assert not is_given_away(port.address, how, socket.SOCK_DGRAM)
        assert not can_bind(port.address, how, socket.SOCK_DGRAM)
        port.release()
        assert can_bind(port.address, how, socket.SOCK_DGRAM)


def test_a_reserved_udp_port_is_handed_over() -> None:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data, addr)

    async def serve(port: ReservedPort, client: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Echo, sock=port.socket)
        client.setblocking(False)
        client.sendto(b"hello", port.address)
        data = await loop.sock_recv(client, 100)
        transport.close()
        return data

    with ReservedPort(type=socket.SOCK_DGRAM) as port:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            assert asyncio.run(serve(port, client)) == b"hello"


# -- the factory


def test_the_factory_names_them_and_closes_them(sockets: Sockets) -> None:
    held = [
        sockets.refused_address(),
        sockets.blackhole_address(),
        sockets.reserved_port(),
        sockets.reserved_port(),
        sockets.refused_address(name="nobody"),
    ]
    assert [each.name for each in held] == [
        "refused_address",
        "blackhole_address",
        "reserved_port",
        "reserved_port-2",
        "nobody",
    ]
    assert sockets.endpoints == ()
    sockets.close()
    assert all(each.is_closed for each in held)
    with pytest.raises(EndpointClosedError, match="these sockets are closed"):
        sockets.refused_address()


@pytest.mark.parametrize("method", ["refused_address", "blackhole_address", "reserved_port"])
def test_the_family_of_the_factory_is_theirs(method: str) -> None:
    with Sockets(Settings(), family="dual") as sockets:
        assert getattr(sockets, method)().family == "dual"
        assert getattr(sockets, method)(family="ipv6").family == "ipv6"
        assert getattr(sockets, method)(host="127.0.0.1").family == "ipv4"


def test_what_nobody_closed_is_closed_without_a_word_at_the_end_of_the_process() -> None:
    code = """
        from pytest_sockets import BlackholeAddress, RefusedAddress, ReservedPort
        held = [BlackholeAddress(), RefusedAddress(family="unix"), ReservedPort()]
        print(held[1].path)
    """
    path = run_quietly(code, flags=("-W", "error"))
    assert path
    assert not os.path.exists(path)
