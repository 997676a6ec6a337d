from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from descriptors import descriptors
from ports import OPTIONS, can_bind, is_given_away
from processes import forked
from pytest_sockets import (
    Connection,
    EchoServer,
    EndpointClosedError,
    EndpointError,
    ReservedPort,
    Settings,
    Sockets,
    StreamServer,
    TCPServer,
    UnixServer,
    UnsupportedError,
)
from pytest_sockets._engine import rebinding
from stream_ends import OWN_HOST, PATIENCE, family_of, plain_client, read_to_eof
from threads import eager_threads

ROUNDS = int(os.environ.get("PYTEST_SOCKETS_STRESS", "300"))
"""Times that a server goes down and up beside its clients; 10,000 take a minute."""
CLIENTS = 4
QUEUED = 300
PATIENT = Settings(timeout=PATIENCE)
PLACES: dict[str, dict[str, Any]] = {
    "ipv4": {"host": OWN_HOST},
    "ipv6": {"family": "ipv6"},
    "dual": {"family": "dual"},
    "wildcard": {"host": "0.0.0.0"},
    "mptcp": {"host": OWN_HOST, "proto": 262},
    "unix": {"family": "unix"},
    "abstract": {"abstract": True},
    "seqpacket": {"family": "unix", "type": socket.SOCK_SEQPACKET},
}
INET = ("ipv4", "ipv6", "dual", "wildcard")


@pytest.fixture(params=PLACES)
def server(request: pytest.FixtureRequest) -> Iterator[StreamServer]:
    try:
        with StreamServer(**PLACES[request.param], settings=PATIENT) as server:
            yield server
    except UnsupportedError as error:
        pytest.skip(str(error))


@pytest.fixture(params=INET)
def inet_server(request: pytest.FixtureRequest) -> Iterator[StreamServer]:
    with StreamServer(**PLACES[request.param], settings=PATIENT) as server:
        yield server


def client_of(server: StreamServer, address: Any = None) -> socket.socket:
    """Connect, to a server of messages too."""
    address = server.address if address is None else address
    if server._place_.protocol == "unix seqpacket":
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.settimeout(PATIENCE)
        try:
            client.connect(address)
        except OSError:
            client.close()
            raise
        return client
    return plain_client(address)


def is_refused(server: StreamServer) -> bool:
    answers: set[int] = set()
    for address in server.addresses:
        try:
            client_of(server, address).close()
        except OSError as error:
            answers.add(error.errno or 0)
        else:
            answers.add(0)
    assert answers <= {0, errno.ECONNREFUSED}
    assert len(answers) == 1
    return answers == {errno.ECONNREFUSED}


def ask(server: StreamServer, address: Any = None) -> bytes:
    with client_of(server, address) as client:
        client.sendall(b"ping")
        return client.recv(4)


def notes(server: StreamServer) -> list[str]:
    return [event.note for event in server.transcript if event.kind == "note"]


# -- down, and up again


def test_a_server_refuses_while_it_is_down_and_serves_again(server: StreamServer) -> None:
    server.script(each=True).expect(b"ping").send(b"pong").optional().expect_eof()
    address = server.address
    for _ in range(3):
        for place in server.addresses:
            assert ask(server, place) == b"pong"
        assert not server.is_down
        server.down()
        assert server.is_down
        assert is_refused(server)
        server.up()
    assert not server.is_down
    assert ask(server) == b"pong"
    assert server.address == address
    server.assert_connections(3 * len(server.addresses) + 1)


def test_down_and_up_are_idempotent_and_told_once_each(server: StreamServer) -> None:
    server.up()
    assert notes(server) == []
    server.down()
    server.down()
    assert is_refused(server)
    server.up()
    server.up()
    assert not is_refused(server)
    server.down()
    words = ["down: refuses connections", "up: accepts connections"]
    assert notes(server) == [*words, words[0]]
    assert [event.connection for event in server.transcript if event.kind == "note"] == [None] * 3


def test_a_connection_outlives_both(server: StreamServer) -> None:
    with client_of(server) as client:
        conn = server.accept()
        server.down()
        client.sendall(b"one")
        conn.expect(b"one")
        server.up()
        conn.send(b"two")
        assert client.recv(3) == b"two"
        server.down()
        assert conn.peer_ended is None
        assert not conn.is_closed


def test_a_reset_ends_open_connections(inet_server: StreamServer) -> None:
    server = inet_server
    with client_of(server) as client, client_of(server) as other:
        conn = server.accept()
        server.accept().close()
        assert read_to_eof(other) == b""
        server.down(reset=True)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert conn.is_closed
        with pytest.raises(EndpointClosedError, match="closed on our side"):
            conn.recv(1)
        assert is_refused(server)


def test_a_server_that_is_down_can_still_reset(inet_server: StreamServer) -> None:
    with client_of(inet_server) as client:
        inet_server.down()
        inet_server.down(reset=True)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_all_who_were_queued_are_taken(server: StreamServer) -> None:
    with ExitStack() as stack, server._lock:  # nobody accepts meanwhile
        for number in range(QUEUED):
            client = stack.enter_context(client_of(server, server.addresses[-1]))
            client.sendall(b"%03d" % number)
        server.down()
        assert len(server._connections) == QUEUED
    assert [conn.received for conn in server.connections] == [b"%03d" % n for n in range(QUEUED)]


def test_a_repr_and_the_report_say_that_it_is_down(server: StreamServer) -> None:
    server.down()
    assert repr(server).endswith(", 0 connections, down, open>")
    server.up()
    assert repr(server).endswith(", 0 connections, open>")
    server.down()
    server.close()
    assert repr(server).endswith(", 0 connections, down, closed>")


@pytest.mark.parametrize("verb", [StreamServer.down, StreamServer.up])
@pytest.mark.parametrize("is_down", [False, True])
def test_a_closed_server_stays_closed(
    server: StreamServer, verb: Callable[[StreamServer], None], is_down: bool
) -> None:
    if is_down:
        server.down()
    server.close()
    with pytest.raises(EndpointClosedError, match="stream_server is closed: use it before"):
        verb(server)


# -- the address stays ours


@pytest.mark.parametrize("how", OPTIONS)
@pytest.mark.parametrize("given", [False, True], ids=["any port", "given port"])
def test_nobody_gets_the_port_of_a_server_that_is_down(
    inet_server: StreamServer, given: bool, how: str
) -> None:
    server = inet_server
    if given:
        with ReservedPort(host=server.host) as held:
            server = StreamServer(host=held.host, port=held.port, settings=PATIENT)
    with server, client_of(server):
        server.accept()
        for _ in range(2):
            server.down()
            for address in server.addresses:
                assert not can_bind(address, how)
                assert not is_given_away(address, how)
            server.up()
            for address in server.addresses:
                assert not can_bind(address, how)


def test_a_closed_server_leaves_nothing_behind(server: StreamServer) -> None:
    before = descriptors()
    for _ in range(5):
        server.down()
        server.up()
    server.down()
    assert descriptors() == before
    address, port = server.address, getattr(server, "port", None) if server.family != "unix" else 0
    server.close()
    assert descriptors() == before - len(server.addresses)
    if port:
        assert can_bind(address, "plain")
    elif not address.startswith("\0"):
        assert not os.path.exists(os.path.dirname(address))


def test_a_forked_child_does_not_hold_the_address(server: StreamServer) -> None:
    server.down()
    with forked(lambda: server.is_closed) as is_closed:
        assert is_closed
        server.up()
        server.close()
        with StreamServer(**again(server)) as heir:
            assert not is_refused(heir)


def again(server: StreamServer) -> dict[str, Any]:
    """Return the arguments for another server at the same address."""
    if server.family == "unix":
        return {"path": server.path} if server.path.startswith("\0") else {"family": "unix"}
    where = {"family": "dual"} if server.family == "dual" else {"host": server.host}
    return {**where, "port": server.port, "settings": PATIENT}


def test_a_path_of_the_users_is_held_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Path("/tmp") / f"down-{os.getpid()}-"
    folder = Path(str(long) + "x" * (100 - len(str(long))))
    folder.mkdir()
    try:
        monkeypatch.chdir(folder)
        for path in ("s", f"{folder}/s12345"):  # 107 bytes: no longer name fits beside it
            with UnixServer(path, settings=PATIENT) as server:
                monkeypatch.chdir(tmp_path)
                where = os.path.join(folder, path)
                server.down()
                assert os.listdir(folder) == [os.path.basename(path)]
                with pytest.raises(ConnectionRefusedError):
                    connect_by_folder(where)
                server.up()
                connect_by_folder(where)
                server.assert_connections(1)
                monkeypatch.chdir(folder)
            assert os.listdir(folder) == []
    finally:
        folder.rmdir()


def connect_by_folder(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(path)


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_path_that_is_anothers_by_now_is_left_alone(tmp_path: Path, replaced: bool) -> None:
    with Sockets(PATIENT) as sockets, socket.socket(socket.AF_UNIX) as other:
        server = sockets.unix_server()
        os.unlink(server.path)
        if replaced:
            other.bind(server.path)
        with pytest.raises(FileNotFoundError, match=r"/s was removed or replaced: only a server"):
            server.down()
        assert not server.is_down
        assert os.path.exists(server.path) == replaced
        server.check()


@pytest.mark.usefixtures("forgiven")
def test_an_abstract_name_that_is_lost_is_a_problem(sockets: Sockets) -> None:
    server = sockets.unix_server(abstract=True)
    with socket.socket(socket.AF_UNIX) as thief:
        taken = threading.Event()

        def take_it_in_between(sock: Any, leave: Callable[[], None]) -> Any:
            def leave_and_lose() -> None:
                leave()
                thief.bind(server.address)
                taken.set()

            return rebinding.rebind_abstract(server.address, sock, leave_and_lose)

        server._place_.rebind = take_it_in_between
        with pytest.raises(OSError, match="exists already"):
            server.down()
        assert taken.is_set()
    with pytest.raises(EndpointError, match=r"unix_server failed on its own side: .* exists alr"):
        server.up()


def test_all_addresses_go_down_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with StreamServer(family="dual", settings=PATIENT) as server:
        rebound: list[Any] = []

        def rebind_once(sock: Any, leave: Callable[[], None]) -> Any:
            if rebound:
                raise OSError(errno.EMFILE, "no more")
            rebound.append(sock)
            return rebinding.rebind_inet(sock, leave)

        server._place_.rebind = rebind_once
        with pytest.raises(OSError, match="no more"):
            server.down()
        assert rebound
        assert not server.is_down
        assert not is_refused(server)
        assert notes(server) == []


@pytest.mark.parametrize("step", ["no bridge", "no heir", "bind"])
def test_a_rebinding_that_fails_changes_nothing(
    inet_server: StreamServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    server = inet_server
    before = descriptors()
    made: list[Any] = []
    like = rebinding._like

    def fail(sock: Any) -> Any:
        made.append(sock)
        if len(made) == {"no bridge": 1, "no heir": 2}.get(step):
            raise OSError(errno.EMFILE, "no more")
        fresh = like(sock)
        if step == "bind":
            fresh.bind((sock.getsockname()[0], 0))  # then it cannot be bound again
        return fresh

    monkeypatch.setattr(rebinding, "_like", fail)
    with pytest.raises(OSError, match=r"no more|Invalid argument"):
        server.down()
    assert descriptors() == before
    assert not is_refused(server)
    for how in OPTIONS:
        assert not can_bind(server.addresses[0], how)
    server.check()


@pytest.mark.usefixtures("forgiven")
def test_a_port_that_is_lost_is_a_problem(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = sockets.tcp_server()
    made: list[Any] = []
    like = rebinding._like

    def bound(sock: Any) -> Any:
        made.append(like(sock))
        if len(made) == 2:
            made[1].bind((sock.getsockname()[0], 0))
        return made[-1]

    monkeypatch.setattr(rebinding, "_like", bound)
    before = descriptors()
    with pytest.raises(OSError, match="Invalid argument"):
        server.down()
    assert descriptors() == before - 1
    with pytest.raises(EndpointError, match=r"tcp_server failed on its own side: .* Invalid arg"):
        server.up()


def test_ipv6_heirs_have_the_options_of_their_listener() -> None:
    with StreamServer(host="::", settings=PATIENT) as server:
        server.down()
        server.up()
        with pytest.raises(ConnectionRefusedError):  # it is of IPv6 only
            plain_client((OWN_HOST, server.port))
        with plain_client(("::1", server.port)):
            sock = server.accept()._stream._socket
            assert sock is not None
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_a_family_without_ports_and_paths_cannot_go_down(sockets: Sockets) -> None:
    try:
        server = sockets.server(family=socket.AF_VSOCK, address=(socket.VMADDR_CID_ANY, 7777))
    except UnsupportedError as error:
        pytest.skip(str(error))
    with pytest.raises(
        UnsupportedError, match="cannot refuse connections: TCP and AF_UNIX servers can"
    ):
        server.down()
    assert not server.is_down


# -- what drives the connections


def test_an_echo_server_echoes_again() -> None:
    with EchoServer(settings=PATIENT) as server:
        server.down()
        server.up()
        assert ask(server) == b"ping"


def test_a_script_made_before_is_played_after() -> None:
    with TCPServer(settings=PATIENT) as server:
        server.script().expect(b"ping").send(b"pong").expect_eof()
        server.down()
        assert is_refused(server)
        server.up()
        assert ask(server) == b"pong"


def test_a_handler_and_rules_go_on() -> None:
    with TCPServer(settings=PATIENT) as server, TCPServer(settings=PATIENT) as ruled:
        server.serve(lambda conn: conn.send(conn.recv_exactly(4)))
        ruled.on(b"ping", b"pong")
        for each, reply in ((server, b"ping"), (ruled, b"pong")):
            assert ask(each) == reply
            each.down(reset=True)
            each.up()
            assert ask(each) == reply


@pytest.mark.parametrize(
    ("sent", "steps"),
    [
        (b"a", lambda script: script.expect(b"a").expect(b"rest").send(b"d")),
        (b"are", lambda script: script.expect(b"a").expect(b"rest").send(b"d")),
        (b"a", lambda script: script.expect(b"a").recv_line().send(b"d")),
        (b"a", lambda script: script.expect(b"a").expect_eof()),
    ],
    ids=["idle", "in a step", "in a line", "at the end"],
)
def test_a_script_that_was_cut_is_no_problem(sent: bytes, steps: Callable[[Any], Any]) -> None:
    with TCPServer(settings=PATIENT) as server:
        steps(server.script())
        with client_of(server) as client:
            client.sendall(sent)
            server.assert_received(sent)
            server.down(reset=True)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        server.check()


@pytest.mark.usefixtures("forgiven")
def test_what_a_script_had_seen_before_is_still_a_problem(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    gate = sockets.gate()
    server.script().expect(b"a").hold(gate).expect(b"c")
    with client_of(server) as client:
        client.sendall(b"ab")
        server.assert_received(b"ab")
        gate.wait_reached()
        server.down(reset=True)
        gate.release()
        with pytest.raises(AssertionError, match="step 3 of 3: expected b'c', got b'b'"):
            server.check()


@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "task"])
def test_a_handler_that_was_cut_is_no_problem(is_async: bool) -> None:
    def serve(conn: Connection) -> None:
        conn.send(conn.recv_exactly(1))
        conn.expect(b"never")

    async def serve_async(conn: Any) -> None:
        await conn.send(await conn.recv_exactly(1))
        await conn.recv_line()

    with TCPServer(settings=PATIENT) as server:
        server.serve(serve_async if is_async else serve)
        with client_of(server) as client:
            client.sendall(b"a")
            assert client.recv(1) == b"a"
            server.down(reset=True)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        server.check()
        assert any("handler serve" in note for note in notes(server))


@pytest.mark.usefixtures("forgiven")
def test_another_error_of_a_handler_that_was_cut_is_a_problem(sockets: Sockets) -> None:
    server = sockets.tcp_server()

    @server.serve
    def serve(conn: Connection) -> None:
        try:
            conn.recv(1)
        finally:
            raise ValueError("of its own")

    with client_of(server):
        server.wait_connections(1)
        server.down(reset=True)
        with pytest.raises(ValueError, match="of its own"):
            server.check()


def test_a_protocol_loses_the_connection_that_was_cut(sockets: Sockets) -> None:
    lost = threading.Event()

    class Protocol(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()

    server = sockets.serve_protocol(Protocol)
    with client_of(server) as client:
        server.wait_connections(1)
        server.down(reset=True)
        assert lost.wait(PATIENCE)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    server.up()
    assert not is_refused(server)


def test_a_handler_can_take_its_own_server_down() -> None:
    with TCPServer(settings=PATIENT) as server:

        @server.serve
        async def serve(conn: Any) -> None:
            await conn.recv_exactly(4)
            server.down()
            await conn.send(b"pong")

        assert ask(server) == b"pong"
        assert is_refused(server)
        server.check()


@pytest.mark.usefixtures("forgiven")
def test_a_problem_is_raised_instead(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    server.serve(lambda conn: conn.recv(1) and 1 / 0)
    with client_of(server) as client:
        client.sendall(b"a")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    for verb in (server.down, server.up):
        with pytest.raises(ZeroDivisionError):
            verb()


# -- beside clients that come at any moment


class Crowd:
    """Clients that connect, ask and leave, while a server goes down and up."""

    def __init__(self, server: StreamServer) -> None:
        self.server = server
        self.done = False
        self.outcomes: Counter[str] = Counter()
        self.counting = threading.Lock()

    def connect(self, seed: int) -> None:
        turns = random.Random(seed)
        addresses = self.server.addresses
        while not self.done:
            outcome = self.outcome(turns.choice(addresses), turns.randbytes(turns.randrange(1, 9)))
            with self.counting:
                self.outcomes[outcome] += 1

    def outcome(self, address: Any, data: bytes) -> str:
        with socket.socket(family_of(address)) as client:
            client.settimeout(PATIENCE)
            try:
                client.connect(address)
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                got = read_to_eof(client)
            except OSError as error:
                return errno.errorcode.get(error.errno or 0, repr(error))
        return "served" if got == data else f"{got!r} for {data!r}"

    def run(self, reset: bool) -> Counter[str]:
        turns = random.Random(0)
        with ThreadPoolExecutor(CLIENTS) as pool, eager_threads():
            clients = [pool.submit(self.connect, seed) for seed in range(CLIENTS)]
            try:
                for number in range(ROUNDS):
                    self.server.down(reset=reset and turns.random() < 0.5)
                    if number % 10 == 0:  # somebody is always met in either state
                        assert is_refused(self.server)
                    self.server.up()
                    if number % 10 == 0:
                        assert ask(self.server) == b"ping"
            finally:
                self.done = True
            for client in clients:
                client.result()
        return self.outcomes


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("reset", [False, True], ids=["left alone", "reset"])
@pytest.mark.parametrize("place", ["ipv4", "dual", "unix", "abstract"])
def test_each_client_is_served_or_refused(place: str, reset: bool) -> None:
    options = {"path": f"\0down-{os.getpid()}"} if place == "abstract" else PLACES[place]
    with EchoServer(**options, settings=PATIENT) as server:
        outcomes = Crowd(server).run(reset)
        server.check()
        print(f"{ROUNDS} rounds: {dict(outcomes)}")
        # EPIPE, or ENOTCONN of shutdown(2), is what the second call meets after a reset.
        others = {"EPIPE", "ENOTCONN"}
        assert set(outcomes) <= {"served", "ECONNREFUSED", "ECONNRESET"} | others
        assert outcomes["served"]
        assert len(server.connections) >= outcomes["served"]
