"""requests' test that it answers a second challenge with nothing."""

from __future__ import annotations

import re

import requests
from requests.auth import HTTPDigestAuth

from mutants import mutations
from pytest_sockets import Sockets, TCPServer

GET = re.compile(rb"GET / HTTP/1\.1\r\n.*", re.DOTALL)
DIGEST = re.compile(
    rb"GET / HTTP/1\.1\r\n.*\r\n"
    rb'Authorization: Digest username="user", realm="me@example\.org", nonce="6bf5d6e4", .*',
    re.DOTALL,
)
CHALLENGE = (
    b"HTTP/1.1 401 UNAUTHORIZED\r\nContent-Length: 0\r\n"
    b'WWW-Authenticate: Digest realm="me@example.org", nonce="6bf5d6e4", qop="auth"\r\n\r\n'
)


@mutations(
    ("expect(GET", "expect(DIGEST", r"step 1 of 5: expected .* got b'GET"),
    ("expect(DIGEST", "expect(re.compile(b'PUT.*', re.S)", r"step 3 of 5: .*PUT.*, got b'GET"),
    ('"user", "pass"', '"user2", "pass"', r"step 3 of 5: expected .*username.*, got b'GET"),
    ("auth=HTTPDigestAuth", "params=str", r"step 3 of 5: expected .*, got nothing: the peer sent EOF"),
    ("send(CHALLENGE)\n", "send(CHALLENGE.replace(b'Digest', b'Basic'))\n", r"step 3 of 5: expect"),
    (".send(CHALLENGE)\n        .expect_n", ".expect_n", "Read timed out"),
    ("send(CHALLENGE)\n        .expect_n", "expect(b'\\0')\n        .expect_n", "step 4 of 5: .*"),
    ("answered.release()", "session.get(url)", r"step 5 of 5: expected nothing, got b'GET /"),
    ("(401, 401)", "(200, 401)", "AssertionError"),
)
def test_digestauth_401_only_sent_once(tcp_server: TCPServer, sockets: Sockets) -> None:
    answered = sockets.gate()
    (
        tcp_server.script()
        .expect(GET, until=b"\r\n\r\n")
        .send(CHALLENGE)
        .expect(DIGEST, until=b"\r\n\r\n")
        .send(CHALLENGE)
        .expect_nothing(until=answered)
    )
    with requests.Session() as session:
        url, auth = tcp_server.url("http"), HTTPDigestAuth("user", "pass")
        response = session.get(url, auth=auth, timeout=3)
        answered.release()
    assert (response.status_code, response.history[0].status_code) == (401, 401)
