import errno
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from losing import memory_of
from pytest_sockets import DatagramPeer, Settings, UDPEchoServer, UDPPeer
from pytest_sockets._engine.datagrams import TURN
from pytest_sockets._engine.selector import READ
from stream_ends import OWN_HOST, PATIENCE

PATIENT = Settings(timeout=PATIENCE)


@pytest.fixture(params=["ipv4", "ipv6", "unix"])
def peer(request: pytest.FixtureRequest) -> Iterator[DatagramPeer]:
    with DatagramPeer(family=request.param, settings=PATIENT) as peer:
        yield peer


@pytest.fixture
def sender(peer: DatagramPeer) -> Iterator[socket.socket]:
    families = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6, "unix": socket.AF_UNIX}
    with socket.socket(families[peer.family], socket.SOCK_DGRAM) as sender:
        sender.settimeout(PATIENCE)
        sender.connect(peer.address)
        yield sender


def test_a_datagram_is_in_the_record_at_once(peer: DatagramPeer, sender: socket.socket) -> None:
    incomplete = 0
    for sent in range(1, 301):
        sender.send(b"x")
        incomplete += len(peer.received) != sent
    assert incomplete == 0


def held(peer: DatagramPeer, sender: socket.socket) -> int:
    """Fill the receive buffer while nobody reads; return how many datagrams it holds."""
    [part] = peer._sockets
    sender.setblocking(False)
    number = 0
    while True:
        if peer.family != "unix":  # UDP drops what does not fit
            used, room = memory_of(part)
            if used > room * 0.95:
                return number
        try:
            sender.send(b"%08d" % number)
        except BlockingIOError:  # AF_UNIX says so
            return number
        number += 1


@pytest.mark.parametrize("closing", [False, True], ids=["open", "closing"])
def test_all_that_the_kernel_holds_is_taken_in_order(
    peer: DatagramPeer, sender: socket.socket, closing: bool
) -> None:
    with peer._lock:  # nobody reads meanwhile
        sent = held(peer, sender)
        if closing:
            peer.close()
    assert peer.received == [b"%08d" % number for number in range(sent)]
    if peer.family != "unix":
        assert sent > TURN  # else it would show nothing


def test_events_of_another_socket_are_no_datagram(peer: DatagramPeer) -> None:
    [part] = peer._sockets
    part.on_ready(READ)
    assert peer.received == []
    peer.close()
    part.on_ready(READ)


@pytest.mark.parametrize("kind", [UDPPeer, UDPEchoServer])
def test_a_port_that_closed_does_not_end_the_peer(kind: Callable[..., UDPPeer]) -> None:
    with kind(settings=PATIENT) as peer:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind((OWN_HOST, 0))
            address = gone.getsockname()
        peer.send(b"nobody is there", to=address)  # answered by ICMP
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", peer.address)
            peer.expect(b"hello")
        assert peer.problems == ()


def test_a_closed_socket_sends_nothing(peer: DatagramPeer, sender: socket.socket) -> None:
    [part] = peer._sockets
    peer.close()
    assert not part.is_open
    with pytest.raises(OSError, match="the endpoint is closed") as caught:
        part.send(b"x", None)
    assert caught.value.errno == errno.EBADF


def test_closing_wakes_those_who_wait(peer: DatagramPeer) -> None:
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            peer.wait_datagrams(1)
        except Exception as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    peer.close()
    waiting.join(PATIENCE)
    assert [type(error).__name__ for error in ended] == ["EndpointClosedError"]
