"""What other plugins may implement."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inner_runs import Inner

STORES = """
import json
import os

def store(**line):
    line["worker"] = os.environ.get("PYTEST_XDIST_WORKER", "")
    with open(os.environ["STORE"], "a") as file:  # one write a line, which processes may share
        file.write(json.dumps(line) + "\\n")

def pytest_sockets_endpoint_opened(item, endpoint):
    store(
        hook="opened",
        test=item and item.nodeid,
        endpoint=endpoint.name,
        is_closed=endpoint.is_closed,
        transcript=len(endpoint.transcript),
    )

def pytest_sockets_transcripts_complete(item, endpoints):
    store(
        hook="complete",
        test=item.nodeid,
        endpoints=[endpoint.name for endpoint in endpoints],
        are_closed=[endpoint.is_closed for endpoint in endpoints],
        transcripts=[
            [[event.kind, event.data.decode("latin-1")] for event in endpoint.transcript]
            for endpoint in endpoints
        ],
    )
"""


@pytest.fixture
def stored(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = pytester.path / "stored.jsonl"
    monkeypatch.setenv("STORE", str(path))

    def read(hook: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line for line in lines if line["hook"] == hook]

    return read


def test_transcripts_are_told_once_a_test_complete_and_after_its_end(
    run: Inner, stored: Any
) -> None:
    result = run(
        """
import socket
import pytest

@pytest.fixture
def late(echo_server):
    yield
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"in teardown")

def test_passes(echo_server, udp_peer):
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"ping")
        sock.recv(4, socket.MSG_WAITALL)

def test_fails(tcp_server):
    with socket.create_connection(tcp_server.address) as sock:
        sock.sendall(b"unread until the end")
    assert False

def test_late(late):
    pass

def test_skips(tcp_server):
    pytest.skip()

def test_without():
    pass

@pytest.fixture
def broken(udp_peer):
    raise LookupError

def test_broken(broken):
    pass
""",
        conftest=STORES,
    )
    result.assert_outcomes(passed=3, failed=1, skipped=1, errors=1)
    complete = {line["test"].partition("::")[2]: line for line in stored("complete")}
    assert len(complete) == len(stored("complete")) == 6
    assert all(all(line["are_closed"]) for line in complete.values())
    names = {test: line["endpoints"] for test, line in complete.items()}
    assert names == {
        "test_passes": ["echo_server", "udp_peer"],
        "test_fails": ["tcp_server"],
        "test_late": ["echo_server"],
        "test_skips": ["tcp_server"],
        "test_without": [],
        "test_broken": ["udp_peer"],
    }
    echoed = complete["test_passes"]["transcripts"][0]
    assert [event for event in echoed if event[1]] == [["received", "ping"], ["sent", "ping"]]
    assert echoed[0][0] == "accepted"
    assert echoed[-1][0] == "closed"
    assert ["received", "unread until the end"] in complete["test_fails"]["transcripts"][0]
    assert ["received", "in teardown"] in complete["test_late"]["transcripts"][0]
    opened = [(line["test"].partition("::")[2], line["endpoint"]) for line in stored("opened")]
    assert sorted(opened) == sorted((test, name) for test in names for name in names[test])
    assert not any(line["is_closed"] or line["transcript"] for line in stored("opened"))


def test_transcripts_are_told_once_for_each_attempt(run: Inner, stored: Any) -> None:
    result = run(
        """
import socket

attempts = []

def test_third_time(echo_server):
    attempts.append(1)
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"%d" % len(attempts))
    echo_server.assert_received(b"3")
""",
        "--reruns=2",
        plugins=["rerunfailures"],
        conftest=STORES,
    )
    result.assert_outcomes(passed=1)
    complete = stored("complete")
    assert [line["endpoints"] for line in complete] == [["echo_server"]] * 3
    received = [
        "".join(data for kind, data in line["transcripts"][0] if kind == "received")
        for line in complete
    ]
    assert received == ["1", "2", "3"]


def test_longer_lived_endpoints_are_told_with_the_tests_that_used_them(
    run_plain: Inner, stored: Any
) -> None:
    run_plain(
        """
import socket
import pytest
from pytest_sockets import EchoServer

@pytest.fixture(scope="session")
def shared():
    with EchoServer(name="shared") as server:
        yield server

def test_opens(shared):
    pass

def test_uses(shared, tcp_server):
    socket.create_connection(shared.address).close()

def test_does_not():
    pass
""",
        conftest=STORES
        + """
def pytest_sessionstart(session):
    from pytest_sockets import TCPServer
    TCPServer(name="outside").close()
""",
    ).assert_outcomes(passed=3)
    told = [line["endpoints"] for line in stored("complete")]
    assert told == [["shared"], ["shared", "tcp_server"], []]
    opened = [(line["endpoint"], line["test"]) for line in stored("opened")]
    assert opened == [
        ("outside", None),
        ("shared", "test_it.py::test_opens"),
        ("tcp_server", "test_it.py::test_uses"),
    ]


@pytest.mark.parametrize(
    ("hook", "argument"),
    [
        ("pytest_sockets_endpoint_opened", "server"),
        ("pytest_sockets_transcripts_complete", "transcripts"),
    ],
)
def test_a_hook_with_a_wrong_argument_is_refused(
    run_plain: Inner, hook: str, argument: str
) -> None:
    result = run_plain("", conftest=f"def {hook}(item, {argument}):\n    pass", apart=True)
    assert result.ret != 0
    output = result.stdout.str() + result.stderr.str()
    assert f"'{argument}'" in output
    assert "declared in the hookimpl but can not be found in the hookspec" in output


def test_nothing_is_kept_after_a_test(run: Inner) -> None:
    result = run(
        """
import socket
import pytest

@pytest.mark.parametrize("n", range(200))
def test_records(n, tcp_server, udp_peer):
    with socket.create_connection(tcp_server.address) as sock:
        sock.sendall(bytes(100_000))
        tcp_server.assert_received(bytes(100_000))
    tcp_server.accept().wait_eof()
    assert n % 50 or not n, "some fail"
""",
        "--tb=no",
        conftest="""
import gc
import weakref
import pytest

endpoints = []

def pytest_sockets_endpoint_opened(endpoint):
    endpoints.append(weakref.ref(endpoint))

@pytest.fixture(autouse=True)
def noticed(tcp_server, udp_peer):
    assert endpoints[-1]() is udp_peer

@pytest.fixture(scope="session", autouse=True)
def collected():
    yield
    gc.collect()
    alive = [ref() for ref in endpoints if ref() is not None]
    # Of the last test, and of the last failure, which Python itself keeps for debuggers.
    assert len(alive) <= 4
""",
        apart=True,
    )
    result.assert_outcomes(passed=197, failed=3)
