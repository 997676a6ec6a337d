"""Which endpoints are open, and who is told of new ones."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_sockets._engine.engine import before_shutdown

if TYPE_CHECKING:
    from pytest_sockets._endpoints.endpoint import Endpoint

_open: dict[int, Endpoint] = {}
_closed: weakref.WeakSet[Endpoint] = weakref.WeakSet()
"""Their records stay readable, also in a forked child, where another thread of the parent may hold
the lock for ever."""
observers: list[Callable[[Endpoint], bool]] = []
"""Called with each endpoint once it is ready, in the thread that opened it: the last one first,
until one says that the endpoint is its own.

A run of pytest inside another one in the same process has the endpoints to itself."""


def enter(endpoint: Endpoint) -> None:
    """Note that an endpoint is open."""
    _open[id(endpoint)] = endpoint
    any(observer(endpoint) for observer in reversed(observers))


def leave(endpoint: Endpoint) -> None:
    """Note that an endpoint has closed."""
    _open.pop(id(endpoint), None)
    _closed.add(endpoint)


def open_endpoints() -> tuple[Endpoint, ...]:
    """Return the open endpoints in the order in which they were opened."""
    return tuple(_open.values())


def _close_all() -> None:
    for endpoint in open_endpoints():
        endpoint.close()


# What nobody closed would warn as the process ends, and leave its path behind.
before_shutdown.append(_close_all)


def _after_fork_in_child() -> None:
    inherited = open_endpoints()
    _open.clear()
    for endpoint in inherited:
        endpoint._after_fork()
    for endpoint in tuple(_closed):
        endpoint._replace_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
