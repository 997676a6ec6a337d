"""A client that is a program of its own, against a server that plays a script."""

import subprocess
import sys

# start: program
PROGRAM = """
import socket, sys

host, port, name = sys.argv[1:]
with socket.create_connection((host, int(port))) as sock, sock.makefile("rw") as stream:
    print("HELLO", name, file=stream, flush=True)
    answer = stream.readline().strip()
print(answer)
sys.exit(answer != "WELCOME")
"""


def command(server, name):
    return [sys.executable, "-c", PROGRAM, server.host, str(server.port), name]


# end: program


def test_the_program_is_welcome(tcp_server):
    tcp_server.script().expect(b"HELLO ann\n").send(b"WELCOME\n").expect_eof()

    done = subprocess.run(command(tcp_server, "ann"), stdout=subprocess.PIPE, timeout=60)

    assert (done.returncode, done.stdout) == (0, b"WELCOME\n")


def test_the_program_is_sent_away(tcp_server):
    tcp_server.script().recv_line(save="greeting").send(b"GO AWAY\n").close()

    done = subprocess.run(command(tcp_server, "bob"), stdout=subprocess.PIPE, timeout=60)

    assert (done.returncode, done.stdout) == (1, b"GO AWAY\n")
    assert tcp_server.connections[0].saved["greeting"] == b"HELLO bob\n"


def test_the_program_runs_twice(tcp_server):
    tcp_server.script(each=True).expect(b"HELLO ann\n").send(b"WELCOME\n").expect_eof()

    for _ in range(2):
        subprocess.run(command(tcp_server, "ann"), check=True, timeout=60)

    tcp_server.assert_connections(2)


def test_the_program_is_stopped_while_it_waits(tcp_server, sockets):
    asked = sockets.gate()
    tcp_server.script().expect(b"HELLO ann\n").optional().hold(asked).send(b"WELCOME\n")

    with subprocess.Popen(command(tcp_server, "ann")) as program:
        asked.wait_reached(timeout=60)
        program.terminate()

    assert program.returncode != 0
