"""What was taken away has ended or narrowed, wherever it was open: by a reload of the file, and by managed documents.

taken away   a role of a user · an API key · a user · a policy        (each is its own user, with topics of its own)
open as      MQTT QoS 0 and 1, SSE, /v1/ws, a waiting pull, a webhook, a delayed will, NDJSON and keep-alive HTTP,
             dead letters, a session that is away
"""
from __future__ import annotations

import base64
import http.client
import json
import queue
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from mesh.identity.apikeys import hash_key, make_key
from mesh.identity.users import hash_password
from tests.e2e.test_webhooks import Receiver
from tests.support import rawmqtt as m
from tests.support.admin import Admin
from tests.support.node import Node
from tests.support.node import http as request
from tests.support.rawmqtt import open_mqtt
from tests.support.sse import CurlSse
from tests.support.wait import wait_until

KINDS = ("role", "key", "user", "policy")
ENDED = ("key", "user")                     # the login itself is gone; the others narrow
KEY = make_key()
PASSWORD = b"correct horse"


ROLES = {"keeper": ["admin"], "role": ["reader"]}
RIGHTS = {"keeper": ("user:keeper", "#"), "role": ("role:reader", "r/role/#"), "key": ("user:key", "r/key/#"),
          "user": ("user:user", "r/user/#"), "policy": ("user:policy", "r/policy/#")}


def toml(receiver: Receiver, stored: str, *, after: bool, managed: bool) -> str:
    """The file before and after: role loses its role, key and user go, the policy of policy goes.

    managed: only the keeper stands in it; the others are documents.
    """
    users = ["keeper"] if managed else ["keeper", "policy", "role", *([] if after else ["user"])]
    text = "".join(f'[[users]]\nname = "{name}"\npassword_hash = "{stored}"\n'
                   f'roles = {json.dumps([] if after and name == "role" else ROLES.get(name, []))}\n' for name in users)
    if not after and not managed:
        text += f'[[api_keys]]\nname = "till"\nuser = "key"\nkey_hash = "{hash_key(KEY)}"\n'
    wanted = ["keeper"] if managed else [who for who in RIGHTS if not (after and who == "policy")]
    text += "".join(f'[[policies]]\nallow = ["publish", "subscribe"]\nto = ["{RIGHTS[who][0]}"]\n'
                    f'topics = ["{RIGHTS[who][1]}"]\n' for who in wanted)
    return text + f'[webhooks]\nallow = ["127.0.0.0/8"]\nbreaker_open_s = "200ms"\n# {receiver.url}\n'


def documents(stored: str, *, after: bool) -> list[dict[str, object]]:
    """The same as documents: what makes it so, and what takes it away."""
    if after:
        changes: list[tuple[str, str, object]] = [
            ("user", "role", {"password_hash": stored, "roles": []}), ("key", "till", None), ("user", "user", None),
            ("policy", "of policy", None)]
    else:
        changes = [("user", who, {"password_hash": stored, "roles": ROLES.get(who, [])})
                   for who in ("policy", "role", "user")]
        changes.append(("key", "till", {"user": "key", "key_hash": hash_key(KEY)}))
        changes += [("policy", f"of {who}", {"allow": ["publish", "subscribe"], "to": [to], "topics": [topic]})
                    for who, (to, topic) in RIGHTS.items() if who != "keeper"]
    return [{"kind": kind, "name": name, "document": document} for kind, name, document in changes]


def fields(who: str) -> dict[str, str]:
    if who == "key":
        return {"X-API-Key": KEY}
    return {"Authorization": "Basic " + base64.b64encode(who.encode() + b":" + PASSWORD).decode()}


def login(who: str) -> dict[str, object]:
    return {"username": who, "password": KEY.encode() if who == "key" else PASSWORD}


class Socket:
    """A /v1/ws client that reads in a thread."""

    def __init__(self, node: Node, who: str) -> None:
        self.told: queue.Queue[dict[str, object]] = queue.Queue()
        self.closed = threading.Event()
        self.socket: ClientConnection = connect(
            f"ws://127.0.0.1:{node.ports['http']}/v1/ws", additional_headers=fields(who))
        threading.Thread(target=self._read, daemon=True).start()
        self.socket.send(json.dumps({"op": "subscribe", "id": 1, "subscription": "s", "filters": [f"r/{who}/#"]}))
        while self.told.get(timeout=30)["op"] != "subscribed":
            pass

    def _read(self) -> None:
        try:
            for text in self.socket:
                self.told.put(json.loads(text))
        except ConnectionClosed:
            pass
        self.closed.set()

    def ops(self) -> list[str]:
        return [str(one["op"]) for one in list(self.told.queue)]


class Opened:
    """Everything that one user has open."""

    def __init__(self, node: Node, who: str, receiver: Receiver) -> None:
        self.node, self.who, self.receiver = node, who, receiver
        topic = f"r/{who}/#"
        self.live = open_mqtt(node.mqtt, f"live-{who}", **login(who))
        self.live.subscribe((topic, 0))
        self.kept = open_mqtt(node.mqtt, f"kept-{who}", clean=False, values=[(m.SESSION_EXPIRY, 3_600)], **login(who))
        self.kept.subscribe((topic, 1))
        self.away = open_mqtt(node.mqtt, f"away-{who}", clean=False, values=[(m.SESSION_EXPIRY, 3_600)], **login(who),
                              will=m.Will(f"r/{who}/will", b"too late", qos=1, properties=[(m.WILL_DELAY, 5)]))
        self.away.subscribe((topic, 1))
        self.sse = CurlSse(node.url("http", f"/v1/events?filter={topic.replace('#', '%23')}"),
                           *(f"-H{name}: {value}" for name, value in fields(who).items()))
        self.sse.__enter__()
        self.socket = Socket(node, who)
        self._put("hook", {"filters": [topic], "push": {"url": receiver.url}})
        self._put("pull", {"filters": [topic], "mode": "shared"})
        self._put("failing", {"filters": [topic], "mode": "shared", "max_deliveries": 1, "backoff_initial_s": 0.05})
        self.pulled: list[int] = []
        self.kept_http = http.client.HTTPConnection(*node.address("http"), timeout=60)
        assert self.post() == 200

    def _put(self, name: str, body: object) -> None:
        answer = request("PUT", self.node.url("http", f"/v1/consumers/{name}-{self.who}"), json.dumps(body).encode(),
                         {"Content-Type": "application/json", **fields(self.who)})
        assert answer.status in (200, 201), answer.text

    def post(self) -> int:
        """On a connection that is kept alive, so that its login is remembered."""
        self.kept_http.request("POST", f"/v1/events/r/{self.who}/post", b"posted", fields(self.who))
        answer = self.kept_http.getresponse()
        answer.read()
        return answer.status

    def pull(self, name: str, wait_s: int) -> tuple[int, list[dict[str, object]]]:
        answer = request(
            "POST", self.node.url("http", f"/v1/consumers/{name}-{self.who}/pull"),
            json.dumps({"wait_s": wait_s}).encode(), {"Content-Type": "application/json", **fields(self.who)})
        return answer.status, answer.json.get("events", []) if answer.status == 200 else []

    def start_waiting(self) -> None:
        while self.pull("pull", 0)[1]:
            pass
        def wait() -> None:
            try:
                self.pulled.append(self.pull("pull", 30)[0])
            except OSError:                     # the node was restarted
                pass

        self.waiting = threading.Thread(target=wait, daemon=True)
        self.waiting.start()

    def close(self) -> None:
        for client in (self.live, self.kept, self.away):
            client.drop()
        self.sse.__exit__()
        self.socket.socket.close()
        self.kept_http.close()


class Scene:
    """The node after the change, and what everybody had open before it."""

    def __init__(self, folder: Path, *, managed: bool) -> None:
        self.receiver = Receiver()
        stored = hash_password(PASSWORD.decode())
        self.node = Node(folder, extra=toml(self.receiver, stored, after=False, managed=managed)).start()
        if managed:
            self._apply(documents(stored, after=False))
        self.opened = {who: Opened(self.node, who, self.receiver) for who in KINDS}
        for who in KINDS:
            assert self.publish(who, "before") == 200
        for who, it in self.opened.items():
            assert it.live.message().payload == b"posted" and it.live.message().payload == b"before", who
            wait_until(partial(self.was_pushed, who, b"before"), "the webhook gets it")
            it.start_waiting()
        for who, it in self.opened.items():         # a dead letter each, which only who may read the original reads
            status, events = it.pull("failing", 5)
            assert status == 200 and events
            answer = request("POST", self.node.url("http", f"/v1/consumers/failing-{who}/nack"),
                             json.dumps({"tokens": [event["token"] for event in events]}).encode(),
                             {"Content-Type": "application/json", **fields(who)})
            assert answer.status == 200, answer.text
        for it in self.opened.values():
            it.away.drop()                          # its will waits
        if managed:
            self._apply(documents(stored, after=True))
        else:
            self.node.write_config(toml(self.receiver, stored, after=True, managed=False))
            self.node.sighup()
            wait_until(lambda: "configuration taken" in self.node.process.log_text(), "the reload is done")
        self.reloaded_s = time.monotonic()

    def _apply(self, changes: list[dict[str, object]]) -> None:
        admin = Admin(self.node, fields("keeper"))
        answer = admin.ask("PUT", "drafts/all of it", {"changes": changes})
        assert answer.status == 200, answer.text
        assert admin.ask("POST", "drafts/all of it/apply", {}).status == 200

    def publish(self, who: str, payload: str) -> int:
        return self.node.publish(f"r/{who}/x", payload.encode(), fields("keeper")).status

    def was_pushed(self, who: str, payload: bytes) -> bool:
        """To the webhook of that user: its consumer reads no other topics, and the payload is in the body as it is."""
        return any(payload in body and f"r/{who}/x" in str(fields) for fields, body in self.receiver.got)

    def close(self) -> None:
        for it in self.opened.values():
            it.close()
        self.node.stop()
        self.receiver.shutdown()
        self.receiver.server_close()
        assert "Traceback" not in self.node.process.log_text(), self.node.process.log_tail(80)


@pytest.fixture(scope="module", params=["reload", "managed"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tmp_path_factory.mktemp("revocation"), managed=request.param == "managed")
    yield scene
    scene.close()


@pytest.fixture(scope="module")
def after(scene: Scene) -> Scene:
    """Something was published to everybody's topics after the reload, and had the time to arrive."""
    wait_until(lambda: scene.opened["user"].socket.closed.is_set(), "the reload has been heard of")
    for who in KINDS:
        assert scene.publish(who, "after") == 200
    with open_mqtt(scene.node.mqtt, "end", **login("keeper")) as keeper:
        keeper.subscribe(("end", 1))
        keeper.publish_acked("end", b"end")
        assert keeper.message().payload == b"end"
    return scene


@pytest.mark.parametrize("who", KINDS)
def test_mqtt(after: Scene, who: str) -> None:
    for client in (after.opened[who].live, after.opened[who].kept):
        if who in ENDED:
            goodbye = client.expect_close()
            assert goodbye is not None and goodbye.code == 0x87
        else:
            client.ping()
        assert not [one for one in client.pending if one.kind == m.PUBLISH and one.payload == b"after"]


@pytest.mark.parametrize("who", KINDS)
def test_a_session_that_is_away_and_its_will(after: Scene, who: str) -> None:
    """It is kept until it expires, and gets nothing; the will is refused like any other publish of the user's."""
    if who not in ENDED:
        with open_mqtt(after.node.mqtt, f"away-{who}", clean=False, values=[(m.SESSION_EXPIRY, 3_600)],
                       **login(who)) as client:
            client.ping()
            assert b"after" not in [one.payload for one in client.pending if one.kind == m.PUBLISH]
    rows = after.node.get("/api/v1/consumers", fields("keeper")).json["consumers"]
    assert f"mqtt/away-{who}" in [row["name"] for row in rows]


def test_no_will_is_published(after: Scene) -> None:
    with open_mqtt(after.node.mqtt, "watch", **login("keeper")) as keeper:
        keeper.subscribe(("r/+/will", 1))
        wait_until(lambda: "will of 'away-user' refused" in after.node.process.log_text(), "the will was due")
        keeper.ping()
        assert not [one for one in keeper.pending if one.topic in ("r/user/will", "r/key/will")]


@pytest.mark.parametrize("who", KINDS)
def test_sse(after: Scene, who: str) -> None:
    """Nothing that it asked for may be read any more, so it ends."""
    stream = after.opened[who].sse
    stream.thread.join(30)
    assert not stream.thread.is_alive() and "after" not in stream.text
    assert ("login does not hold" if who in ENDED else "rules do not allow") in stream.text


@pytest.mark.parametrize("who", KINDS)
def test_websocket(after: Scene, who: str) -> None:
    socket = after.opened[who].socket
    if who in ENDED:
        assert socket.closed.wait(30) and "goodbye" in socket.ops()
    else:
        wait_until(lambda: "closed" in socket.ops(), "the subscription is closed")
    assert "after" not in str(list(socket.told.queue))


@pytest.mark.parametrize("who", KINDS)
def test_a_pull_that_waits(after: Scene, who: str) -> None:
    it = after.opened[who]
    if who in ENDED:
        it.waiting.join(30)
        assert it.pulled == [403]
        assert it.pull("pull", 0)[0] == 401
    else:
        assert it.pull("pull", 0) == (200, [])


@pytest.mark.parametrize("who", KINDS)
def test_a_connection_whose_login_is_remembered(after: Scene, who: str) -> None:
    assert after.opened[who].post() == (401 if who in ENDED else 403)


@pytest.mark.parametrize("who", KINDS)
def test_a_webhook_pushes_no_more_over_a_restart_neither(after: Scene, who: str) -> None:
    assert not after.was_pushed(who, b"after")
    rows = {row["consumer"]: row for row in after.node.get("/api/v1/webhooks", fields("keeper")).json["webhooks"]}
    assert (rows[f"hook-{who}"]["state"] == "not served") is (who in ENDED)


@pytest.mark.parametrize("who", KINDS)
def test_dead_letters_are_read_by_who_may_read_their_originals(after: Scene, who: str) -> None:
    answer = after.node.get(f"/v1/consumers/failing-{who}/dead-letters", fields(who), listener="http")
    if who in ENDED:
        assert answer.status == 401
    else:
        assert answer.status == 403 or answer.json["dead_letters"] == []


def test_nothing_comes_back_with_a_restart(after: Scene) -> None:
    """Last: the owners of webhooks are asked for before anything is served."""
    before = len(after.receiver.got)
    after.node.restart()
    for who in KINDS:
        assert after.publish(who, "later") == 200
    with open_mqtt(after.node.mqtt, "end", **login("keeper")) as keeper:
        keeper.subscribe(("end", 1))
        keeper.publish_acked("end", b"end")
        assert keeper.message().payload == b"end"
    assert len(after.receiver.got) == before
