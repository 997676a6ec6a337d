"""A server of aiohttp, run on a recorded listener."""

import urllib.request

import pytest

web = pytest.importorskip("aiohttp.web")


async def answer(request):
    return web.Response(text=f"you asked for {request.path}")


def test_a_server_of_a_library(sockets):
    server = sockets.serve_protocol(lambda: web.Server(answer)())

    with urllib.request.urlopen(server.url("http") + "/news") as response:
        assert response.read() == b"you asked for /news"

    server.assert_received(contains=b"GET /news HTTP/1.1\r\n")
