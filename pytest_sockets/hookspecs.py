"""What other plugins may implement.

Put a function of the same name into a `conftest.py` or a plugin; take only the arguments you need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import pytest

    from pytest_sockets._endpoints.endpoint import Endpoint

hookspec = pluggy.HookspecMarker("pytest")


@hookspec
def pytest_sockets_endpoint_opened(item: pytest.Item | None, endpoint: Endpoint) -> None:
    """Take notice of an endpoint that has just been opened; it is ready.

    Called in the thread that opened it, before its user gets it. Do not block. Of a sweep only the
    endpoints of its first run, which has no fault, are told of.

    Args:
        item: the test during which it was opened; `None` outside any, as in a session's setup.
        endpoint: a server, a peer, a pair, or the client side of a connection.
    """


@hookspec
def pytest_sockets_transcripts_complete(item: pytest.Item, endpoints: Sequence[Endpoint]) -> None:
    """Take a test's transcripts, for example to store them.

    Called once for each attempt at a test, passed or failed, after its teardown: the endpoints of
    its fixtures are closed and their records complete. Longer-lived endpoints are among them when
    something happened on them during the test; of a sweep, those of its first run.

    Args:
        item: the test.
        endpoints: those that it opened or used, in order; `endpoint.transcript` has the events.
    """
