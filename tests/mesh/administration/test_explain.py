"""Every denial has a number that leads to why, by the rules of then, and to a rule that allows it and nothing else."""
from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.admin import ROOT, ROOT_ENVIRONMENT, Admin, basic
from tests.support.node import HOST, Node, meshgate
from tests.support.rawmqtt import PUBACK, open_mqtt, publish_packet

REASON = 0x1F               # Reason String, MQTT 5 §3.4.2.2.2
BOB = "bob's password"
LOGIN = basic("bob", BOB)


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    node = Node(tmp_path_factory.mktemp("explain"), listeners=("mqtt", "http", "console"), extra=ROOT).start()
    admin = Admin(node)
    admin.must_put("users/bob", password=BOB, roles=["till"])
    admin.must_put("policies/pays", allow=["publish"], to=["role:till"], topics=["pay/#"])
    admin.must_put("policies/never", deny=["publish"], to=["role:till"], topics=["pay/secret/#"])
    yield admin
    node.kill9()
    assert "Traceback" not in node.process.log_text(), node.process.log_tail(60)


def denied(admin: Admin, topic: str) -> int:
    answer = admin.node.publish(topic, b"x", LOGIN)
    assert answer.status == 403
    found = re.search(r"\(denial (\d+)\)", answer.json["detail"])
    assert found is not None, answer.text
    return int(found[1])


def test_a_refusal_has_the_number_of_its_denial_on_mqtt_too(admin: Admin) -> None:
    with open_mqtt(admin.node.mqtt, "c-bob", username="bob", password=BOB.encode()) as client:
        client.send(publish_packet("orders/mqtt", b"x", qos=1, packet_id=7))
        answer = client.expect(PUBACK, packet_id=7)
    row = admin.rows("denials")[0]
    assert row["topic"] == "orders/mqtt" and f"(denial {row['id']})" in str(answer.get(REASON))


def test_it_is_explained_by_the_rules_of_then(admin: Admin) -> None:
    first = denied(admin, "orders/1")
    admin.must_put("policies/orders", allow=["publish"], to=["user:bob"], topics=["orders/1"])
    version = admin.ask("GET", "policies/orders").json["version"]
    found = admin.ask("GET", f"denials/{first}").json
    assert (found["user"], found["topic"], found["roles"]) == ("bob", "orders/1", ["till", "authenticated"])
    assert found["then"]["allowed"] is False and found["then"]["rule"] == "no rule allows it"
    assert found["now"] == {"allowed": True, "rule": "orders", "runner_up": "no rule allows it",
                            "change": "remove orders"}
    assert not found["file_read_since"] and found["revision"] < admin.rows("revisions")[0]["revision"]
    assert admin.ask("DELETE", "policies/orders", {"version": version}).status == 200
    second = denied(admin, "pay/secret/1")
    found = admin.ask("GET", f"denials/{second}").json
    assert found["then"]["rule"] == found["now"]["rule"] == "never" and found["then"]["runner_up"] == "pays"


def test_a_rule_for_a_denial_allows_that_and_nothing_else(admin: Admin) -> None:
    number = denied(admin, "orders/wien/7")
    made = admin.ask("POST", f"denials/{number}/draft", {})
    assert made.status == 200 and made.json["name"] == f"denial {number}"
    assert {name: made.json["document"][name] for name in ("allow", "to", "topics")} == {
        "allow": ["publish"], "to": ["user:bob"], "topics": ["orders/wien/7"]}
    assert admin.node.publish("orders/wien/7", b"x", LOGIN).status == 403, "it is a draft"
    assert admin.ask("POST", f"drafts/denial {number}/simulate", {"hours": 1}).json["newly_allowed"]["uses"] == 1
    assert admin.ask("POST", f"drafts/denial {number}/apply", {}).status == 200
    assert admin.node.publish("orders/wien/7", b"x", LOGIN).status == 200
    for topic in ("orders/wien/8", "orders/wien", "orders/wien/7/x"):
        assert admin.node.publish(topic, b"x", LOGIN).status == 403
    again = admin.ask("POST", f"denials/{number}/draft", {})
    assert again.status == 409 and "allowed by now" in again.json["detail"]


def test_what_a_rule_denies_is_not_made_allowed_by_the_way(admin: Admin) -> None:
    number = denied(admin, "pay/secret/2")
    answer = admin.ask("POST", f"denials/{number}/draft", {})
    assert answer.status == 409 and answer.json["detail"].startswith("never denies it")


def test_several_denials_go_into_one_draft(admin: Admin) -> None:
    numbers = [denied(admin, f"stock/{one}") for one in range(3)]
    for number in numbers:
        assert admin.ask("POST", f"denials/{number}/draft", {"draft": "stock"}).status == 200
    changes = admin.ask("GET", "drafts/stock").json["changes"]
    assert [change["document"]["topics"] for change in changes] == [["stock/0"], ["stock/1"], ["stock/2"]]


def test_a_draft_of_a_denial_is_a_draft_like_any_other(admin: Admin) -> None:
    number = denied(admin, "stock/9")
    bad = admin.ask("POST", f"denials/{number}/draft", {"draft": "a\nb"})
    assert bad.status == 400 and bad.json["detail"].startswith("name: "), bad.text
    change = {"kind": "policy", "name": "beside", "document": {"allow": ["view"], "to": ["role:guest"]}}
    assert admin.ask("PUT", "drafts/beside", {"changes": [change], "shadow": True}).status == 200
    assert admin.ask("POST", f"denials/{number}/draft", {"draft": "beside"}).status == 200
    assert admin.ask("GET", "drafts/beside").json["shadow"], "it was to run beside the rules, and still does"


def test_who_may_only_look_makes_no_draft_of_it(admin: Admin) -> None:
    admin.must_put("users/eve", password=BOB, roles=["viewer"])
    admin.must_put("policies/viewers", allow=["view"], to=["role:viewer"])
    eve = Admin(admin.node, basic("eve", BOB))
    number = denied(admin, "orders/eve")
    assert eve.ask("GET", f"denials/{number}").status == 200
    assert eve.ask("POST", f"denials/{number}/draft", {}).status == 403
    assert eve.ask("GET", "explain?event=events:0:0").status == 403


def test_an_event_is_explained_by_who_let_it_in(admin: Admin) -> None:
    told = admin.node.publish("pay/1", b"x", LOGIN)
    found = admin.ask("GET", f"explain?event={told.json['id']}").json
    assert found["topic"] == "pay/1"
    assert [(row["user"], row["protocol"], row["rule"]) for row in found["allowed_by"]] == [("bob", "http", "pays")]
    for unknown in ("events:0:999999", "nothing:0:0", "events:77:0"):
        assert admin.ask("GET", f"explain?event={unknown}").status == 404
    assert admin.ask("GET", "explain?event=x").status == 400
    assert admin.ask("GET", "denials/999999").status == 404


def test_the_commands_say_it_in_words(admin: Admin) -> None:
    number = denied(admin, "orders/cli")
    port = str(admin.node.ports["console"])
    done = meshgate("policy", "explain", str(number), "--url", f"http://{HOST}:{port}", environment=ROOT_ENVIRONMENT)
    assert done.returncode == 0 and b"then: no: no rule allows it" in done.stdout, done.stdout + done.stderr
    done = meshgate("policy", "allow", str(number), "--url", f"http://{HOST}:{port}", environment=ROOT_ENVIRONMENT)
    assert done.returncode == 0 and f"kept in draft denial {number}".encode() in done.stdout, done.stdout + done.stderr
