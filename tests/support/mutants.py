"""One body, run with the right expectation and with a wrong one, which must not hold."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest


def expecting(right: Any, wrong: Any, failure: type[BaseException] = AssertionError) -> Any:
    """Run a test twice: `expected` holds, or else `with outcome():` catches the failure."""
    return pytest.mark.parametrize(
        ("expected", "outcome"),
        [
            pytest.param(right, nullcontext, id="right"),
            pytest.param(wrong, partial(pytest.raises, failure), id="mutated"),
        ],
    )
