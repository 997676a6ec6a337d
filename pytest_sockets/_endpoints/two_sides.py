"""What stands between a client and a real server: two endpoints that open and close together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from pytest_sockets._endpoints.endpoint import Endpoint, Settings
from pytest_sockets._endpoints.placed import Placed
from pytest_sockets._endpoints.problems import Checked
from pytest_sockets._wire.events import Address, Event
from pytest_sockets._wire.record import merged

Way: TypeAlias = Literal["request", "reply"]

SHOWN = 8
"""Datagrams, or connections, that the message of a proxy shows."""
REACHED = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where what is sent to no address in particular goes."""


class TwoSides(Checked, Placed):
    """Two endpoints under one name. Closing either closes both."""

    @property
    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        """Both sides, the client's first."""
        raise NotImplementedError

    @property
    def settings(self) -> Settings:
        """The timeout and limits it works with."""
        return self.endpoints[0].settings

    @property
    def problems(self) -> tuple[BaseException, ...]:
        """What has gone wrong on the proxy's own side so far, oldest first. Does not block."""
        found = [problem for endpoint in self.endpoints for problem in endpoint._problems]
        return tuple(problem.error for problem in sorted(found, key=lambda problem: problem.time))

    def _checked(self) -> Sequence[Endpoint]:
        return self.endpoints

    @property
    def transcript(self) -> tuple[Event, ...]:
        """What has happened on both sides, in one order."""
        __tracebackhide__ = True
        return tuple(merged([endpoint.transcript for endpoint in self.endpoints]))

    @property
    def is_closed(self) -> bool:
        """Whether `close()` has been called, or it was left behind by `fork()`."""
        return self.endpoints[0].is_closed

    def close(self) -> None:
        """Record what the kernel still holds and close all sockets of both sides. Idempotent.

        Waits for no peer. What was not passed on by then is not passed on. Closing one of the sides
        does the same.
        """
        self.endpoints[0].close()

    def __repr__(self) -> str:
        first, second = self.endpoints
        place, summary = first.summary
        state = "closed" if self.is_closed else "open"
        return f"<{type(self).__name__} {place} {second._place()}, {summary}, {state}>"


def check_direction(direction: object) -> None:
    """Refuse what is no direction of a proxy."""
    if direction not in ("request", "reply"):
        msg = (
            "direction must be 'request' (from a client to the upstream) or 'reply' (back), "
            f"not {direction!r}"
        )
        raise ValueError(msg)


def is_same(ours: Address, target: Address | None) -> bool:
    """Whether what is sent to a target would reach what is bound to our address."""
    if not isinstance(target, tuple) or not isinstance(ours, tuple) or ours[1] != target[1]:
        return False
    host = str(target[0])
    host = REACHED.get(host, host)
    is_loopback = host == "::1" or host.startswith("127.")
    return host == ours[0] or (ours[0] in REACHED and is_loopback)
