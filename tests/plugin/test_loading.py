"""However the plugin is loaded, or left out."""

from __future__ import annotations

import pytest

from inner_runs import Inner

STRICT = ("--strict-config", "--strict-markers", "-W", "error")
INI = """
sockets_timeout = 2
sockets_timeout_factor = 1.5
sockets_record_limit = 1000
sockets_report = short
"""
USES = """
import socket

def test_uses_it(echo_server):
    socket.create_connection(echo_server.address).close()
    echo_server.assert_connections(1)
"""
MARKED = """
import pytest

@pytest.mark.sockets(timeout=1)
def test_marked():
    pass
"""
HOOKS = """
def pytest_sockets_endpoint_opened(item, endpoint):
    print("opened", item.name, endpoint.name)

def pytest_sockets_transcripts_complete(item, endpoints):
    pass
"""
PLUGIN = "pytest_sockets.plugin"
LOADED: dict[str, tuple[str, ...]] = {
    "by name": ("-p", "sockets"),
    "by module": ("-p", PLUGIN),
    "by both, name first": ("-p", "sockets", "-p", PLUGIN),
    "by both, module first": ("-p", PLUGIN, "-p", "sockets"),
}


@pytest.mark.parametrize("args", LOADED.values(), ids=LOADED)
def test_it_works_without_autoload(run: Inner, args: tuple[str, ...]) -> None:
    result = run(USES, *STRICT, ini=INI, conftest=HOOKS, load=args)
    result.assert_outcomes(passed=1)


NEIGHBOURS_OFF = tuple(
    part
    for name in ("asyncio", "anyio", "hypothesispytest", "randomly", "rerunfailures", "socket")
    for part in ("-p", f"no:{name}")
)


@pytest.mark.parametrize("args", [(), ("-p", PLUGIN)], ids=["alone", "named by module"])
def test_it_works_beside_its_entry_point(
    run: Inner, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    workers = ("-n", "2") if run.workers else ()
    alone = Inner(run.pytester)
    result = alone(USES, *STRICT, *NEIGHBOURS_OFF, *workers, ini=INI, load=args, apart=True)
    result.assert_outcomes(passed=1)


def test_it_may_be_named_in_pytest_plugins_too(run: Inner) -> None:
    result = run(USES, *STRICT, conftest=f"pytest_plugins = ['{PLUGIN}']")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "two workers"])
def test_without_it_settings_markers_and_hooks_do_no_harm(
    run_plain: Inner, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    off = ("-p", "no:sockets", *NEIGHBOURS_OFF, *STRICT)
    args = (*workers, "--sockets-seed=1", "--sockets-report=off")
    result = run_plain(MARKED, *args, ini=INI, conftest=HOOKS, load=off, apart=True)
    result.assert_outcomes(passed=1)


def test_without_it_there_are_no_fixtures(
    run_plain: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    result = run_plain(USES, *NEIGHBOURS_OFF, load=("-p", "no:sockets"), apart=True)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("*fixture 'echo_server' not found*")


def test_it_works_beside_everything_that_is_installed(
    run_plain: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    ini = "asyncio_default_fixture_loop_scope = function\nfilterwarnings = error"
    args = ("--disable-socket", "--reruns=1")
    result = run_plain(USES, *args, ini=ini, load=(), apart=True)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["Using --randomly-seed=*", "plugins: *sockets-*"])
