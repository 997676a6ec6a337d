"""The settings and hooks, declared apart from the plugin, and how settings are read.

With `-p no:sockets` a project's own ini keys, markers and hook functions stay known, so that
neither `--strict-config` nor `--strict-markers` nor pluggy fails.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Any

from pytest_sockets import Settings, hookspecs

if TYPE_CHECKING:
    import pytest

FACTOR_VARIABLE = "PYTEST_SOCKETS_TIMEOUT_FACTOR"
MARKER_ARGUMENTS = ("timeout", "family", "strict")
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


def settings_of(config: pytest.Config) -> Settings:
    """Return what the ini file and the environment ask for; ValueError says what is wrong."""
    values: dict[str, Any] = {}
    for name in ("timeout", "timeout_factor", "record_limit"):
        key = f"sockets_{name}"
        try:
            # An empty variable is one that a CI file has passed on unset.
            if name == "timeout_factor" and (given := os.environ.get(FACTOR_VARIABLE)):
                key = FACTOR_VARIABLE
                values[name] = _number(given)
            else:
                values[name] = config.getini(key)
            Settings(**values)
        except Exception as error:  # pytest's own, too, of a value that is no number
            msg = f"{key}: {error}"
            raise ValueError(msg) from None
    return Settings(**values)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        msg = f"must be a number, not {text!r}"
        raise ValueError(msg) from None


def report_style(config: pytest.Config) -> str:
    """Return how much of the wire a report shows; ValueError says what is wrong."""
    style = config.getoption("--sockets-report") or str(config.getini("sockets_report"))
    if style not in REPORTS:
        msg = f"sockets_report must be one of {', '.join(REPORTS)}, not {style!r}"
        raise ValueError(msg)
    return str(style)


def marked(item: pytest.Item) -> dict[str, Any]:
    """Return the marker's arguments; the closest wins, each by itself."""
    merged: dict[str, Any] = {}
    for mark in item.iter_markers("sockets"):
        unknown = [repr(arg) for arg in mark.args]
        unknown += [f"{key}=" for key in mark.kwargs if key not in MARKER_ARGUMENTS]
        if unknown:
            *first, last = [f"{key}=" for key in MARKER_ARGUMENTS]
            msg = f"it takes {', '.join(first)} and {last}, not {', '.join(unknown)}"
            raise TypeError(msg)
        for key, value in mark.kwargs.items():
            merged.setdefault(key, value)
    return merged


def seed_of(item: pytest.Item) -> int:
    """Return the seed of a test's random choices: the one that was asked for, or from its id."""
    chosen = item.config.getoption("--sockets-seed")
    return zlib.crc32(item.nodeid.encode()) if chosen is None else int(chosen)
