"""aiohttp's test that a cancelled request closes its body and its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mutants import expecting
from pytest_sockets import MismatchError, SilentServer, WaitTimeout

pytestmark = pytest.mark.asyncio


@expecting(methodcaller("wait_eof"), methodcaller("expect_reset"), MismatchError)
async def test_request_body_closed_on_cancellation(
    silent_server: SilentServer,
    tmp_path: Path,
    expected: Callable[[Any], Awaitable[None]],
    outcome: Any,
) -> None:
    (tmp_path / "body").write_bytes(b"payload")
    with (tmp_path / "body").open("rb") as body:
        async with aiohttp.ClientSession() as session:
            request = asyncio.create_task(session.post(silent_server.url("http"), data=body))
            conn = await silent_server.aio.accept()
            await conn.aio.assert_received(contains=b"payload")
            request.cancel()
            with outcome():
                await expected(conn.aio)
            with pytest.raises(asyncio.CancelledError):
                await request
        # aiohttp closes files in a thread of the loop's executor, and waits for none.
        await asyncio.get_running_loop().shutdown_default_executor()
        assert body.closed


async def test_request_that_is_not_cancelled_stays(silent_server: SilentServer) -> None:
    async with aiohttp.ClientSession() as session:
        request = asyncio.create_task(session.get(silent_server.url("http")))
        conn = await silent_server.aio.accept()
        with pytest.raises(WaitTimeout, match="EOF"):
            await conn.aio.wait_eof(timeout=0.01)
        request.cancel()
        await conn.aio.wait_eof()
