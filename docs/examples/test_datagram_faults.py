"""A UDP client under test that asks again, and datagrams that do not arrive as they were sent."""

import socket

import pytest

from pytest_sockets.faults import AfterReceived, Delay, Drop, Duplicate, Truncate, Unreachable


class NoAnswer(Exception):
    """Nobody has answered."""


def ask(address, question, *, tries=3, patience=10.0):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.settimeout(patience)
        for _ in range(tries):
            try:
                sock.send(question)
                answer = sock.recv(512)
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                raise NoAnswer("nobody is there") from None
            if answer.endswith(b"."):
                return answer
        raise NoAnswer(f"asked {tries} times")


def test_the_client_asks_again(udp_peer):
    udp_peer.on(b"time?", b"noon.")
    lost = udp_peer.fault(Drop(), times=2)

    assert ask(udp_peer.address, b"time?", tries=100, patience=0.05) == b"noon."

    assert lost.hits == 2


def test_the_client_gives_up(udp_peer):
    udp_peer.on(b"time?", b"noon.")
    lost = udp_peer.fault(Drop())

    with pytest.raises(NoAnswer, match="asked 3 times"):
        ask(udp_peer.address, b"time?", patience=0.05)

    assert lost.hits == 3


def test_half_an_answer_is_none(udp_peer):
    udp_peer.on(b"time?", b"noon.")
    udp_peer.fault(Truncate(2), times=1)

    assert ask(udp_peer.address, b"time?") == b"noon."

    assert udp_peer.sent == [b"no", b"noon."]


def test_nobody_is_there(udp_peer):
    with udp_peer.fault(Unreachable()):
        with pytest.raises(NoAnswer, match="nobody is there"):
            ask(udp_peer.address, b"time?")

    udp_peer.on(b"time?", b"noon.")
    assert ask(udp_peer.address, b"time?") == b"noon."


@pytest.mark.parametrize("fault", [Drop(0.3), Duplicate(0.3), Delay(0.01)])
def test_a_real_server_over_a_bad_network(udp_proxy, udp_echo_server, fault):
    proxy = udp_proxy(udp_echo_server.address)  # the real server would be your own
    proxy.fault(fault, must_hit=False)

    assert ask(proxy.address, b"time.", tries=100, patience=0.05) == b"time."


def test_one_answer_is_lost(udp_proxy, udp_echo_server):
    proxy = udp_proxy(udp_echo_server.address)
    lost = proxy.fault(Drop(), at=AfterReceived(b"first."), direction="reply", times=1)

    with pytest.raises(NoAnswer):
        ask(proxy.address, b"first.", tries=1, patience=0.05)
    lost.wait_hit()
    assert ask(proxy.address, b"second.") == b"second."

    udp_echo_server.assert_received(b"first.", b"second.")
