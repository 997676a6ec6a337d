"""A script plays the server, while the test itself calls the client."""

import re
import socket

import pytest


class Mailbox:
    """A client of a mail server that speaks first and answers each command with a line."""

    def __init__(self, address):
        self.socket = socket.create_connection(address)
        self.stream = self.socket.makefile("rwb")
        greeting = self.stream.readline()
        if not greeting.startswith(b"+OK"):
            self.hang_up()
            raise ConnectionError(f"no mail today: {greeting.decode().strip()}")

    def command(self, line):
        self.stream.write(line.encode() + b"\r\n")
        self.stream.flush()
        return self.stream.readline().decode().strip()

    def login(self, user, password):
        self.command(f"USER {user}")
        return self.command(f"PASS {password}") == "+OK welcome"

    def quit(self):
        self.command("QUIT")
        self.hang_up()

    def hang_up(self):
        self.stream.close()
        self.socket.close()


def test_login(tcp_server):
    script = tcp_server.script()
    script.send(b"+OK ready\r\n")
    script.expect(b"USER ann\r\n").send(b"+OK password, please\r\n")
    script.expect(b"PASS secret\r\n").send(b"+OK welcome\r\n")
    script.expect(b"QUIT\r\n").send(b"+OK goodbye\r\n").close()

    mailbox = Mailbox(tcp_server.address)
    assert mailbox.login("ann", "secret")
    mailbox.quit()


def test_what_the_client_chooses_is_saved(tcp_server):
    script = tcp_server.script()
    script.send(b"+OK ready\r\n")
    script.recv_line(save="user").send(b"+OK password, please\r\n")
    script.expect(re.compile(rb"PASS (\w+)\r\n"), until=b"\r\n", save="password")
    script.send(b"+OK welcome\r\n").expect_eof()

    mailbox = Mailbox(tcp_server.address)
    mailbox.login("ann", "secret")
    mailbox.hang_up()

    (conn,) = tcp_server.connections
    assert conn.saved["user"] == b"USER ann\r\n"
    assert conn.saved["password"][1] == b"secret"


@pytest.mark.parametrize("leave", [Mailbox.quit, Mailbox.hang_up])
def test_the_client_may_leave_without_a_word(tcp_server, leave):
    script = tcp_server.script()
    script.send(b"+OK ready\r\n")
    script.optional()
    script.expect(b"QUIT\r\n").send(b"+OK goodbye\r\n").close()

    leave(Mailbox(tcp_server.address))


@pytest.fixture
def mailbox(tcp_server):
    """A mailbox that is closed after the test."""
    script = tcp_server.script()
    script.send(b"+OK ready\r\n").expect(b"NOOP\r\n").send(b"+OK\r\n")
    script.optional().expect_eof()

    mailbox = Mailbox(tcp_server.address)
    yield mailbox
    mailbox.hang_up()


def test_nothing_is_done(mailbox):
    assert mailbox.command("NOOP") == "+OK"


def patient_mailbox(address):
    """Try a second time where the server sends the first one away."""
    try:
        return Mailbox(address)
    except ConnectionError:
        return Mailbox(address)


def test_a_busy_server_is_tried_again(tcp_server):
    tcp_server.script().send(b"-ERR busy\r\n").close()
    tcp_server.script().send(b"+OK ready\r\n").expect_eof()

    patient_mailbox(tcp_server.address).hang_up()


def test_two_mailboxes(tcp_server):
    tcp_server.script(each=True).send(b"+OK ready\r\n").expect_eof()

    first, second = Mailbox(tcp_server.address), Mailbox(tcp_server.address)
    second.hang_up()
    first.hang_up()

    tcp_server.assert_connections(2)
