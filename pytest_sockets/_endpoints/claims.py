"""Assertions on one direction of one connection, and on whichever connection carried bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import MismatchError, WaitTimeout
from pytest_sockets._wire.matching import Claim, Verdict
from pytest_sockets._wire.rendering import count, show, show_log

if TYPE_CHECKING:
    from pytest_sockets._endpoints.connection import Connection
    from pytest_sockets._endpoints.endpoint import Endpoint

Direction: TypeAlias = Literal["received", "sent"]


def hold(
    endpoint: Endpoint,
    claim: Claim,
    direction: Direction,
    deadline: Deadline,
    carriers: Callable[[], Sequence[Connection]],
    carrying: Signal | None,
    subject: str,
) -> Steps[None]:
    """Wait until a claim is true, and fail as soon as it no longer can become true.

    `carriers` returns the connections that have carried bytes in this direction; `carrying` rises
    with their number and is `None` where there can be only one connection.
    """
    yield from endpoint._settle()
    late = False
    empty = endpoint._empty_log
    while True:
        with endpoint._lock:
            endpoint._raise_problem()
            conns = carriers()
            if len(conns) > 1:
                raise MismatchError(_several(subject, direction, conns))
            conn = conns[0] if conns else None
            log = empty if conn is None else conn._bytes(direction)
            over = endpoint._why_over() if conn is None else conn._why_over(direction)
            verdict = claim.judge(log)
            size = log.size
        if verdict is Verdict.TRUE:
            return
        if verdict is Verdict.FALSE or over:
            ending = f"\n  no more can come: {over}" if verdict is Verdict.OPEN else ""
            text = f"{subject} {direction} something else\n{claim.explain(log, direction)}"
            raise MismatchError(text + ending)
        if late:
            so_far = (
                f"{direction} so far: {show(log.read(max(0, size - 96)))}"
                if size
                else (f"nothing was {direction} so far")
            )
            msg = (
                f"{subject}: waited {deadline} for {claim.wanted()}\n  {so_far} "
                f"({count(size, 'byte')}), and nothing says that no more will come"
            )
            raise WaitTimeout(msg)
        needs: list[tuple[Signal, float]] = []
        if conn is not None:
            needs.append((conn._signal(direction), size + 1))
        if carrying is not None:
            needs.append((carrying, len(conns) + 1))
        late = yield from endpoint._waited(deadline, *needs)


def _several(subject: str, direction: Direction, conns: Sequence[Connection]) -> str:
    lines = [
        f"{subject}: {len(conns)} connections {direction} bytes, so there is no one stream to "
        f"compare; use {subject}.connections[i].assert_{direction}(…)"
    ]
    for conn in conns[:8]:
        lines.append(f"  #{conn.index} {direction} {show_log(conn._bytes(direction))}")
    return "\n".join(lines)
