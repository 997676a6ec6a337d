"""What this machine's kernel can do, tried out when somebody asks."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeAlias, final

from pytest_sockets._engine.trials import (
    binds,
    binds_path,
    goes_down,
    has_blackhole,
    makes_unreachable,
    passes_descriptors,
    refuses,
    resets,
    tells_of_tcp,
)
from pytest_sockets.faults import Effect

Capability: TypeAlias = Literal["exact", "approximate", "no"]


def _send_apart() -> Capability:
    return "exact" if tells_of_tcp() else "approximate"


def _exact() -> Capability:
    return "exact"


def _no() -> Capability:
    return "no"


def _known(test: Callable[[], bool]) -> Callable[[], Capability]:
    def capability() -> Capability:
        return "exact" if test() else "no"

    return capability


@final
class Capabilities(Mapping[str, Capability]):
    """What this machine can do, by the name of a verb, a fixture, an effect or a family.

    A mapping to ``"exact"``, ``"approximate"`` or ``"no"``. Each is tried out once in a process, on
    sockets of its own, when it is first asked for. What depends on the other end, such as a peer in
    another network namespace, is not part of it.
    """

    def __init__(
        self, tests: Mapping[str, Callable[[], Capability]], why_not: Mapping[str, str] = {}
    ) -> None:
        self._tests = {name: functools.cache(test) for name, test in tests.items()}
        self._why_not = why_not

    def why_not(self, name: str) -> str:
        """Return a sentence for the reader of a skipped test, where one of them is ``"no"``."""
        reason = self._why_not.get(name)
        return f"this machine cannot do {name!r}" + (f": {reason}" if reason else "")

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


def name_of(effect: Effect) -> str:
    """Return the name of what an effect needs: ``half_close`` of `HalfClose`."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", type(effect).__qualname__).lower()


_NOT_DOWN = "a second socket cannot take over the port of a listening one"
_NO_TLS = "there is no TLS here yet"

capabilities = Capabilities(
    {
        "send_apart": _send_apart,
        "wait_peer_read": _known(tells_of_tcp),
        "peer_state": _known(tells_of_tcp),
        "send_fds": _known(passes_descriptors),
        "reset": _known(resets),
        "refused_address": _known(refuses),
        "blackhole_address": _known(has_blackhole),
        "down": _known(goes_down),
        "ipv4": _known(functools.partial(binds, "ipv4")),
        "ipv6": _known(functools.partial(binds, "ipv6")),
        "dual": _known(functools.partial(binds, "dual")),
        "unix": _known(binds_path),
        # What we do with bytes of our own, before we hand them to the kernel, can be had anywhere.
        "refuse": _known(goes_down),
        "stall": _exact,
        "close": _exact,
        "half_close": _exact,
        "stop_reading": _exact,
        "slice": _send_apart,
        "throttle": _exact,
        "delay": _exact,
        "corrupt": _exact,
        "inject": _exact,
        "fail_handshake": _no,
        "ragged_eof": _no,
        "drop": _exact,
        "duplicate": _exact,
        "reorder": _exact,
        "truncate": _exact,
        "wrong_source": _exact,
        "unreachable": _known(makes_unreachable),
    },
    {
        "wait_peer_read": "its kernel does not tell of the other end of a TCP connection",
        "peer_state": "its kernel does not tell of the other end of a TCP connection",
        "send_fds": "it has no AF_UNIX sockets that carry descriptors",
        "reset": "closing with SO_LINGER sends no RST",
        "refused_address": "a socket that is bound and does not listen refuses nobody",
        "blackhole_address": "a listening socket with a full queue does not drop who connects",
        "down": _NOT_DOWN,
        "ipv4": "it has no IPv4 loopback",
        "ipv6": "it has no IPv6 loopback",
        "dual": "it has not both loopbacks",
        "unix": "it has no AF_UNIX sockets",
        "refuse": _NOT_DOWN,
        "fail_handshake": _NO_TLS,
        "ragged_eof": _NO_TLS,
        "unreachable": "a UDP socket that is connected to itself refuses nobody",
    },
)
"""The one that users import."""
