"""A fault that met nothing is a problem at the end, and bad input is refused at once."""

from collections.abc import Callable
from typing import Any

import pytest

from fault_ends import GREETING, read_to_the_end
from pytest_sockets import (
    EndpointClosedError,
    MismatchError,
    Settings,
    Sockets,
    TCPServer,
    UnsupportedError,
    capabilities,
)
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    AtAccept,
    AtEOF,
    Close,
    Corrupt,
    Drop,
    Duplicate,
    Effect,
    FailHandshake,
    Inject,
    OnFirstByte,
    RaggedEOF,
    Refuse,
    Reorder,
    Reset,
    Slice,
    Stall,
    StopReading,
    Truncate,
    Unreachable,
    WrongSource,
)
from stream_ends import FOREVER, Background, plain_client
from told import told

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unwatched")]

HINT = "; must_hit=False allows it"


@pytest.fixture
def server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


# -- what is told


def test_without_a_connection(server: TCPServer) -> None:
    server.fault(Reset(), at=OnFirstByte())
    assert told(server) == [
        "MismatchError: tcp_server: the fault Reset() at OnFirstByte() met nothing: there was no "
        "connection" + HINT
    ]


def test_what_the_connections_were_is_told(server: TCPServer) -> None:
    server.fault(Close(), at=AfterSent(50))
    with plain_client(server.address) as one, plain_client(server.address):
        first, second = server.accept(), server.accept()
        one.sendall(GREETING)
        first.recv_exactly(11)
        first.send(b"x")
        second.send(b"xy")
        assert told(server) == [
            "MismatchError: tcp_server: the fault Close() at AfterSent(50) met nothing: "
            "2 connections: #0 sent 1 byte and received 11, #1 sent 2 bytes and received 0" + HINT
        ]


def test_no_more_than_eight_connections_are_told_of(server: TCPServer) -> None:
    server.fault(Close(), at=AtEOF(), connection=11)
    clients = [plain_client(server.address) for _ in range(9)]
    server.wait_connections(9)
    (text,) = told(server)
    for client in clients:
        client.close()
    assert "the fault Close() at AtEOF() on connection 11 met nothing: 9 connections: #0 " in text
    assert "#7 sent 0 bytes and received 0, …; must_hit" in text


def test_an_endpoint_with_one_connection(sockets: Sockets) -> None:
    pair = sockets.tcp_socket_pair()
    pair.fault(Close(), at=AfterSent(50))
    pair.peer.send(b"abc")
    assert told(pair) == [
        "MismatchError: tcp_socket_pair: the fault Close() at AfterSent(50) met nothing: "
        "its connection sent 3 bytes and received 0" + HINT
    ]


def test_each_is_told(server: TCPServer) -> None:
    server.fault(Close(), at=AfterSent(1))
    server.fault(Stall(), at=AfterSent(2), must_hit=False)
    server.fault(Reset(), at=AfterSent(3))
    first, second = told(server)
    assert "Close() at AfterSent(1) met nothing" in first
    assert "Reset() at AfterSent(3) met nothing" in second


def test_a_lifted_one_is_told_too(server: TCPServer) -> None:
    with server.fault(Stall(), at=AfterSent(1)):
        pass
    (text,) = told(server)
    assert "Stall() at AfterSent(1) met nothing" in text


def test_one_that_is_allowed_to_meet_nothing(server: TCPServer) -> None:
    fault = server.fault(Stall(), must_hit=False)
    assert not fault.must_hit
    assert told(server) == []


def test_one_hit_is_enough(server: TCPServer) -> None:
    server.fault(Stall(), at=OnFirstByte(), times=5)
    with plain_client(server.address) as client, plain_client(server.address):
        client.sendall(b"x")
        assert told(server) == []


def test_a_hit_of_the_last_moment_is_seen(server: TCPServer) -> None:
    server.fault(Stall(), at=AfterReceived(11))
    with plain_client(server.address) as client:
        client.sendall(GREETING)
        assert told(server) == []  # the kernel has them; nobody has waited


def test_what_the_kernel_does_unseen_is_not_judged(server: TCPServer) -> None:
    server.fault(Refuse())
    assert told(server) == []


def test_leaving_the_block_raises_nothing(server: TCPServer) -> None:
    with pytest.raises(ZeroDivisionError), server.fault(Stall(), at=AfterSent(1)) as fault:
        raise ZeroDivisionError
    assert fault.is_lifted
    assert len(told(server)) == 1


def test_leaving_the_factory_raises_it() -> None:
    with pytest.raises(MismatchError, match="met nothing"), Sockets(Settings(timeout=5)) as sockets:
        sockets.tcp_server().fault(Stall())


def test_an_error_in_the_block_goes_before() -> None:
    def fail() -> None:
        with Sockets(Settings(timeout=5)) as sockets:
            sockets.tcp_server().fault(Stall())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_after_a_problem_nothing_more_is_judged(server: TCPServer) -> None:
    server.fault(Stall(), at=AfterSent(99))
    server.script().expect(b"a")
    with plain_client(server.address) as client:
        client.sendall(b"b")
        read_to_the_end(client)
        (text,) = told(server)
    assert "expected b'a', got b'b'" in text


def test_an_endpoint_that_was_closed_is_not_judged(server: TCPServer) -> None:
    server.fault(Stall())
    server.close()
    assert told(server) == []


def test_check_tells_it(server: TCPServer) -> None:
    server.fault(Stall())
    with pytest.raises(MismatchError, match=r"Stall\(\) met nothing: there was no connection"):
        server.check()
    told(server)


# -- bad input

Call = Callable[[Sockets], Any]
REFUSED: list[tuple[Call, type[Exception], str]] = [
    (
        lambda sockets: sockets.tcp_server().fault(Reset),
        TypeError,
        "effect must be one of pytest_sockets.faults, such as Reset(), not <class "
        "'pytest_sockets.faults.Reset'>: write Reset()",
    ),
    (
        lambda sockets: sockets.tcp_server().fault("reset"),
        TypeError,
        "effect must be one of pytest_sockets.faults, such as Reset(), not 'reset'",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(AfterSent(5)),
        TypeError,
        "effect must be one of pytest_sockets.faults, such as Reset(), not AfterSent(5)",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(Reset(), at=5),
        TypeError,
        "at must be a moment of pytest_sockets.faults, such as AfterSent(5), not 5",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(FailHandshake()),
        UnsupportedError,
        "FailHandshake() needs TLS, which tcp_server does not speak",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(RaggedEOF(), at=AfterSent(1)),
        UnsupportedError,
        "RaggedEOF() needs TLS, which tcp_server does not speak",
    ),
    *(
        (
            lambda sockets, effect=effect: sockets.tcp_server().fault(effect),
            ValueError,
            f"tcp_server cannot have {effect!r}: that is for datagrams",
        )
        for effect in (Drop(), Duplicate(), Reorder(), Truncate(5), WrongSource(), Unreachable())
    ),
    (
        lambda sockets: sockets.tcp_socket_pair().fault(Reset(), at=AtAccept()),
        ValueError,
        "tcp_socket_pair accepts no connections, so it cannot have AtAccept(): leave out at=",
    ),
    (
        lambda sockets: sockets.tcp_socket_pair().fault(Refuse()),
        ValueError,
        "tcp_socket_pair accepts no connections, so it cannot refuse one",
    ),
    *(
        (
            lambda sockets, effect=effect, at=at: sockets.tcp_proxy(("127.0.0.1", 1)).fault(
                effect, at=at, direction="request"
            ),
            ValueError,
            f"tcp_proxy upstream accepts no connections, so it cannot {text}",
        )
        for effect, at, text in (
            (Refuse(), None, "refuse one with Refuse()"),
            (Reset(), AtAccept(), "have AtAccept(): leave out at="),
        )
    ),
    (
        lambda sockets: sockets.tcp_server().fault(StopReading(), at=AtEOF()),
        ValueError,
        "StopReading() at AtEOF() contradicts itself: nothing comes after EOF; leave out at=",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(Refuse(), at=AfterSent(5)),
        ValueError,
        "Refuse() at AfterSent(5) contradicts itself: who is refused has not been connected; "
        "leave out at=",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(Refuse(), times=2),
        ValueError,
        "Refuse() is the kernel's answer, which tells nobody how often it gave it: leave out "
        "times= and connection=; Reset() at AtAccept() can be counted",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(Refuse(), connection=0),
        ValueError,
        "leave out times= and connection=",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(Reset(), connection=-1),
        ValueError,
        "connection must be at least 0, not -1",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(Reset(), connection="1"),
        TypeError,
        "connection must be a whole number, not str '1'",
    ),
    (
        lambda sockets: sockets.unix_socket_pair().fault(Reset(), connection=1),
        ValueError,
        "unix_socket_pair has one connection, number 0: leave out connection=1",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(Reset(), times=0),
        ValueError,
        "times must be at least 1, not 0",
    ),
    (
        lambda sockets: sockets.tcp_server().fault(Reset(), times=True),
        TypeError,
        "times must be a whole number, not bool True",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), REFUSED)
def test_what_cannot_be_is_refused(
    sockets: Sockets, call: Call, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        call(sockets)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert told(sockets.endpoints[0]) == []  # it was not made


def test_a_connection_of_a_pair_may_be_named(sockets: Sockets) -> None:
    pair = sockets.tcp_socket_pair()
    pair.fault(Inject(b"INJ"), connection=0)
    assert pair.socket.recv(100) == b"INJ"


def test_a_closed_endpoint_has_no_faults(server: TCPServer) -> None:
    server.close()
    with pytest.raises(EndpointClosedError, match="tcp_server is closed"):
        server.fault(Reset())


def test_a_seed_is_a_whole_number() -> None:
    with pytest.raises(TypeError, match=r"seed must be a whole number, not '1'"):
        Settings(seed="1")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("effect", "name"),
    [(Reset(), "reset"), (Refuse(), "refuse"), (StopReading(), "stop_reading")],
    ids=repr,
)
def test_what_the_machine_cannot_is_refused(
    server: TCPServer, monkeypatch: pytest.MonkeyPatch, effect: Effect, name: str
) -> None:
    monkeypatch.setitem(capabilities._tests, name, lambda: "no")  # type: ignore[arg-type]  # a dict
    with pytest.raises(UnsupportedError) as caught:
        server.fault(effect)
    why = f"this machine cannot do {name!r}"
    assert str(caught.value).startswith(f"tcp_server cannot have {effect!r}: {why}")


# -- waiting


def test_a_wait_ends_with_what_it_waits_for(server: TCPServer) -> None:
    fault = server.fault(Stall(), at=OnFirstByte(), connection=1, must_hit=False)
    with Background() as pool:
        waiting = pool.submit(fault.wait_hit, timeout=FOREVER)
        fault.lift()
        with pytest.raises(MismatchError) as caught:
            waiting.result()
    assert str(caught.value) == (
        "tcp_server: expected 1 hit of the fault Stall() at OnFirstByte() on connection 1, "
        "which was lifted after 0 hits"
    )


def test_hits_before_the_lifting_are_enough(server: TCPServer) -> None:
    with server.fault(Stall(), times=2) as fault, plain_client(server.address):
        fault.wait_hit()
    fault.wait_hit()
    with pytest.raises(MismatchError, match=r"which was lifted after 1 hit$"):
        fault.wait_hit(2)


def test_more_hits_than_there_can_be_are_refused(server: TCPServer) -> None:
    fault = server.fault(Stall(), times=2, must_hit=False)
    with pytest.raises(ValueError, match=r"^n=3 cannot be: the fault Stall\(\) has times=2$"):
        fault.wait_hit(3)


# -- the report


def test_what_there_was_stands_in_the_notes_of_the_report(server: TCPServer) -> None:
    server.fault(Slice(3))
    server.fault(Corrupt(2), at=AfterSent(50), connection=1, must_hit=False)
    with plain_client(server.address) as one, plain_client(server.address):
        one.sendall(b"x")
        server.wait_connections(2)
        assert server._notes() == [
            "Slice(3): 2 hits",
            "Corrupt(2) at AfterSent(50) on connection 1: 0 hits",
        ]
