"""What the effects that last keep in mind: no more than they need for what goes out next."""

import pytest

from fault_ends import read_exactly
from pytest_sockets import Settings, SocketPair, WaitTimeout
from pytest_sockets._engine.works import CHANGED, Corrupted
from pytest_sockets.faults import Corrupt
from stream_ends import PATIENCE, Background

LARGE = bytes(8_000_000)
"""More than the kernel takes from one side while the other does not read."""


def test_a_corruption_without_end_costs_no_memory() -> None:
    with SocketPair("tcp", settings=Settings(timeout=PATIENCE)) as pair, Background() as pool:
        pair.fault(Corrupt(10**12))
        stream = pair.peer._stream
        assert stream.faults is not None
        (work,) = stream.faults._works.values()
        assert isinstance(work, Corrupted)
        with pytest.raises(WaitTimeout):
            pair.peer.send(LARGE, timeout=0)
        with pair._lock:
            assert 0 < len(work._masks) <= CHANGED  # of what the kernel has just refused
        reading = pool.submit(read_exactly, pair.socket, len(LARGE))
        pair.peer.wait_peer_read()
        assert 0 not in reading.result()
        assert not work._masks
