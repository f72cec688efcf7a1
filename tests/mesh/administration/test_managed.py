"""Users, keys, roles and policies that are managed while a node runs: API, effect, versions, the way back."""
from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.admin import ROOT, ROOT_ENVIRONMENT, Admin, basic
from tests.support.node import Node, meshgate
from tests.support.rawmqtt import open_mqtt
from tests.support.wait import wait_until

FILE = ROOT + '''
[[users]]
name = "filed"
[[policies]]
name = "of the file"
allow = ["publish", "subscribe"]
to = ["role:reader"]
topics = ["plant/#"]
'''
BOB = "bob's password"


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    node = Node(tmp_path_factory.mktemp("managed"), extra=FILE).start()
    yield Admin(node)
    node.kill9()


def put_status(admin: Admin, user: str, topic: str, password: str = BOB) -> int:
    return admin.node.publish(topic, b"x", basic(user, password)).status


def test_a_user_logs_in_as_soon_as_he_is_made_and_his_role_holds_another(admin: Admin) -> None:
    assert put_status(admin, "bob", "plant/1") == 401
    admin.must_put("users/bob", password=BOB, roles=["chief"])
    assert put_status(admin, "bob", "plant/1") == 403
    admin.must_put("roles/reader", held_by=["chief"])
    assert put_status(admin, "bob", "plant/1") == 200
    rule = next(row for row in admin.rows("policies") if row["name"] == "of the file")
    assert rule["to"] == ["role:reader", "role:chief"] and rule["source"] == "file"
    assert "password" not in str(admin.ask("GET", "users/bob").json["document"].get("password_hash"))


def test_deny_beats_allow_and_what_lived_by_a_right_ends_or_narrows_within_a_second(admin: Admin) -> None:
    admin.must_put("users/eve", password=BOB, roles=["reader"])
    with open_mqtt(admin.node.mqtt, "eve", username="eve", password=BOB.encode()) as client:
        client.subscribe(("plant/#", 1))
        version = admin.must_put("policies/not the oven", deny=["subscribe"], to=["user:eve"],
                                 topics=["plant/oven/#"])["version"]
        assert put_status(admin, "bob", "plant/oven/1") == 200 and put_status(admin, "bob", "plant/lamp") == 200
        assert client.message().topic == "plant/lamp"
        assert admin.ask("DELETE", "policies/not the oven", {"version": version}).status == 200
        assert put_status(admin, "bob", "plant/oven/2") == 200          # given back: without a new connection
        assert client.message().topic == "plant/oven/2"
        version = admin.ask("GET", "users/eve").json["version"]
        began_s = time.monotonic()
        assert admin.put("users/eve", version, enabled=False).status == 200
        client.expect_close()
        assert time.monotonic() - began_s < 3                           # 1 s, and a machine that has other work
    assert put_status(admin, "eve", "plant/1") == 401


def test_what_the_file_says_is_changed_in_the_file(admin: Admin) -> None:
    for path, document in (("users/root", {"roles": []}), ("policies/of the file", {"deny": ["publish"], "to": ["*"]})):
        answer = admin.put(path, **document)
        assert answer.status == 409 and "configuration file" in answer.json["detail"]
        assert admin.ask("DELETE", path, {}).status == 409
    assert {row["name"]: row["source"] for row in admin.rows("users")}["root"] == "file"


def test_two_admins_at_once_the_second_is_told_what_differs(admin: Admin) -> None:
    seen = admin.must_put("policies/shared", allow=["publish"], to=["user:a"], topics=["a/#"])["version"]
    second = admin.must_put("policies/shared", seen, allow=["publish"], to=["user:a"], topics=["b/#"])["version"]
    answer = admin.put("policies/shared", seen, allow=["publish"], to=["user:a"], topics=["c/#"])
    assert answer.status == 409 and answer.json["type"] == "/problems/conflict"
    conflict, = answer.json["conflicts"]
    assert conflict["differs"] == {"topics": [["b/#"], ["c/#"]]}
    assert (conflict["by"], conflict["your_version"], conflict["version"]) == ("root", seen, second)
    assert admin.ask("PUT", "policies/shared", {"document": {"allow": ["publish"], "to": ["user:a"]}},
                     If_Match=f'"{second}"').status == 200
    assert admin.put("policies/shared", allow=["publish"], to=["user:a"]).status == 409     # without having seen any
    assert admin.ask("DELETE", "policies/shared", {"version": seen}).status == 409


@pytest.mark.parametrize("document", [
    {"deny": ["manage"], "to": ["*"]}, {"deny": ["administer"], "to": ["role:admin"]},
    {"deny": ["connect"], "to": ["*"]}, {"deny": ["view"], "to": ["user:root"]},
    {"deny": ["manage"], "to": ["*"], "from": "2040-01-01T00:00:00Z"},
])
def test_a_rule_that_would_lock_everybody_out_is_refused(admin: Admin, document: dict[str, object]) -> None:
    answer = admin.ask("PUT", "policies/lock", {"document": document})
    assert answer.status == 409 and "nobody who can log in" in answer.json["detail"]
    assert admin.ask("GET", "policies/lock").status == 404
    draft = {"changes": [{"kind": "policy", "name": "lock", "document": document}]}
    assert admin.ask("PUT", "drafts/lock", draft).status == 200
    assert "nobody" in admin.ask("GET", "drafts/lock").json["problem"]
    assert admin.ask("POST", "drafts/lock/apply", {}).status == 409
    assert admin.ask("DELETE", "drafts/lock", {}).status == 200


def test_somebody_else_who_may_administer_is_a_way_in(admin: Admin) -> None:
    admin.must_put("users/second", password=BOB, roles=["admin"])
    version = admin.must_put("policies/not root", deny=["administer"], to=["user:root"])["version"]
    second = Admin(admin.node, basic("second", BOB))
    assert admin.rows("policies") and admin.ask("GET", "users").status == 403
    refused = second.put("users/second", second.ask("GET", "users/second").json["version"], roles=[])
    assert refused.status == 409                                        # he is the last one now
    assert second.ask("DELETE", "policies/not root", {"version": version}).status == 200
    assert admin.ask("GET", "users").status == 200


def test_a_draft_is_one_step_and_a_stale_one_is_refused(admin: Admin) -> None:
    admin.must_put("policies/base", allow=["publish"], to=["user:a"], topics=["a"])
    changes = [{"kind": "policy", "name": "base", "document": {"allow": ["publish"], "to": ["user:a"]}},
               {"kind": "user", "name": "drafted", "document": {"password": BOB, "roles": ["reader"]}}]
    answer = admin.ask("PUT", "drafts/two changes", {"changes": changes, "reason": "spring"})
    assert answer.status == 200, answer.text
    assert put_status(admin, "drafted", "plant/1") == 401
    shown = admin.ask("GET", "drafts/two changes").json
    assert shown["changes"][0]["changes"] == {"topics": [["a"], None]} and BOB not in str(shown)
    admin.must_put("policies/base", shown["changes"][0]["version"], allow=["publish"], to=["user:a"], topics=["z"])
    assert admin.ask("POST", "drafts/two changes/apply", {}).status == 409
    assert put_status(admin, "drafted", "plant/1") == 401               # nothing of it was done
    assert admin.ask("PUT", "drafts/two changes", {"changes": changes, "reason": "spring"}).status == 200
    dry = admin.ask("POST", "drafts/two changes/apply", {"dry_run": True}).json
    assert dry["dry_run"] and [one["name"] for one in dry["documents"]] == ["base", "drafted"]
    done = admin.ask("POST", "drafts/two changes/apply", {})
    assert done.status == 200 and done.json["documents"] == ["policy/base", "user/drafted"]
    assert put_status(admin, "drafted", "plant/1") == 200
    assert admin.ask("GET", "drafts/two changes").status == 404
    record = admin.rows("audit")[0]
    assert record["act"] == "draft.apply" and record["reason"] == "spring" and "argon2" not in str(record)


def test_every_step_can_be_brought_back(admin: Admin) -> None:
    before = admin.must_put("users/back", password=BOB, roles=["reader"])["revision"]
    version = admin.ask("GET", "users/back").json["version"]
    assert admin.ask("DELETE", "users/back", {"version": version}).status == 200
    admin.must_put("policies/later", allow=["publish"], to=["user:a"])
    assert put_status(admin, "back", "plant/1") == 401
    answer = admin.ask("POST", f"revisions/{before}/rollback", {"reason": "it was wrong"})
    assert answer.status == 200, answer.text
    assert put_status(admin, "back", "plant/1") == 200                  # with the password that he had
    assert admin.ask("GET", "policies/later").status == 404
    assert [one["reason"] for one in admin.ask("GET", "users/back").json["versions"]] == ["it was wrong", "", ""]
    assert admin.ask("POST", f"revisions/{before}/rollback", {}).status == 400      # nothing differs
    assert admin.ask("POST", "revisions/99999/rollback", {}).status == 400
    assert admin.ask("POST", "revisions/x/rollback", {}).status == 404


def test_a_key_is_shown_once_rotated_with_an_overlap_and_revoked(admin: Admin) -> None:
    first = admin.must_put("keys/till", roles=["reader"])["key"]

    def works(key: str) -> bool:
        return admin.node.publish("plant/1", b"x", {"X-API-Key": key}).status == 200
    assert works(first) and first not in str(admin.rows("keys")) + str(admin.rows("audit"))
    second = admin.ask("POST", "keys/till/rotate", {"overlap_s": 1.5}).json["key"]
    assert works(first) and works(second)
    wait_until(lambda: not works(first), "the old key ends by itself", deadline_s=10)
    assert works(second)
    with open_mqtt(admin.node.mqtt, "till", username="bearer", password=second.encode()) as client:
        version = admin.ask("GET", "keys/till").json["version"]
        assert admin.ask("DELETE", "keys/till", {"version": version}).status == 200
        client.expect_close()
    assert not works(second)


def test_a_right_begins_and_ends_by_the_clock(admin: Admin) -> None:
    def at(seconds: float) -> str:
        return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    admin.must_put("users/timed", password=BOB)
    admin.must_put("policies/everybody writes", allow=["publish"], to=["user:bob"], topics=["timed/#", "done"])
    admin.must_put("policies/the end", allow=["subscribe"], to=["user:timed"], topics=["done"])
    version = admin.must_put("policies/for a moment", allow=["subscribe"], to=["user:timed"], topics=["timed/#"],
                             until=at(600))["version"]

    def state() -> str:
        return str({row["name"]: row["state"] for row in admin.rows("policies")}["for a moment"])
    with open_mqtt(admin.node.mqtt, "timed", username="timed", password=BOB.encode()) as client:
        client.subscribe(("timed/#", 1), ("done", 1))
        admin.must_put("policies/for a moment", version, allow=["subscribe"], to=["user:timed"], topics=["timed/#"],
                       from_=at(1.5), until=at(3.5))
        for expected in ("not yet", "in force", "over"):
            wait_until(lambda expected=expected: state() == expected, f"the rule is {expected}", deadline_s=10)
            assert put_status(admin, "bob", f"timed/{expected.replace(' ', '-')}") == 200
        assert put_status(admin, "bob", "done") == 200
        assert [client.message().topic for _ in range(2)] == ["timed/in-force", "done"]


def test_documents_for_other_nodes_do_nothing_here(admin: Admin) -> None:
    made = admin.must_put("users/elsewhere", password=BOB, roles=["admin"], nodes=["graz-1"])
    assert made["state"] == "elsewhere" and put_status(admin, "elsewhere", "plant/1") == 401


def test_who_may_not_administer_changes_nothing_and_is_on_record(admin: Admin) -> None:
    bob = Admin(admin.node, basic("bob", BOB))
    assert bob.put("users/bob", password="another one", roles=["admin"]).status == 403
    assert bob.ask("POST", "revisions/1/rollback", {}).status == 403
    record = admin.rows("audit")[0]
    assert (record["outcome"], record["user"]) == ("denied", "bob")


def test_everything_is_there_after_a_kill(admin: Admin) -> None:
    tables = ("users", "roles", "policies", "revisions", "conflicts", "drafts")
    admin.ask("PUT", "drafts/kept", {"changes": [{"kind": "role", "name": "x", "document": {"held_by": ["y"]}}]})
    before = {table: admin.rows(table) for table in tables}
    admin.node.kill9()
    admin.node.restart()
    assert {table: admin.rows(table) for table in tables} == before
    assert put_status(admin, "bob", "plant/1") == 200
    admin.node.sighup()                                                 # a reload of the file leaves them in force
    wait_until(lambda: "configuration taken" in admin.node.process.log_tail(), "the reload")
    assert put_status(admin, "bob", "plant/1") == 200


def test_the_commands(admin: Admin) -> None:
    environment = {**ROOT_ENVIRONMENT, "MESHGATE_CONSOLE": admin.node.url("console"), "MESHGATE_NEW_PASSWORD": BOB}

    def run(*words: str, code: int = 0, stdin: bytes | None = None) -> str:
        done = meshgate(*words, environment=environment, input=stdin)
        assert done.returncode == code, done.stderr.decode()
        return done.stdout.decode() + done.stderr.decode()
    assert "would be" in run("user", "add", "carl", "--role", "reader", "--dry-run")
    assert "carl" not in run("user", "list")
    run("user", "add", "carl", "--role", "reader", "--reason", "a new one")
    assert put_status(admin, "carl", "plant/1") == 200
    assert "there is a user carl already" in run("user", "add", "carl", code=1)
    assert run("policy", "can-i", "carl", "publish", "plant/1").startswith("yes: of the file")
    assert run("policy", "can-i", "carl", "publish", "x", code=1).startswith("no:")
    run("user", "lock", "carl")
    assert put_status(admin, "carl", "plant/1") == 401
    run("user", "unlock", "carl")
    run("user", "roles", "carl")
    assert put_status(admin, "carl", "plant/1") == 403
    run("policy", "set", "carl writes", "-", stdin=b'{"allow": ["publish"], "to": ["user:carl"], "topics": ["c/#"]}')
    assert put_status(admin, "carl", "c/1") == 200
    draft = b'{"changes": [{"kind": "policy", "name": "carl writes", "document": null}]}'
    run("policy", "draft", "gone", "-", stdin=draft)
    assert "gone" in run("policy", "drafts")
    run("policy", "apply", "gone")
    assert put_status(admin, "carl", "c/1") == 403
    number = run("policy", "history").split("\n")[2].split()[0]
    run("policy", "rollback", number)
    assert put_status(admin, "carl", "c/1") == 200
    key = run("key", "new", "cli", "--role", "reader", "--expires", "1d").split()[-1]
    assert admin.node.publish("plant/1", b"x", {"X-API-Key": key}).status == 200
    run("key", "rotate", "cli", "--overlap", "0s")
    run("key", "revoke", "cli")
    assert "there is no managed" in run("key", "revoke", "cli", code=1)


def test_a_node_without_users_takes_no_documents(tmp_path: Path) -> None:
    node = Node(tmp_path).start()
    try:
        answer = Admin(node, {}).put("users/ana", password=BOB, roles=["admin"])
        assert answer.status == 400 and "nobody logs in" in answer.json["detail"]
    finally:
        node.kill9()


def test_a_change_whose_answer_was_lost_is_answered_again_by_its_key(admin: Admin) -> None:
    """A change cannot be prepared twice: the second time it is stale, by its own author."""
    document = {"document": {"allow": ["publish"], "to": ["user:a"], "topics": ["again/#"]}}
    first, second = [admin.ask("PUT", "policies/again", document, Idempotency_Key="put") for _ in range(2)]
    assert first.status == second.status == 200 and first.json == second.json
    assert admin.ask("PUT", "policies/again", document, Idempotency_Key="another").status == 409
    made = [admin.ask("POST", "keys/again/rotate", {}, Idempotency_Key="key").status for _ in range(2)]
    assert made == [404, 404]                           # what was refused is asked again
    draft = {"changes": [{"kind": "policy", "name": "again", "document": None}]}
    assert admin.ask("PUT", "drafts/again", draft).status == 200
    first, second = [admin.ask("POST", "drafts/again/apply", {}, Idempotency_Key="apply") for _ in range(2)]
    assert first.status == second.status == 200 and first.json == second.json
    number = first.json["revision"] - 1
    first, second = [admin.ask("POST", f"revisions/{number}/rollback", {}, Idempotency_Key="back") for _ in range(2)]
    assert first.status == second.status == 200 and first.json == second.json
    version = admin.ask("GET", "policies/again").json["version"]
    first, second = [admin.ask("DELETE", "policies/again", {"version": version}, Idempotency_Key="delete")
                     for _ in range(2)]
    assert first.status == second.status == 200 and first.json == second.json
