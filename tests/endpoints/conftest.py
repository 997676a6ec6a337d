import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_sockets import Settings, Sockets
from pytest_sockets._endpoints import registry
from pytest_sockets._endpoints.problems import gather
from pytest_sockets._engine.waiting import Wait
from stream_ends import PATIENCE, STREAMS, Ends, open_ends

HERE = Path(__file__).parent
USES_IPV6 = re.compile(r"ipv6|dual|::")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        skip = pytest.mark.skip(reason=f"this machine has no IPv6 loopback: {error}")
        for item in items:
            if item.path.parent == HERE and USES_IPV6.search(item.name):
                item.add_marker(skip)


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    # Made by hand: the endpoints are tested as a person without the plugin has them.
    with Sockets(Settings(timeout=PATIENCE)) as sockets:
        yield sockets


@pytest.fixture(params=STREAMS)
def ends(request: pytest.FixtureRequest, sockets: Sockets) -> Iterator[Ends]:
    with open_ends(sockets, request.param) as ends:
        yield ends


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Return what is released each time that a verb begins to wait for something to happen."""
    begun = threading.Semaphore(0)
    arm = Wait.arm

    def arm_and_tell(wait: Wait, wake: Callable[[], None]) -> None:
        arm(wait, wake)
        begun.release()

    monkeypatch.setattr(Wait, "arm", arm_and_tell)
    return begun


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    # The plugin fails a test for a problem of any endpoint opened in it; these tests want one.
    monkeypatch.setattr(registry, "observers", [])


@pytest.fixture
def forgiven(unwatched: None, sockets: Sockets) -> Iterator[None]:
    """Let problems that a test has looked at itself fail nothing more."""
    yield
    gather(sockets.endpoints)
