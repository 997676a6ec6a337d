"""Many processes at once, and processes of another interpreter."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from inner_runs import Inner, reports
from other_python import another_interpreter

MANY = """
import socket
import pytest

def turn(address, family):
    with socket.socket(family) as sock:
        sock.connect(address)
        sock.sendall(b"mine")
        assert sock.recv(4, socket.MSG_WAITALL) == b"mine"

class TestTCP:
    @pytest.mark.parametrize("n", range(COUNT))
    def test_echo(self, n, echo_server):
        turn(echo_server.address, socket.AF_INET)
        echo_server.assert_received(b"mine")
        echo_server.assert_connections(1)

class TestUnix:
    @pytest.mark.parametrize("n", range(COUNT))
    def test_echo(self, n, sockets):
        turn(sockets.echo_server(family="unix").address, socket.AF_UNIX)

class TestUDP:
    @pytest.mark.parametrize("n", range(COUNT))
    def test_echo(self, n, udp_echo_server):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"mine", udp_echo_server.address)
            assert sock.recv(100) == b"mine"
        udp_echo_server.assert_received(b"mine")
"""


@pytest.mark.parametrize(("workers", "dist"), [(8, "load"), (2, "worksteal"), (2, "loadscope")])
def test_processes_at_once_do_not_disturb_each_other(
    run_plain: Inner, workers: int, dist: str
) -> None:
    count = 20 * workers
    source = MANY.replace("COUNT", str(count))
    args = (f"-n{workers}", f"--dist={dist}", "-W", "error")
    result = run_plain(source, *args, plugins=["xdist"])
    result.assert_outcomes(passed=3 * count)


def test_a_basetemp_of_any_length_leaves_unix_paths_short(run: Inner) -> None:
    basetemp = run.pytester.path / "long" / ("x" * 200)
    basetemp.parent.mkdir()
    result = run(
        """
import os, socket, tempfile

def test_unix(unix_server, unix_datagram_peer, tmp_path):
    assert len(os.fsencode(tmp_path)) > 200
    for endpoint in unix_server, unix_datagram_peer:
        assert len(os.fsencode(endpoint.path)) <= 100
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(unix_server.path)
        unix_server.assert_connections(1)
""",
        f"--basetemp={basetemp}",
    )
    result.assert_outcomes(passed=1)


def test_a_worker_may_be_another_interpreter(
    run_plain: Inner, tmp_path_factory: pytest.TempPathFactory
) -> None:
    basetemp = tmp_path_factory.getbasetemp()
    in_worker = "PYTEST_XDIST_WORKER" in os.environ or basetemp.name.startswith("popen-")
    shared = basetemp.parent if in_worker else basetemp
    other = another_interpreter(shared)
    result = run_plain(
        """
import platform, socket

def test_ping(echo_server):
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"PING 2")
    print("ran on", platform.python_version())
    echo_server.assert_received(b"PING 1")

def test_problem(udp_peer):
    udp_peer._fail(RuntimeError("its own side"))

def test_passes(unix_server):
    unix_server.assert_connections(0)
""",
        "--dist=load",
        f"--tx=popen//python={other}",
        "--max-worker-restart=0",
        plugins=["xdist"],
        conftest="""
def pytest_configure_node(node):
    # xdist gives a worker started by popen its own sys.path, which is that of another version.
    node.gateway.spec.popen = None
""",
    )
    result.assert_outcomes(passed=1, failed=2)
    shown = reports(result)
    version = re.search(r"ran on 3\.(\d+)", shown["test_ping"])
    assert version
    assert Path(other).resolve().name == f"python3.{version[1]}"
    assert "first difference at byte 5: expected 0x31 '1', received 0x32 '2'" in shown["test_ping"]
    assert " sockets: test_ping (seed " in shown["test_ping"]
    assert "EndpointError: udp_peer failed on its own side: its own side" in shown["test_problem"]
