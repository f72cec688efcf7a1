"""A login from a terminal is a proof at the listeners of clients, too; what was opened by it ends with it."""
from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesh.commands.access.login import http_url
from mesh.configuration.settings import ConsoleSettings
from mesh.identity.users import hash_password
from mesh.management.sessions import BROWSER, TERMINAL, Sessions
from routing.logins import Logins
from routing.rights.policy import Identity
from tests.support.admin import basic
from tests.support.node import COMMAND, ROOT, Node, meshgate
from tests.support.rawmqtt import open_mqtt
from tests.support.wait import DEADLINE_S

PASSWORD = "correct horse"
CONFIG = f"""
[[users]]
name = "ana"
password_hash = "{hash_password(PASSWORD)}"
roles = ["operator"]
[[users]]
name = "root"
password_hash = "{hash_password(PASSWORD)}"
roles = ["admin"]
[[policies]]
name = "operators"
allow = ["publish", "subscribe"]
to = ["role:operator"]
topics = ["plant/#"]
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("elsewhere"), extra=CONFIG).start()
    yield started
    started.kill9()


class Terminal:
    """Somebody with contexts of his own."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.environment = {"XDG_CONFIG_HOME": str(folder), "MESHGATE_PASSWORD": PASSWORD}
        self.run("login", node.url("console"), "--user", "ana")
        del self.environment["MESHGATE_PASSWORD"]

    def run(self, *words: str, code: int = 0) -> str:
        done = meshgate(*words, environment=self.environment)
        assert done.returncode == code, done.stdout + done.stderr
        return (done.stdout + done.stderr).decode()

    @property
    def login(self) -> dict[str, str]:
        file = Path(self.environment["XDG_CONFIG_HOME"]) / "meshgate" / "contexts.json"
        return {"Authorization": f"Bearer {json.loads(file.read_text())['contexts']['127.0.0.1']['token']}"}


@pytest.fixture
def ana(node: Node, tmp_path: Path) -> Terminal:
    return Terminal(node, tmp_path)


def test_pub_and_sub_go_where_the_login_is_and_by_its_rights(ana: Terminal) -> None:
    assert ana.run("pub", "plant/oven", "hot").startswith("stored as events/0")
    assert ana.run("sub", "plant/oven", "--from", "earliest", "--count", "1") == "plant/oven hot\n"
    told = ana.run("pub", "hr/salaries", "x", code=1)
    assert "user ana may not publish hr/salaries: no rule allows it (denial " in told and "meshgate why " in told
    other = ana.node.url("http")
    told = ana.run("pub", "plant/oven", "x", "--url", other, code=1)
    assert "wants a user name and a password" in told and "--user NAME, or log in once: meshgate login" in told, \
        "the token of a login is not shown to an address that somebody names"
    ana.environment["MESHGATE_PASSWORD"] = "a wrong one"
    assert "user name or password is wrong" in ana.run("pub", "plant/oven", "x", "--user", "root", code=1)


def test_logout_ends_what_was_opened_by_the_login_and_the_reader_is_told_where_to_log_in(ana: Terminal) -> None:
    ana.run("pub", "plant/kept", "one")
    reader = subprocess.Popen([*COMMAND, "sub", "plant/kept", "--from", "earliest"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT), **ana.environment})
    try:
        assert reader.stdout is not None and reader.stdout.readline() == b"plant/kept one\n"
        answer = ana.node.post("/api/v1/logins/end", b'{"user": "ana"}', basic("root", PASSWORD), listener="console")
        assert answer.json["ended"] >= 1
        _, said = reader.communicate(timeout=DEADLINE_S)
    finally:
        reader.kill()
    assert reader.returncode == 1, said
    assert b"the login has ended: log in again (meshgate login " in said and ana.node.url("console").encode() in said


def test_it_holds_on_every_protocol_and_not_beyond_its_user(ana: Terminal) -> None:
    token = ana.login["Authorization"].removeprefix("Bearer ").encode()
    assert ana.node.publish("plant/oven", b"x", ana.login).status == 200
    login = ana.login
    with open_mqtt(ana.node.mqtt, "cli", version=5, username="ana", password=token) as client:
        client.publish_acked("plant/oven", b"y")
        ana.run("logout")
        client.expect_close()
    assert ana.node.publish("plant/oven", b"x", login).status == 401


def test_why_tells_what_mqtt_3_has_no_word_for(ana: Terminal) -> None:
    with open_mqtt(ana.node.mqtt, "lamp-7", version=4, username="ana", password=PASSWORD.encode()) as client:
        client.publish("hr/lamp", b"x", qos=1)
        assert client.expect_close() is None, "no word, no code: the connection is gone"
    config = ["--config", str(ana.node.config)]
    told = ana.run("why", "lamp-7", *config)
    assert "ana (mqtt, client lamp-7, 127.0.0.1:" in told and "may not publish hr/lamp" in told
    assert "no rule allows it" in told and "to allow it: allow publish to user:ana on hr/lamp" in told
    number = told.rpartition("meshgate policy allow ")[2].split()[0]
    assert ana.run("why", number, *config) == told
    assert "user ana may not publish hr/lamp: no rule allows it (denial" in ana.node.process.log_text()
    assert "denial" in ana.run("policy", "allow", number, *config)
    ana.run("policy", "apply", f"denial {number}", *config)
    assert "by now   yes: " in ana.run("why", "lamp-7", *config)
    assert ana.run("why", "lamp-8", *config).startswith("nothing of lamp-8 was refused")
    with open_mqtt(ana.node.mqtt, "lamp-7", version=4, username="ana", password=PASSWORD.encode()) as client:
        client.publish_acked("hr/lamp", b"x")
    ana.environment["MESHGATE_PASSWORD"] = "a wrong one"
    ana.run("pub", "a", "b", "--user", "eve", code=1)
    assert "bad credentials" in ana.run("why", "eve", *config)


class Clock:
    now_s = 1_000.0

    def s(self) -> float:
        return self.now_s

    def ms(self) -> int:
        return round(self.now_s * 1000)


def test_who_reads_a_stream_is_not_idle_and_no_login_outlives_its_time() -> None:
    clock, held, ended = Clock(), {"login:none"}, []
    settings = ConsoleSettings()
    sessions = Sessions(clock.s, clock.ms, settings)
    sessions.is_held = held.__contains__
    sessions.on_end.append(ended.append)
    ana = Identity("ana", ("operator", "authenticated"), proof="password")
    reading, idle = sessions.open(ana, TERMINAL), sessions.open(ana, TERMINAL)
    found = sessions.by_secret(reading)
    assert found is not None and found.roles == ("operator",) and sessions.by_secret(idle) is not None
    assert found.expires_ms == clock.ms() + settings.session_s * 1000
    held.add(found.proof)
    clock.now_s += settings.session_idle_s + 1
    assert sessions.by_secret(idle) is None and sessions.by_secret(reading) is not None
    assert len(ended) == 1 and sessions.identity_of(found.proof.removeprefix("login:")) == ana
    clock.now_s += settings.session_s
    assert sessions.by_secret(reading) is None and found.proof in ended


def test_the_cookie_of_a_browser_is_no_token() -> None:
    clock = Clock()
    sessions = Sessions(clock.s, clock.ms, ConsoleSettings())
    assert sessions.by_secret(sessions.open(Identity("ana"), BROWSER)) is None


def test_the_end_of_a_login_reaches_those_who_hold_something_by_it_and_nobody_else() -> None:
    class Holder:
        def __init__(self, proof: str) -> None:
            self.identity, self.told = Identity("ana", proof=proof), 0

        def rights_changed(self, identity: Identity) -> None:
            self.told += 1

    turns: list[Callable[[], None]] = []
    logins = Logins(turns.append, lambda: (), lambda consumer, rules: None, lambda: None)
    mine, others = [Holder("login:1") for _ in range(1_000)], [Holder("login:2"), Holder("password")]
    for holder in (*mine, *others):
        logins.add(holder)
    gone = mine.pop()
    logins.discard(gone)
    mine[0].identity = Identity("ana", proof="password")
    logins.add(mine[0])                                 # logged in again, by another proof
    before = logins.generation
    logins.ended("login:1")
    assert sum(holder.told for holder in mine) <= 30, "not all of them in one turn"
    while turns:
        turns.pop()()
    assert [holder.told for holder in mine] == [0] + [1] * 998 and not any(one.told for one in (gone, *others))
    assert logins.generation == before and len(logins) == 1_001
    assert logins.holds("login:2") and not logins.holds("login:3")


def test_a_login_by_tls_is_shown_to_tls_alone() -> None:
    both = {"http": [{"port": 8080, "tls": False}, {"port": 8443, "tls": True}]}
    assert http_url("https://ops.example:8090/mesh", both) == "https://ops.example:8443"
    assert http_url("http://127.0.0.1:8090", both) == "http://127.0.0.1:8080"
    assert http_url("https://ops.example:8090", {"http": both["http"][:1]}) == ""
    assert http_url("http://[::1]:8090", {"http": both["http"][1:]}) == "https://[::1]:8443"
    assert http_url("http://127.0.0.1:8090", {}) == "", "an older node does not say"
