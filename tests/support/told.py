"""What a server has to tell at the end of its test."""

from __future__ import annotations

from pytest_sockets import Endpoint
from pytest_sockets._endpoints.problems import gather


def told(endpoint: Endpoint) -> list[str]:
    """End the test for an endpoint, and return its problems: nobody else is told of them."""
    return [f"{type(error).__name__}: {error}" for error in errors_of(endpoint)]


def errors_of(endpoint: Endpoint) -> list[BaseException]:
    """End the test for an endpoint, and return its problems as they are."""
    return [problem.error for problem in gather([endpoint])]
