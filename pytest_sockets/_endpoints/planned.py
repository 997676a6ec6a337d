"""Plans for the connections of a server: scripts, a handler, rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, overload

from pytest_sockets._endpoints.behaviours import Behaviour
from pytest_sockets._endpoints.endpoint import Endpoint
from pytest_sockets._endpoints.handlers import Handler
from pytest_sockets._endpoints.plans import Plans
from pytest_sockets._endpoints.script import Script
from pytest_sockets._engine.waiting import Steps
from pytest_sockets._wire.errors import MismatchError, SocketsError
from pytest_sockets._wire.rules import Answer

if TYPE_CHECKING:
    from pytest_sockets._endpoints.server import StreamServer

H = TypeVar("H", bound=Handler)


class Planned(Endpoint):
    """What drives the connections of a server, in this order: a script, a handler, rules."""

    _behaviour: ClassVar[Behaviour | None] = None
    _plans: Plans | None = None

    # -- plans

    def script(
        self, *, each: bool = False, strict: bool | None = None, timeout: float | None = None
    ) -> Script:
        """Plan one connection: the next one without a plan, or the oldest that nobody drives yet.

        Args:
            each: whether it is played on every connection that has no script of its own.
            strict: whether bytes after its last step, and connections without a plan, are problems;
                `None` means the server's default, which is that they are.
            timeout: seconds for each step; `None` means the server's default.

        Returns:
            The script, which has no steps so far. Its methods append them and can be chained, as in
            ``server.script().expect(b"PING").send(b"PONG")``.

        Raises:
            ValueError: there is a script with ``each=True`` already, or `timeout` is no time.
            EndpointClosedError: you closed the server before.
        """
        settings = self.settings if strict is None else replace(self.settings, strict=strict)
        with self._lock:
            return self._planned().add_script(each=each, strict=settings.strict, timeout=timeout)

    def serve(self, handler: H) -> H:
        """Have a function serve each connection that no script is made for.

        It is called once for each, connections that are open already included, unless the test has
        used them. A plain function runs in a thread of its own, with a `Connection` whose verbs
        block; an ``async def`` runs on the I/O loop, with an `AsyncConnection` whose verbs are
        awaited. It runs with the context variables of here. Returning closes the connection in
        order. An exception is a problem, `pytest.fail` and a failed assertion included, but for
        `PeerGoneError`, which is only noted in the transcript. At the end of the test its verbs
        raise `EndpointClosedError`.

        Tasks that an ``async def`` handler starts itself and does not await go on after it has
        returned, on a connection that is closed then. Their exceptions are problems too, but for
        `PeerGoneError`, and `EndpointClosedError` once the connection is closed. One that somebody
        could still await is told by `check()` and at the end of the test. Closing the server
        cancels all tasks and waits until they have ended, for at most the default timeout.

        Returns:
            The handler, so that this can be a decorator.

        Raises:
            TypeError: `handler` is no function that takes the connection alone, or would not run.
            ValueError: the server has a handler already.
            EndpointClosedError: you closed the server before.
        """
        with self._lock:
            self._planned().add_handler(handler)
        return handler

    # -- rules

    @overload
    def on(
        self, request: bytes, reply: Answer | Callable[[bytes], Answer], *, times: int | None = None
    ) -> None: ...
    @overload
    def on(
        self,
        request: re.Pattern[bytes],
        reply: Answer | Callable[[re.Match[bytes]], Answer],
        *,
        times: int | None = None,
    ) -> None: ...
    def on(self, request: Any, reply: Any, *, times: int | None = None) -> None:
        """Answer each whole frame that is `request`, on every connection that nothing else drives.

        Of several rules that match, the one made first answers. A frame that no rule can answer is
        a problem of the server at once. After the peer's EOF our side is closed; what is left then
        without being a whole frame stays unread, and is no problem.

        Connections that are open already count too, unless the test has used them, and so do bytes
        that were sent before: they are answered when this returns. So make all rules before the
        client sends. It blocks for as long as a read of the record does.

        Args:
            request: bytes that are the whole frame, its separator or prefix included, or a compiled
                bytes pattern, which must match all of it. Without `framing=`: bytes that come next,
                of which none may be the beginning of another rule's.
            reply: bytes, `None` (silence), a list of bytes (one after the other), or a function
                that gets the frame, or the match of a pattern, and returns one of these. It is
                called in the I/O thread, where it must not wait; what it raises is the problem.
            times: how often it answers at most, at least once; then the next rule that matches
                does. `None` means without end.

        Raises:
            TypeError: an argument is of a wrong type, or a pattern needs `framing=`.
            ValueError: the rule could never answer: an earlier one always does, or `request` is not
                exactly one frame.
            SocketsError: the server's behaviour drives all connections.
            EndpointClosedError: you closed the server before.
        """
        __tracebackhide__ = True
        if self._behaviour is not None:
            msg = (
                f"{self.name} is driven by {self._behaviour.title}, so a rule would never answer: "
                "use tcp_server or unix_server instead"
            )
            raise SocketsError(msg)
        with self._lock:
            self._planned().add_rule(request, reply, times)
        self._sync()

    # -- inside

    def _planned(self) -> Plans:
        if self._closed:
            self._raise_closed()
        if self._plans is None:
            self._plans = Plans(cast("StreamServer", self))
        return self._plans

    def _leftovers(self) -> list[MismatchError]:
        if self._plans is None:
            return super()._leftovers()
        self._plans.tell()
        if self._problems:  # what is left is their consequence
            return []
        return [*self._plans.leftovers(), *super()._leftovers()]

    def _surplus(self) -> list[MismatchError]:
        if self._plans is None or self._problems or self._closed:
            return super()._surplus()
        return self._plans.surplus()

    def _quiet(self) -> Steps[None]:
        yield from self._settle()
        if self._plans is not None:
            yield from self._plans.quiet()

    @property
    def _has_handlers(self) -> bool:
        return self._plans is not None and self._plans.has_handlers

    def _stopped(self) -> None:
        if self._plans is not None:
            self._plans.end()

    def _notes(self) -> list[str]:
        with self._lock:
            plans = [] if self._plans is None else self._plans.notes
        return [*plans, *super()._notes()]
