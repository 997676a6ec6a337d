from concurrent.futures import ThreadPoolExecutor

from line_client import ask


def test_an_echo(echo_server):
    assert ask(echo_server.address, "PING") == "PING"

    echo_server.assert_received(b"PING\r\n")


def test_another_answer(tcp_server):
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, tcp_server.address, "PING")

        with tcp_server.accept() as conn:
            conn.expect(b"PING\r\n")
            conn.send(b"PONG\r\n")

        assert answer.result() == "PONG"
