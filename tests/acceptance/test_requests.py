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
BASIC = re.compile(rb".*\r\nAuthorization: Basic .*", re.DOTALL)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
REFUSAL = b"HTTP/1.1 403 FORBIDDEN\r\nContent-Length: 0\r\n\r\n"
CHALLENGE = (
    b"HTTP/1.1 401 UNAUTHORIZED\r\nContent-Length: 0\r\n"
    b'WWW-Authenticate: Digest realm="me@example.org", nonce="6bf5d6e4", qop="auth"\r\n\r\n'
)


@mutations(
    ("expect(GET", "expect(DIGEST", r"step 1 of 5: expected .*, got b'GET"),
    ("expect(DIGEST", "expect(re.compile(b'PUT.*', re.S)", r"step 3 of 5: .*PUT.*, got b'GET"),
    ("expect(DIGEST", "expect(BASIC", r"step 3 of 5: .*Basic.*, got b'GET"),
    ('"user", "pass"', '"user2", "pass"', r"step 3 of 5: expected .*username.*, got b'GET"),
    ("auth=auth, ", "", "AssertionError"),
    (
        "send(CHALLENGE)\n        .expect(",
        "expect(",
        r"step 2 of 4: .*Digest.*, got nothing\n  waited",
    ),
    ("send(CHALLENGE)\n        .expect(", "send(REFUSAL)\n        .expect(", "AssertionError"),
    ("send(CHALLENGE)\n        .expect_n", "send(OK)\n        .expect_n", "AssertionError"),
    (
        ".expect_n",
        ".expect(GET, until=10)\n        .expect_n",
        "step 5 of 6: .*got nothing: the peer",
    ),
    (
        "answered.release()",
        "session.get(url)",
        r"step 5 of 5: expected nothing until .*, got b'GET /",
    ),
    ("[401, 401]", "[401, 401, 401]", "AssertionError"),
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
    url, auth = tcp_server.url("http"), HTTPDigestAuth("user", "pass")
    with requests.Session() as session:
        response = session.get(url, auth=auth, timeout=10)
        answered.release()
    assert [each.status_code for each in (*response.history, response)] == [401, 401]
