"""Sending on a stream: bytes, and bytes with forced boundaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_sockets._endpoints.faces import verb
from pytest_sockets._endpoints.holding import Holding
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.peer import Looks, PeerState, Sight
from pytest_sockets._engine.waiting import Signal, Steps, Wait
from pytest_sockets._wire.errors import (
    EndpointClosedError,
    PeerGoneError,
    UnsupportedError,
    WaitTimeout,
)
from pytest_sockets._wire.matching import as_bytes
from pytest_sockets._wire.rendering import count, show

CLOSING = 0.01
"""Seconds that a reset may take when the peer's socket is gone and has sent EOF before."""


class Sending(Holding):
    """The verbs that send, and what the kernel tells of the other end."""

    @verb
    def send(self, data: bytes, *, timeout: float | None = None) -> Steps[None]:
        """Send bytes and return when the kernel has all of them; ``b""`` sends nothing.

        Raises:
            WaitTimeout: the peer did not read; the message says how many bytes the kernel took.
                The rest stays queued.
            OSError: of a SOCK_SEQPACKET connection, that `data` is too long for one message.
        """
        content = as_bytes(data, name="data")
        self._check_inline("send")
        yield from self._send("send", content, self._endpoint._deadline(timeout))

    @verb
    def send_apart(self, *pieces: bytes, timeout: float | None = None) -> Steps[None]:
        """Send pieces such that the peer cannot read two of them at once.

        Before each piece it waits until the peer has read all that was sent before, and it returns
        when the kernel has the last one. A piece that is larger than the peer's `recv` takes is
        still read in several.

        Read means copied from the kernel to the peer's process. That is known of TCP in the same
        network namespace, and of AF_UNIX. Elsewhere it waits until the peer's kernel has
        acknowledged, and 20 ms more: see `capabilities`. A reader that has asked for more than one
        piece at once (MSG_WAITALL) gets both.

        Args:
            pieces: at least one, none empty.
            timeout: seconds for all of them; `None` means the endpoint's default.

        Raises:
            WaitTimeout: the peer did not read; the message says which piece, and the rest is not
                sent.
        """
        contents = as_pieces(pieces)
        self._check_inline("send_apart")
        deadline = self._endpoint._deadline(timeout)
        for number, content in enumerate(contents, 1):
            before = (
                f"piece {number - 1} of {len(contents)}, {show(contents[number - 2])}"
                if number > 1
                else "what was sent before piece 1"
            )
            sight = yield from self._until_read("send_apart", deadline, before, to_send=True)
            if sight is not Sight.READ:
                left = f"{count(len(contents) - number + 1, 'piece')} did not go out"
                msg = (
                    f"{self._label}: send_apart waited {deadline} for the peer to read {before}"
                    f"{self._not_read()}; {left}"
                )
                raise WaitTimeout(msg)
            yield from self._send("send_apart", content, deadline)

    @verb
    def wait_peer_read(self, *, timeout: float | None = None) -> Steps[None]:
        """Wait until the peer has read all that was sent to it, as far as its process is concerned.

        Read means copied from the kernel to the peer's process. A peer that ends in order after our
        own EOF has read what came before it. Works on any connection, also on one that the
        endpoint's behaviour drives.

        Raises:
            UnsupportedError: it cannot be known: the peer is in another network namespace or on
                another machine, or the family does not tell. See `capabilities`.
        """
        deadline = self._endpoint._deadline(timeout)
        sight = yield from self._until_read("wait_peer_read", deadline, "what was sent")
        if sight is Sight.BLIND:
            msg = (
                f"{self._label}: whether the peer has read cannot be known: its socket cannot be "
                "seen from this network namespace, or its family does not tell"
            )
            raise UnsupportedError(msg)
        if sight is not Sight.READ:
            msg = (
                f"{self._label}: wait_peer_read waited {deadline} for the peer to read what was "
                f"sent{self._not_read()}"
            )
            raise WaitTimeout(msg)

    @property
    def peer_state(self) -> PeerState | None:
        """What the kernel says of the peer's socket now; `None` when it is not to be seen.

        It is gone, or in another network namespace, or our side is closed, or the family is neither
        TCP nor AF_UNIX. Does not block.
        """
        return self._stream.peer_state()

    # -- inside

    def _send(
        self, name: str, content: bytes, deadline: Deadline, fds: Sequence[int] = ()
    ) -> Steps[None]:
        """Send, and wait until the kernel has all of it."""
        stream = self._stream
        with self._endpoint._lock:
            self._endpoint._raise_problem()
            self._check_sendable()
            # Of our own bytes: a fault may put in any number before them.
            target = stream.own_taken + stream.own_queued + len(content)
            try:
                if fds:
                    stream.write_with(content, fds)
                else:
                    stream.write(content)
            except OSError as error:  # such as: too long for one message of SOCK_SEQPACKET
                beside = f" with descriptors {list(fds)}" if fds else ""
                msg = (
                    f"{self._label} cannot send {count(len(content), 'byte')}{beside}: "
                    f"{error.strerror}"
                )
                raise OSError(error.errno, msg) from None
        late = False
        while True:
            with self._endpoint._lock:
                self._endpoint._raise_problem()
                missing = target - stream.own_taken
                if missing <= 0 or stream.is_relieved:
                    return
                if not stream.is_open:
                    self._check_sendable(missing)
                needs = (stream.sent, stream.taken + missing), self._fault()
            if late:
                raise WaitTimeout(self._not_taken(name, deadline, len(content), missing))
            late = yield from self._endpoint._waited(deadline, *needs)

    def _until_read(
        self, name: str, deadline: Deadline, what: str, *, to_send: bool = False
    ) -> Steps[Sight]:
        """Wait for READ, which is a guess before sending where it cannot be known.

        Returns BLIND where there is no guess, something else where the deadline passed.
        """
        endpoint, stream = self._endpoint, self._stream
        looks = Looks(stream, may_guess=to_send)
        gone: Deadline | None = None
        late = False
        while True:
            with endpoint._lock:
                endpoint._raise_problem()
                if self._is_over(name, what):
                    return Sight.READ
                if to_send:
                    self._check_sendable()
                sight = looks.look()
                needs = self._ends_to_come()
                if stream.queued and sight is Sight.READ:
                    sight = Sight.UNREAD
            if sight is not Sight.GONE:
                gone = None
            elif gone is None:
                # Its end may be in the kernel and not yet in the record.
                gone = Deadline(CLOSING)
                yield from endpoint._settle()
                continue
            elif stream.peer_ended == "eof" and not gone.remaining():
                # What was unread when it closed would have made its kernel reset (RFC 2525).
                sight = Sight.UNREAD if stream.unacknowledged else Sight.READ
            if sight in (Sight.READ, Sight.BLIND) or late:
                return sight
            if deadline.remaining():
                pause = Deadline(min(looks.pauses.next(), deadline.remaining()))
                yield Wait(pause, *needs)
            else:
                late = True
                yield from endpoint._settle()

    def _ends_to_come(self) -> list[tuple[Signal, float]]:
        """Return what to wait for beside a pause: an end that has come already would end each."""
        stream = self._stream
        return [(end, 1) for end in (stream.peer_end, stream.ended) if not end.level]

    def _is_over(self, name: str, what: str) -> bool:
        """Say whether it has ended with all of it read; raise where it ended otherwise."""
        stream = self._stream
        stream.notice_reset()
        if stream.peer_ended == "reset":
            msg = f"{self._label}: {name} waited for the peer to read {what}, but "
            raise PeerGoneError(msg + str(self._why_over("sent"))) from stream.reset_error
        if stream.is_open:
            return False
        kinds = stream.record.kinds
        if "eof_sent" in kinds and "peer_eof" in kinds[kinds.index("eof_sent") :]:
            return True
        if self._endpoint.is_closed:
            self._endpoint._raise_closed()
        msg = (
            f"{self._label}: {name} cannot tell whether the peer has read {what}: "
            "both directions are closed; wait before close()"
        )
        raise EndpointClosedError(msg)

    def _not_read(self) -> str:
        """Say how much the peer has not read, where that is known."""
        state = self.peer_state
        queued = self._stream.queued
        lying = f"{count(state.unread, 'byte')} unread" if state else "not all is read"
        return f" ({lying}, {queued:,} still queued here)" if queued else f" ({lying})"


def as_pieces(pieces: Iterable[bytes]) -> list[bytes]:
    """Return pieces to be sent apart, or say what is wrong with them."""
    contents = [as_bytes(piece, name=f"piece {at}") for at, piece in enumerate(pieces, 1)]
    if not contents:
        msg = "send_apart needs at least one piece: send_apart(b'HTTP/1.1 2', b'00 OK')"
        raise TypeError(msg)
    for at, content in enumerate(contents, 1):
        if not content:
            msg = f"piece {at} is b'': nothing can be read of it; leave it out"
            raise ValueError(msg)
    return contents
