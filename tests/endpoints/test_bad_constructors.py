import socket
from collections.abc import Iterator
from typing import Any

import pytest

from bad_input import Call, Case, Desk, check, open_desk
from pytest_sockets import Settings, SocketPair, Sockets, TCPServer

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def desk(sockets: Sockets) -> Iterator[Desk]:
    with open_desk(sockets) as desk:
        yield desk


def tcp(**options: Any) -> Call:
    return lambda desk: desk.sockets.tcp_server(**options)


def unix(path: Any) -> Call:
    return lambda desk: desk.sockets.unix_server(path)


def stream(**options: Any) -> Call:
    return lambda desk: desk.sockets.stream_server(**options)


def server(**options: Any) -> Call:
    return lambda desk: desk.sockets.server(**options)


def connect(address: Any, **options: Any) -> Call:
    return lambda desk: desk.sockets.connect(address, **options)


PORT = "port must be between 0 and 65535 (0: any free one), not"
PORT_FORM = "port must be a number, a numeric string or a service name, not"
FAMILY = "family must be one of ipv4, ipv6, dual, unix, not"
FAMILY_FORM = "family must be a name or a socket.AF_… number, not"
HELD = "is held by this process; leave port= out for a free one"
LONG = "x" * 108

CONSTRUCTORS: dict[str, Case] = {
    "port-negative": (tcp(port=-1), ValueError, f"{PORT} -1"),
    "port-large": (tcp(port=70000), ValueError, f"{PORT} 70000"),
    "port-large-text": (tcp(port="70000"), ValueError, f"{PORT} 70000"),
    "port-bool": (tcp(port=True), TypeError, f"{PORT_FORM} True"),
    "port-float": (tcp(port=1.5), TypeError, f"{PORT_FORM} 1.5"),
    "port-none": (tcp(port=None), TypeError, f"{PORT_FORM} None"),
    "port-bytes": (tcp(port=b"80"), TypeError, f"{PORT_FORM} b'80'"),
    "port-service": (
        tcp(port="no-such"),
        ValueError,
        "'no-such' is no number and no tcp service",
    ),
    "port-empty": (tcp(port=""), ValueError, "port='' is no number and no tcp"),
    "port-udp-service": (
        lambda desk: desk.sockets.udp_peer(port="no-such"),
        ValueError,
        "port='no-such' is no number and no udp service",
    ),
    "port-taken": (
        lambda desk: desk.sockets.tcp_server(port=desk.server.port),
        OSError,
        HELD,
    ),
    "port-taken-udp": (lambda desk: desk.sockets.udp_peer(port=desk.peer.port), OSError, HELD),
    "framing-number": (tcp(framing=4), TypeError, "framing must be a separator such as b'\\r\\n'"),
    "framing-empty": (stream(framing=b""), ValueError, "framing=b'' ends no frame"),
    "framing-text": (stream(framing="\n"), ValueError, "framing='\\n': format must hold one"),
    "family-unknown": (tcp(family="ipx"), ValueError, f"{FAMILY} 'ipx'"),
    "family-case": (tcp(family="IPv4"), ValueError, f"{FAMILY} 'IPv4'"),
    "family-float": (tcp(family=1.5), TypeError, f"{FAMILY_FORM} 1.5"),
    "family-bytes": (tcp(family=b"ipv4"), TypeError, f"{FAMILY_FORM} b'ipv4'"),
    "family-negative": (
        server(family=-1, address=("127.0.0.1", 0)),
        TypeError,
        f"{FAMILY_FORM} -1",
    ),
    "family-bool": (server(family=True), TypeError, f"{FAMILY_FORM} True"),
    "family-without-address": (
        server(family=socket.AF_NETLINK, type=socket.SOCK_RAW),
        ValueError,
        "AF_NETLINK needs address=, in the form that this family has",
    ),
    "family-of-the-factory": (
        lambda _: Sockets(family="ipx").tcp_server(),
        ValueError,
        f"{FAMILY} 'ipx'",
    ),
    "tcp-unix": (tcp(family="unix"), ValueError, "cannot have family='unix': use unix_server"),
    "tcp-af-unix": (tcp(family=socket.AF_UNIX), ValueError, "cannot have family='unix'"),
    "udp-unix": (
        lambda desk: desk.sockets.udp_peer(family="unix"),
        ValueError,
        "udp_peer cannot have family='unix': use unix_datagram_peer",
    ),
    "udp-dual": (
        lambda desk: desk.sockets.udp_peer(family="dual"),
        ValueError,
        "family='dual' is for servers; open two peers",
    ),
    "dual-with-an-ipv4-address": (
        lambda desk: desk.sockets.tcp_server(family="dual", host="127.0.0.1"),
        ValueError,
        "an IPv4 and an IPv6 address; '127.0.0.1' is 127.0.0.1 only",
    ),
    "host-elsewhere": (tcp(host="192.0.2.1"), OSError, "192.0.2.1 is no address of this machine"),
    "host-number": (tcp(host=5), TypeError, "host must be an address or a name, not 5"),
    "host-bytes": (tcp(host=b"::1"), TypeError, "host must be an address or a name, not b'::1'"),
    "host-long": (
        tcp(host="a" * 64),
        ValueError,
        f"host={'a' * 64!r} is no address and no name: a part is empty or too long",
    ),
    "host-empty-part": (tcp(host="a..b"), ValueError, "host='a..b' is no address and no name"),
    "host-nul": (tcp(host="::1\0"), ValueError, r"host='::1\x00' is no address and no name"),
    "connect-nul": (connect(("::1\0", 80)), ValueError, r"host='::1\x00' is no address"),
    "host-empty": (tcp(host=""), ValueError, "host='' cannot be resolved: "),
    "host-of-another-family": (
        tcp(family="ipv4", host="::1"),
        ValueError,
        "host='::1' cannot be resolved as ipv4: ",
    ),
    "host-and-path": (
        stream(host="::1", path="/tmp/x"),
        ValueError,
        "has a path, no host= or port=",
    ),
    "port-and-unix": (stream(family="unix", port=5), ValueError, "has a path, no host= or port="),
    "path-and-ipv4": (
        stream(family="ipv4", path="/tmp/x"),
        ValueError,
        "path= and abstract= go with family='unix', not 'ipv4'",
    ),
    "path-long": (
        unix(LONG),
        ValueError,
        f"path is 108 bytes long and AF_UNIX takes at most 107: '{LONG}'",
    ),
    "path-empty": (unix(""), ValueError, "path='' names nothing; leave path= out"),
    "path-nul": (unix("a\0b"), ValueError, r"path='a\x00b' has a NUL inside"),
    "path-number": (unix(5), TypeError, "path must be a str, bytes or a Path, not 5"),
    "path-without-folder": (
        unix("/no/such/s"),
        FileNotFoundError,
        "the directory of /no/such/s does not exist: make '/no/such' first",
    ),
    "path-of-a-folder": (unix("/tmp"), OSError, "/tmp exists already; remove it first"),
    "address-of-ipv4": (
        server(family="ipv4", address=("127.0.0.1", 0)),
        ValueError,
        "address= is for other families; with 'ipv4' use host= and port=, or path=",
    ),
    "address-form": (
        server(family=socket.AF_INET, address="x"),
        TypeError,
        "address='x' is no address of AF_INET: ",
    ),
    "address-port": (
        server(family=socket.AF_INET, address=("127.0.0.1", 70000)),
        ValueError,
        "address=('127.0.0.1', 70000) is no address of AF_INET: ",
    ),
    "type-unknown": (
        server(family="ipv4", type=99),
        OSError,
        ": AF_INET type 99 socket",
    ),
    "type-text": (
        server(family="ipv4", type="x"),
        TypeError,
        "type='x' and proto=0 must be n",
    ),
    "proto-unknown": (server(family="ipv4", proto=9999), OSError, "socket of protocol 9999"),
    "pair-family": (lambda _: SocketPair("ipx"), ValueError, "must be 'unix' or 'tcp', not 'ipx'"),  # type: ignore[arg-type]  # wrong on purpose
    "pair-type": (lambda _: SocketPair(type="raw"), ValueError, "'datagram'), not 'raw'"),  # type: ignore[arg-type]  # wrong on purpose
    "pair-datagram": (lambda _: SocketPair(type="datagram"), ValueError, "not 'datagram'"),  # type: ignore[arg-type]  # wrong on purpose
    "pair-tcp-type": (
        lambda _: SocketPair("tcp", "seqpacket"),
        ValueError,
        "a TCP pair has type='stream', not 'seqpacket'",
    ),
    "settings": (
        lambda _: TCPServer(settings={"timeout": 3}),  # type: ignore[arg-type]  # wrong on purpose
        TypeError,
        "settings must be pytest_sockets.Settings(…), not {'timeout': 3}",
    ),
    "settings-of-all": (
        lambda _: Sockets(settings=5),  # type: ignore[arg-type]  # wrong on purpose
        TypeError,
        "settings must be pytest_sockets.Settings(…), not 5",
    ),
    "timeout-factor": (lambda _: Settings(timeout_factor=0), ValueError, "above 0, not 0"),
    "record-limit": (lambda _: Settings(record_limit=-1), ValueError, "must be at least 0, not -1"),
    "record-limit-type": (
        lambda _: Settings(record_limit=1.5),  # type: ignore[arg-type]  # wrong on purpose
        TypeError,
        "record_limit must be a whole number, not float 1.5",
    ),
    "connect-none": (connect(None), TypeError, "a (host, port) pair or an AF_UNIX path, not None"),
    "connect-short": (connect(("::1",)), TypeError, "or an AF_UNIX path, not ('::1',)"),
    "connect-udp": (
        lambda desk: desk.sockets.connect(desk.peer),
        TypeError,
        "address must be a server that accepts connections, not <UDPPeer",
    ),
    "connect-text": (
        connect("localhost:80"),
        ValueError,
        "address='localhost:80' would be an AF_UNIX path: write (host, port)",
    ),
    "connect-host": (connect((5, 80)), TypeError, "host must be an address or a name, not 5"),
    "connect-port": (connect(("::1", 70000)), ValueError, f"{PORT} 70000"),
    "connect-service": (connect(("::1", "no-such")), ValueError, "port='no-such' is no number"),
    "connect-long": (connect(LONG), ValueError, "path is 108 bytes long"),
    "connect-empty": (connect(""), ValueError, "path='' names nothing"),
}


@pytest.mark.parametrize("case", CONSTRUCTORS)
def test_a_constructor_names_the_bad_value(desk: Desk, case: str) -> None:
    check(desk, CONSTRUCTORS[case])
