"""From what a user asks for (a family, a host, a port, a path) to sockets that are bound."""

from __future__ import annotations

import _socket
import errno
import os
import socket
import sys
from contextlib import suppress
from typing import Any, cast

from pytest_sockets._engine.credentials import ask_for_credentials
from pytest_sockets._engine.holders import holder_of
from pytest_sockets._wire.errors import UnsupportedError
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.rendering import show_address

FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
LOOPBACK: dict[int, str] = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
FAMILY_WORDS: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
LOOPBACKS = {name: [(int(number), LOOPBACK[number])] for name, number in FAMILIES.items()}
LOOPBACKS["dual"] = LOOPBACKS["ipv4"] + LOOPBACKS["ipv6"]
NAMES = ("ipv4", "ipv6", "dual", "unix")
PATH_LIMIT = 107
"""Bytes of a path that Linux can bind: of sun_path's 108 the last ends it (unix(7))."""
PORT_TRIES = 64
NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)
BACKLOG = 65535
"""The kernel cuts it to somaxconn. A backlog of 128 dropped SYNs, at up to 2 ms a connection."""

WITH_NODELAY = (0, socket.IPPROTO_TCP, 262)
"""Protocols with the option of TCP; 262 is MPTCP, which Python 3.11 names only on some systems."""

UNSUPPORTED = frozenset(
    {
        errno.EAFNOSUPPORT,
        errno.EPROTONOSUPPORT,
        errno.ESOCKTNOSUPPORT,
        errno.EPFNOSUPPORT,
        errno.EOPNOTSUPP,
        errno.ENOPROTOOPT,
        errno.ENODEV,
    }
)
NO_TRANSPORT = UNSUPPORTED | {errno.EADDRNOTAVAIL}
"""What a family says that is there but carries nothing, such as AF_VSOCK without its loopback."""


def new_socket(family: int, kind: int, proto: int = 0) -> _socket.socket:
    """Return a non-blocking socket, or say in the kernel's words why there is none.

    It is the C module's class: pytest-socket replaces the Python one.
    """
    try:
        sock = _socket.socket(family, kind | NONBLOCK, proto)
    except TypeError as error:
        msg = f"type={kind!r} and proto={proto!r} must be numbers: {error}"
        raise TypeError(msg) from error
    except OSError as error:
        what = f"{family_name(family)} {type_name(kind)} socket"
        if proto:
            what += f" of protocol {proto}"
        refuse(error, what)
        raise OSError(error.errno, f"{error.strerror}: {what}") from None
    if not NONBLOCK:
        sock.setblocking(False)
    ask_for_credentials(sock)
    return sock


def refuse(error: OSError, what: str, missing: frozenset[int] = UNSUPPORTED) -> None:
    """Raise `UnsupportedError` where the kernel says that it has no such thing."""
    if error.errno in missing:
        msg = f"this machine has no {what}: {error.strerror}"
        raise UnsupportedError(msg) from error


def family_name(family: int) -> str:
    """Return ``AF_INET`` for 2, ``family 99`` for one that Python has no name for."""
    try:
        return socket.AddressFamily(family).name
    except ValueError:
        return f"family {family}"


def type_name(kind: int) -> str:
    """Return ``SOCK_STREAM`` for 1."""
    try:
        return socket.SocketKind(kind).name
    except ValueError:
        return f"type {kind}"


def accept_from(listener: _socket.socket) -> tuple[_socket.socket, Any]:
    """Accept one connection without the Python class, which pytest-socket makes raise."""
    fd, address = cast("Any", listener)._accept()
    return _socket.socket(listener.family, listener.type, listener.proto, fd), address


def take_urgent(sock: _socket.socket) -> None:
    """Have urgent bytes (send(2): MSG_OOB) stand among the others, where they were sent.

    Else no plain read has them: the kernel keeps the last one aside, and forgets those before it
    (tcp(7)). What a TCP listener accepts inherits this; AF_UNIX does not inherit.
    """
    with suppress(OSError):  # of a family that does not know the option, and so has no such bytes
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def message_size(sock: _socket.socket) -> int:
    """Return the bytes of the next message; a shorter read would cut it off.

    The kernel tells the whole size to one who only looks (recv(2): MSG_PEEK, MSG_TRUNC).
    """
    return sock.recv_into(bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC)


def resolve_port(port: object, kind: int) -> int:
    """Return the number of a port given as a number, a numeric string or a service name."""
    if isinstance(port, str):
        if port.isascii() and port.isdecimal():
            port = int(port)
        else:
            protocol = "udp" if kind == socket.SOCK_DGRAM else "tcp"
            try:
                port = _socket.getservbyname(port, protocol)
            except OSError as error:
                msg = (
                    f"port={port!r} is no number and no {protocol} service that this machine "
                    "knows (/etc/services); give the number"
                )
                raise ValueError(msg) from error
    if not isinstance(port, int) or isinstance(port, bool):
        msg = f"port must be a number, a numeric string or a service name, not {port!r}"
        raise TypeError(msg)
    if not 0 <= port <= 65535:
        msg = f"port must be between 0 and 65535 (0: any free one), not {port}"
        raise ValueError(msg)
    return port


def check_family(family: str) -> str:
    """Return a family's name, or say which there are."""
    if family not in NAMES:
        msg = (
            f"family must be one of {', '.join(NAMES)}, not {family!r}; "
            "for any other use sockets.server(family=socket.AF_…, type=…)"
        )
        raise ValueError(msg)
    return family


def check_host(host: object) -> str:
    """Return a host, or say what is wrong with it."""
    if not isinstance(host, str):
        msg = f"host must be an address or a name, not {host!r}"
        raise TypeError(msg)
    try:
        is_name = b"\0" not in host.encode("idna")  # getaddrinfo(3) would end it there
    except UnicodeError:
        is_name = False
    if not is_name:
        msg = (
            f"host={host!r} is no address and no name: a part is empty or too long, or has a "
            "character that names cannot have"
        )
        raise ValueError(msg)
    return host


def resolve(family: str | None, host: str | None, kind: int) -> list[tuple[int, str]]:
    """Return the (family, literal address) pairs to bind for a family and a host.

    No host means loopback. A name means every address it resolves to: a client that connects to the
    name may try any of them first.
    """
    if host is None:
        return LOOPBACKS[family or "ipv4"]
    check_host(host)
    wanted = FAMILIES.get(family or "", socket.AF_UNSPEC)
    try:
        found = _socket.getaddrinfo(host, 0, wanted, kind)
    except OSError as error:
        which = f" as {family}" if wanted else ""
        msg = f"host={host!r} cannot be resolved{which}: {error.strerror or error}"
        raise ValueError(msg) from error
    pairs = dict.fromkeys((int(entry[0]), str(entry[4][0])) for entry in found)
    usable = [pair for pair in pairs if pair[0] in LOOPBACK]
    if family == "dual" and len({pair[0] for pair in usable}) < 2:
        only = " and ".join(pair[1] for pair in usable)
        msg = (
            f"family='dual' needs a host with an IPv4 and an IPv6 address; {host!r} is {only} only"
        )
        raise ValueError(msg)
    return usable


def bind_inet(
    family: str | None, host: str | None, port: int | str, kind: int, proto: int = 0
) -> list[_socket.socket]:
    """Return sockets bound to one port on every address that is asked for."""
    number = resolve_port(port, kind)
    pairs = resolve(family, host, kind)
    for attempt in range(PORT_TRIES):
        bound: list[_socket.socket] = []
        absent: OSError | None = None
        place = ("", 0)
        try:
            for pair in pairs:
                place = (pair[1], _port(bound) or number)
                try:
                    bound.append(_bind_one(pair[0], place, kind, proto, given=number > 0))
                except OSError as error:
                    if error.errno != errno.EADDRNOTAVAIL:
                        raise
                    absent = OSError(
                        error.errno, f"{error.strerror}: {pair[1]} is no address of this machine"
                    )
                    if host is None:
                        msg = f"this machine has no {FAMILY_WORDS[pair[0]]} loopback: {absent}"
                        raise UnsupportedError(msg) from error
            # A name may resolve to an address that this machine does not have.
            if absent is not None and not bound:
                raise absent
        except BaseException as error:
            for sock in bound:
                sock.close()
            if error is absent or not isinstance(error, OSError):
                raise
            # The second address of a pair needs the first one's port, which another program may
            # hold there; the next free port is another.
            taken = error.errno == errno.EADDRINUSE
            if not (taken and bound and not number) or attempt == PORT_TRIES - 1:
                raise _explained(error, place, kind) from None
        else:
            return bound
    raise AssertionError


def _port(bound: list[_socket.socket]) -> int:
    return int(bound[0].getsockname()[1]) if bound else 0


def _bind_one(
    family: int, address: tuple[str, int], kind: int, proto: int, *, given: bool
) -> _socket.socket:
    sock = new_socket(family, kind, proto)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if given and kind == socket.SOCK_STREAM:
            # Connections of an earlier run in TIME_WAIT must not keep a fixed port from us. Not for
            # the second address of a pair: that port may be one which somebody has reserved.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind == socket.SOCK_STREAM and proto in WITH_NODELAY:
            # Accepted sockets inherit it (tcp(7)).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _explained(error: OSError, address: tuple[str, int], kind: int) -> OSError:
    if error.errno != errno.EADDRINUSE:
        return type(error)(error.errno, f"{error.strerror}: {show_address(address)}")
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    holder = holder_of(family, kind, address) or "a process that cannot be seen from here"
    return OSError(
        error.errno,
        f"{error.strerror}: {show_address(address)} is held by {holder}; "
        "leave port= out for a free one",
    )


def check_path(path: str, hint: str = "") -> None:
    """Say what is wrong with an AF_UNIX path, or an abstract name, in itself."""
    size = len(os.fsencode(path))
    if not path:
        msg = f"path='' names nothing{hint}"
        raise ValueError(msg)
    if "\0" in path[1:] and not path.startswith("\0"):
        msg = f"path={path!r} has a NUL inside, where the kernel would end it"
        raise ValueError(msg)
    if size > PATH_LIMIT:
        msg = f"path is {size} bytes long and AF_UNIX takes at most {PATH_LIMIT}: {path!r}{hint}"
        raise ValueError(msg)


def bind_unix(path: str, kind: int, proto: int = 0) -> _socket.socket:
    """Return a socket bound to a path, or to an abstract name (a path that begins with NUL)."""
    check_path(path, "; leave path= out for a short one of ours")
    abstract = path.startswith("\0")
    if abstract and not sys.platform.startswith("linux"):
        msg = f"abstract AF_UNIX names such as {path!r} exist on Linux only"
        raise UnsupportedError(msg)
    sock = new_socket(socket.AF_UNIX, kind, proto)
    try:
        sock.bind(os.fsencode(path) if abstract else path)
    except OSError as error:
        sock.close()
        raise _explained_path(error, path) from None
    return sock


def _explained_path(error: OSError, path: str) -> OSError:
    where = show_address(path)
    if error.errno == errno.ENOENT:
        return FileNotFoundError(
            error.errno,
            f"the directory of {where} does not exist: make {os.path.dirname(path)!r} first",
        )
    if error.errno == errno.EADDRINUSE:
        return OSError(error.errno, f"{error.strerror}: {where} exists already; remove it first")
    return type(error)(error.errno, f"{error.strerror}: {where}")


def bind_other(family: int, kind: int, proto: int, address: Any) -> _socket.socket:
    """Return a socket of any family, bound to an address in that family's own form."""
    name = family_name(family)
    sock = new_socket(family, kind, proto)
    try:
        sock.bind(address)
    except (TypeError, OverflowError) as error:
        sock.close()
        msg = f"address={address!r} is no address of {name}: {error}"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from error
    except OSError as error:
        sock.close()
        missing = NO_TRANSPORT if family not in FAMILY_WORDS else UNSUPPORTED
        refuse(error, f"{name} address like {address!r}", missing)
        raise type(error)(error.errno, f"{error.strerror}: {name} address {address!r}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def plain(family: int, address: Any) -> Address | None:
    """Return a kernel's address as we hand it out: a pair for IPv6 too, `str` for AF_UNIX."""
    if family == socket.AF_INET6 and isinstance(address, tuple):
        host, port, _, scope = cast("tuple[str, int, int, int]", address)
        # Only a link-local address needs its scope; `connect` takes it inside the host string.
        return (f"{host}%{scope}" if scope and "%" not in host else host, port)
    if family == getattr(socket, "AF_UNIX", None):
        return os.fsdecode(address) if address else None
    return address  # type: ignore[no-any-return]  # the family's own form
