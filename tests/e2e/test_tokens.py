"""API keys and JSON Web Tokens on a real node: the same one opens HTTP, the console and MQTT; rotation and reload."""
from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.mesh.identity.tokens import by_hand, claims, jwk, jwks, rsa_key, token
from tests.support.node import meshgate
from tests.support.rawmqtt import open_mqtt
from tests.support.wait import wait_until

POLICIES = """
[[policies]]
allow = ["publish", "subscribe"]
to = ["role:cashier"]
topics = ["pos/%u/#"]
"""


class IssuerServer:
    """A JSON Web Key Set over HTTP, which may be down."""

    def __init__(self):
        self.keys, self.status, self.asked = [jwk(rsa_key(), "k1")], 200, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(jwks(*outer.keys))

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def issuer():
    made = IssuerServer()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="session")
def api_key():
    """(the key, its table) of `meshgate apikey`."""
    done = meshgate("apikey", "till", "--user", "pos-9", "--role", "cashier", "--expires", "1d")
    assert done.returncode == 0, done.stderr
    key = done.stderr.decode().split(": ")[1].strip()
    table = done.stdout.decode()
    assert key.startswith("mgk_") and key not in table and "expires = 20" in table
    return key, table


def now(**more):
    return token(exp=int(time.time()) + more.pop("good_s", 600), **more).decode()


def jwt_table(url):
    return f'[[jwt]]\nissuer = "https://login.example"\naudience = ["meshgate"]\njwks = "{url}"\n'


def post(node, topic, **headers):
    return node.publish(topic, b"x", {name.replace("_", "-"): value for name, value in headers.items()})


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


def mqtt_code(node, username, password, version=5):
    """Reason code of CONNACK."""
    with open_mqtt(node.mqtt, "c", version=version, username=username, password=password, accept=False) as client:
        return client.connack.code


def test_an_api_key_opens_every_door(node_factory, api_key):
    key, table = api_key
    node = node_factory(extra=table + POLICIES)
    assert post(node, "pos/pos-9/a").status == 401
    for headers in (bearer(key), {"X-API-Key": key}):
        assert post(node, "pos/pos-9/a", **headers).status == 200
        assert post(node, "pos/other/a", **headers).status == 403
    both = post(node, "pos/pos-9/a", **bearer(key), X_API_Key=key)
    assert both.status == 401 and "either" in both.text
    wrong = post(node, "pos/pos-9/a", **bearer(key[:-1] + "x"))
    assert wrong.status == 401 and "Bearer" in wrong.headers["WWW-Authenticate"] and key[:-1] not in wrong.text
    assert node.get("/api/v1/status", bearer(key)).status == 403, "not an admin"
    assert key not in node.process.log_tail()


def test_a_jwt_opens_http_and_the_same_one_mqtt(node_factory, issuer):
    node = node_factory(extra=jwt_table(issuer.url) + POLICIES)
    good = now()
    assert post(node, "pos/pos-7/a", **bearer(good)).status == 200
    assert post(node, "pos/other/a", **bearer(good)).status == 403
    assert [mqtt_code(node, name, good.encode()) for name in ("pos-7", "bearer", None, "ana")] == [0, 0, 0, 0x86]
    assert mqtt_code(node, "pos-7", good.encode(), version=4) == 0
    assert mqtt_code(node, None, None) in (0x86, 0x87) and mqtt_code(node, "pos-7", b"secret") == 0x86
    assert issuer.asked == 1
    metrics = node.get("/metrics", bearer(now(roles=["admin"]))).text
    assert 'meshgate_logins_total{outcome="ok",protocol="mqtt"} 4.0' in metrics


BAD = [
    by_hand({"alg": "none"}, {**claims(), "exp": 2**33}).decode(), "ey.ey.ey", "x", "mgk_x",
    token(exp=1).decode(), token(exp=2**33, aud="other").decode(), token(rsa_key(2), exp=2**33).decode(),
    token(exp=2**33, kid="../../../../etc/passwd").decode(), token(exp=...).decode(), token(exp=2**33 + 0.5).decode(),
]


def test_a_bad_token_is_401_again_and_again(node_factory, issuer):
    """hostile.md row 85; a token that does not count locks nobody out."""
    node = node_factory(extra=jwt_table(issuer.url) + POLICIES)
    for bad in BAD:
        for _ in range(7):
            answer = post(node, "pos/pos-7/a", **bearer(bad))
            assert answer.status == 401 and answer.headers["Content-Type"] == "application/problem+json"
    for bad in BAD[:3] + BAD[5:7]:
        assert mqtt_code(node, "pos-7", bad.encode()) == 0x86
    assert post(node, "pos/pos-7/a", **bearer(now())).status == 200


def test_a_node_starts_while_its_issuer_is_down_and_hears_of_it_later(node_factory, issuer, api_key):
    issuer.status = 500
    key, table = api_key
    admin = table.replace('"cashier"', '"admin"')
    node = node_factory(extra=jwt_table(issuer.url) + admin + POLICIES)
    assert post(node, "pos/pos-7/a", **bearer(now())).status == 503        # not decided is not refused
    failing = 'meshgate_token_keys_failing{issuer="https://login.example"}'
    assert f"{failing} 1.0" in node.get("/metrics", bearer(key)).text
    issuer.status = 200
    wait_until(lambda: post(node, "pos/pos-7/a", **bearer(now())).status == 200, "the keys are there")
    assert f"{failing} 0.0" in node.get("/metrics", bearer(key)).text


def test_a_stream_and_a_kept_connection_end_with_the_token(node_factory, issuer):
    node = node_factory(extra=jwt_table(issuer.url.replace("?", "")) + "leeway_s = 0\n" + POLICIES)
    short = now(good_s=3)
    client = open_mqtt(node.mqtt, "c", username="pos-7", password=short.encode())
    answer = node.get("/v1/events?filter=pos/pos-7/%23", bearer(short), listener="http")
    assert answer.status == 200 and "the login has expired" in answer.text
    assert client.expect_close().code == 0x87


def test_a_reload_takes_keys_and_drops_them(node_factory, api_key, tmp_path):
    key, table = api_key
    (tmp_path / "keys.json").write_bytes(jwks(jwk(rsa_key(), "k1")))
    issuer = jwt_table(f"file:{tmp_path}/keys.json")
    node = node_factory(extra=issuer + POLICIES)
    assert post(node, "pos/pos-9/a", **bearer(key)).status == 401
    node.write_config(issuer + table + POLICIES)
    node.sighup()
    wait_until(lambda: post(node, "pos/pos-9/a", **bearer(key)).status == 200, "the key counts")
    node.write_config(issuer + POLICIES)
    node.sighup()
    wait_until(lambda: post(node, "pos/pos-9/a", **bearer(key)).status == 401, "the key is gone")
    assert post(node, "pos/pos-7/a", **bearer(now())).status == 200
    (tmp_path / "keys.json").write_text("{}")
    node.sighup()
    wait_until(lambda: "configuration refused" in node.process.log_tail(), "a bad key set is refused whole")


def test_check_shows_no_hash_and_finds_what_is_wrong(tmp_path, api_key):
    file = tmp_path / "node.toml"
    file.write_text(api_key[1] + '[[jwt]]\nissuer = "x"\naudience = ["m"]\njwks = "http://login.example/"\n')
    done = meshgate("check", str(file))
    assert done.returncode == 1 and b"jwt[0].jwks: expected https" in done.stderr
    file.write_text(api_key[1] + "\n[listeners]\nhttp = { bind = \"127.0.0.1:8080\" }\n")
    done = meshgate("check", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["api_keys"][0]["key_hash"] == "(hidden)"
