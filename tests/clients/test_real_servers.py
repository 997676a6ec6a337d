"""A proxy before real servers: what passes through it, and what their clients make of faults."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from programs import LIMIT, program
from pytest_sockets import TCPProxy
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    AtAccept,
    Close,
    Corrupt,
    Delay,
    Effect,
    HalfClose,
    Inject,
    Moment,
    Refuse,
    Reset,
    Slice,
    Stall,
    StopReading,
    Throttle,
)
from real_servers import nginx, postgresql, redis_server

Proxy = Callable[..., TCPProxy]
SIZE = 100_000_000


def require_all(proxy: TCPProxy) -> None:
    """Require that what came on one side went out on the other, byte for byte."""
    assert proxy.client.received == proxy.upstream.sent
    assert proxy.client.sent == proxy.upstream.received


# -- Redis


@pytest.fixture(scope="module")
def redis_path() -> Iterator[str]:
    with redis_server() as path:
        yield path


@pytest.fixture
def redis_client() -> Iterator[Callable[..., redis.Redis[bytes]]]:
    clients: list[Any] = []

    def connect(proxy: TCPProxy, **options: Any) -> Any:
        client = redis.Redis(
            proxy.host, proxy.port, **{"retry": Retry(NoBackoff(), 0), "protocol": 2, **options}
        )
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def test_redis_keeps_every_byte(tcp_proxy: Proxy, redis_path: str, redis_client: Any) -> None:
    proxy = tcp_proxy(redis_path)
    client, value = redis_client(proxy), os.urandom(SIZE)
    client.set("value", value)
    assert client.get("value") == value
    client.delete("value")
    require_all(proxy)


@pytest.mark.parametrize(
    ("effect", "error", "says"),
    [
        (Reset(), redis.ConnectionError, "reset by peer"),
        (Close(), redis.ConnectionError, "closed by server"),
        (HalfClose(), redis.ConnectionError, "closed by server"),
        (Stall(), redis.TimeoutError, "Timeout reading"),
        (Corrupt(), redis.exceptions.InvalidResponse, "Protocol Error"),
        (Inject(b"?junk\r\n"), redis.exceptions.InvalidResponse, "Protocol Error"),
        (Inject(b"-ERR no\r\n"), redis.ResponseError, "no"),
    ],
)
def test_redis_tells_what_broke_the_reply(
    tcp_proxy: Proxy,
    redis_path: str,
    redis_client: Any,
    effect: Effect,
    error: type[Exception],
    says: str,
) -> None:
    proxy = tcp_proxy(redis_path)
    proxy.fault(effect, at=AfterReceived(b"ECHO"))
    limit = 0.5 if error is redis.TimeoutError else LIMIT
    with pytest.raises(error, match=says):
        redis_client(proxy, socket_timeout=limit).echo("hello")


def test_redis_tells_that_nobody_reads(
    tcp_proxy: Proxy, redis_path: str, redis_client: Any
) -> None:
    proxy = tcp_proxy(redis_path)
    client = redis_client(proxy, socket_timeout=2)  # of the handshake too
    proxy.fault(StopReading(), at=AfterReceived(b"$3\r\nSET"))
    with pytest.raises(redis.TimeoutError, match="writing"):
        client.set("value", bytes(1_000_000))


def test_redis_tells_that_it_was_refused(
    tcp_proxy: Proxy, redis_path: str, redis_client: Any
) -> None:
    proxy = tcp_proxy(redis_path)
    with proxy.fault(Refuse()):
        with pytest.raises(redis.ConnectionError, match="refused"):
            redis_client(proxy).ping()
    assert redis_client(proxy).ping()


@pytest.mark.parametrize("effect", [Slice(1), Throttle(10_000), Delay(0.01)])
@pytest.mark.parametrize("direction", ["request", "reply"])
def test_redis_bears_what_only_takes_time(
    tcp_proxy: Proxy, redis_path: str, redis_client: Any, effect: Effect, direction: str
) -> None:
    proxy = tcp_proxy(redis_path)
    fault = proxy.fault(effect, direction=direction)
    assert redis_client(proxy).echo("hello") == b"hello"
    assert fault.hits == 1
    require_all(proxy)


# -- PostgreSQL


@pytest.fixture(scope="module")
def postgresql_path() -> Iterator[str]:
    with postgresql() as path:
        yield path


def postgresql_client(host: str, port: int, **options: Any) -> psycopg.Connection[Any]:
    # Encryption would be asked for first, in a packet of its own.
    return psycopg.connect(
        host=host, port=port, user="tester", dbname="postgres", gssencmode="disable",
        sslmode="disable", **options,
    )  # fmt: skip


ROW = 32 * 300  # bytes
COPY = (
    f"copy (select repeat(md5(n::text), 300) from generate_series(1, {SIZE // ROW + 1}) as n) "
    "to stdout"
)


def copied(client: psycopg.Connection[Any]) -> tuple[int, bytes]:
    size, digest = 0, hashlib.sha256()
    with client.cursor().copy(COPY) as rows:
        for row in rows:
            size += len(row)
            digest.update(row)
    return size, digest.digest()


def test_postgresql_keeps_every_byte(tcp_proxy: Proxy, postgresql_path: str) -> None:
    proxy = tcp_proxy(postgresql_path)
    with postgresql_client(os.path.dirname(postgresql_path), 5432) as direct:
        expected = copied(direct)
    with postgresql_client(proxy.host, proxy.port) as client:
        assert copied(client) == expected
        assert expected[0] > SIZE
        value = os.urandom(1_000_000)
        row = client.execute("select %b::bytea", [value], binary=True).fetchone()
        assert row is not None
        assert row[0] == value
    require_all(proxy)


@pytest.mark.parametrize(
    ("effect", "says"),
    [
        (Reset(), "reset by peer|closed the connection unexpectedly"),
        (Close(), "closed the connection unexpectedly"),
        (HalfClose(), "closed the connection unexpectedly"),
        (Inject(b"?\0\0\0\4"), "unexpected response from server"),
        (Corrupt(), "unexpected response from server|lost synchronization"),
    ],
)
def test_postgresql_tells_what_broke_the_reply(
    tcp_proxy: Proxy, postgresql_path: str, effect: Effect, says: str
) -> None:
    proxy = tcp_proxy(postgresql_path)
    with postgresql_client(proxy.host, proxy.port) as client:
        proxy.fault(effect, at=AfterReceived(b"select 1"))
        with pytest.raises(psycopg.Error, match=says):
            client.execute("select 1")


def test_postgresql_tells_that_nobody_reads(tcp_proxy: Proxy, postgresql_path: str) -> None:
    proxy = tcp_proxy(postgresql_path)
    proxy.fault(StopReading(), at=AfterReceived(b"select"))
    # Milliseconds that what was sent may stay unread (tcp(7): TCP_USER_TIMEOUT).
    with postgresql_client(proxy.host, proxy.port, tcp_user_timeout=300) as client:
        with pytest.raises(psycopg.OperationalError, match=r"timed out|closed the connection"):
            client.execute("select %b::bytea", [bytes(4_000_000)], binary=True)


def test_postgresql_tells_that_nobody_answers(tcp_proxy: Proxy, postgresql_path: str) -> None:
    proxy = tcp_proxy(postgresql_path)
    proxy.fault(Stall())
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        postgresql_client(proxy.host, proxy.port, connect_timeout=1)


def test_postgresql_tells_that_it_was_refused(tcp_proxy: Proxy, postgresql_path: str) -> None:
    proxy = tcp_proxy(postgresql_path)
    proxy.fault(Refuse())
    with pytest.raises(psycopg.OperationalError, match="refused"):
        postgresql_client(proxy.host, proxy.port)


@pytest.mark.parametrize("effect", [Slice(7), Throttle(100_000), Delay(0.01)])
def test_postgresql_bears_what_only_takes_time(
    tcp_proxy: Proxy, postgresql_path: str, effect: Effect
) -> None:
    proxy = tcp_proxy(postgresql_path)
    fault = proxy.fault(effect)
    with postgresql_client(proxy.host, proxy.port) as client:
        assert client.execute("select 42").fetchone() == (42,)
    assert fault.hits == 1


# -- nginx


@pytest.fixture(scope="module")
def nginx_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "large").write_bytes(os.urandom(SIZE))
    (folder / "small").write_bytes(b"hello\n" * 100)
    with nginx(folder) as path:
        yield path


def curl(proxy: TCPProxy, name: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [program("curl"), "--silent", "--show-error", "--noproxy", "*", *options]
    return subprocess.run(
        [*command, f"{proxy.url('http')}/{name}"], capture_output=True, timeout=LIMIT, check=False
    )


def test_nginx_keeps_every_byte(
    tcp_proxy: Proxy, nginx_path: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    proxy = tcp_proxy(nginx_path)
    done = curl(proxy, "large")
    assert (done.returncode, len(done.stdout)) == (0, SIZE), done.stderr
    assert proxy.client.sent.endswith(done.stdout)
    require_all(proxy)


BODY = AfterSent(300)  # the head has some 240 bytes


@pytest.mark.parametrize(
    ("effect", "at", "code"),
    [
        (Refuse(), None, 7),  # CURLE_COULDNT_CONNECT
        (Corrupt(4), None, 1),  # CURLE_UNSUPPORTED_PROTOCOL: an answer without a status line
        (Close(), BODY, 18),  # CURLE_PARTIAL_FILE
        (HalfClose(), BODY, 18),
        (Stall(), BODY, 28),  # CURLE_OPERATION_TIMEDOUT
        (Stall(), AtAccept(), 28),
        (Close(), AfterReceived(b"\r\n\r\n"), 52),  # CURLE_GOT_NOTHING
        (Reset(), BODY, 56),  # CURLE_RECV_ERROR
        (Reset(), AfterReceived(b"\r\n\r\n"), 56),
        (Inject(b"junk\r\n"), None, 1),
    ],
)
def test_curl_tells_what_broke_the_reply(
    tcp_proxy: Proxy, nginx_path: str, effect: Effect, at: Moment | None, code: int
) -> None:
    proxy = tcp_proxy(nginx_path)
    proxy.fault(effect, at=at)
    limit = 5 if code == 28 else LIMIT  # enough for what comes before a stall, on any machine
    done = curl(proxy, "small", "--max-time", f"{limit}")
    assert done.returncode == code, done.stderr


def test_curl_tells_that_nobody_reads(
    tcp_proxy: Proxy, nginx_path: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("upload") / "file"
    file.write_bytes(bytes(4_000_000))
    proxy = tcp_proxy(nginx_path)
    proxy.fault(StopReading())
    done = curl(
        proxy, "upload", "--max-time", "1", "--header", "Expect:", "--upload-file", str(file)
    )
    assert done.returncode == 28, done.stderr


@pytest.mark.parametrize("effect", [Slice(50), Throttle(100_000), Delay(0.01)])
def test_curl_bears_what_only_takes_time(tcp_proxy: Proxy, nginx_path: str, effect: Effect) -> None:
    proxy = tcp_proxy(nginx_path)
    proxy.fault(effect)
    assert curl(proxy, "small").stdout == b"hello\n" * 100
