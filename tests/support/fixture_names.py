"""The fixtures that the plugin has."""

from __future__ import annotations

FIXTURES = (
    "blackhole_address",
    "echo_server",
    "raw_client",
    "refused_address",
    "reserved_port",
    "silent_server",
    "sockets",
    "sweep",
    "tcp_proxy",
    "tcp_server",
    "tcp_socket_pair",
    "udp_echo_server",
    "udp_peer",
    "udp_proxy",
    "unix_datagram_peer",
    "unix_server",
    "unix_socket_pair",
)
