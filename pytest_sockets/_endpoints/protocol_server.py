"""A server that runs somebody's asyncio protocol, recorded."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.server import StreamServer
from pytest_sockets._endpoints.stream_view import Driven
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.parties import Driver
from pytest_sockets._engine.shells import run_blocking
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.tap import Callback, Tap
from pytest_sockets._engine.waiting import Steps, Wait
from pytest_sockets._wire.errors import MismatchError

ProtocolFactory: TypeAlias = Callable[[], asyncio.BaseProtocol]
StreamCallback: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
Build: TypeAlias = Callable[[Tap], asyncio.BaseProtocol]


class ProtocolServer(StreamServer):
    r"""A server that runs your own asyncio protocol, or `(reader, writer)` callback.

    Args:
        factory: makes the protocol of each connection: a callable without arguments, as for
            `loop.create_server`, that returns an `asyncio.Protocol` or `asyncio.BufferedProtocol`.
            Or a callback with two, as for `asyncio.start_server`, plain or `async def`; when it
            returns, the connection stays as it left it. What can be called without arguments
            makes protocols, unless it is `async def`.
        family: as for `StreamServer`, as the others are.
        host: an address or name of this machine; `None` means loopback.
        port: a number, a numeric string or a service name; 0 means any free one.
        path: an AF_UNIX path, or ``"\0name"`` for an abstract name.
        name: what messages and reports call it.
        settings: timeouts and limits.

    Everything runs on the I/O thread's loop and not on the test's: the factory, the protocol, and
    the tasks that they start, with the context variables of the code that opened the server. The
    protocol must not block. Its connections are driven, as with `EchoServer`.

    An exception that escapes from a protocol's method, a callback, or a task or timer of theirs is
    a problem of the server. ConnectionResetError, BrokenPipeError, `asyncio.IncompleteReadError`
    and `PeerGoneError` out of a callback or task are none once the connection has ended without it.

    The transport is asyncio's, with these differences. Bytes count as sent once the kernel has
    them. After `close()` the peer's last bytes are still recorded. `abort()` sends RST. The
    ``"socket"`` of `get_extra_info` has no `dup()`: no RST goes out while a copy is open.
    `loop.start_tls` raises `UnsupportedError`: TLS cannot be had here so far.

    `close()` calls `connection_lost`, cancels all tasks, and waits until they have ended, for at
    most the default timeout.

    Raises:
        TypeError: the factory can be called in neither way.
        OSError: it cannot be bound, as with `StreamServer`.
        UnsupportedError: this machine has no such family.
        ValueError: an argument is wrong in itself.
    """

    kind = "protocol_server"

    def __init__(
        self,
        factory: ProtocolFactory | StreamCallback,
        *,
        family: str | int | None = None,
        host: str | None = None,
        port: int | str = 0,
        path: str | os.PathLike[str] | None = None,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._build, self._title = _builder(factory)
        self._context = contextvars.copy_context()
        self._taps: set[Tap] = set()
        self._is_stopping = False
        super().__init__(
            family=family, host=host, port=port, path=path, name=name, settings=settings
        )

    def close(self) -> None:
        """Close as every endpoint does, and end what the protocols have started.

        Waits until `connection_lost` has been called and the cancelled tasks have ended, for at
        most the default timeout; a task that has not ended then is a problem. Called from a
        protocol it does not wait. Idempotent.
        """
        super().close()
        if not self._forked_from and not Engine.is_here():
            run_blocking(self._ending())

    # -- inside

    def _driver_of(self, stream: Stream) -> Driver | None:
        if self._is_stopping:  # it came too late to be served, but is part of the record
            return None
        conn = self._connections[-1]

        def name_driver(protocol: asyncio.BaseProtocol) -> None:
            if not isinstance(self._build, Callback):
                with self._lock:
                    conn._driven_by = Driven(f"the protocol {type(protocol).__name__}")

        tap = Tap(
            self,
            self._engine,
            stream,
            self._build,
            self._title,
            self._context,
            name_driver,
            self._taps.discard,
        )
        self._taps.add(tap)
        return tap

    def _leftovers(self) -> list[MismatchError]:
        for tap in tuple(self._taps):
            tap.tasks.tell()  # of tasks that somebody holds, and could have awaited so far
        return [] if self._problems else super()._leftovers()

    def _stop(self) -> None:
        self._is_stopping = True
        for tap in tuple(self._taps):
            tap.end()
        super()._stop()

    def _ending(self) -> Steps[None]:
        taps = tuple(self._taps)
        deadline = self._deadline(None)
        for tap in taps:
            if not (yield Wait(deadline, (tap.over, 1))):
                self._taps.discard(tap)  # told once
                msg = (
                    f"{tap.title} was cancelled, and has not ended within {deadline}: "
                    "let asyncio.CancelledError through, and end what it awaits"
                )
                self._fail(TimeoutError(msg))
        if taps:  # tasks that a library has started past the loop's own method
            yield self._engine.settled(deadline)

    def _abandon(self) -> None:
        super()._abandon()
        _left_behind.extend(self._taps)


_left_behind: list[Tap] = []
"""Of servers of parent processes: a task that is collected would clean up behind the parent."""


def _builder(factory: Any) -> tuple[Build, str]:
    """Return what makes the protocol of a connection, and what messages call it."""
    name = _name_of(factory)
    is_class, is_async = isinstance(factory, type), _is_async(factory)
    problem = _problem(factory, name, is_class=is_class, is_async=is_async)
    if problem:
        msg = (
            "factory must be callable without arguments and return an asyncio.Protocol, "
            f"or be a callback for (reader, writer), {problem}"
        )
        raise TypeError(msg)
    if _takes(factory) and not is_async:
        title = f"the protocol {name}" if is_class else f"the factory {name}"
        return lambda tap: cast("ProtocolFactory", factory)(), title
    return Callback(factory), f"the callback {name}"


def _problem(factory: Any, name: str, *, is_class: bool, is_async: bool) -> str | None:
    """Say why a factory will not do, and what may; `None` where it will."""
    if isinstance(factory, asyncio.BaseProtocol) and not callable(factory):
        return f"not the protocol {factory!r}: each connection has its own, so pass its class"
    if not callable(factory):
        return f"not {factory!r}"
    if is_class and hasattr(factory, "datagram_received"):
        return f"not {name}, which takes datagrams: a connection is a stream"
    if _takes(factory) and not is_async:
        return None
    if _takes(factory, None, None) and not is_class:
        return None
    how = f"pass a function that makes one, such as lambda: {name}(…)"
    if is_async:
        how = "an async function is a callback for (reader, writer)"
    return f"but {name} takes {inspect.signature(factory)}: {how}"


def _is_async(factory: Any) -> bool:
    call = getattr(factory, "__call__", None)  # noqa: B004 - the method itself is looked at
    return inspect.iscoroutinefunction(factory) or (
        not isinstance(factory, type) and inspect.iscoroutinefunction(call)
    )


def _takes(factory: Any, *args: Any) -> bool:
    """Whether it can be called with these arguments, as far as it tells."""
    try:
        inspect.signature(factory).bind(*args)
    except TypeError:
        return False
    except ValueError:  # written in C, and silent about its arguments
        return not args
    return True


def _name_of(factory: Any) -> str:
    while isinstance(factory, functools.partial):
        factory = factory.func
    return getattr(factory, "__name__", None) or type(factory).__name__
