import socket


def login(address, user):
    """Return whether the server lets a user in."""
    try:
        with socket.create_connection(address) as sock:
            sock.sendall(f"USER {user}\n".encode())
            return sock.recv(100) == b"+OK\n"
    except OSError:
        return False


def test_a_stranger_is_not_let_in(tcp_server):
    @tcp_server.serve
    def answer(conn):
        _, user = conn.recv_line().split()
        assert user in (b"ann", b"bob")
        conn.send(b"+OK\n" if user == b"ann" else b"-ERR\n")

    assert not login(tcp_server.address, "Bob")
