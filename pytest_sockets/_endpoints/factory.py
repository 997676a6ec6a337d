"""What a factory of endpoints keeps, and what it does with all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from pytest_sockets._endpoints.addresses import HeldAddress
from pytest_sockets._endpoints.capabilities import capabilities
from pytest_sockets._endpoints.endpoint import Endpoint, Settings, settings_of
from pytest_sockets._endpoints.gate import Gate
from pytest_sockets._endpoints.order import require_order
from pytest_sockets._endpoints.problems import Checked
from pytest_sockets._engine.binding import check_family
from pytest_sockets._engine.engine import Engine
from pytest_sockets._wire.errors import EndpointClosedError, UnsupportedError
from pytest_sockets._wire.events import Event
from pytest_sockets._wire.record import merged

E = TypeVar("E", bound=Endpoint)
A = TypeVar("A", bound=HeldAddress)


class Factory(Checked):
    """All that `Sockets` has opened, from its first name to its end."""

    def __init__(self, settings: Settings | None = None, *, family: str | None = None) -> None:
        self._settings = settings_of(settings)
        self._family = None if family is None else check_family(family)
        self._endpoints: list[Endpoint] = []
        self._gates: list[Gate] = []
        self._addresses: list[HeldAddress] = []
        self._skip: Callable[[str], object] | None = None  # set by a test framework
        self._is_closed = False
        self._names: dict[str, int] = {}
        # Checkers of leaked threads forgive one that starts in a fixture, not in the test.
        Engine.current()

    def gate(self, *, name: str | None = None) -> Gate:
        """Make a gate: a place where a script, a handler or a verb stops until the test says go.

        It is released when the test ends.
        """
        gate = Gate(name=name or self._number("gate"), settings=self._settings)
        gate._among = self._endpoints
        self._gates.append(gate)
        return gate

    # -- all together

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints opened here, in order."""
        return tuple(self._endpoints)

    def require(self, *names: str) -> None:
        """Require what this machine has to be able to do, by the names of `capabilities`.

        Under pytest a test is skipped where it cannot.

        Raises:
            UnsupportedError: it cannot; outside of pytest.
            ValueError: there is no capability of that name.
        """
        __tracebackhide__ = True
        known = tuple(capabilities)
        for name in names:
            if name not in known:
                msg = f"{name!r} is no capability; there are {', '.join(known)}"
                raise ValueError(msg)
        for name in names:
            if capabilities[name] == "no":
                reason = capabilities.why_not(name)
                if self._skip is not None:
                    self._skip(reason)
                raise UnsupportedError(reason)

    @property
    def seed(self) -> int:
        """A number for the test's own random choices, from its id; failure reports show it."""
        return self._settings.seed

    @property
    def transcript(self) -> tuple[Event, ...]:
        """What happened on all endpoints, in one order."""
        __tracebackhide__ = True
        for endpoint in self._endpoints:
            endpoint._sync()
        return tuple(merged([endpoint.transcript for endpoint in self._endpoints]))

    def assert_order(self, *moments: Event | bytes) -> None:
        """Require that things happened in this order, over all endpoints.

        Args:
            moments: events of a transcript, or bytes, which stand for the moment when they had
                first been received or sent as a whole, anywhere.

        Raises:
            MismatchError: bytes that never came, or two moments in the other order.
        """
        __tracebackhide__ = True
        if len(moments) < 2:
            msg = "assert_order needs at least two moments to compare"
            raise ValueError(msg)
        for endpoint in self._endpoints:
            endpoint._sync()
        require_order(self._endpoints, moments)

    def _checked(self) -> Sequence[Endpoint]:
        return self._endpoints

    def close(self) -> None:
        """Close all endpoints and addresses, the newest first. Idempotent.

        Waits for no peer; a server waits for its handlers, as its own `close` says.
        """
        self._is_closed = True
        with ExitStack() as stack:  # one that fails to close does not keep the others open
            for address in self._addresses:
                stack.callback(address.close)
            for gate in self._gates:  # last: who holds at one is told that its endpoint is closed
                stack.callback(gate.release)
            for endpoint in self._endpoints:
                stack.callback(endpoint.close)

    def __repr__(self) -> str:
        return f"<Sockets {len(self._endpoints)} endpoints>"

    # -- inside

    def _open(self, cls: Callable[..., E], name: str | None, **options: Any) -> E:
        self._check_open()
        kind: str = getattr(cls, "kind", "endpoint")
        endpoint = cls(name=name or self._number(kind), settings=self._settings, **options)
        self._keep(endpoint)
        return endpoint

    def _keep(self, endpoint: Endpoint) -> None:
        """Close it with the others. Nobody has it yet."""
        self._endpoints.append(endpoint)

    def _hold(self, cls: Callable[..., A], name: str | None, **options: Any) -> A:
        self._check_open()
        kind: str = getattr(cls, "kind", "address")
        held = cls(name=name or self._number(kind), **options)
        self._addresses.append(held)
        return held

    def _check_open(self) -> None:
        if self._is_closed:
            msg = "these sockets are closed, as they are after the test: open endpoints before that"
            raise EndpointClosedError(msg)

    def _choose(self, family: str | None, host: str | None) -> str | None:
        return self._family if family is None and host is None else family

    def _number(self, kind: str) -> str:
        number = self._names[kind] = self._names.get(kind, 0) + 1
        return kind if number == 1 else f"{kind}-{number}"
