"""Ini keys, options and the environment."""

from __future__ import annotations

import zlib

import pytest

from inner_runs import Inner, reports

SHOWS = """
import pytest
from pytest_sockets import Settings, WaitTimeout

def test_shows(tcp_server, udp_peer, sockets):
    expected = Settings(timeout={}, timeout_factor={}, record_limit={}, seed=sockets.seed)
    endpoints = tcp_server, udp_peer, sockets.echo_server()
    assert [endpoint.settings for endpoint in endpoints] == [expected] * 3
"""
DEFAULT_LIMIT = 64 * 1024 * 1024


@pytest.mark.parametrize(
    ("ini", "factor", "expected"),
    [
        ("", None, (5.0, 1.0, DEFAULT_LIMIT)),
        ("sockets_timeout = 0.25", None, (0.25, 1.0, DEFAULT_LIMIT)),
        ("sockets_timeout_factor = 3", None, (5.0, 3.0, DEFAULT_LIMIT)),
        ("sockets_timeout_factor = 3", "1.5", (5.0, 1.5, DEFAULT_LIMIT)),
        ("sockets_timeout_factor = 3", "", (5.0, 3.0, DEFAULT_LIMIT)),
        ("sockets_record_limit = 1_000", None, (5.0, 1.0, 1000)),
        ("sockets_record_limit = 0", None, (5.0, 1.0, 0)),
    ],
)
def test_settings_reach_the_endpoints(
    run_plain: Inner,
    monkeypatch: pytest.MonkeyPatch,
    ini: str,
    factor: str | None,
    expected: tuple[float, float, int],
) -> None:
    if factor is not None:
        monkeypatch.setenv("PYTEST_SOCKETS_TIMEOUT_FACTOR", factor)
    run_plain(SHOWS.format(*expected), ini=ini).assert_outcomes(passed=1)


def test_settings_reach_the_workers(run_workers: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_SOCKETS_TIMEOUT_FACTOR", "7")
    source = SHOWS.format(0.5, 7, 99)
    ini = "sockets_record_limit = 99"
    run_workers(source, "-o", "sockets_timeout=0.5", ini=ini).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "table",
    [
        'tool.pytest.ini_options]\nsockets_timeout = "0.5"\nsockets_record_limit = "99"',
        pytest.param(
            "tool.pytest]\nsockets_timeout = 0.5\nsockets_record_limit = 99",
            marks=pytest.mark.skipif(
                pytest.version_tuple < (9,), reason="pytest reads this table since 9.0"
            ),
        ),
    ],
    ids=["ini_options", "native"],
)
def test_settings_may_stand_in_pyproject(run_plain: Inner, table: str) -> None:
    file = run_plain.pytester.makepyprojecttoml(f"[{table}")
    run_plain(SHOWS.format(0.5, 1, 99), "-c", str(file)).assert_outcomes(passed=1)


def test_a_timeout_is_multiplied_by_the_factor(run: Inner) -> None:
    result = run(
        """
def test_default(tcp_server):
    tcp_server.accept()

def test_given(tcp_server):
    tcp_server.accept(timeout=0.02)
""",
        ini="sockets_timeout = 0.01\nsockets_timeout_factor = 4",
    )
    shown = reports(result)
    assert "within 0.04 s" in shown["test_default"]
    assert "within 0.08 s" in shown["test_given"]


def test_a_record_beyond_its_limit_is_complete(run: Inner) -> None:
    run(
        """
import socket

def test_spills(tcp_server):
    with socket.create_connection(tcp_server.address) as sock:
        for n in range(10):
            sock.sendall(bytes([n]) * 10_000)
            tcp_server.assert_received(b"".join(bytes([k]) * 10_000 for k in range(n + 1)))
    assert tcp_server._spool.resident <= 20_000
""",
        ini="sockets_record_limit = 20000",
    ).assert_outcomes(passed=1)


def test_a_variable_that_is_no_number_says_so(
    run_plain: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_SOCKETS_TIMEOUT_FACTOR", "x")
    message = "PYTEST_SOCKETS_TIMEOUT_FACTOR: must be a number, not 'x'"
    assert message in run_plain("", "-q").stderr.str()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sockets_timeout", "abc"),
        ("sockets_timeout", "-1"),
        ("sockets_timeout", "nan"),
        ("sockets_timeout", "inf"),
        ("sockets_timeout", ""),
        ("sockets_timeout_factor", "0"),
        ("sockets_timeout_factor", "-2"),
        ("sockets_record_limit", "1.5"),
        ("sockets_record_limit", "-1"),
        ("sockets_report", "loud"),
        ("PYTEST_SOCKETS_TIMEOUT_FACTOR", "x"),
        ("PYTEST_SOCKETS_TIMEOUT_FACTOR", "0"),
        ("--sockets-seed", "x"),
        ("--sockets-report", "loud"),
    ],
)
def test_a_bad_value_is_a_usage_error_that_names_it(
    run_plain: Inner, monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    args, ini = ["-q"], ""
    if key.isupper():
        monkeypatch.setenv(key, value)
    elif key.startswith("--"):
        args = [f"{key}={value}"]
    else:
        ini = f"{key} = {value}"
    result = run_plain("", *args, ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = result.stderr.str()
    assert key in message
    assert value in message.replace(key, "")
    assert "Traceback" not in message
    assert not result.stdout.str()


SEEDS = """
def test_seed(sockets):
    assert sockets.tcp_server().settings.seed == sockets.seed
    print(f"seed of it: {sockets.seed}")
    assert False

def test_other(sockets):
    print(f"seed of it: {sockets.seed}")
    assert False
"""


def test_a_tests_seed_comes_from_its_id_alone(run: Inner) -> None:
    shown = reports(run(SEEDS))
    for name in ("test_seed", "test_other"):
        seed = zlib.crc32(f"test_it.py::{name}".encode())
        assert f"seed of it: {seed}" in shown[name]


def test_a_given_seed_is_every_tests(run: Inner) -> None:
    source = SEEDS.replace("assert False", "sockets.udp_peer()\n    assert False")
    shown = reports(run(source, "--sockets-seed=1837"))
    for name in ("test_seed", "test_other"):
        assert "seed of it: 1837" in shown[name]
        assert f" sockets: {name} (seed 1837) " in shown[name]


def test_help_shows_the_settings(run_plain: Inner) -> None:
    shown = run_plain("", "--help").stdout
    shown.fnmatch_lines(["*pytest-sockets*", "  --sockets-report=*", "  --sockets-seed=N*"])
    for key in ("timeout", "timeout_factor", "record_limit", "report"):
        shown.re_match_lines([rf"  sockets_{key} \(\w+\):"])


def test_markers_show_ours(run_plain: Inner) -> None:
    shown = run_plain("", "--markers").stdout
    shown.fnmatch_lines("@pytest.mark.sockets(timeout=None, family=None, strict=True): *")
