"""Users and rules as an operator sees them: who gets in, who may what, how each protocol says no, where it shows."""
from __future__ import annotations

import base64
import json
import subprocess

import pytest

from tests.support import rawmqtt as m
from tests.support.node import http, meshgate
from tests.support.rawmqtt import connect_packet, open_mqtt
from tests.support.sse import CurlSse

PASSWORD = b"correct horse"


@pytest.fixture(scope="session")
def password_hash() -> str:
    done = meshgate("passwd", input=PASSWORD + b"\n")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode().strip()
    assert text.startswith("$argon2id$") and PASSWORD.decode() not in text
    return text


POLICIES = """
[[policies]]
name = "operators"
allow = ["publish", "subscribe", "manage"]
to = ["role:operator"]
topics = ["#"]

[[policies]]
name = "no secrets for anybody"
deny = ["subscribe"]
to = ["*"]
topics = ["plant/secret/#"]

[[policies]]
name = "pay is not published by operators"
deny = ["publish"]
to = ["role:operator"]
topics = ["pay/#"]

[[policies]]
name = "devices publish below their own name"
allow = ["publish", "subscribe"]
to = ["role:device"]
topics = ["devices/%u/#", "clients/%c/#"]
"""


@pytest.fixture
def config(password_hash) -> str:
    users = "".join(f'[[users]]\nname = "{name}"\npassword_hash = "{password_hash}"\nroles = ["{role}"]\n'
                    for name, role in (("ana", "operator"), ("dev-1", "device"), ("dev-2", "device"), ("idle", "none"),
                                       ("root", "admin")))
    return users + POLICIES


@pytest.fixture
def guarded(node_factory, config):
    return node_factory(extra=config)


def login(node, user: str, client_id: str | None = None, **options):
    return open_mqtt(node.mqtt, client_id or f"{user}-client", username=user, password=PASSWORD, **options)


def basic(user: str, password: bytes = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(user.encode() + b":" + password).decode()}


# --- who gets in ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("username, password", [(None, None), ("ana", b"wrong"), ("nobody", PASSWORD), ("ana", None),
                                                ("ana", b"")])
def test_the_wrong_credentials_are_refused(guarded, username, password):
    """MQTT 5: CONNACK 0x86 or 0x87; 3.1.1: 4 or 5; the connection is closed. HTTP: 401 with a challenge."""
    for version, codes in ((5, (0x86, 0x87)), (4, (4, 5))):
        if version == 4 and password is None and username is not None:
            pass        # legal in 3.1.1: a user name alone
        with open_mqtt(guarded.mqtt, "x", version=version, username=username, password=password,
                       accept=False) as client:
            assert client.connack.code in codes
            client.expect_close()
    headers = {} if username is None else basic(username, password or b"")
    answer = guarded.publish("devices/x", b"x", headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert guarded.get("/api/v1/streams", headers).status == 401


def test_probes_need_no_login_and_the_rest_does(guarded):
    assert guarded.get("/readyz").status == 200
    assert guarded.get("/healthz").status == 200
    for path in ("/metrics", "/api/v1/status", "/api/v1/clients"):
        assert guarded.get(path).status == 401
        assert guarded.get(path, basic("root")).status == 200
        assert guarded.get(path, basic("dev-1")).status == 403


def test_the_sixth_wrong_login_finds_the_door_locked(guarded):
    """hostile.md row 85: 5 failures in 5 minutes; then even the right password is refused. MQTT says 0x8A (or 0x87)."""
    for _ in range(5):
        assert guarded.publish("x", b"x", basic("dev-1", b"wrong")).status == 401
    answer = guarded.publish("devices/dev-1/x", b"x", basic("dev-1"))
    assert answer.status == 429
    assert 540 < int(answer.headers["Retry-After"]) <= 600 and "try again in" in answer.text
    with login(guarded, "dev-1", accept=False) as client:
        assert client.connack.code in (0x8A, 0x87, 0x97)
    with login(guarded, "dev-2"):
        pass        # somebody else of the same address is not locked out


def test_no_password_is_logged_or_shown(guarded):
    guarded.publish("x", b"x", basic("ana", b"wrong-secret-7531"))
    with login(guarded, "ana"):
        status = guarded.get("/api/v1/status", basic("root")).text
    for secret in (PASSWORD.decode(), "wrong-secret-7531", "$argon2id$"):
        assert secret not in guarded.process.log_text()
        assert secret not in status


# --- publish -------------------------------------------------------------------------------------------------------
def test_a_refused_publish_says_so_in_mqtt_5(guarded):
    """QoS 1: PUBACK 0x87; QoS 2: PUBREC 0x87; QoS 0: dropped, the connection stays."""
    with login(guarded, "ana") as client:
        assert client.publish_acked("pay/ana", b"x", qos=1).code == 0x87
        refused = client.publish_acked("pay/ana", b"x", qos=2)
        assert (refused.kind, refused.code) == (m.PUBREC, 0x87)
        client.publish("pay/ana", b"x")
        client.ping()
        assert client.publish_acked("plant/a", b"x", qos=1).code in (0x00, 0x10)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_publish_in_mqtt_3_1_1(guarded, qos):
    """3.1.1 has no code: the message is acked or the connection closed [MQTT-3.3.5-2]; it is never delivered."""
    with login(guarded, "ana", "watch") as watcher, login(guarded, "ana", "old", version=4) as client:
        watcher.subscribe(("#", 1))
        client.publish("pay/ana", b"forbidden", qos=qos)
        try:
            client.expect(m.PUBACK if qos == 1 else m.PUBREC)
        except m.ConnectionClosed:
            pass
        watcher.publish_acked("plant/end", b"end")
        assert watcher.messages_until(b"end") == []


def test_a_refused_publish_in_http_is_403(guarded):
    answer = guarded.publish("pay/ana", b"x", basic("ana"))
    assert (answer.status, answer.json["type"]) == (403, "/problems/not-authorized")
    assert guarded.publish("plant/a", b"x", basic("ana")).status == 200
    assert guarded.publish("devices/dev-1/a", b"x", basic("dev-1")).status == 200
    assert guarded.publish("devices/dev-2/a", b"x", basic("dev-1")).status == 403


def test_nothing_is_allowed_that_no_rule_allows(guarded):
    with login(guarded, "idle") as client:
        assert client.publish_acked("plant/a", b"x").code == 0x87
        assert client.subscribe(("plant/a", 1), ("#", 0)).codes == [0x87, 0x87]


def test_user_and_client_id_stand_for_themselves(guarded):
    """%u and %c: own topics yes, those of others no, on every path."""
    with login(guarded, "dev-1", "c-1") as client:
        assert client.publish_acked("devices/dev-1/t", b"x").code in (0, 0x10)
        assert client.publish_acked("clients/c-1/t", b"x").code in (0, 0x10)
        assert client.publish_acked("devices/dev-2/t", b"x").code == 0x87
        assert client.publish_acked("clients/c-2/t", b"x").code == 0x87
        assert client.subscribe(("devices/dev-1/#", 1), ("devices/#", 1), ("devices/+/x", 1)).codes[0] == 1


@pytest.mark.parametrize("client_id", ["+", "#", "a/b", "x/#", "+/+"])
def test_a_client_id_with_wildcards_gains_nothing(guarded, client_id):
    """hostile.md row 11: under a %c rule such an id is refused, or never matches."""
    with login(guarded, "dev-1", client_id, accept=False) as client:
        if client.connack.code:
            assert client.connack.code in (0x85, 0x87)
            return
        assert client.publish_acked("clients/other/t", b"x").code == 0x87
        with login(guarded, "ana", "writer") as writer:
            client.subscribe(("clients/#", 1), ("clients/other/#", 1), ("clients/+/t", 1), ("devices/dev-1/end", 1))
            writer.publish_acked("clients/other/t", b"foreign")
            writer.publish_acked("devices/dev-1/end", b"end")
            assert client.messages_until(b"end") == []


def test_a_will_on_a_forbidden_topic_is_not_sent(guarded):
    """Wills pass the same door: CONNECT is refused, or the will is never delivered."""
    with login(guarded, "ana", "watch") as watcher:
        watcher.subscribe(("#", 1))
        client = login(guarded, "ana", "dies", will=m.Will("pay/will", b"forbidden", qos=1), accept=False)
        assert client.connack.code in (0x00, 0x87)
        client.drop()
        other = login(guarded, "ana", "dies-2", will=m.Will("plant/will", b"end", qos=1))
        other.drop()
        assert watcher.messages_until(b"end") == []


# --- subscribe and delivery ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("version, code", [(5, 0x87), (4, 0x80)])
def test_a_refused_filter_in_suback(guarded, version, code):
    """hostile.md row 23: 0x87 in version 5, 0x80 in 3.1.1; the filter beside it is granted."""
    with login(guarded, "ana", version=version) as client:
        assert client.subscribe(("plant/secret/#", 1), ("plant/secret/x", 0), ("plant/open", 1)).codes == [
            code, code, 1]
    with login(guarded, "dev-1", version=version) as client:
        assert client.subscribe(("plant/#", 1), ("$share/g/plant/#", 1)).codes == [code, code]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("pattern", ["#", "plant/#", "plant/+/a", "+/+/a", "$share/g/plant/#"])
def test_a_wildcard_wider_than_a_deny_delivers_nothing_denied(guarded, pattern, qos):
    """Live events, at every QoS: the rest comes, the denied does not."""
    with login(guarded, "ana", "reader") as reader, login(guarded, "ana", "writer") as writer:
        assert reader.subscribe((pattern, qos)).codes == [qos]
        for published in (0, 1, 2):
            for topic in ("plant/secret/a", "plant/open/a"):
                if published:
                    writer.publish_acked(topic, topic.encode(), qos=published)
                else:
                    writer.publish(topic, topic.encode())
        writer.publish_acked("plant/end/a", b"end", qos=2)
        topics = [one.topic for one in reader.messages_until(b"end")]
        assert topics == ["plant/open/a"] * 3


def test_a_wildcard_wider_than_a_deny_delivers_nothing_retained(guarded):
    """hostile.md row 23, retained included."""
    with login(guarded, "ana", "writer") as writer, login(guarded, "ana", "reader") as reader:
        for topic in ("plant/secret/a", "plant/open/a"):
            writer.publish_acked(topic, topic.encode(), retain=True)
        reader.subscribe(("#", 1))
        writer.publish_acked("plant/end", b"end")
        assert [one.topic for one in reader.messages_until(b"end")] == ["plant/open/a"]


def test_a_durable_session_does_not_collect_what_is_denied(guarded):
    keep = [(m.SESSION_EXPIRY, 60)]
    with login(guarded, "ana", "reader", values=keep) as reader:
        reader.subscribe(("plant/#", 1))
        reader.disconnect()
    with login(guarded, "ana", "writer") as writer:
        for topic in ("plant/secret/a", "plant/open/a"):
            writer.publish_acked(topic, b"x")
    with login(guarded, "ana", "reader", clean=False, values=keep) as reader:
        reader.publish_acked("plant/end", b"end")
        assert [one.topic for one in reader.messages_until(b"end")] == ["plant/open/a"]


def test_sse_delivers_nothing_denied(guarded):
    """Live and from the log; a filter that is denied as a whole is 403."""
    url = guarded.url("http", "/v1/events?from=earliest&filter=")
    for topic in ("plant/secret/a", "plant/open/a", "plant/end"):
        assert guarded.publish(topic, topic.encode(), basic("ana")).status == 200
    with CurlSse(url + "plant/%23", "-u", f"ana:{PASSWORD.decode()}") as stream:
        assert stream.payloads(2) == ["plant/open/a", "plant/end"]
    for user, pattern in (("ana", "plant/secret/%23"), ("dev-1", "plant/%23"), ("idle", "%23")):
        assert guarded.get(f"/v1/events?filter={pattern}", basic(user), listener="http").status == 403


def test_a_session_belongs_to_its_user(guarded):
    """hostile.md row 29: the same client id by another user is refused; the first one is not disturbed."""
    with login(guarded, "ana", "same", values=[(m.SESSION_EXPIRY, 60)]) as first:
        with login(guarded, "dev-1", "same", accept=False) as second:
            assert second.connack.code in (0x87, 0x85)
        first.ping()


def test_internal_topics_cannot_be_published(guarded):
    """hostile.md row 31: $SYS and our own prefix, even for who may everything."""
    with login(guarded, "ana") as client:
        for topic in ("$SYS/broker/version", "$SYS/x", "$meshgate/x"):
            assert client.publish_acked(topic, b"x").code in (0x87, 0x90)
    assert guarded.publish("%24SYS/x", b"x", basic("ana")).status in (400, 403)


# --- where it is listed --------------------------------------------------------------------------------------------
def test_denials_are_counted_and_listed_with_their_rule(guarded):
    with login(guarded, "ana", "ana-1") as client:
        client.publish_acked("pay/ana", b"x")
        client.subscribe(("plant/secret/a", 1))
    guarded.publish("pay/rest", b"x", basic("ana"))
    listed = guarded.get("/api/v1/denials", basic("root")).json
    rows = {(row["protocol"], row["action"], row["topic"], row["user"], row["rule"]) for row in listed["denials"]}
    assert ("mqtt", "publish", "pay/ana", "ana", "pay is not published by operators") in rows
    assert ("mqtt", "subscribe", "plant/secret/a", "ana", "no secrets for anybody") in rows
    assert ("http", "publish", "pay/rest", "ana", "pay is not published by operators") in rows
    assert {(row["protocol"], row["action"]): row["count"] for row in listed["counts"]}[("mqtt", "publish")] >= 1
    done = meshgate("denials", "--url", guarded.url("console"), "--user", "root",
                    environment={"MESHGATE_PASSWORD": PASSWORD.decode()})
    assert done.returncode == 0 and b"pay is not published by operators" in done.stdout


def test_the_first_admin_password_is_printed_once(node_factory, password_hash):
    """Users, but nobody who may manage: `admin` is made, with a random password on standard output."""
    node = node_factory(extra=f'[[users]]\nname = "dev-1"\npassword_hash = "{password_hash}"\nroles = ["device"]\n')
    line = next(line for line in node.process.log_text().splitlines() if "admin" in line and "password" in line)
    word = line.split()[-1]
    assert guarded_status(node, word) == 200
    node.restart()
    assert node.process.log_text().count(word) == 1
    assert guarded_status(node, word) == 200


def guarded_status(node, word: str) -> int:
    return node.get("/api/v1/status", basic("admin", word.encode())).status


def test_serving_other_machines_without_users_refuses_to_start(node_factory):
    """§7: loopback only without authentication. Nothing listens in the meantime."""
    node = node_factory(start=False)
    node.config.write_text(node.config_text().replace(f'"127.0.0.1:{node.mqtt[1]}"', f'"0.0.0.0:{node.mqtt[1]}"'))
    node.start(ready=False)
    try:
        assert node.process.wait(30) == 1
    except subprocess.TimeoutExpired:
        pytest.fail("the node serves other machines without authentication")
    assert "listeners.mqtt" in node.process.log_text()


def test_connect_packets_of_the_refused_leave_no_session(guarded):
    """[MQTT-3.1.4-6] and no consumer: 50 wrong logins leave nothing behind."""
    before = guarded.get("/api/v1/consumers", basic("root")).json["total"]
    for number in range(50):
        with m.RawMqtt(guarded.mqtt) as client:
            client.send(connect_packet(f"x-{number}", clean=False, values=[(m.SESSION_EXPIRY, 600)], username="u",
                                       password=b"wrong"))
            client.expect_close()
    assert guarded.get("/api/v1/consumers", basic("root")).json["total"] == before
    assert guarded.get("/api/v1/clients", basic("root")).json["total"] == 0


# --- every door of HTTP ----------------------------------------------------------------------------------------------
def test_the_rules_hold_at_every_door_of_http(guarded):
    """Batches, requests, pages, retained events and consumers ask the same rules as a post and a stream do."""
    ana, device = basic("ana"), basic("dev-1")

    def ask(method, path, who, body=None, **fields):
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        return http(method, guarded.url("http", path), data, {**who, **fields})

    lines = b"".join(b'{"topic":"%b","retain":true,"payload":"x"}\n' % topic for topic in (
        b"plant/a", b"plant/secret/b", b"pay/c", b"devices/dev-1/d"))
    told = ask("POST", "/v1/events", ana, lines, **{"Content-Type": "application/x-ndjson"})
    assert [json.loads(line).get("status", 200) for line in told.text.splitlines()] == [200, 200, 403, 200]
    assert ask("POST", "/v1/requests/pay/x", ana, b"?").json["type"] == "/problems/not-authorized"

    def seen(answer):
        assert answer.status == 200, answer.text
        return {event["topic"] for event in answer.json["events"]}

    assert seen(ask("GET", "/v1/streams/events/events", ana)) == {"plant/a", "devices/dev-1/d"}
    assert seen(ask("GET", "/v1/retained/%23", ana)) == {"plant/a", "devices/dev-1/d"}
    assert ask("GET", "/v1/retained/plant/%23", device).status == 403
    assert seen(ask("GET", "/v1/streams/events/events", device)) == {"devices/dev-1/d"}
    assert ask("GET", "/v1/streams", basic("idle")).json == {"streams": []}

    assert ask("PUT", "/v1/consumers/all", device, {"filters": ["#"]}).status == 403
    assert ask("PUT", "/v1/consumers/all", ana, {"filters": ["#"], "start": "earliest"}).status == 201
    assert seen(ask("POST", "/v1/consumers/all/pull", ana, {"wait_s": 5})) == {"plant/a", "devices/dev-1/d"}
    for method, path in (("GET", ""), ("POST", "/pull"), ("POST", "/seek"), ("DELETE", ""), ("POST", "/redrive")):
        assert ask(method, f"/v1/consumers/all{path}", device, {} if method == "POST" else None).status == 404
