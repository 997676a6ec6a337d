from __future__ import annotations

import pytest

import pytest_sockets
from pytest_sockets import (
    EndpointClosedError,
    EndpointError,
    MismatchError,
    PeerGoneError,
    SocketsError,
    UnsupportedError,
    WaitTimeout,
)

ERRORS = [
    getattr(pytest_sockets, name)
    for name in pytest_sockets.__all__
    if isinstance(getattr(pytest_sockets, name), type)
    and issubclass(getattr(pytest_sockets, name), Exception)
]


@pytest.mark.parametrize("error", ERRORS)
def test_no_error_is_an_os_error_that_the_code_under_test_would_swallow(
    error: type[Exception],
) -> None:
    assert not issubclass(error, (OSError, EOFError))


@pytest.mark.parametrize("error", [WaitTimeout, MismatchError])
def test_a_failed_expectation_is_an_assertion_error(error: type[Exception]) -> None:
    assert issubclass(error, AssertionError)
    assert not issubclass(error, (SocketsError, TimeoutError))


@pytest.mark.parametrize(
    "error", [EndpointClosedError, EndpointError, PeerGoneError, UnsupportedError]
)
def test_every_other_error_is_a_sockets_error_and_none_is_another(
    error: type[SocketsError],
) -> None:
    assert error.__bases__ == (SocketsError,)
    assert set(ERRORS) == {
        SocketsError,
        WaitTimeout,
        MismatchError,
        EndpointClosedError,
        EndpointError,
        PeerGoneError,
        UnsupportedError,
    }
