import re
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sockets import MismatchError, Settings, TCPServer, UnixServer
from stream_ends import FOREVER, PATIENCE, Background, plain_client

pytestmark = pytest.mark.timeout(120)

CHUNKS = st.lists(st.binary(min_size=1, max_size=9), max_size=8)


@st.composite
def claims(draw: st.DrawFn, data: bytes) -> tuple[dict[str, Any], bool]:
    """Draw a claim about a stream that ends, and whether it holds."""
    other = draw(st.one_of(st.just(data), st.just(data + b"x"), st.just(data[:-1]), st.binary()))
    start = draw(st.integers(0, len(data)))
    piece = draw(st.one_of(st.just(data[start : start + 5]), st.binary(min_size=1))) or b"?"
    return draw(
        st.sampled_from(
            [
                ({"expected": other}, other == data),
                ({"contains": piece}, piece in data),
                ({"expected": re.compile(re.escape(piece))}, piece in data),
            ]
        )
    )


@pytest.mark.parametrize("server_class", [TCPServer, UnixServer])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(chunks=CHUNKS, data=st.data())
def test_the_outcome_depends_on_the_bytes_alone(
    server_class: type[TCPServer | UnixServer], chunks: list[bytes], data: st.DataObject
) -> None:
    claim, holds = data.draw(claims(b"".join(chunks)))
    asserted_after = data.draw(st.integers(0, len(chunks) + 1))
    whole = claim.get("expected")
    if isinstance(whole, bytes) and not holds and b"".join(chunks).startswith(whole):
        asserted_after = len(chunks)  # earlier it would be true for a while
    apart = data.draw(st.booleans())
    with server_class(settings=Settings(timeout=PATIENCE)) as server, Background() as pool:
        with plain_client(server.address) as client:
            conn = server.accept()
            for number in range(len(chunks) + 2):
                if number == asserted_after:
                    waiting = pool.submit(conn.assert_received, **claim, timeout=FOREVER)
                if number < len(chunks):
                    client.sendall(chunks[number])
                if number == len(chunks):
                    client.shutdown(socket.SHUT_WR)
                if apart:
                    conn.assert_received(b"".join(chunks[: number + 1]))
            error = waiting.exception()
    assert (error is None) == holds
    assert error is None or isinstance(error, MismatchError)
    if apart:
        received = [event.data for event in conn.transcript if event.kind == "received"]
        assert received == chunks


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=6),
    sizes=st.lists(st.integers(1, 12), max_size=12),
)
def test_verbs_take_the_same_bytes_however_they_come(chunks: list[bytes], sizes: list[int]) -> None:
    data = b"".join(chunks)
    with TCPServer(settings=Settings(timeout=PATIENCE)) as server, Background() as pool:
        with plain_client(server.address) as client:
            conn = server.accept()

            def talk() -> None:
                for chunk in chunks:
                    client.sendall(chunk)
                client.shutdown(socket.SHUT_WR)

            talking = pool.submit(talk)
            taken = 0
            for size in sizes:
                if taken + size > len(data):
                    break
                assert conn.recv_exactly(size) == data[taken : taken + size]
                taken += size
            assert conn.recv_to_eof() == data[taken:]
            talking.result()
