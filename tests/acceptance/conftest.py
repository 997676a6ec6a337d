from __future__ import annotations

import os

import pytest

REPEAT = int(os.environ.get("PYTEST_SOCKETS_REPEAT", "3"))


@pytest.fixture(params=range(REPEAT), ids=lambda number: f"run{number}", autouse=True)
def repetition(request: pytest.FixtureRequest) -> int:
    """Each test of a well-known project has to hold many times in a row."""
    number: int = request.param
    return number
