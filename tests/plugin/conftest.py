from __future__ import annotations

import pytest

from inner_runs import WORKERS, Inner, alone


@pytest.fixture(params=list(WORKERS))
def run(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Inner:
    alone(monkeypatch)
    return Inner(pytester, WORKERS[request.param])


@pytest.fixture
def run_plain(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Inner:
    alone(monkeypatch)
    return Inner(pytester)


@pytest.fixture
def run_workers(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Inner:
    alone(monkeypatch)
    return Inner(pytester, WORKERS["two workers"])
