import socket


def login(address, user, password):
    """Return the server's last answer, or nothing where it cannot be had."""
    try:
        with socket.create_connection(address) as sock, sock.makefile("rwb") as stream:
            stream.readline()
            for command in (f"USER {user}\r\n", f"PASS {password}\n"):
                stream.write(command.encode())
                stream.flush()
                answer = stream.readline()
            return answer
    except OSError:
        return None


def test_login(tcp_server):
    script = tcp_server.script()
    script.send(b"+OK ready\r\n")
    script.expect(b"USER ann\r\n").send(b"+OK password, please\r\n")
    script.expect(b"PASS secret\r\n").send(b"+OK welcome\r\n")

    answer = login(tcp_server.address, "ann", "secret")
    assert answer == b"+OK welcome\r\n"
