"""ldap3's tests of its timeouts, for which it asks a human to unplug a server."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from mutants import mutations
from pytest_sockets import BlackholeAddress, SilentServer

with warnings.catch_warnings():  # it asks pyasn1 for names that are deprecated there
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3
    from ldap3.core.exceptions import LDAPSocketOpenError, LDAPSocketReceiveError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def closed_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the sockets of connections that failed: ldap3 leaves them to the collector."""
    opened: list[ldap3.Connection] = []
    init = ldap3.Connection.__init__

    def tracked(self: ldap3.Connection, *args: object, **options: object) -> None:
        opened.append(self)
        init(self, *args, **options)

    monkeypatch.setattr(ldap3.Connection, "__init__", tracked)
    yield
    for connection in opened:
        if connection.socket is not None:
            connection.socket.close()


@mutations(
    ("timed out", "refused", "did not match"),
    ("port=blackhole_address.port", "port=1", "Connection refused"),
    ("LDAPSocketOpenError", "LDAPSocketReceiveError", "LDAPSocketOpenError"),
    (".bind()", "", "DID NOT RAISE"),
)
def test_connect_timeout(blackhole_address: BlackholeAddress) -> None:
    host = blackhole_address.host
    server = ldap3.Server(host, port=blackhole_address.port, connect_timeout=0.2)
    client = ldap3.Connection(server)
    with pytest.raises(LDAPSocketOpenError, match="timed out"):
        client.bind()


@mutations(
    ("LDAPSocketReceiveError", "LDAPSocketOpenError", "LDAPSocketReceiveError"),
    (".bind()", "", "DID NOT RAISE"),
    ("(1)", "(2)", r"waited [\d.]+ s for 2 connections, 1 came"),
    ("x60", "x61", "received something else"),
)
def test_receive_timeout(silent_server: SilentServer) -> None:
    server = ldap3.Server(silent_server.host, port=silent_server.port)
    client = ldap3.Connection(server, "cn=admin", "secret", receive_timeout=1)
    with pytest.raises(LDAPSocketReceiveError):
        client.bind()
    silent_server.assert_connections(1)
    bind = b"\x60\x15\x02\x01\x03\x04\x08cn=admin\x80\x06secret"  # RFC 4511, 4.2
    silent_server.assert_received(contains=bind)
