"""Which plan drives a connection, and what is left of the plans at the end."""

from __future__ import annotations

import contextvars
import warnings
from typing import TYPE_CHECKING

from pytest_sockets._endpoints.answering import drive_by
from pytest_sockets._endpoints.faces import drive
from pytest_sockets._endpoints.handlers import Handler, Handlers
from pytest_sockets._endpoints.playing import play, surplus
from pytest_sockets._endpoints.script import Player, Script
from pytest_sockets._endpoints.stream_view import Driven
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.tasks import Tasks, cancel
from pytest_sockets._engine.waiting import Steps, Wait
from pytest_sockets._wire.errors import MismatchError
from pytest_sockets._wire.rendering import count
from pytest_sockets._wire.rules import Rules

if TYPE_CHECKING:
    from pytest_sockets._endpoints.connection import Connection
    from pytest_sockets._endpoints.server import StreamServer


class Plans:
    """The scripts and the handler of a server. The server's lock guards them."""

    def __init__(self, server: StreamServer) -> None:
        self._server = server
        self._scripts: list[Script] = []
        self._each: Script | None = None
        self._handlers: Handlers | None = None
        self.rules = Rules(server._framing)
        self._tasks: list[Tasks] = []

    def add_script(self, *, each: bool, strict: bool, timeout: float | None) -> Script:
        """Make a script, and begin it where a connection waits for one."""
        if each and self._each is not None:
            msg = f"{self._server.name} has a script with each=True already"
            raise ValueError(msg)
        number = len(self._scripts) + 1
        script = Script(self._server, number, each=each, strict=strict, timeout=timeout)
        if each:
            self._each = script
        else:
            self._scripts.append(script)
        self._adopt()
        return script

    def add_handler(self, handler: Handler) -> None:
        """Have a function serve the connections that no script is made for."""
        if self._handlers is not None:
            msg = f"{self._server.name} is served by {self._handlers.name} already"
            raise ValueError(msg)
        self._handlers = Handlers(handler)
        self._adopt()

    def add_rule(self, request: object, reply: object, times: object) -> None:
        """Answer a request on the connections that nothing else drives, and between steps."""
        self.rules.add(request, reply, times)
        self._adopt()

    def drive(self, conn: Connection) -> bool:
        """Begin what drives a connection; `False` where no plan does."""
        script = next((script for script in self._scripts if not script._players), self._each)
        if script is not None:
            engine = self._server._engine
            conn._driven_by = Driven(
                script._name, engine.thread, instead="make it a step of the script"
            )
            player = Player(script, conn, self.rules)
            script._players.append(player)
            # An empty context: who lets the client in, perhaps a handler, has no part in it.
            tasks = Tasks(engine, contextvars.Context(), self._server._add_problem)
            self._tasks.append(tasks)
            tasks.start(play(player), f"{script._name} of {conn._label}")
            return True
        if self._handlers is not None:
            self._handlers.start(conn)
            return True
        if len(self.rules):
            # What came before there was a rule is answered too.
            self._server._engine.post(drive_by(self.rules, conn).catch_up)
            return True
        return False

    def _adopt(self) -> None:
        """Begin to drive the open connections that nobody drives, as far as there are plans."""
        for conn in self._server._connections:
            is_free = conn._driven_by is None and not conn._is_used and conn._stream.can_send
            if is_free and not self.drive(conn):
                return

    # -- the end

    def leftovers(self) -> list[MismatchError]:
        """Return what is wrong if nothing more happens."""
        found: list[MismatchError] = []
        scripts, spared = self._all_scripts, self._spared
        for script in scripts:
            total = len(script._plan.steps)
            name = f"{self._server.name}, {script._name}"
            if not total:
                msg = f"{name} has no steps: add some, as in script().expect(b'…').send(b'…')"
                found.append(MismatchError(msg))
            elif not script._players and script is not self._each and script._plan.is_required(0):
                if script in spared:
                    continue
                msg = f"{name}, {count(total, 'step')}: never played, as nobody connected for it"
                found.append(MismatchError(msg))
            found += [error for player in script._players if (error := _rest(player)) is not None]
        return [*self.surplus(), *found]

    def surplus(self) -> list[MismatchError]:
        """Return what has come, though there is no step and no script for it."""
        strict = [script for script in self._all_scripts if script._is_strict]
        players = [player for script in strict for player in script._players]
        found = [surplus(player) for player in players if _has_surplus(player)]
        return found + self._unplanned() if strict else []

    def tell(self) -> None:
        """Tell what has gone wrong in tasks of the handler, but could have been awaited so far."""
        if self._handlers is not None:
            self._handlers.tell()

    def _unplanned(self) -> list[MismatchError]:
        server = self._server
        return [
            MismatchError(
                f"{conn._label} had no plan: {count(len(self._scripts), 'script')} for "
                f"{count(len(server._connections), 'connection')}; add script(each=True), accept() "
                "it, or use strict=False"
            )
            for conn in server._connections[server._taken :]
            if conn._driven_by is None and not conn._is_used and conn._broken_by is None
        ]

    @property
    def has_handlers(self) -> bool:
        """Whether code of the user's serves connections."""
        return self._handlers is not None

    def quiet(self) -> Steps[None]:
        """Wait until no handler is at work, for as long as a wait of the server takes."""
        if self._handlers is None:
            return
        deadline = self._server.settings.deadline(None)
        while (yield from self._handlers.quiet(deadline)):
            yield from self._server._settle()

    def end(self) -> None:
        """Have everything end that still drives a connection, and wait for it."""
        server, handlers = self._server, self._handlers
        deadline = server.settings.deadline(None)
        tasks = self._tasks + (handlers.tasks if handlers is not None else [])
        running = [part for part in tasks if part.are_at_work]
        if running:
            server._engine.post(cancel, running)
        if server._engine.is_here():  # closed by an async handler: to wait here would stop it
            return
        drive(_ended(running, deadline), "close")
        if handlers is not None:
            handlers.join(deadline)
            if running_still := handlers.running():
                msg = (
                    f"{server.name} has closed, but {', '.join(running_still)} still runs: "
                    "only the verbs of our connections end with it"
                )
                warnings.warn(msg, ResourceWarning, stacklevel=2)

    @property
    def notes(self) -> list[str]:
        """How far the scripts have come, for the report."""
        spared = self._spared
        unused = [f"{rule!r} never answered" for rule in self.rules.never_fired]
        return [script._text(is_spared=script in spared) for script in self._all_scripts] + unused

    @property
    def _all_scripts(self) -> list[Script]:
        return [*self._scripts, *([self._each] if self._each is not None else [])]

    @property
    def _spared(self) -> list[Script]:
        """The scripts that would have been taken by connections that a fault has ended at once."""
        ended = sum(
            conn._driven_by is None and conn._broken_by is not None
            for conn in self._server._connections
        )
        return [script for script in self._all_scripts if not script._players][:ended]


def _ended(several: list[Tasks], deadline: Deadline) -> Steps[None]:
    for tasks in several:
        yield Wait(deadline, (tasks.over, 1))


def _has_surplus(player: Player) -> bool:
    """Whether bytes have come behind the last step of a script."""
    is_through = player.step is None and bool(player.script._plan.steps)
    return is_through and player.conn._broken_by is None and bool(player.unread)


def _rest(player: Player) -> MismatchError | None:
    """Return what is left of a script on one connection."""
    step, plan = player.step, player.script._plan
    is_broken = player.conn._broken_by is not None
    if step is None or is_broken or not plan.is_required(player.position):
        return None
    last = len(plan.steps) if plan.required is None else plan.required
    missing = count(last - player.position, "step")
    is_wish = step.wanted and step.kind == "receive"
    what = f"expected {step.wanted}, got {player.got()}" if is_wish else f"{step} not done"
    msg = f"{player.conn._label}, {player.place}: {what}; {missing} left when the test ended"
    if plan.needs_only_eof(player.position):
        msg += (
            "\n  what is left is the client's EOF: one that a fixture closes is closed after this, "
            f"so close it in the test, or put optional() before {step.verb}()"
        )
    return MismatchError(msg)
