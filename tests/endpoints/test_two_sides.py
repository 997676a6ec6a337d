from __future__ import annotations

import pytest

from pytest_sockets import Address
from pytest_sockets._endpoints.two_sides import is_same


@pytest.mark.parametrize(
    ("ours", "target", "same"),
    [
        (("127.0.0.1", 80), ("127.0.0.1", 80), True),
        (("127.0.0.1", 80), ("0.0.0.0", 80), True),
        (("0.0.0.0", 80), ("127.0.0.2", 80), True),
        (("::", 80), ("::1", 80), True),
        (("127.0.0.1", 80), ("127.0.0.1", 81), False),
        (("127.0.0.1", 80), ("127.0.0.2", 80), False),
        (("127.0.0.1", 80), ("::1", 80), False),
        (("::1", 80), ("::", 80), True),
        (("127.0.0.2", 80), ("0.0.0.0", 80), False),
        (("0.0.0.0", 80), ("192.0.2.1", 80), False),
        (("127.0.0.1", 80), "/run/s", False),
    ],
)
def test_an_upstream_is_the_proxy_itself_where_the_kernel_would_take_it_there(
    ours: Address, target: Address, same: bool
) -> None:
    assert is_same(ours, target) is same
