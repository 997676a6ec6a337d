from collections.abc import Iterator

import pytest

from pytest_sockets import Settings, Sockets
from pytest_sockets._endpoints import registry
from stream_ends import PATIENCE, STREAMS, Ends, open_ends


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
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    # The plugin fails a test for a problem of any endpoint opened in it; these tests want one.
    monkeypatch.setattr(registry, "observers", [])
