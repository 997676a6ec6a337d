import asyncio
import contextlib
import multiprocessing
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from processes import HANGS, forked, in_child, run_quietly
from proxied import black_hole
from pytest_sockets import (
    EchoServer,
    EndpointClosedError,
    Settings,
    SocketPair,
    Sockets,
    TCPServer,
    UDPPeer,
)
from pytest_sockets._engine.clock import CLOCK, Deadline
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.waiting import Latch
from stream_ends import PATIENCE, plain_client, read_to_eof

PATIENT = Settings(timeout=PATIENCE)


@pytest.fixture
def server() -> Iterator[TCPServer]:
    with TCPServer(settings=PATIENT) as server:
        yield server


def echoes() -> bool:
    """Whether a new endpoint works in this process."""
    with EchoServer(settings=PATIENT) as echo, plain_client(echo.address) as client:
        client.sendall(b"ping")
        return client.recv(4) == b"ping" and echo.received == b"ping"


def what_it_says(verb: Callable[[], Any]) -> str:
    try:
        return f"returned {verb()!r}"
    except EndpointClosedError as error:
        return str(error)


# -- the child


def test_endpoints_are_dead_in_the_child_and_name_their_process(server: TCPServer) -> None:
    with plain_client(server.address) as client, UDPPeer() as peer, SocketPair() as pair:
        conn = server.accept()
        client.sendall(b"ping")
        conn.expect(b"ping")
        verbs: dict[str, Callable[[], Any]] = {
            "accept": server.accept,
            "wait_connections": lambda: server.wait_connections(2),
            "wait_closed": lambda: server.wait_closed(2),
            "assert_connections": lambda: server.assert_connections(1),
            "assert_received": lambda: server.assert_received(b"ping"),
            "assert_nothing_received": server.assert_nothing_received,
            "received": lambda: server.received,
            "transcript": lambda: server.transcript,
            "connections": lambda: server.connections,
            "recv": lambda: conn.recv(4),
            "expect": lambda: conn.expect(b"pong"),
            "expect_eof": conn.expect_eof,
            "send": lambda: conn.send(b"pong"),
            "conn.received": lambda: conn.received,
            "peer_ended": lambda: conn.peer_ended,
            "pair.send": lambda: pair.peer.send(b"x"),
            "peer.send": lambda: peer.send(b"x", to=("127.0.0.1", 9)),
            "peer.expect": lambda: peer.expect(b"x"),
            "peer.received": lambda: peer.received,
        }
        said = in_child(lambda: {name: what_it_says(verb) for name, verb in verbs.items()})
        told = f" belongs to process {os.getpid()}, which forked this one: open endpoints in"
        assert {name: said[name] for name in said if told not in said[name]} == {}
        assert server.received == b"ping"


def test_ending_what_is_dead_is_no_error_in_the_child(server: TCPServer) -> None:
    def end() -> tuple[bool, bool, str]:
        conn.close()
        conn.reset()
        server.close()
        return server.is_closed, conn.is_closed, repr(server)

    with plain_client(server.address) as client:
        conn = server.accept()
        shown = f"<TCPServer tcp 127.0.0.1:{server.port}, 1 connection, closed>"
        assert in_child(end) == (True, True, shown)
        conn.send(b"alive")
        assert client.recv(5) == b"alive"


def test_what_had_ended_before_stays_readable_in_the_child(server: TCPServer) -> None:
    with plain_client(server.address) as client:
        client.sendall(b"ping")
        server.assert_received(b"ping")
    server.close()
    assert in_child(lambda: (server.received, len(server.connections))) == (b"ping", 1)


def test_a_lock_that_another_thread_holds_does_not_hang_a_reader_in_the_child(
    server: TCPServer,
) -> None:
    with plain_client(server.address) as client:
        client.sendall(b"ping")
        server.assert_received(b"ping")
    server.close()
    is_held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with server._lock:
            is_held.set()
            may_go.wait(HANGS)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        is_held.wait(HANGS)
        assert in_child(lambda: server.received) == b"ping"
    finally:
        may_go.set()
        holder.join()


def test_new_endpoints_work_in_the_child_and_in_its_child(server: TCPServer) -> None:
    def both() -> tuple[bool, bool]:
        return echoes(), in_child(echoes)

    assert in_child(both) == (True, True)
    assert in_child(echoes)  # also where the parent's engine stands by
    assert echoes()


def test_awaitable_verbs_work_in_the_child(server: TCPServer) -> None:
    async def talk() -> bytes:
        with Sockets(PATIENT) as sockets:
            own = sockets.tcp_server()
            client = await sockets.aio.connect(own.address)
            conn = await own.aio.accept()
            await client.aio.send(b"ping")
            return await conn.aio.recv_exactly(4)

    assert in_child(lambda: asyncio.run(talk())) == b"ping"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_multiprocessing_is_a_forked_one(server: TCPServer) -> None:
    context = multiprocessing.get_context("fork")
    told = context.Queue()

    def work() -> None:
        told.put((what_it_says(server.accept), echoes()))

    process = context.Process(target=work)
    process.start()
    said, echoed = told.get(timeout=PATIENCE)
    process.join(PATIENCE)
    told.close()
    told.join_thread()
    assert process.exitcode == 0
    assert (f"process {os.getpid()}" in said, echoed) == (True, True)
    process.close()


@pytest.mark.parametrize("ending", ["sys.exit(0)", "os._exit(0)", "server.close(); sys.exit(0)"])
def test_a_child_ends_without_a_word(ending: str) -> None:
    code = f"""
import os, sys
from pytest_sockets import TCPServer
server = TCPServer()
pid = os.fork()
if pid == 0:
    own = TCPServer()
    {ending}
assert os.waitpid(pid, 0)[1] == 0
print("done")
"""
    flags = ("-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning")
    assert run_quietly(code, flags=flags) == "done"


# -- locks that somebody else holds at that moment


def test_locks_held_by_other_threads_do_not_hang_the_child(server: TCPServer) -> None:
    held, done = threading.Barrier(2), threading.Event()

    def hold() -> None:
        with server._lock, CLOCK._lock, Engine._starting:
            held.wait()
            done.wait(PATIENCE)

    with plain_client(server.address):
        conn = server.accept()
        holding = threading.Thread(target=hold)
        holding.start()
        held.wait()
        try:
            with forked(lambda: (what_it_says(conn.expect_eof), echoes())) as (said, echoed):
                assert (f"process {os.getpid()}" in said, echoed) == (True, True)
        finally:
            done.set()
            holding.join()


def test_forking_in_the_middle_of_traffic_disturbs_nobody(server: TCPServer) -> None:
    talking, done = threading.Barrier(3), threading.Event()

    def ping(echo: EchoServer) -> None:
        with plain_client(echo.address) as client:
            client.sendall(b"ping")
            assert client.recv(4) == b"ping"

    def talk(echo: EchoServer) -> None:
        ping(echo)
        talking.wait(PATIENCE)
        while not done.is_set():
            ping(echo)

    with EchoServer(settings=PATIENT) as echo, ThreadPoolExecutor(2) as pool:
        talks = [pool.submit(talk, echo) for _ in range(2)]
        try:
            talking.wait(PATIENCE)
            for _ in range(10):
                assert in_child(echoes)
        finally:
            done.set()
        for ended in talks:
            ended.result()


# -- the parent's sockets


def test_the_parent_serves_on_while_the_child_lives(server: TCPServer) -> None:
    with plain_client(server.address) as before:
        first = server.accept()
        with forked(echoes):
            with plain_client(server.address) as client:
                client.sendall(b"ping")
                server.accept().expect(b"ping")
            before.sendall(b"pong")
            first.expect(b"pong")


def test_the_child_keeps_no_connection_open(server: TCPServer) -> None:
    with plain_client(server.address) as reset, plain_client(server.address) as ended:
        first, second = server.accept(), server.accept()
        with forked(lambda: None):
            first.reset()
            with pytest.raises(ConnectionResetError):
                reset.recv(1)
            ended.shutdown(socket.SHUT_WR)
            second.wait_eof()
            second.close()
            assert read_to_eof(ended) == b""
            assert not second._stream.is_open
            with pytest.raises(ConnectionError):
                send_twice(ended)


def send_twice(sock: socket.socket) -> None:
    for _ in range(2):
        sock.send(b"x")


@pytest.mark.parametrize("kind", [TCPServer, UDPPeer])
def test_the_child_keeps_no_port(kind: type[TCPServer] | type[UDPPeer]) -> None:
    with kind() as endpoint:
        with forked(lambda: None):
            endpoint.close()
            sort = socket.SOCK_STREAM if kind is TCPServer else socket.SOCK_DGRAM
            with socket.socket(socket.AF_INET, sort) as free:
                free.bind(endpoint.address)


def open_files() -> list[str]:
    """Name what this process has open: ``socket:[12345]``, ``anon_inode:[eventpoll]``, …"""
    names: list[str] = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the folder itself
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return names


def test_the_child_has_none_of_our_files_open(server: TCPServer) -> None:
    before = set(open_files())
    with Sockets(PATIENT) as sockets:
        dual = sockets.stream_server(family="dual")
        conns = [sockets.connect(address) for address in dual.addresses * 3]
        dual.wait_connections(len(conns))
        sockets.unix_server()
        sockets.udp_peer()
        sockets.unix_datagram_peer(abstract=True)
        ours = set(open_files()) - before
        assert len(ours) == 2 + 2 * len(conns) + 3
        kept = in_child(open_files)
        assert ours.isdisjoint(kept)
        assert open_files().count(EPOLL) - kept.count(EPOLL) == 1


def test_the_child_has_no_file_of_a_proxy_open_and_the_parents_works_on() -> None:
    with EchoServer(settings=PATIENT) as echo, black_hole() as (address, _):
        before = set(open_files())
        with Sockets(PATIENT) as sockets:
            proxy, stuck = sockets.tcp_proxy(echo), sockets.tcp_proxy(address)
            with plain_client(proxy.address) as client, plain_client(stuck.address) as other:
                plain = {os.readlink(f"/proc/self/fd/{sock.fileno()}") for sock in (client, other)}
                proxy.upstream.wait_connections(1)
                stuck.client.assert_connections(1)
                ours = set(open_files()) - before - plain
                assert len(ours) == 1 + 2 + 1 + 1 + 2  # the echo's, both proxies'
                verbs: dict[str, Callable[[], Any]] = {
                    "wait_forwarded": lambda: proxy.wait_forwarded(b"x"),
                    "client": lambda: proxy.client.received,
                    "upstream": lambda: proxy.upstream.wait_connections(2),
                    "transcript": lambda: stuck.transcript,
                }

                def look() -> tuple[list[str], dict[str, str], bool]:
                    proxy.close()
                    return open_files(), {k: what_it_says(verbs[k]) for k in verbs}, stuck.is_closed

                kept, said, is_closed = in_child(look)
                assert ours.isdisjoint(kept)
                told = f" belongs to process {os.getpid()}, which forked this one"
                assert [verb for verb in said if told not in said[verb]] == []
                assert is_closed
                client.sendall(b"ping")
                assert client.recv(4) == b"ping"


EPOLL = "anon_inode:[eventpoll]"


def sockets_at(address: tuple[str, int]) -> int:
    """Count the sockets of this process that are at an address."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the folder itself, or no socket
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(number))) as sock:
                    found += sock.getsockname() == address
    return found


def test_forking_right_after_a_connect_keeps_no_connection(server: TCPServer) -> None:
    # The I/O thread is about to accept, has just done it, or not yet begun.
    kept: list[int] = []
    for _ in range(50):
        with socket.create_connection(server.address):
            kept.append(in_child(lambda: sockets_at(server.address)))
    assert kept == [0] * 50
    assert sockets_at(server.address) > 0


def test_a_connection_accepted_at_that_moment_is_not_kept_open() -> None:
    taken: list[str] = []
    inside = threading.Event()

    class Slow(TCPServer):
        """Takes a while between accept(2) and the moment when the endpoint knows the connection."""

        def _on_accept(self, sock: Any, address: Any) -> None:
            taken.append(os.readlink(f"/proc/self/fd/{sock.fileno()}"))
            inside.set()
            Latch().wait(Deadline(0.2))
            super()._on_accept(sock, address)

    with Slow(settings=PATIENT) as server, plain_client(server.address):
        assert inside.wait(PATIENCE)
        kept = in_child(open_files)
        assert len(server.connections) == 1
    assert taken[0] not in kept


# -- a fork while a thread has a socket that nobody else knows yet

HOLDING = """
    import os, socket, threading

    told, files = [], []
    inside, may_go_on = threading.Event(), threading.Event()

    def tell(what):
        told.append(what)
        may_go_on.set()

    class Lock(threading._RLock):  # Python's own, which can be inherited from
        def acquire(self, blocking=True, timeout=-1):
            if super().acquire(blocking=False):
                return True
            if inside.is_set() and threading.current_thread() is threading.main_thread():
                tell("the fork waits")
            return super().acquire(blocking, timeout)

        __enter__ = acquire

    # The newest of these hooks is called first, so this one after all that holds a fork up.
    os.register_at_fork(before=lambda: tell("the fork begins"))
    plain, threading.RLock = threading.RLock, Lock
    from pytest_sockets._engine import connecting, listener, rebinding
    threading.RLock = plain
    from pytest_sockets import Settings, Sockets

    def hold(module, name):
        # The next call has made its socket, and returns it when the fork waits or has begun.
        def held(*arguments):
            setattr(module, name, real)
            made = real(*arguments)
            sock = made[0] if isinstance(made, tuple) else made
            files.append(os.readlink(f"/proc/self/fd/{sock.fileno()}"))
            inside.set()
            may_go_on.wait()
            told.append("the socket is handed over")
            return made

        real = getattr(module, name)
        setattr(module, name, held)

    def has_it():
        folder = "/proc/self/fd"
        numbers = [number for number in os.listdir(folder) if os.path.lexists(f"{folder}/{number}")]
        return files[0] in [os.readlink(f"{folder}/{number}") for number in numbers]

    sockets = Sockets(Settings(timeout=60))
    server = sockets.tcp_server()
    client = socket.socket()
    client.settimeout(60)
"""
ACTS = {
    "accepted": """
    hold(listener, "accept_from")
    act = lambda: client.connect(server.address)
""",
    "connecting": """
    proxy = sockets.tcp_proxy(server)
    hold(connecting, "new_socket")
    act = lambda: client.connect(proxy.address)
""",
    "taking an address over": """
    hold(rebinding, "_like")
    act = server.down
""",
}
FORKING = """
    acting = threading.Thread(target=act)
    acting.start()
    inside.wait()
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            theirs.send(b"has it" if has_it() else b"without")
            theirs.recv(1)  # nothing: the parent has come to its end
        finally:
            os._exit(0)
    theirs.close()
    acting.join()
    print(*told, ours.recv(9).decode(), sep=", ")
"""
ENDING = """
    ours.close()
    os.waitpid(pid, 0)
    sockets.close()
    client.close()
"""
RESETTING = """
    server.accept().reset()
    try:
        client.recv(1)
    except ConnectionResetError:
        print("reset")
"""
IN_ORDER = "the fork waits, the socket is handed over, the fork begins, without"


@pytest.mark.parametrize("act", ACTS)
def test_a_fork_waits_until_a_socket_is_handed_over(act: str) -> None:
    code = HOLDING + ACTS[act] + FORKING + ENDING
    assert run_quietly(code, flags=("-W", "ignore::DeprecationWarning")) == IN_ORDER


def test_a_connection_accepted_as_another_thread_forks_can_be_reset() -> None:
    code = HOLDING + ACTS["accepted"] + FORKING + RESETTING + ENDING
    said = run_quietly(code, flags=("-W", "ignore::DeprecationWarning"))
    assert said.splitlines() == [IN_ORDER, "reset"]
