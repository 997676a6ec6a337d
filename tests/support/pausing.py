"""Time that stands still for the endpoints."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from pytest_sockets._engine.clock import CLOCK


@contextmanager
def paused() -> Generator[None, None, None]:
    """Let no delay pass meanwhile."""
    CLOCK.pause()
    try:
        yield
    finally:
        CLOCK.resume()
