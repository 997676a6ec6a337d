"""The settings and hooks, declared apart from the plugin.

With `-p no:sockets` a project's own ini keys, markers and hook functions stay known, so that
neither `--strict-config` nor `--strict-markers` nor pluggy fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sockets import hookspecs

if TYPE_CHECKING:
    import pytest

REPORTS = ("full", "short", "off")
MARKER = (
    "sockets(timeout=None, family=None, strict=True): for the socket fixtures of this test: "
    "seconds that a wait takes at most; ipv4, ipv6, dual or unix for those that can have any; "
    "whether scripts are strict"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare ini keys and options."""
    parser.addini(
        "sockets_timeout", "seconds that a wait on a socket endpoint takes at most", "float", 5.0
    )
    parser.addini(
        "sockets_timeout_factor",
        "multiplies every timeout, for slow machines (environment: PYTEST_SOCKETS_TIMEOUT_FACTOR)",
        "float",
        1.0,
    )
    parser.addini(
        "sockets_record_limit",
        "bytes of an endpoint's record kept in memory; the rest goes to a temporary file",
        "int",
        64 * 1024 * 1024,
    )
    parser.addini(
        "sockets_report",
        "the wire in a failed test's report: full, short (no bytes), or off",
        default="full",
    )
    group = parser.getgroup("sockets", "socket endpoints (pytest-sockets)")
    group.addoption(
        "--sockets-report",
        choices=REPORTS,
        default=None,
        help="the wire in a failed test's report: full, short (no bytes), or off; "
        "overrides the ini key sockets_report",
    )
    group.addoption(
        "--sockets-seed",
        type=int,
        default=None,
        metavar="N",
        help="seed of sockets.seed for every test, as a failed test's report shows it",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", MARKER)
