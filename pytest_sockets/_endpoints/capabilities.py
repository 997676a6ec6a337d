"""What this machine's kernel can do, tried out when somebody asks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeAlias, final

from pytest_sockets._engine.trials import (
    makes_unreachable,
    passes_descriptors,
    resets,
    tells_of_tcp,
)

Capability: TypeAlias = Literal["exact", "approximate", "no"]


def _send_apart() -> Capability:
    return "exact" if tells_of_tcp() else "approximate"


def _exact() -> Capability:
    return "exact"


def _known(test: Callable[[], bool]) -> Callable[[], Capability]:
    def capability() -> Capability:
        return "exact" if test() else "no"

    return capability


@final
class Capabilities(Mapping[str, Capability]):
    """What this machine can do, by the name of a verb or an effect.

    A mapping to ``"exact"``, ``"approximate"`` or ``"no"``. Each is tried out once in a process, on
    sockets of its own, when it is first asked for. What depends on the other end, such as a peer in
    another network namespace, is not part of it.
    """

    def __init__(self, tests: Mapping[str, Callable[[], Capability]]) -> None:
        self._tests = {name: functools.cache(test) for name, test in tests.items()}

    def __getitem__(self, name: str) -> Capability:
        test = self._tests.get(name)
        if test is None:
            msg = f"{name!r} is no capability; there are {', '.join(self._tests)}"
            raise KeyError(msg)
        return test()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tests)

    def __len__(self) -> int:
        return len(self._tests)

    def __repr__(self) -> str:
        return f"<Capabilities {dict(self)}>"


capabilities = Capabilities(
    {
        "send_apart": _send_apart,
        "wait_peer_read": _known(tells_of_tcp),
        "peer_state": _known(tells_of_tcp),
        "send_fds": _known(passes_descriptors),
        "reset": _known(resets),
        # Of datagrams: they are ours until we hand them to the kernel.
        "drop": _exact,
        "duplicate": _exact,
        "reorder": _exact,
        "delay": _exact,
        "corrupt": _exact,
        "truncate": _exact,
        "wrong_source": _exact,
        "unreachable": _known(makes_unreachable),
    }
)
"""The one that users import."""
