"""Login by OpenID Connect at a real node, against a small issuer that the test runs: code flow, PKCE, what is wrong."""
from __future__ import annotations

import base64
import hashlib
import http.client
import json
import secrets
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest

from tests.mesh.identity.tokens import jwk, jwks, rsa_key
from tests.support.node import HOST, Node
from tests.support.ports import free_port

SECRET = "the secret of the console"


class Issuer:
    """Approves everybody as ana, and checks what the client sends. twist: changes the token's claims."""

    def __init__(self) -> None:
        self.twist: dict[str, Any] = {}
        self.key = rsa_key(1)
        self.codes: dict[str, dict[str, str]] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def _say(self, status: int, body: bytes, **fields: str) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **fields}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                if url.path == "/.well-known/openid-configuration":
                    self._say(200, json.dumps({
                        "issuer": issuer.url, "authorization_endpoint": f"{issuer.url}/authorize",
                        "token_endpoint": f"{issuer.url}/token", "jwks_uri": f"{issuer.url}/keys"}).encode())
                elif url.path == "/keys":
                    self._say(200, jwks(jwk(rsa_key(1), "k1")))
                elif url.path == "/authorize":
                    query = {name: values[0] for name, values in parse_qs(url.query).items()}
                    code = secrets.token_urlsafe(8)
                    issuer.codes[code] = query
                    back = query["redirect_uri"] + "?" + urlencode({"code": code, "state": query["state"]})
                    self._say(302, b"", Location=back)
                else:
                    self._say(404, b"{}")

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                asked = issuer.codes.pop(form["code"][0], None)
                digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
                good = asked is not None and asked["code_challenge"] == challenge and (
                    form["client_secret"] == [SECRET] and form["redirect_uri"] == [asked["redirect_uri"]])
                if asked is None or not good:
                    self._say(400, b'{"error": "invalid_grant"}')
                    return
                now = int(time.time())
                claims = {"iss": issuer.url, "aud": asked["client_id"], "sub": "ana", "iat": now, "exp": now + 600,
                          "nonce": asked["nonce"], "roles": ["viewer"], **issuer.twist}
                token = jwt.encode(claims, issuer.key, "RS256", headers={"kid": "k1"})
                self._say(200, json.dumps({"id_token": token, "token_type": "Bearer", "access_token": "x"}).encode())

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    found = Issuer()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture(scope="module")
def node(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    ports = {"console": free_port()}
    extra = f'''
[[jwt]]
issuer = "{issuer.url}"
audience = ["console"]
jwks = "{issuer.url}/keys"
[oidc]
issuer = "{issuer.url}"
client_id = "console"
client_secret = "{SECRET}"
redirect = "http://{HOST}:{ports["console"]}/login/oidc/back"
name = "the house's login"
[[policies]]
allow = ["view"]
to = ["role:viewer"]
'''
    started = Node(tmp_path_factory.mktemp("oidc"), extra=extra, ports=ports).start()
    yield started
    started.kill9()


def get(url: str, cookies: dict[str, str]) -> tuple[int, str, str]:
    """As a browser does, without following: (status, Location, text). Keeps the cookies."""
    parts = urlsplit(url)
    client = http.client.HTTPConnection(parts.netloc, timeout=60)
    client.request("GET", f"{parts.path}?{parts.query}", headers={
        "Accept": "text/html", "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())})
    answer = client.getresponse()
    text = answer.read().decode()
    for line in answer.headers.get_all("Set-Cookie", []):
        name, _, value = line.partition(";")[0].partition("=")
        cookies[name] = value.strip('"')
    client.close()
    return answer.status, answer.headers.get("Location", ""), text


def sent_back(node: Node, cookies: dict[str, str], to: str = "/") -> str:
    """The address to which the issuer sends the browser."""
    status, there, _ = get(node.url("console", "/login/oidc?" + urlencode({"to": to})), cookies)
    assert status == 303
    status, back, _ = get(there, {})
    assert status == 302
    return back


def test_a_person_logs_in_at_the_issuer_and_comes_back_to_the_same_page(node: Node) -> None:
    cookies: dict[str, str] = {}
    _, _, page = get(node.url("console", "/login?to=/consumers"), cookies)
    assert "the house&#39;s login" in page and "/login/oidc?to=%2Fconsumers" in page
    back = sent_back(node, cookies, "/consumers?sort=-name")
    status, target, _ = get(back, cookies)
    assert (status, target) == (303, "/consumers?sort=-name")
    status, _, text = get(node.url("console", "/whoami"), cookies)
    assert status == 200 and "ana" in text and "viewer" in text
    assert get(back, cookies)[0] == 400, "a code comes once"
    assert get(node.url("console", "/login/oidc?to=https://evil.example"), {})[0] == 303
    status, target, _ = get(sent_back(node, cookies, "//evil.example"), cookies)
    assert (status, target) == (303, "/"), "and to a page of ours"


def test_a_login_that_was_begun_elsewhere_is_not_finished_here(node: Node) -> None:
    """Login CSRF: RFC 9700 §4.7."""
    theirs: dict[str, str] = {}
    back = sent_back(node, theirs)
    mine: dict[str, str] = {}
    assert get(back, mine)[0] == 400 and "meshgate-session" not in mine
    other = sent_back(node, mine)
    code = parse_qs(urlsplit(back).query)["code"][0]
    state = parse_qs(urlsplit(other).query)["state"][0]
    injected = node.url("console", "/login/oidc/back?" + urlencode({"code": code, "state": state}))
    assert get(injected, mine)[0] == 401 and "meshgate-session" not in mine, "PKCE: the code is of another login"


@pytest.mark.parametrize("twist", [
    {"nonce": "of another login"}, {"aud": "another client"}, {"exp": 1}, {"iss": "https://other.example"},
    {"sub": "$node"},
])
def test_a_token_that_is_not_for_this_login_lets_nobody_in(node: Node, issuer: Issuer, twist: dict[str, Any]) -> None:
    cookies: dict[str, str] = {}
    issuer.twist = twist
    try:
        status, _, _ = get(sent_back(node, cookies), cookies)
    finally:
        issuer.twist = {}
    assert status in (401, 403) and "meshgate-session" not in cookies


def test_a_forged_signature_lets_nobody_in(node: Node, issuer: Issuer) -> None:
    cookies: dict[str, str] = {}
    issuer.key = rsa_key(2)
    try:
        assert get(sent_back(node, cookies), cookies)[0] == 401
    finally:
        issuer.key = rsa_key(1)
    for query in ("", "state=x", "state=x&code=y", "error=access_denied&state=" + "x" * 500):
        assert get(node.url("console", f"/login/oidc/back?{query}"), cookies)[0] == 400, query
