"""Waiting until the I/O loop has nothing left to run."""

from __future__ import annotations

from typing import Any, cast

from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.waiting import Wake

TURNS = 100
"""Turns of the loop that are waited for at most: another endpoint may keep it busy for ever. A
callback on a stream reader has seen its bytes after three, a request of aiohttp is answered
after about ten."""


class Quiet:
    """Wait until the loop has run what it was told to run, and what that told it to run."""

    __slots__ = ("_engine", "deadline")

    def __init__(self, engine: Engine, deadline: Deadline) -> None:
        self._engine = engine
        self.deadline = deadline

    def arm(self, wake: Wake) -> None:
        self._engine.post(self._look, wake, TURNS)

    def disarm(self, wake: Wake) -> None:
        """Nothing to forget: a late wake is harmless."""

    def _look(self, wake: Wake, turns: int) -> None:
        # asyncio has no public word for "something is ready"; the name is older than asyncio's
        # place in the standard library.
        loop = self._engine.loop
        if turns and cast("Any", loop)._ready:
            loop.call_soon(self._look, wake, turns - 1)
        else:
            wake()
