"""Many connections at once. In processes of their own: the limit on open files is raised there."""

import resource

import pytest

from processes import run_quietly

MANY = 10_000
STALLED = 1_000

PRELUDE = """
    import os, resource, socket, struct, subprocess, sys
    from pytest_sockets import EchoServer, Settings, TCPServer

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = int(sys.argv[1])

    def descriptors():
        return len(os.listdir("/proc/self/fd"))
"""
CLIENT = """
import resource, socket, struct, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
port, count = map(int, sys.argv[1:])
clients = []
for number in range(count):
    client = socket.socket()
    # Another address than that of every server: their ports stay free for those.
    client.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    client.bind(("127.0.0.2", 0))
    client.connect(("127.0.0.1", port))
    client.sendall(struct.pack("!I", number))
    clients.append(client)
right = sum(client.recv(4) == struct.pack("!I", number) for number, client in enumerate(clients))
for client in clients:  # with a reset, so that nothing stays in TIME_WAIT
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
print(right)
"""
ECHO = """
    echo = EchoServer(settings=Settings(timeout=60))
    command = [sys.executable, "-c", sys.argv[2], str(echo.port), str(count)]
    right = int(subprocess.run(command, check=True, capture_output=True).stdout)
    assert right == count, right
    echo.assert_connections(count)
    assert {conn.received for conn in echo.connections} == {
        struct.pack("!I", number) for number in range(count)
    }
    echo.wait_closed(count)
    assert echo.problems == ()
    echo.close()
    print("done")
"""
STALL = """
    server = TCPServer(settings=Settings(timeout=60))
    before = descriptors()
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.address)
        clients.append(client)
    server.wait_connections(count)
    streams = server._streams
    with server._lock:
        for stream in streams:
            # Small kernel buffers: else it takes 1.6 GB before anything is queued here.
            stream._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            while stream.queued < 64 * 1024:
                stream.write(bytes(64 * 1024))
    assert descriptors() == before + 2 * count
    server.close()
    assert descriptors() == before + count - 1  # without the listener
    assert all(stream.queued == 0 for stream in streams)
    sent = [len(conn.sent) for conn in server.connections]
    for client, taken in zip(clients, sent):
        got = 0
        try:
            while data := client.recv(1 << 20):
                got += len(data)
        except ConnectionResetError:
            pass
        assert got <= taken
        client.close()
    assert descriptors() == before - 1
    print("done")
"""


def skip_below(descriptors: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < descriptors:
        pytest.skip(f"a process may open {hard} files here, and this needs {descriptors}")


def test_ten_thousand_connections_to_one_endpoint_are_all_served() -> None:
    skip_below(MANY + 100)
    assert run_quietly(PRELUDE + ECHO, str(MANY), CLIENT, flags=("-W", "error")) == "done"


def test_an_endpoint_with_a_thousand_stalled_connections_ends_and_leaves_no_descriptor() -> None:
    skip_below(2 * STALLED + 100)
    assert run_quietly(PRELUDE + STALL, str(STALLED), flags=("-W", "error")) == "done"
