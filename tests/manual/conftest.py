from __future__ import annotations

import pytest

from inner_runs import Inner, alone


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Inner:
    alone(monkeypatch)
    return Inner(pytester)
