from __future__ import annotations

import json

from inner_runs import Inner
from manual import EXAMPLES

TESTS = """
import socket

def test_talk(echo_server):
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"

def test_no_endpoint():
    pass
"""


def test_the_plugin_of_the_manual_writes_a_file_for_each_test_with_endpoints(run: Inner) -> None:
    run.pytester.makepyfile(transcript_files=(EXAMPLES / "transcript_files.py").read_text())
    conftest = (EXAMPLES / "transcript_files_conftest.txt").read_text()

    run(TESTS, "--transcripts=there", conftest=conftest).assert_outcomes(passed=2)

    (path,) = (run.pytester.path / "there").iterdir()
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.name == "test_it_py_test_talk.jsonl"
    kinds = [event["kind"] for event in events]
    assert kinds == ["accepted", "received", "sent", "peer_eof", "eof_sent", "closed"]
    assert events[1]["data"] == b"hello".hex(" ")


def test_without_its_option_it_writes_nothing(run: Inner) -> None:
    run.pytester.makepyfile(transcript_files=(EXAMPLES / "transcript_files.py").read_text())
    conftest = (EXAMPLES / "transcript_files_conftest.txt").read_text()
    before = set(run.pytester.path.iterdir())

    run(TESTS, "-p", "no:cacheprovider", conftest=conftest).assert_outcomes(passed=2)

    new = {path.name for path in set(run.pytester.path.iterdir()) - before}
    assert new <= {"test_it.py", "conftest.py", "tox.ini", "__pycache__"}
