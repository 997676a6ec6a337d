from __future__ import annotations

import asyncio
import gc
import re
import socket
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pytest_sockets import (
    Connection,
    Endpoint,
    EndpointClosedError,
    MismatchError,
    Settings,
    Sockets,
    Sweep,
    TCPServer,
)
from pytest_sockets._endpoints import registry
from pytest_sockets.faults import (
    AfterSent,
    Close,
    Drop,
    Effect,
    FailHandshake,
    Refuse,
    Reset,
    Slice,
    Stall,
)
from stream_ends import PATIENCE
from told import errors_of

pytestmark = pytest.mark.timeout(120)

REPLY = b"HELLO\r\n"


class ReplyError(Exception):
    """The reply did not come whole."""


def fetch(address: Any, *, timeout: float = PATIENCE) -> list[bytes]:
    """Ask for a line, and return what each read gave of it."""
    pieces: list[bytes] = []
    try:
        with socket.create_connection(address, timeout=timeout) as sock:
            sock.sendall(b"GET\r\n")
            while not b"".join(pieces).endswith(b"\n"):
                piece = sock.recv(4096)
                if not piece:
                    raise ReplyError(b"".join(pieces))
                pieces.append(piece)
    except OSError as error:
        raise ReplyError(b"".join(pieces)) from error
    return pieces


def serve(sockets: Sockets, reply: bytes = REPLY) -> TCPServer:
    server = sockets.tcp_server()
    server.script().expect(b"GET\r\n").send(reply).close()
    return server


@pytest.fixture
def sweep() -> Sweep:
    return Sweep(Settings(timeout=PATIENCE))


class Noting:
    """A conversation that notes what the server sent in each run, and what came of it."""

    def __init__(self, *, timeout: float = PATIENCE) -> None:
        self.sent: list[bytes] = []
        self.outcomes: list[list[bytes] | type[ReplyError]] = []
        self._timeout = timeout

    def __call__(self, sockets: Sockets) -> None:
        server = serve(sockets)
        try:
            self.outcomes.append(fetch(server.address, timeout=self._timeout))
        except ReplyError:
            self.outcomes.append(ReplyError)
        self.sent.append(server.sent)


@pytest.mark.parametrize("effect", [Reset(), Close()])
def test_after_a_whole_run_one_ends_at_each_byte(sweep: Sweep, effect: Effect) -> None:
    talk = Noting()
    sweep(talk, effect)

    assert talk.sent == [REPLY, *(REPLY[:cut] for cut in range(len(REPLY)))]
    assert talk.outcomes == [[REPLY], *[ReplyError] * len(REPLY)]


def test_a_stall_is_ended_by_the_client(sweep: Sweep) -> None:
    talk = Noting(timeout=0.05)
    sweep(talk, Stall(), most=3)

    assert talk.sent[1:] == [b"", REPLY[:3], REPLY[:6]]
    assert talk.outcomes[1:] == [ReplyError] * 3


def test_one_boundary_comes_between_each_two_bytes(sweep: Sweep) -> None:
    talk = Noting()
    sweep(talk, Slice())

    assert talk.outcomes[1:] == [[REPLY[:cut], REPLY[cut:]] for cut in range(1, len(REPLY))]


def test_slices_of_a_size_begin_at_each_byte(sweep: Sweep) -> None:
    talk = Noting()
    sweep(talk, Slice(4), most=7)

    whole = [REPLY[:4], REPLY[4:]]
    assert talk.outcomes[1:3] == [whole, [REPLY[:1], REPLY[1:5], REPLY[5:]]]
    assert len(talk.outcomes) == 1 + len(REPLY)


def test_effects_come_one_after_the_other(sweep: Sweep) -> None:
    talk = Noting()
    sweep(talk, Slice(), Reset())

    cut_off = [REPLY[:cut] for cut in range(len(REPLY))]
    assert talk.sent == [REPLY, *[REPLY] * (len(REPLY) - 1), *cut_off]


def test_each_connection_of_each_endpoint_has_its_turn(sweep: Sweep) -> None:
    sent: list[tuple[bytes, ...]] = []

    def talk(sockets: Sockets) -> None:
        first, second = sockets.tcp_server(), sockets.tcp_server()
        first.script(each=True).expect(b"GET\r\n").send(b"A\n")
        second.script(each=True).expect(b"GET\r\n").send(b"BC\n")
        for server in (first, first, second):
            try:
                fetch(server.address)
            except ReplyError:
                pass
        conns = (*first.connections, *second.connections)
        sent.append(tuple(conn.sent for conn in conns))

    sweep(talk, Close())

    a, b = b"A\n", b"BC\n"
    assert sent == [
        (a, a, b),
        *[(a[:cut], a, b) for cut in range(2)],
        *[(a, a[:cut], b) for cut in range(2)],
        *[(a, a, b[:cut]) for cut in range(3)],
    ]


def test_a_pair_is_swept(sweep: Sweep) -> None:
    reads: list[bytes] = []

    def talk(sockets: Sockets) -> None:
        sock, peer = sockets.unix_socket_pair()
        peer.send(b"abc")
        reads.append(sock.recv(10))

    sweep(talk, Slice())

    assert reads == [b"abc", b"a", b"ab"]


def test_a_server_under_test_gets_each_part_of_a_request(sweep: Sweep) -> None:
    got: list[bytes] = []

    def answer(listener: socket.socket) -> None:
        with listener.accept()[0] as sock:
            got.append(b"".join(iter(lambda: sock.recv(100), b"")))

    def talk(sockets: Sockets) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = threading.Thread(target=answer, args=(listener,))
            server.start()
            conn: Connection = sockets.connect(listener.getsockname())
            try:
                conn.send(b"abc")
            except EndpointClosedError:  # the fault at 0 has ended it before
                pass
            finally:
                conn.close()
                server.join()

    sweep(talk, Close())

    assert got == [b"abc", b"", b"a", b"ab"]


def test_both_directions_through_a_proxy_are_swept(sweep: Sweep) -> None:
    passed: list[tuple[bytes, bytes]] = []

    def talk(sockets: Sockets) -> None:
        server = TCPServer()
        with server:
            server.on(b"ab", b"cd")
            proxy = sockets.tcp_proxy(server)
            with socket.create_connection(proxy.address, timeout=PATIENCE) as sock:
                sock.sendall(b"ab")
                sock.shutdown(socket.SHUT_WR)
                reply = b"".join(iter(lambda: sock.recv(10), b""))
            passed.append((reply, server.received))

    sweep(talk, Close())

    # A client that is left at once may have its request passed on, or not.
    assert [reply for reply, _ in passed[:3]] == [b"cd", b"", b"c"]
    assert [request for _, request in passed[3:]] == [b"", b"a"]


# -- failures


def greedy(sockets: Sockets) -> None:
    """Take a part of a reply for the whole, as its client does."""
    server = serve(sockets)
    try:
        reply = b"".join(fetch(server.address))
    except ReplyError as error:
        reply = error.args[0]
    assert len(reply) not in (3, 5), f"took {reply!r} for a reply"


def notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def test_the_first_failure_is_raised_and_tells_of_the_others(sweep: Sweep) -> None:
    with pytest.raises(AssertionError, match="took b'HEL' for a reply") as caught:
        sweep(greedy, Close())

    where = "on tcp_server connection 0"
    assert notes(caught.value) == [
        f"run 4 of 7 of the sweep: Close() at AfterSent(3) {where}; alone: "
        "sweep(greedy, Close(), only=3)",
        f"also: took b'HELLO' for a reply; run 6 of 7 of the sweep: Close() at AfterSent(5) {where}"
        "; alone: sweep(greedy, Close(), only=5)",
    ]


def test_of_many_failures_the_first_ones_are_told_and_the_others_counted(sweep: Sweep) -> None:
    def talk(sockets: Sockets) -> None:
        sock, peer = sockets.unix_socket_pair()
        peer.send(bytes(30))
        assert len(sock.recv(100)) == 30

    with pytest.raises(AssertionError) as caught:
        sweep(talk, Slice())

    assert len(notes(caught.value)) == 1 + 20 + 1
    assert notes(caught.value)[-1] == "and 8 more"


def test_a_sweep_can_be_used_again_after_a_failure(sweep: Sweep) -> None:
    with pytest.raises(AssertionError):
        sweep(greedy, Close())

    sweep(greedy, Close(), only=2)


def test_what_fails_without_a_fault_is_raised_and_nothing_is_swept(sweep: Sweep) -> None:
    runs: list[int] = []

    def talk(sockets: Sockets) -> None:
        runs.append(1)
        serve(sockets)
        raise LookupError("of the test's own")

    with pytest.raises(LookupError, match="of the test's own") as caught:
        sweep(talk, Reset())
    assert runs == [1]
    assert not notes(caught.value)


def test_what_goes_wrong_on_the_other_side_without_a_fault_is_raised(sweep: Sweep) -> None:
    def talk(sockets: Sockets) -> None:
        serve(sockets)  # and nobody connects

    with pytest.raises(MismatchError, match="never played"):
        sweep(talk, Reset())


def persistent(sockets: Sockets) -> None:
    """Try again where the server has a plan for one connection only."""
    server = serve(sockets)
    try:
        fetch(server.address)
    except ReplyError:
        with socket.create_connection(server.address, timeout=PATIENCE):
            server.wait_connections(2)


def test_what_goes_wrong_on_the_other_side_is_the_failure_of_a_run(sweep: Sweep) -> None:
    with pytest.raises(MismatchError, match="tcp_server connection 1 had no plan") as caught:
        sweep(persistent, Reset(), only=3)
    assert "Reset() at AfterSent(3)" in notes(caught.value)[0]


def test_a_problem_becomes_the_cause_of_what_talk_raises(sweep: Sweep) -> None:
    def talk(sockets: Sockets) -> None:
        server = serve(sockets)
        server.serve(refuse)
        try:
            fetch(server.address)
        except ReplyError:
            with socket.create_connection(server.address, timeout=PATIENCE) as sock:
                assert sock.recv(1) == b"x"

    def refuse(conn: Connection) -> None:
        raise LookupError("of the handler's own")

    with pytest.raises((AssertionError, OSError)) as caught:
        sweep(talk, Close(), only=2)
    error: BaseException = caught.value
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    assert str(error) == "of the handler's own"


def test_a_program_that_exits_fails_a_run(sweep: Sweep) -> None:
    def talk(sockets: Sockets) -> None:
        try:
            greedy(sockets)
        except AssertionError as error:
            raise SystemExit(str(error)) from None

    with pytest.raises(SystemExit) as caught:
        sweep(talk, Close())
    assert [note.partition(";")[0] for note in notes(caught.value)] == [
        "run 4 of 7 of the sweep: Close() at AfterSent(3) on tcp_server connection 0",
        "also: took b'HELLO' for a reply",
    ]


def test_an_interrupt_ends_the_sweep(sweep: Sweep) -> None:
    servers: list[TCPServer] = []

    def talk(sockets: Sockets) -> None:
        servers.append(serve(sockets))
        try:
            fetch(servers[-1].address)
        except ReplyError:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        sweep(talk, Reset())
    assert [server.is_closed for server in servers] == [True, True]


@pytest.mark.parametrize("scripts", [1, 2])
def test_a_connection_that_ends_at_once_takes_one_script_with_it(
    sockets: Sockets, forgiven: None, scripts: int
) -> None:
    server = sockets.tcp_server()
    server.fault(Close(), at=AfterSent(0))
    for _ in range(scripts):
        server.script().expect(b"GET\r\n").send(REPLY)
    with pytest.raises(ReplyError):
        fetch(server.address)

    told = [str(error).partition(":")[0] for error in errors_of(server)]
    assert told == ["tcp_server, script 2, 2 steps"][: scripts - 1]
    assert (
        server._notes()[:scripts]
        == [
            "script 1, 2 steps: a fault ended its connection at once",
            "script 2, 2 steps: nobody connected for it",
        ][:scripts]
    )


# -- what a run leaves behind


def test_each_run_has_fresh_endpoints_which_are_closed_after_it(sweep: Sweep) -> None:
    before = registry.open_endpoints()
    seen: list[Sockets] = []

    def talk(sockets: Sockets) -> None:
        assert all(not old.endpoints or old.endpoints[0].is_closed for old in seen)
        seen.append(sockets)
        try:
            fetch(serve(sockets).address)
        except ReplyError:
            pass

    sweep(talk, Reset())

    assert len({id(sockets.endpoints[0]) for sockets in seen}) == 1 + len(REPLY)
    assert registry.open_endpoints() == before


@pytest.mark.parametrize("fails", [False, True])
def test_the_records_of_a_run_go_with_it(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(registry, "observers", [])  # the plugin keeps those of the whole run
    kept: list[weakref.ref[Endpoint]] = []
    alive: list[int] = []

    def talk(sockets: Sockets) -> None:
        gc.collect()
        alive.append(sum(ref() is not None for ref in kept))
        server = serve(sockets)
        kept.append(weakref.ref(server))
        try:
            fetch(server.address)
        except ReplyError:
            assert not fails

    if fails:
        with pytest.raises(AssertionError):
            sweep(talk, Reset(), Close())
    else:
        sweep(talk, Reset(), Close())

    assert len(alive) == 1 + 2 * len(REPLY)
    assert max(alive) <= 1 + fails  # what the last run has not let go of, and the first failure


def test_only_the_whole_run_is_seen_by_who_watches(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Endpoint] = []
    monkeypatch.setattr(registry, "observers", [seen.append])
    sweep(Noting(), Reset())

    assert [endpoint.name for endpoint in seen] == ["tcp_server"]
    assert registry.observers == [seen.append]


def test_an_endpoint_made_by_hand_is_judged_with_its_run(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "observers", [])
    late = TCPServer(name="late")

    def talk(sockets: Sockets) -> None:
        nonlocal late
        try:
            fetch(serve(sockets).address)
        except ReplyError:
            late = TCPServer(name="late")
            late.script().expect(b"x")

    with late, pytest.raises(MismatchError, match="late, script 1, 1 step: never played"):
        sweep(talk, Reset(), only=1)
    late.close()


def test_all_runs_have_the_settings_and_the_family() -> None:
    seen: list[tuple[float, str]] = []

    def talk(sockets: Sockets) -> None:
        server = serve(sockets)
        seen.append((server.settings.timeout, server.host))
        try:
            fetch(server.address)
        except ReplyError:
            pass

    Sweep(Settings(timeout=7.5), family="dual")(talk, Reset(), only=0)

    assert seen == [(7.5, "127.0.0.1")] * 2 or seen == [(7.5, "::1")] * 2


def test_an_async_client_runs_in_a_plain_function(sweep: Sweep) -> None:
    sizes: list[int] = []

    async def client(address: tuple[str, int]) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET\r\n")
        try:
            return await reader.read(100)
        finally:
            writer.close()

    def talk(sockets: Sockets) -> None:
        sizes.append(len(asyncio.run(client(serve(sockets).address))))

    sweep(talk, Slice())

    assert sizes == [7, 1, 2, 3, 4, 5, 6]


def test_two_sweeps_at_once_do_not_disturb_each_other() -> None:
    # Each in a thread of its own; the one that ends first must take back its own watcher only.
    with ThreadPoolExecutor(2) as pool:
        talks = [Noting(), Noting()]
        runs = [pool.submit(Sweep(), talk, Reset()) for talk in talks]
        for run in runs:
            run.result()
    for talk in talks:
        assert talk.sent == [REPLY, *(REPLY[:cut] for cut in range(len(REPLY)))]


def test_a_sweep_in_a_sweep_leaves_the_outer_run_its_own(sweep: Sweep) -> None:
    late: list[TCPServer] = []

    def talk(sockets: Sockets) -> None:
        sock, peer = sockets.unix_socket_pair()
        peer.send(b"ab")
        sock.recv(10)
        Sweep()(Noting(), Reset(), most=2)
        late.append(TCPServer(name="late"))
        if len(late) == 2:
            late[-1].script().expect(b"x")

    try:
        with pytest.raises(MismatchError, match="late, script 1, 1 step: never played") as caught:
            sweep(talk, Slice())
    finally:
        for server in late:
            server.close()
    assert "run 1 of 1 of the sweep" in notes(caught.value)[0]


# -- how many


def test_of_too_many_runs_each_connection_gets_its_share(sweep: Sweep) -> None:
    talk = Noting()
    sweep(talk, Reset(), Close(), most=6)

    share = [REPLY[:0], REPLY[:3], REPLY[:6]]
    assert talk.sent[1:] == share * 2


def test_only_one_offset(sweep: Sweep) -> None:
    talk = Noting()
    sweep(talk, Reset(), Close(), Slice(), only=3)

    assert talk.sent[1:] == [REPLY[:3], REPLY[:3], REPLY]


def test_of_many_connections_some_are_swept(sweep: Sweep) -> None:
    runs: list[int] = []

    def talk(sockets: Sockets) -> None:
        runs.append(1)
        for _ in range(5):
            sock, peer = sockets.unix_socket_pair()
            peer.send(b"abc")
            sock.recv(10)

    sweep(talk, Slice(), most=3)

    assert len(runs) == 1 + 3


# -- mistakes


def silent(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    with socket.create_connection(server.address):
        server.wait_connections(1)


def speaks_udp(sockets: Sockets) -> None:
    peer = sockets.udp_peer()
    peer.send(b"x", to=peer.address)


async def coroutine(sockets: Sockets) -> None:
    raise AssertionError("never run")


MISTAKES: list[tuple[Callable[[Sweep], None], type[Exception], str]] = [
    (lambda sweep: sweep(greedy), TypeError, "needs at least one effect, such as Reset()"),
    (
        lambda sweep: sweep(greedy, Reset),  # type: ignore[arg-type]  # the mistake that is made
        TypeError,
        "such as Reset(), not <class 'pytest_sockets.faults.Reset'>: write Reset()",
    ),
    (
        lambda sweep: sweep(greedy, Drop()),
        ValueError,
        "a sweep counts the bytes of streams, and Drop() is for datagrams",
    ),
    (lambda sweep: sweep(greedy, Refuse()), ValueError, "Refuse() acts before anything is sent"),
    (lambda sweep: sweep(greedy, FailHandshake()), ValueError, "FailHandshake() acts before"),
    (lambda sweep: sweep(greedy, Reset(), most=1), ValueError, "most must be at least 2, not 1"),
    (lambda sweep: sweep(greedy, Reset(), only=-1), ValueError, "only must be"),
    (
        lambda sweep: sweep(greedy, Reset(), only=7),
        ValueError,
        "nothing to sweep at offset 7: tcp_server connection 0 sent 7",
    ),
    (
        lambda sweep: sweep(greedy, Slice(), only=0),
        ValueError,
        "nothing to sweep at offset 0: tcp_server connection 0 sent 7",
    ),
    (lambda sweep: sweep(silent, Reset()), ValueError, "nothing to sweep: 1 connection sent noth"),
    (
        lambda sweep: sweep(speaks_udp, Reset()),
        ValueError,
        "there was no connection; talk must open its endpoints with the Sockets it gets",
    ),
    (
        lambda sweep: sweep(Reset(), Reset()),  # type: ignore[arg-type]  # the mistake that is made
        TypeError,
        "talk must be a function that gets the Sockets of a run, not Reset()",
    ),
    (
        lambda sweep: sweep(coroutine, Reset()),
        TypeError,
        "coroutine is a coroutine function, and a sweep calls it as a plain one",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), MISTAKES)
def test_a_mistake_is_named(
    sweep: Sweep, call: Callable[[Sweep], None], kind: type[Exception], text: str
) -> None:
    before = registry.open_endpoints()
    with pytest.raises(kind, match=re.escape(text)):
        call(sweep)
    assert registry.open_endpoints() == before


def test_runs_that_never_meet_their_fault_prove_nothing(sweep: Sweep) -> None:
    is_first = True

    def talk(sockets: Sockets) -> None:
        nonlocal is_first
        if is_first:
            fetch(serve(sockets).address)
        is_first = False

    with pytest.raises(MismatchError, match="none of 7 runs met its fault"):
        sweep(talk, Reset())


def test_a_lambda_is_called_talk_in_messages(sweep: Sweep) -> None:
    with pytest.raises(AssertionError) as caught:
        sweep(lambda sockets: greedy(sockets), Close())
    assert "sweep(talk, Close(), only=3)" in notes(caught.value)[0]
