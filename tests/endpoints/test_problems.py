"""When problems are looked for, and where one is put in the chain of a failure."""

from __future__ import annotations

import functools
import threading

import pytest

from pytest_sockets import Connection, Sockets, TCPServer
from pytest_sockets._endpoints.problems import Problem, explain, gather
from pytest_sockets._engine.waiting import Steps
from stream_ends import PATIENCE, plain_client

FIRST, SECOND = RuntimeError("first"), RuntimeError("second")


def problems() -> list[Problem]:
    """Return two problems, as if just found."""
    for error in (FIRST, SECOND):
        error.__dict__.pop("__notes__", None)
    return [Problem(1, FIRST, None), Problem(2, SECOND, None)]


def test_a_problem_is_the_cause_of_what_began_a_failure() -> None:
    outer, inner = ValueError("outer"), KeyError("inner")
    outer.__context__ = inner
    explain(outer, problems())
    assert (outer.__cause__, inner.__cause__) == (None, FIRST)
    assert FIRST.__notes__ == ["also: second"]


def test_a_problem_is_not_put_behind_an_error_that_is_not_shown() -> None:
    outer, hidden = ValueError("outer"), KeyError("hidden")
    outer.__context__, outer.__suppress_context__ = hidden, True  # as `raise … from None` does
    explain(outer, problems())
    assert (outer.__cause__, hidden.__cause__) == (FIRST, None)


def test_a_chain_that_goes_in_circles_has_an_end_too() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    explain(one, problems())
    assert (one.__cause__, two.__cause__) == (two, FIRST)


def test_an_error_that_is_explained_twice_is_noted_once() -> None:
    error, found = ValueError("error"), problems()
    explain(error, found)
    explain(error, found)
    assert error.__cause__ is FIRST
    assert FIRST.__notes__ == ["also: second"]


@pytest.mark.parametrize("backend_first", [False, True])
def test_what_one_calls_while_it_comes_to_rest_is_waited_for(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch, backend_first: bool
) -> None:
    if backend_first:
        backend, front = sockets.tcp_server(), sockets.tcp_server()
    else:
        front, backend = sockets.tcp_server(), sockets.tcp_server()
    is_looked_for, is_called, is_looked_for_again = (threading.Event() for _ in range(3))
    late = ValueError("late")

    @front.serve
    def ask(conn: Connection) -> None:
        conn.expect(b"go")
        assert is_looked_for.wait(PATIENCE)
        with plain_client(backend.address) as sock:
            sock.sendall(b"hi")
            assert is_called.wait(PATIENCE)

    @backend.serve
    def answer(conn: Connection) -> None:
        conn.expect(b"hi")
        is_called.set()
        assert is_looked_for_again.wait(PATIENCE)
        raise late

    def quiet(server: TCPServer) -> Steps[None]:
        if server is front:
            is_looked_for.set()
        elif is_called.is_set():
            is_looked_for_again.set()
        yield from TCPServer._quiet(server)

    for server in (front, backend):
        monkeypatch.setattr(server, "_quiet", functools.partial(quiet, server))
    with plain_client(front.address) as client:
        client.sendall(b"go")
        assert [problem.error for problem in gather(sockets.endpoints)] == [late]
