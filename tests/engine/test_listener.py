import os
import random
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pytest_sockets import TCPServer
from stream_ends import PATIENCE, abort
from threads import eager_threads

STRESS = int(os.environ.get("PYTEST_SOCKETS_STRESS", "4000"))
"""Servers started and stopped; 100,000 take some minutes."""
SERVING, CONNECTING = 4, 3


class Watched(TCPServer):
    """A server that looks at each connection handed to it."""

    def __init__(self) -> None:
        self.late = self.misplaced = 0
        super().__init__()

    def _on_accept(self, sock: Any, address: Any) -> None:
        self.late += self._closed
        self.misplaced += sock.getsockname() != self.address
        super()._on_accept(sock, address)


class Stress:
    """Servers that start and stop, and clients that connect at any moment of it."""

    def __init__(self, total: int) -> None:
        self.each = total // SERVING
        self.addresses: list[tuple[str, int]] = [("127.0.0.1", 1)] * SERVING
        self.done = False
        self.late = self.misplaced = self.accepted = self.identified = 0
        self.problems: list[Exception] = []
        self.counting = threading.Lock()

    def serve(self, slot: int) -> None:
        turns = random.Random(slot)
        for _ in range(self.each):
            server = Watched()
            self.addresses[slot] = server.address
            if turns.random() < 0.5:
                server._sync()
            server.close()
            told = [conn.received for conn in server.connections]
            with self.counting:
                self.late += server.late
                self.accepted += len(told)
                self.identified += sum(map(bool, told))
                port = struct.pack("!H", server.port)
                self.misplaced += server.misplaced + sum(tag not in (b"", port) for tag in told)
                self.problems += server.problems

    def connect(self, seed: int) -> None:
        turns = random.Random(seed)
        while not self.done:
            address = turns.choice(self.addresses)
            client = socket.socket()
            client.settimeout(PATIENCE)
            try:
                client.connect(address)
                client.send(struct.pack("!H", address[1]))
                client.recv(1)  # waits for the stop
            except ConnectionError:  # it had stopped before, or stops now
                pass
            abort(client)  # leaves no TIME_WAIT behind

    def run(self) -> None:
        with ThreadPoolExecutor(SERVING + CONNECTING) as pool, eager_threads():
            connecting = [pool.submit(self.connect, seed) for seed in range(CONNECTING)]
            try:
                for serving in [pool.submit(self.serve, slot) for slot in range(SERVING)]:
                    serving.result()
            finally:
                self.done = True
            for thread in connecting:
                thread.result()


@pytest.mark.timeout(1800)
def test_no_connection_is_handed_over_after_the_stop_or_to_another_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stress = Stress(STRESS)
    stress.run()
    print(f"{STRESS} servers, {stress.accepted} connections, {stress.identified} with their tag")
    assert (stress.late, stress.misplaced, stress.problems, caplog.records) == (0, 0, [], [])
    assert stress.accepted > 0
    assert stress.identified > 0
