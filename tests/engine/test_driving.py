"""What a driver is told of its stream, and when nothing is read."""

import socket
from collections.abc import Callable, Iterator

import pytest

from pytest_sockets import Connection, Settings, StreamServer
from pytest_sockets._endpoints.behaviours import Behaviour
from pytest_sockets._engine.parties import Driver
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.stream_base import FIRST_READ
from stream_ends import PATIENCE, abort, plain_client, read_to_eof


class Told(Behaviour):
    """Remembers what it was told."""

    title = "the test"

    def __init__(self) -> None:
        self.told: list[str] = []
        self.act: Callable[[Stream], object] = str

    def on_data(self, stream: Stream, data: bytes) -> None:
        self.told.append("data")
        self.act(stream)

    def on_eof(self, stream: Stream) -> None:
        self.told.append("eof")

    def on_over(self, stream: Stream, *, by_reset: bool) -> None:
        self.told.append("reset" if by_reset else "close")


class Server(StreamServer):
    """Drives its connections by one driver."""

    def __init__(self, driver: Told, before: Callable[[Stream], object]) -> None:
        self._the_driver = driver
        self._before = before
        super().__init__(settings=Settings(timeout=PATIENCE))

    def _driver_of(self, stream: Stream) -> Driver:
        self._before(stream)
        return self._the_driver


@pytest.fixture
def driver() -> Told:
    return Told()


@pytest.fixture
def server(driver: Told) -> Iterator[Server]:
    with Server(driver, str) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[socket.socket]:
    with plain_client(server.address) as client:
        yield client


@pytest.fixture
def conn(server: Server, client: socket.socket) -> Connection:
    return server.accept()


# -- the end


def test_a_reset_by_the_peer_is_told_once(
    driver: Told, conn: Connection, client: socket.socket
) -> None:
    client.sendall(b"x")
    conn.assert_received(b"x")
    abort(client)
    conn.expect_reset()
    conn.reset()
    assert driver.told == ["data", "reset"]


def test_our_own_reset_is_told_once(driver: Told, conn: Connection) -> None:
    conn.reset()
    conn.reset()
    assert driver.told == ["reset"]


def test_our_own_close_is_told_once(driver: Told, conn: Connection, client: socket.socket) -> None:
    conn.close()
    conn.close()
    client.close()
    conn.wait_eof()
    assert driver.told == ["close"]


def test_a_close_that_the_driver_has_not_made_is_told_behind_what_waits(
    driver: Told, conn: Connection, client: socket.socket
) -> None:
    content = bytes(1 << 24)
    with conn.endpoint._lock:
        conn._stream.write(content)
        conn._stream.close()
    assert conn._stream.queued
    assert driver.told == []
    assert read_to_eof(client) == content
    conn.wait_closed()
    assert driver.told == ["close"]


def test_the_end_of_the_endpoint_is_not_told(driver: Told, conn: Connection) -> None:
    assert conn._stream.driver is driver
    conn.endpoint.close()
    assert driver.told == []


@pytest.mark.parametrize("size", [0, 1 << 24])
def test_eof_is_told_whatever_has_become_of_our_own(
    driver: Told, conn: Connection, client: socket.socket, size: int
) -> None:
    with conn.endpoint._lock:
        conn._stream.write(bytes(size))
        conn._stream.send_eof()  # out already, or behind bytes that nobody reads
    client.shutdown(socket.SHUT_WR)
    assert conn.peer_ended == "eof"
    assert driver.told == ["eof"]
    assert len(read_to_eof(client)) == size


# -- pauses


def test_one_reason_to_read_on_does_not_undo_another_one_not_to(
    conn: Connection, client: socket.socket
) -> None:
    stream = conn._stream
    for reason in ("one", "two", "two"):
        stream.pause_reading(reason)
    client.sendall(b"x")
    assert conn.received == b""
    stream.resume_reading("one")
    stream.resume_reading("one")
    assert conn.received == b""
    assert stream._interest == 0  # else the loop would spin on it
    stream.resume_reading("two")
    conn.assert_received(b"x")


def test_a_stream_that_is_paused_while_it_reads_reads_no_more(
    driver: Told, conn: Connection, client: socket.socket
) -> None:
    driver.act = lambda stream: stream.pause_reading("enough")
    with conn.endpoint._lock:  # so that all of it is there at once
        client.sendall(bytes(3 * FIRST_READ))
    assert len(conn.received) == FIRST_READ
    driver.act = str
    conn._stream.resume_reading("enough")
    conn.assert_received(bytes(3 * FIRST_READ))


def test_a_stream_may_begin_with_a_pause(driver: Told) -> None:
    with Server(driver, lambda stream: stream.pause_reading("not yet")) as server:
        with plain_client(server.address) as client:
            client.sendall(b"x")
            conn = server.accept()
            assert conn.received == b""
            conn._stream.resume_reading("not yet")
            conn.assert_received(b"x")


def test_a_close_drains_whatever_the_reasons_not_to_read(
    conn: Connection, client: socket.socket
) -> None:
    for reason in ("one", "two"):
        conn._stream.pause_reading(reason)
    client.sendall(b"x")
    conn.close()
    client.close()
    conn.wait_eof()
    assert conn.received == b"x"
