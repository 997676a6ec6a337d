"""The errors a user can meet, each saying whose fault it is.

`WaitTimeout` and `MismatchError` are assertion errors and not `OSError`, so that an
`except OSError` in the code under test cannot swallow them.
"""

from __future__ import annotations


class SocketsError(Exception):
    """The base of all errors that are not failed assertions."""


class EndpointClosedError(SocketsError):
    """You closed it: the endpoint or connection was ended on our side before this call."""


class PeerGoneError(SocketsError):
    """They ended it: the peer closed or reset before this could be done.

    Where the kernel reported an `OSError`, that is the cause.
    """


class UnsupportedError(SocketsError):
    """This machine cannot do it; the message has the kernel's own words where there are any."""


class EndpointError(SocketsError):
    """Our side failed: an error inside an endpoint, with the original as the cause, or a loss."""


class WaitTimeout(AssertionError):
    """The deadline passed while what was waited for could still have come."""


class MismatchError(AssertionError):
    """What was recorded differs from what was expected, or can no longer become it."""
