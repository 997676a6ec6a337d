"""What users freeze the time with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import freezegun
import time_machine

FREEZERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "freezegun": lambda: freezegun.freeze_time("2001-02-03"),
    "time-machine": lambda: time_machine.travel(0, tick=False),
}
