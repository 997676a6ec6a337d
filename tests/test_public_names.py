from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MemberDescriptorType
from typing import Any

import pytest

import pytest_sockets
from pytest_sockets import faults
from pytest_sockets._endpoints.faces import Face, Twin

NAMES = [
    "Address",
    "AsyncConnection",
    "BlackholeAddress",
    "ChargenServer",
    "Connection",
    "Datagram",
    "DatagramPair",
    "DatagramPeer",
    "DiscardServer",
    "EchoServer",
    "Endpoint",
    "EndpointClosedError",
    "EndpointError",
    "Event",
    "Fault",
    "Gate",
    "MismatchError",
    "PeerCredentials",
    "PeerGoneError",
    "PeerState",
    "ProtocolServer",
    "RefusedAddress",
    "ReservedPort",
    "Script",
    "Settings",
    "SilentServer",
    "SocketPair",
    "Sockets",
    "SocketsError",
    "StreamEndpoint",
    "StreamServer",
    "Sweep",
    "TCPProxy",
    "TCPServer",
    "UDPEchoServer",
    "UDPPeer",
    "UDPProxy",
    "UnixDatagramPeer",
    "UnixServer",
    "UnsupportedError",
    "WaitTimeout",
    "capabilities",
    "cuts",
    "splits",
]

FAULTS = [
    "AfterReceived",
    "AfterSent",
    "AtAccept",
    "AtEOF",
    "BeforeSend",
    "Close",
    "Corrupt",
    "Delay",
    "Drop",
    "Duplicate",
    "Effect",
    "FailHandshake",
    "HalfClose",
    "Inject",
    "Moment",
    "OnFirstByte",
    "RaggedEOF",
    "Refuse",
    "Reorder",
    "Reset",
    "Slice",
    "Stall",
    "StopReading",
    "Throttle",
    "Truncate",
    "Unreachable",
    "WrongSource",
]

PACKAGE = Path(pytest_sockets.__file__).parent
CLASSES = [value for name in NAMES if isinstance(value := getattr(pytest_sockets, name), type)]


def _below(cls: type[Face]) -> Iterator[type[Face]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _below(subclass)


FACES = [face for face in _below(Face) if face not in CLASSES]


def test_the_public_names_are_these() -> None:
    assert sorted(pytest_sockets.__all__) == NAMES
    assert pytest_sockets.__all__ == sorted(pytest_sockets.__all__)


def test_nothing_else_looks_public() -> None:
    here = {name for name in vars(pytest_sockets) if name[0].isalpha()}
    modules = {"faults", "hookspecs", "plugin", "strategies"}  # once they are imported
    assert here - set(NAMES) <= modules


def test_the_public_names_of_faults_are_these() -> None:
    assert faults.__all__ == [*FAULTS, "cuts", "splits"]
    values = {
        name
        for name, value in vars(faults).items()
        if isinstance(value, type) and value.__module__ == "pytest_sockets.faults"
    }
    assert {name for name in values if not name.startswith("_")} == set(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told(name: str) -> None:
    assert is_told(getattr(faults, name))


@pytest.mark.parametrize("cls", CLASSES)
def test_a_class_says_where_users_import_it_from_and_what_it_is(cls: type) -> None:
    assert cls.__module__ == "pytest_sockets"
    assert getattr(sys.modules[cls.__module__], cls.__qualname__) is cls
    assert is_told(cls)
    assert cls.__doc__ is not None
    assert not cls.__doc__.startswith(f"{cls.__name__}(")  # what a dataclass makes up


def test_an_address_is_a_type_and_not_the_text_of_one() -> None:
    assert pytest_sockets.Address == tuple[Any, ...] | str


def is_told(value: object) -> bool:
    """Whether it has a docstring whose first line ends a sentence."""
    first = (inspect.getdoc(value) or "").partition("\n")[0]
    return bool(re.fullmatch(r"([A-Z]|``).*[.:]", first))


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class, wherever they are defined."""
    for owner in cls.__mro__:
        if owner in (object, Exception, AssertionError, BaseException):
            continue
        for name, value in vars(owner).items():
            is_data = isinstance(value, (str, int, MemberDescriptorType)) or value is None
            if not name.startswith("_") and not is_data:
                yield name, value


@pytest.mark.parametrize("cls", [*CLASSES, *FACES])
def test_every_public_method_and_property_is_told(cls: type) -> None:
    untold = [name for name, value in members(cls) if not is_told(value)]
    assert untold == []


def test_most_classes_have_members_to_tell_of() -> None:
    told = {cls.__name__: {name for name, _ in members(cls)} for cls in [*CLASSES, *FACES]}
    assert {"accept", "address", "aio", "transcript", "close"} <= told["TCPServer"]
    assert {"recv", "expect", "received", "reset"} <= told["Connection"]
    assert {"tcp_server", "connect", "transcript"} <= told["Sockets"]
    assert {"accept", "assert_received"} <= told["AsyncServerFace"]
    assert {"client", "upstream", "address", "wait_forwarded"} <= told["TCPProxy"]


@pytest.mark.parametrize("face", FACES)
def test_an_awaitable_twin_is_told_also_on_its_object(face: type[Face]) -> None:
    twins = [name for name, value in members(face) if isinstance(value, Twin)]
    assert twins
    assert [name for name in twins if not is_told(getattr(face(None), name))] == []
