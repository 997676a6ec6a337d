"""What asyncio itself, and those who run on our loop, get from it."""

import asyncio
import concurrent.futures
import os
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from pytest_sockets import EchoServer
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.engine import Engine
from stream_ends import PATIENCE, plain_client, read_to_eof

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def loop() -> asyncio.AbstractEventLoop:
    return Engine.current().loop


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the engine's own loop."""
    return asyncio.run_coroutine_threadsafe(coroutine, Engine.current().loop).result(PATIENCE)


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        yield left, right


@pytest.mark.parametrize("by_number", [True, False], ids=["number", "object"])
def test_readers_and_writers_are_added_replaced_and_removed(
    loop: asyncio.AbstractEventLoop, pair: Pair, by_number: bool
) -> None:
    left, right = pair
    what: Any = left.fileno() if by_number else left

    async def main() -> list[str]:
        called: asyncio.Queue[str] = asyncio.Queue()

        def read(name: str) -> None:
            left.recv(10)
            called.put_nowait(name)

        def wrote() -> None:
            called.put_nowait("writable")
            assert loop.remove_writer(what)

        right.send(b"x")
        loop.add_reader(what, read, "first")
        names = [await called.get()]
        loop.add_writer(what, wrote)
        names.append(await called.get())
        loop.add_reader(what, read, "second")
        right.send(b"x")
        names.append(await called.get())
        assert loop.remove_reader(what)
        assert not loop.remove_reader(what)
        assert not loop.remove_writer(what)
        right.send(b"x")
        await asyncio.sleep(0)
        assert called.empty()
        assert left.recv(10) == b"x"
        return names

    assert run(main()) == ["first", "writable", "second"]


def test_a_reader_whose_socket_is_closed_can_be_removed(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        loop.add_reader(left, lambda: None)
        left.close()
        assert loop.remove_reader(left)
        right.close()

    run(main())


@pytest.mark.parametrize("family", ["ipv4", "unix"])
def test_an_asyncio_server_and_its_clients_run_on_our_loop(
    family: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = os.urandom(3_000_000)

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read())[::-1])
        writer.close()
        await writer.wait_closed()

    async def talk(server: asyncio.Server) -> bytes:
        where = server.sockets[0].getsockname()
        if family == "unix":
            reader, writer = await asyncio.open_unix_connection(where)
        else:
            reader, writer = await asyncio.open_connection(*where)
        writer.write(data)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def main() -> list[bytes]:
        if family == "unix":
            server = await asyncio.start_unix_server(shout, "\0" + os.urandom(8).hex())
        else:
            server = await asyncio.start_server(shout, "127.0.0.1")
        async with server:
            return await asyncio.gather(*(talk(server) for _ in range(3)))

    assert run(main()) == [data[::-1]] * 3


def test_a_client_on_our_loop_talks_to_our_endpoint() -> None:
    async def main(host: str, port: int) -> bytes:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"hello")
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    with EchoServer() as server:
        assert run(main(*server.address)) == b"hello"
        server.assert_received(b"hello")


def test_datagrams_and_plain_sockets_work_on_our_loop(
    loop: asyncio.AbstractEventLoop, pair: Pair
) -> None:
    left, right = pair
    right.setblocking(False)

    class Receiver(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.received.set_result(data)

    async def main() -> tuple[bytes, bytes]:
        transport, protocol = await loop.create_datagram_endpoint(
            Receiver, local_addr=("127.0.0.1", 0)
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"datagram", transport.get_extra_info("sockname"))
        datagram = await protocol.received
        transport.close()
        reading = asyncio.create_task(loop.sock_recv(left, 100))
        await asyncio.sleep(0)
        await loop.sock_sendall(right, b"stream")
        return datagram, await reading

    assert run(main()) == (b"datagram", b"stream")


def test_timed_calls_come_in_the_order_of_their_times(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> list[float]:
        done = loop.create_future()
        order: list[float] = []
        start = loop.time()
        for span in (0.03, 0.01, 0.0, 0.02, -1.0):
            loop.call_at(start + span, order.append, span)
        loop.call_at(start + 0.04, done.set_result, None)
        await done
        return order

    assert run(main()) == [-1.0, 0.0, 0.01, 0.02, 0.03]


def test_the_loop_has_the_real_time_and_no_debug_mode(loop: asyncio.AbstractEventLoop) -> None:
    before = CLOCK.seconds()
    assert before <= loop.time() <= CLOCK.seconds()
    assert not loop.get_debug()
    assert loop.is_running()


def test_an_executor_and_a_name_look_up_work_on_our_loop(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> tuple[str, Any]:
        with concurrent.futures.ThreadPoolExecutor(1, "own") as pool:
            answer = await loop.run_in_executor(pool, str, 5)
        return answer, await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

    answer, [(*_, address)] = run(main())
    assert (answer, address) == ("5", ("127.0.0.1", 80))


@pytest.mark.usefixtures("untold")
def test_a_source_that_raises_is_the_endpoints_problem_and_not_the_loops_end() -> None:
    class Broken(EchoServer):
        def _on_first(self, stream: Any, *, sent: bool) -> None:
            raise RuntimeError("a bug of ours")

    with EchoServer() as healthy:
        broken = Broken()
        with plain_client(broken.address) as client:
            client.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert [type(problem.__cause__) for problem in broken.problems] == [RuntimeError]
        broken.close()
        with plain_client(healthy.address) as client:
            client.sendall(b"still here")
            client.shutdown(socket.SHUT_WR)
            assert read_to_eof(client) == b"still here"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_asyncio_lets_through_does_not_end_the_loop(
    loop: asyncio.AbstractEventLoop, error: type[BaseException]
) -> None:
    # It ends `run_forever`, which on a main thread ends the program.
    async def main() -> int:
        task = asyncio.create_task(raising())
        await asyncio.wait([task])
        assert isinstance(task.exception(), error)
        return 3

    async def raising() -> None:
        raise error

    assert run(main()) == 3
