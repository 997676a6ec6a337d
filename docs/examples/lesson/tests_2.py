from line_client import ask


def test_an_echo(echo_server):
    assert ask(echo_server.address, "PING") == "PING"

    echo_server.assert_received(b"PING\r\n")
