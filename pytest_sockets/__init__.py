"""Real socket endpoints for tests: ready, recorded, bounded. The public names, and nothing else."""

from pytest_sockets._endpoints.addresses import (
    BlackholeAddress,
    RefusedAddress,
    ReservedPort,
)
from pytest_sockets._endpoints.async_connection import AsyncConnection
from pytest_sockets._endpoints.capabilities import capabilities
from pytest_sockets._endpoints.connection import Connection
from pytest_sockets._endpoints.datagram_peer import (
    DatagramPeer,
    UDPEchoServer,
    UDPPeer,
    UnixDatagramPeer,
)
from pytest_sockets._endpoints.endpoint import Endpoint, Settings
from pytest_sockets._endpoints.fault import Fault
from pytest_sockets._endpoints.gate import Gate
from pytest_sockets._endpoints.protocol_server import ProtocolServer
from pytest_sockets._endpoints.proxy import TCPProxy
from pytest_sockets._endpoints.script import Script
from pytest_sockets._endpoints.server import StreamServer
from pytest_sockets._endpoints.servers import (
    ChargenServer,
    DiscardServer,
    EchoServer,
    SilentServer,
    TCPServer,
    UnixServer,
)
from pytest_sockets._endpoints.single import DatagramPair, SocketPair
from pytest_sockets._endpoints.sockets import Sockets
from pytest_sockets._endpoints.streams import StreamEndpoint
from pytest_sockets._endpoints.sweep import Sweep
from pytest_sockets._endpoints.udp_proxy import UDPProxy
from pytest_sockets._engine.peer import PeerState
from pytest_sockets._wire.errors import (
    EndpointClosedError,
    EndpointError,
    MismatchError,
    PeerGoneError,
    SocketsError,
    UnsupportedError,
    WaitTimeout,
)
from pytest_sockets._wire.events import Address, Datagram, Event, PeerCredentials
from pytest_sockets._wire.sweeps import cuts, splits

__all__ = [
    "Address",
    "AsyncConnection",
    "BlackholeAddress",
    "ChargenServer",
    "Connection",
    "Datagram",
    "DatagramPair",
    "DatagramPeer",
    "DiscardServer",
    "EchoServer",
    "Endpoint",
    "EndpointClosedError",
    "EndpointError",
    "Event",
    "Fault",
    "Gate",
    "MismatchError",
    "PeerCredentials",
    "PeerGoneError",
    "PeerState",
    "ProtocolServer",
    "RefusedAddress",
    "ReservedPort",
    "Script",
    "Settings",
    "SilentServer",
    "SocketPair",
    "Sockets",
    "SocketsError",
    "StreamEndpoint",
    "StreamServer",
    "Sweep",
    "TCPProxy",
    "TCPServer",
    "UDPEchoServer",
    "UDPPeer",
    "UDPProxy",
    "UnixDatagramPeer",
    "UnixServer",
    "UnsupportedError",
    "WaitTimeout",
    "capabilities",
    "cuts",
    "splits",
]

for _name in __all__:
    if isinstance(globals()[_name], type):  # tracebacks and the manual show what users import
        globals()[_name].__module__ = __name__
