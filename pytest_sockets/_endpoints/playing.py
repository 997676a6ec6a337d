"""Playing a script on a connection, in the I/O thread."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, cast

from pytest_sockets._endpoints.faces import users_part
from pytest_sockets._endpoints.reading import Reading
from pytest_sockets._engine.clock import CLOCK, Deadline
from pytest_sockets._engine.shells import run_async
from pytest_sockets._engine.waiting import Steps, Wait
from pytest_sockets._wire.errors import (
    EndpointClosedError,
    MismatchError,
    PeerGoneError,
    WaitTimeout,
)
from pytest_sockets._wire.framing import NEARLY
from pytest_sockets._wire.rendering import WINDOW, count, show
from pytest_sockets._wire.script import Step

if TYPE_CHECKING:
    from pytest_sockets._endpoints.script import Player

FOREVER = math.inf


async def play(player: Player) -> None:
    """Play a script to its end; what goes wrong is the endpoint's problem."""
    conn = player.conn
    endpoint = conn._endpoint
    try:
        await run_async(_play(player))
    except asyncio.CancelledError:  # the endpoint ends
        raise
    except BaseException as error:  # a reply function may call pytest.fail()
        # Of one that was ended `_may_leave` has judged what had come before.
        is_judged = conn._ended_by is not None and isinstance(error, MismatchError)
        if conn._excuses(error) and not is_judged:
            conn._note(f"{player.script._name} ended: {error}")
        elif not endpoint.is_closed and not any(error is problem for problem in endpoint.problems):
            endpoint._add_problem(error.with_traceback(users_part(error)))


def _play(player: Player) -> Steps[None]:
    while (yield from _has_step(player)):
        step = player.step
        assert step is not None
        player.start = player.conn._consumed
        try:
            yield from _first_byte(player, step)
            result = yield from _verb(player, step)
        except (MismatchError, PeerGoneError, EndpointClosedError, WaitTimeout) as error:
            if player.conn._endpoint.is_closed:
                raise
            if any(error is problem for problem in player.conn._endpoint.problems):
                raise
            if step.kind == "receive" and (yield from _by_rule(player, step.timeout)):
                continue
            if _may_leave(player, step):
                return
            raise _told(player, step, error) from error.__cause__
        except Exception as error:  # of the kernel, such as a message that is too long
            error.add_note(f"{player.conn._label}, {player.place}: {step} failed")
            raise
        if step.save is not None:
            player.conn.saved[step.save] = result
        player.position += 1


def _has_step(player: Player) -> Steps[bool]:
    """Wait for a next step; `False` at the end of the connection."""
    script, conn = player.script, player.conn
    while True:
        # Before the look at the steps: the test may be writing them just now.
        is_complete = script._plan.is_complete
        age = CLOCK.patience() - script._written_at
        if player.step is not None:
            return True
        conn._endpoint._raise_problem()
        if conn._endpoint.is_closed or not conn._stream.is_open:
            return False
        size = conn._log.size
        written = (script._written, player.position + 1.0)
        end = (conn._endpoint._over(), 1.0)
        more = ((conn._stream.received, size + 1.0), (conn._stream.ended, 1.0))
        if player.unread and (yield from _by_rule(player, None)):
            continue
        if script._is_strict and player.unread and script._plan.steps:
            # Another step may follow: a connection can be there before its script is all written,
            # and have sent more than the steps so far expect.
            grace = conn._endpoint._deadline(script._timeout).timeout
            if is_complete or age >= grace:
                raise surplus(player)
            yield Wait(Deadline(grace - age), written, end)
        elif conn._stream.peer_ended or conn._stream.ended.level:
            yield Wait(Deadline(FOREVER), written, end)
        else:
            yield Wait(Deadline(FOREVER), written, end, *more)


def _by_rule(player: Player, timeout: float | None) -> Steps[bool]:
    """Have a rule answer what no step matches; `False` where none can."""
    if not len(player.rules) or not player.unread:
        return False
    conn = player.conn
    deadline = conn._endpoint._deadline(player.script._timeout if timeout is None else timeout)
    while True:
        with conn._endpoint._lock:
            taken = player.requests.take(conn._log, conn._consumed)
            over = conn._why_over("received")
        if not isinstance(taken, int):
            break
        if over or (yield from conn._endpoint._waited(deadline, (conn._stream.received, taken))):
            return False
    if taken.rule is None:
        return False
    conn._consumed = taken.stop
    for piece in player.requests.reply(taken):
        yield from cast("Any", type(conn).send).steps(conn, piece, timeout=None)
    return True


def surplus(player: Player) -> MismatchError:
    """Return the error of bytes that come after the last step."""
    conn, size = player.conn, player.unread
    steps = player.script._plan.steps
    with conn._endpoint._lock:  # no more than a message shows: it may be a flood
        unread = conn._log.read(conn._consumed, conn._consumed + WINDOW)
    more = " …" if size > len(unread) else ""
    msg = (
        f"{conn._label}, after the last of {count(len(steps), 'step')}: expected nothing "
        f"more, got {show(unread)}{more} ({count(size, 'byte')}); strict=False allows it"
    )
    return MismatchError(msg)


def _first_byte(player: Player, step: Step) -> Steps[None]:
    """Wait, without a deadline, where a step's clock does not run yet."""
    if step.kind != "receive" or step.arguments == (b"",):  # which no byte at all meets
        return
    conn, script = player.conn, player.script
    stream = conn._stream
    while not player.unread and stream.peer_ended is None and stream.is_open:
        conn._endpoint._raise_problem()
        steps = len(script._plan.steps)
        has_begun = bool(conn._log.size or stream.record.sent.size)
        if has_begun and player.position < steps - 1:
            return
        yield Wait(
            Deadline(FOREVER),
            (stream.received, conn._log.size + 1.0),
            (stream.peer_end, 1.0),
            (script._written, steps + 1.0),
            (conn._endpoint._over(), 1.0),
        )


def _verb(player: Player, step: Step) -> Steps[Any]:
    """Do what a step says."""
    conn: Any = player.conn
    if step.verb == "reset":
        return conn.reset()
    options = dict(step.options)
    if step.kind != "wait":
        options["timeout"] = player.timeout(step)
    if step.verb == "expect":
        options.setdefault("until", None)
        return (yield from Reading._expect(conn, *step.arguments, **options))
    verb: Any = getattr(type(player.conn), step.verb)
    steps: Steps[Any] = verb.steps(conn, *step.arguments, **options)
    return (yield from steps)


def _may_leave(player: Player, step: Step) -> bool:
    """Whether it only ended: the peer has left, where it may, or the test has cut it."""
    if player.conn._ended_by is not None:
        return step.may_begin_with(player.bytes_of_step())
    required = player.script._plan.is_required(player.position)
    stream = player.conn._stream
    has_left = stream.peer_ended is not None or not stream.is_open
    return not required and has_left and step.may_begin_with(player.bytes_of_step())


def _told(player: Player, step: Step, error: Exception) -> Exception:
    """Return the error with the step's place in front."""
    conn = player.conn
    if not step.wanted:
        why = str(error).removeprefix(conn._label).lstrip(": ")
        lines = [f"{conn._label}, {player.place}: {step} failed", why]
    else:
        got = player.got()
        lines = [f"{conn._label}, {player.place}: expected {step.wanted}, got {got}"]
        if isinstance(error, MismatchError):
            lines += _details(player, step, str(error))
        over = conn._why_over("received")
        if isinstance(error, WaitTimeout):
            lines.append(f"waited {conn._endpoint._deadline(player.timeout(step))} for it")
        elif over is not None and over in str(error) and over not in got:
            lines.append(f"no more can come: {over}")
    text = "\n  ".join("\n".join(lines).replace("\n  ", "\n").split("\n"))
    return WaitTimeout(text) if isinstance(error, WaitTimeout) else MismatchError(text)


def _details(player: Player, step: Step, text: str) -> list[str]:
    """Return what a mismatch tells beyond what was expected and what came."""
    if step.verb == "recv_prefixed":
        return [text.removeprefix(player.conn._label).lstrip(": ")]
    if step.verb != "expect":
        return []
    lines = [line.strip() for line in text.splitlines()[1:]]
    expected = step.arguments[0]
    if isinstance(expected, bytes) and len(expected) > 2 * WINDOW:
        return [line for line in lines if not line.startswith("no more")]  # as aligned windows
    telling = [line for line in lines if line.startswith(("first difference", NEARLY))]
    return [line for line in telling if not line.endswith("received nothing more")]
