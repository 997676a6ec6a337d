import pytest

from pytest_sockets._endpoints import registry


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open endpoints that the plugin does not hear of: their problems are what the test wants."""
    monkeypatch.setattr(registry, "observers", [])
