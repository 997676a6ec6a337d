"""Where an endpoint is: its bound sockets, and the addresses in the form that `connect` takes."""

from __future__ import annotations

import _socket
import errno
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from pytest_sockets._engine.binding import (
    FAMILIES,
    WITH_NODELAY,
    bind_inet,
    bind_other,
    bind_unix,
    check_family,
    family_name,
    new_socket,
    plain,
    type_name,
)
from pytest_sockets._engine.rebinding import (
    Leave,
    Rebind,
    rebind_abstract,
    rebind_inet,
    rebind_path,
)
from pytest_sockets._wire.errors import UnsupportedError
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.rendering import show_address

OUR_PATH_LIMIT = 100
"""Bytes of a path that we choose; pytest's basetemp is often longer than AF_UNIX takes."""

SCHEME = re.compile("[A-Za-z][A-Za-z0-9+._-]*")
"""RFC 3986, 3.1; and the underscore of SQLAlchemy's, such as ``oracle+cx_oracle``."""


@dataclass(slots=True)
class Place:
    """Bound sockets and how to reach them."""

    family: str
    sockets: list[_socket.socket]
    addresses: tuple[Address, ...]
    protocol: str
    asked: Address | None = None
    """The host name that was asked for, with the port."""
    remove: Callable[[], None] = field(default=lambda: None)
    """Removes what was made on disk."""
    rebind: Rebind | None = None
    """Replaces a listening socket by one that refuses; `None` where that cannot be done."""

    @property
    def address(self) -> Address:
        """Where to connect."""
        return self.addresses[0] if self.asked is None else self.asked

    @property
    def text(self) -> str:
        """``tcp 127.0.0.1:40213``."""
        shown = self.addresses if self.asked is None else (self.asked,)
        return f"{self.protocol} {' and '.join(map(show_address, shown))}"

    def host(self, name: str) -> str:
        """Return the host."""
        return str(self._pair(name, "host")[0])

    def port(self, name: str) -> int:
        """Return the port."""
        return int(self._pair(name, "port")[1])

    def path(self, name: str) -> str:
        """Return the AF_UNIX path."""
        address = self.address
        if not isinstance(address, str):
            msg = f"{name} is at {show_address(address)}: it has a host and a port, no path"
            raise AttributeError(msg)
        return address

    def url(self, scheme: str, name: str) -> str:
        """Return ``scheme://host:port``."""
        where = show_address(self._pair(name, "url"))
        if not isinstance(cast("object", scheme), str):
            msg = f"scheme must be a name such as 'http', not {type(scheme).__name__} {scheme!r}"
            raise TypeError(msg)
        if not SCHEME.fullmatch(scheme):
            begin = SCHEME.match(scheme)
            msg = (
                f"scheme={scheme!r} is no scheme, which is a letter, and then letters, digits "
                f"and +-. only: write {begin[0] if begin else 'http'!r}"
            )
            raise ValueError(msg)
        return f"{scheme}://{where}"

    def _pair(self, name: str, what: str) -> tuple[Any, ...]:
        address = self.address
        if isinstance(address, str):
            msg = f"{name} is at {show_address(address)}: it has a path, no {what}"
            raise AttributeError(msg)
        return address


def place_for(
    family: str | int | None,
    host: str | None,
    port: int | str,
    path: str | os.PathLike[str] | None,
    type: int,
    proto: int,
    address: Any,
    *,
    abstract: bool = False,
) -> Place:
    """Bind what the arguments ask for."""
    if family is None:
        name = "unix" if path is not None or abstract else "ipv4"
    elif isinstance(family, str):
        name = check_family(family)
    elif address is not None:
        return _other(_number(family), type, proto, address)
    else:
        name = _name(_number(family), type, proto)
    if address is not None:
        msg = f"address= is for other families; with {name!r} use host= and port=, or path="
        raise ValueError(msg)
    if name == "unix":
        if host is not None or port != 0:
            msg = "an AF_UNIX endpoint has a path, no host= or port="
            raise ValueError(msg)
        return _unix(path, type, proto, abstract=abstract)
    if path is not None or abstract:
        msg = f"path= and abstract= go with family='unix', not {name!r}"
        raise ValueError(msg)
    return _inet(None if family is None else name, host, port, type, proto)


def _number(family: object) -> int:
    # A negative number would be taken for "not given" by the socket class.
    if not isinstance(family, int) or isinstance(family, bool) or family < 0:
        msg = f"family must be a name or a socket.AF_… number, not {family!r}"
        raise TypeError(msg)
    return family


def _name(family: int, type: int, proto: int) -> str:
    for name, number in (*FAMILIES.items(), ("unix", socket.AF_UNIX)):
        if family == number:
            return name
    new_socket(family, type, proto).close()  # a machine without it says so first
    msg = f"family={family_name(family)} needs address=, in the form that this family has"
    raise ValueError(msg)


def _inet(family: str | None, host: str | None, port: int | str, type: int, proto: int) -> Place:
    sockets = bind_inet(family, host, port, type, proto)
    addresses: tuple[Any, ...] = tuple([plain(sock.family, sock.getsockname()) for sock in sockets])
    protocol = "udp" if type == socket.SOCK_DGRAM else "tcp"
    rebind = rebind_inet if type == socket.SOCK_STREAM and proto in WITH_NODELAY else None
    if host is None:
        return Place(family or "ipv4", sockets, addresses, protocol, rebind=rebind)
    found = {sock.family for sock in sockets}
    names = [name for name, number in FAMILIES.items() if number in found]
    asked = None if any(address[0] == host for address in addresses) else (host, addresses[0][1])
    name = "dual" if len(found) > 1 else names[0]
    return Place(name, sockets, addresses, protocol, asked, rebind=rebind)


def _unix(path: str | os.PathLike[str] | None, type: int, proto: int, *, abstract: bool) -> Place:
    path = None if path is None else as_path(path)
    protocol = "unix" if type == socket.SOCK_STREAM else f"unix {type_name(type)[5:].lower()}"
    if abstract or (path is not None and path.startswith("\0")):
        if path is not None and not path.startswith("\0"):
            msg = f"abstract=True chooses a name; to give one, write path='\\0{path}'"
            raise ValueError(msg)
        path = path or f"\0pytest-sockets-{secrets.token_hex(8)}"
        sock = bind_unix(path, type, proto)
        again = partial(rebind_abstract, path)
        return Place("unix", [sock], (path,), protocol, rebind=again)
    if path is not None:
        sock = bind_unix(path, type, proto)
        file = SocketFile(path)
        return Place("unix", [sock], (path,), protocol, remove=file.remove, rebind=file.rebind)
    folder = short_folder()
    try:
        own = os.path.join(folder, "s")
        sock = bind_unix(own, type, proto)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    file = SocketFile(own)
    return Place("unix", [sock], (own,), protocol, remove=remove, rebind=file.rebind)


def as_path(path: object) -> str:
    """Return a path given as `str`, `bytes` or `Path`, or say what is wrong with it."""
    try:
        return os.fsdecode(cast("str", path))
    except TypeError as error:
        msg = f"path must be a str, bytes or a Path, not {path!r}"
        raise TypeError(msg) from error


def _other(family: int, type: int, proto: int, address: Any) -> Place:
    sock = bind_other(family, type, proto, address)
    name = family_name(family)
    bound = sock.getsockname()
    protocol = f"{name} {type_name(type)[5:].lower()}"
    return Place(name, [sock], (bound,), protocol)


class SocketFile:
    """The file of an AF_UNIX socket, ours until somebody removes or replaces it."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # the working directory may be another later
        self._inode = os.stat(path).st_ino

    def remove(self) -> None:
        """Remove it, unless it is another's by now."""
        if self._is_ours():
            os.unlink(self._path)

    def rebind(self, sock: _socket.socket, leave: Leave) -> _socket.socket:
        """Replace it by the file of a socket that refuses."""
        if not self._is_ours():
            msg = f"{self._path} was removed or replaced: only a server that has it can go down"
            raise FileNotFoundError(errno.ENOENT, msg)
        fresh = rebind_path(self._path, sock, leave)
        self._inode = os.stat(self._path).st_ino
        return fresh

    def _is_ours(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode
        except (FileNotFoundError, NotADirectoryError):
            return False


def short_folder() -> str:
    """Make a folder of our own in which a path of one more letter stays within 100 bytes."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        if len(os.fsencode(parent)) > OUR_PATH_LIMIT - len("/ps-12345678/s"):
            continue
        try:
            return tempfile.mkdtemp(prefix="ps-", dir=parent)
        except OSError:
            continue
    msg = (
        f"no folder for a short AF_UNIX path: {tempfile.gettempdir()!r} is too long and /tmp and "
        "/var/tmp cannot be written; set TMPDIR to a short folder, or give path="
    )
    raise UnsupportedError(msg)
