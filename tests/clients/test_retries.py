"""Libraries that try again, before a server that fails the first few and then serves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
import redis
import tenacity
import urllib3
from redis.backoff import NoBackoff
from redis.retry import Retry

from pytest_sockets import TCPProxy, TCPServer
from pytest_sockets.faults import AfterReceived, AtAccept, Close, Effect, Moment, Reset
from real_servers import redis_server

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
FIRST = 3
FAILURES = [
    (Reset(), AtAccept()),
    (Close(), AtAccept()),
    (Reset(), AfterReceived(b"\r\n")),
    (Close(), AfterReceived(b"\r\n")),
]


@pytest.fixture(scope="module")
def redis_path() -> Iterator[str]:
    with redis_server() as path:
        yield path


@pytest.mark.parametrize(("effect", "at"), FAILURES)
def test_urllib3_recovers(tcp_server: TCPServer, effect: Effect, at: Moment) -> None:
    tcp_server.script(each=True, strict=False).expect(b"GET / HTTP/1.1\r\n").send(REPLY).close()
    fault = tcp_server.fault(effect, at=at, times=FIRST)
    retry = urllib3.Retry(total=FIRST, backoff_factor=0)
    with urllib3.PoolManager(retries=retry) as pool:
        assert pool.request("GET", tcp_server.url("http")).data == b"hello"
    assert fault.hits == FIRST
    tcp_server.assert_connections(FIRST + 1)


def test_urllib3_gives_up_with_one_try_less(tcp_server: TCPServer) -> None:
    tcp_server.fault(Reset(), at=AtAccept(), times=FIRST)
    retry = urllib3.Retry(total=FIRST - 1, backoff_factor=0)
    with urllib3.PoolManager(retries=retry) as pool:
        with pytest.raises(urllib3.exceptions.MaxRetryError):
            pool.request("GET", tcp_server.url("http"))
    tcp_server.assert_connections(FIRST)


@pytest.mark.parametrize(("effect", "at"), FAILURES)
def test_redis_recovers(
    tcp_proxy: Callable[..., TCPProxy], redis_path: str, effect: Effect, at: Moment
) -> None:
    proxy = tcp_proxy(redis_path)
    fault = proxy.fault(effect, at=at, times=FIRST)
    retry = Retry(NoBackoff(), FIRST)
    with redis.Redis(proxy.host, proxy.port, retry=retry, protocol=2) as client:
        assert client.echo("hello") == b"hello"
    assert fault.hits == FIRST


@pytest.mark.parametrize(("effect", "at"), FAILURES)
def test_tenacity_recovers(tcp_server: TCPServer, effect: Effect, at: Moment) -> None:
    tcp_server.script(each=True).expect(b"hello\r\n").send(b"world\r\n").close()
    fault = tcp_server.fault(effect, at=at, times=FIRST)

    @tenacity.retry(
        stop=tenacity.stop_after_attempt(FIRST + 1),
        retry=tenacity.retry_if_exception_type((OSError, EOFError)),
    )
    def ask() -> bytes:
        with socket.create_connection(tcp_server.address) as client:
            client.sendall(b"hello\r\n")
            answer = client.recv(100)
            if not answer:
                raise EOFError
            return answer

    assert ask() == b"world\r\n"
    assert fault.hits == FIRST
