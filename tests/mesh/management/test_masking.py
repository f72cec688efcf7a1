"""[[masks]]: what is hidden is hidden wherever the management API shows an event, and nothing tells it by the way."""
from __future__ import annotations

import json
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import pytest

from mesh.configuration.config import decode_config
from mesh.configuration.effective import warnings_of
from mesh.identity.masks import MaskTable
from mesh.management.masking import HIDDEN, LOOKED_INTO_BYTES_MAX, Masks
from routing.errors import ConfigError
from routing.event import DeadLetter, Event, Properties
from routing.rights.policy import Action, Identity, Policy, Rule
from tests.support.admin import PASSWORD, ROOT, Admin, basic
from tests.support.node import Node, http
from tests.support.sse import CurlSse
from tests.support.wait import wait_until

ANA, FRAUD = Identity("ana", ("support",)), Identity("eve", ("fraud",))
CARD = MaskTable("cards", ("orders/#",), fields=("card.number", "IBAN"), shown_to=("role:fraud", "user:root"))


def shown(payload: bytes, *masks: MaskTable, topic: str = "orders/1", who: Identity = ANA) -> bytes:
    found, _ = Masks(lambda: masks or (CARD,)).shown(Event(topic, payload), who)
    return found.payload


@pytest.mark.parametrize(("payload", "expected"), [
    ({"card": {"number": "4111"}, "sum": 3}, {"card": {"number": HIDDEN}, "sum": 3}),
    ({"a": [{"Card": {"NUMBER": 4111, "name": "x"}}, 1]}, {"a": [{"Card": {"NUMBER": HIDDEN, "name": "x"}}, 1]}),
    ([{"deep": {"iban": {"country": "AT"}}}], [{"deep": {"iban": HIDDEN}}]),
    ({"cards": {"number": 1}, "number": 2, "xiban": 3}, {"cards": {"number": 1}, "number": 2, "xiban": 3}),
    ({"card": [{"number": 1}, [{"number": 2}]]}, {"card": [{"number": HIDDEN}, [{"number": HIDDEN}]]}),
    ({"card.number": 1, "a.card": {"number": 2}}, {"card.number": HIDDEN, "a.card": {"number": HIDDEN}}),
    ({"text": ' {"iban": 1}', "list": ['["x"]', "plain"]}, {"text": HIDDEN, "list": [HIDDEN, "plain"]}),
    (17, 17),
])
def test_a_field_is_hidden_wherever_its_names_end_the_way_to_it(payload: object, expected: object) -> None:
    assert json.loads(shown(json.dumps(payload).encode())) == expected


@pytest.mark.parametrize("payload", [
    b"card=4111", b'{"card": {"number": 4111}', b'"{\\"iban\\": 1}"', b"\xff\x00", "{}".encode("utf-16"),
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b'{"iban": 1, "x": "' + b"x" * LOOKED_INTO_BYTES_MAX + b'"}',
])
def test_what_cannot_be_looked_into_is_hidden_whole(payload: bytes) -> None:
    assert shown(payload) == HIDDEN.encode()


def test_two_of_a_name_are_no_way_round() -> None:
    assert b"4111" not in shown(b'{"iban": "4111", "iban": "4111"}')


def test_masks_are_for_their_topics_and_for_everybody_but_whom_they_name() -> None:
    secret = b'{"iban": 1}'
    assert shown(secret, topic="stock/1") == secret and shown(secret, who=FRAUD) == secret
    assert shown(secret, who=Identity("root", ("admin",))) == secret
    assert shown(secret, who=Identity("x", ("admin",))) != secret, "administrators see no more than others"
    assert shown(b"", topic="orders/1") == b"" and shown(b"any", MaskTable("all", ("#",), payload=True)) == b"(hidden)"
    other = MaskTable("other", ("+/1",), fields=("sum",), shown_to=("role:support",))
    both = shown(b'{"iban":1,"sum":2}', CARD, other, who=FRAUD)
    assert json.loads(both) == {"iban": 1, "sum": HIDDEN}, "each mask says for itself to whom it shows"


def test_headers_and_key_are_hidden_and_the_event_itself_stays() -> None:
    mask = MaskTable("h", ("#",), headers=("X-Card",), key=True)
    event = Event("a", b"p", key=b"4111", headers=(("x-card", b"4111"), ("n", 1)), mqtt4_frame=b"4111")
    found, masked = Masks(lambda: (mask,)).shown(event, ANA)
    assert masked and found.headers == (("x-card", HIDDEN), ("n", 1)) and found.key == HIDDEN.encode()
    assert found.payload == b"p" and found.mqtt4_frame is None and event.key == b"4111" and event.mqtt4_frame == b"4111"


def test_a_dead_letter_counts_under_the_topics_of_its_original() -> None:
    letter = Properties(dead_letter=DeadLetter("billing", "orders/1", "events:0:1"))
    found, masked = Masks(lambda: (CARD,)).shown(Event("dead-letter/billing", b'{"iban":1}', properties=letter), ANA)
    assert masked and json.loads(found.payload) == {"iban": HIDDEN}


def test_a_reload_counts_at_once() -> None:
    tables: list[tuple[MaskTable, ...]] = [()]
    masks = Masks(lambda: tables[0])
    event = Event("orders/1", b'{"iban":1}')
    assert masks.shown(event, ANA) == (event, False)
    tables[0] = (CARD,)
    assert masks.shown(event, ANA)[1]
    tables[0] = (msgspec.structs.replace(CARD, shown_to=("role:support",)),)
    assert not masks.shown(event, ANA)[1]


# -- settings and rights -------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "path"), [
    ('name = "m"\ntopics = ["a"]\n', "masks[0]: hides nothing"),
    ('name = ""\ntopics = ["a"]\nkey = true\n', "masks[0].name"),
    ('name = "m"\ntopics = []\nkey = true\n', "masks[0].topics: at least one"),
    ('name = "m"\ntopics = ["a/#/b"]\nkey = true\n', "masks[0].topics[0]"),
    ('name = "m"\ntopics = ["a"]\nfields = ["a..b"]\n', "masks[0].fields[0]"),
    ('name = "m"\ntopics = ["a"]\nfields = ["$.card[*]"]\n', "masks[0].fields[0]"),
    ('name = "m"\ntopics = ["a"]\nfields = ["a.b.c.d.e.f.g.h.i"]\n', "masks[0].fields[0]"),
    ('name = "m"\ntopics = ["a"]\nkey = true\nshown_to = ["*"]\n', "masks[0].shown_to[0]"),
    ('name = "m"\ntopics = ["a"]\nkey = true\n[[masks]]\nname = "m"\ntopics = ["a"]\nkey = true\n', "masks[1].name"),
])
def test_bad_masks_are_errors_with_a_path(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode_config("[[masks]]\n" + text, Path("/base"))
    assert path in str(caught.value)


def test_check_warns_of_who_gets_round_a_mask_by_subscribing() -> None:
    def warned(to: str, topic: str, action: str = "subscribe") -> bool:
        text = (f'[[policies]]\nname = "p"\nallow = ["{action}"]\nto = ["{to}"]\ntopics = ["{topic}"]\n[[masks]]\n'
                'name = "m"\ntopics = ["orders/+/eu"]\nfields = ["a"]\nshown_to = ["role:fraud"]\n')
        return any(line.startswith("masks[0]: m hides nothing from") for line in
                   warnings_of(decode_config(text, Path("/base"))))
    assert warned("role:support", "orders/#") and warned("*", "orders/x-%u/eu")
    assert not warned("role:fraud", "orders/#") and not warned("role:support", "stock/#")
    assert not warned("role:support", "orders/#", "browse")


def test_who_may_subscribe_may_browse_and_not_the_other_way_round() -> None:
    policy = Policy([Rule(allow=(Action.SUBSCRIBE,), to=("user:ana",), topics=("a/#",)),
                     Rule(allow=(Action.BROWSE,), to=("user:bob",), topics=("a/#",)),
                     Rule(deny=(Action.SUBSCRIBE,), to=("*",), topics=("a/no",)),
                     Rule(deny=(Action.BROWSE,), to=("*",), topics=("a/dark",)),
                     Rule(allow=(Action.MANAGE,), to=("user:root",))])

    def may(user: str, topic: str) -> tuple[bool, bool]:
        who = Identity(user)
        return policy.decide(who, Action.SUBSCRIBE, topic).allowed, policy.decide(who, Action.BROWSE, topic).allowed
    assert [may("ana", topic) for topic in ("a/x", "a/no", "a/dark", "b")] == [
        (True, True), (False, False), (True, False), (False, False)]
    assert [may("bob", topic) for topic in ("a/x", "a/no", "b")] == [(False, True), (False, False), (False, False)]
    assert may("root", "a/x") == (False, False), "who manages sees no payloads"
    answer = policy.can_i(Identity("eve"), Action.BROWSE, "a/x")
    assert answer.change is not None and answer.change.text == "allow browse to user:eve on a/x"


# -- a node --------------------------------------------------------------------------------------------------------

USERS = ROOT + ROOT.replace('"root"', '"sue"').replace('"admin"', '"support"') + ROOT.replace(
    '"root"', '"eve"').replace('"admin"', '"fraud"') + '''
[[policies]]
name = "support looks"
allow = ["connect", "view", "browse"]
to = ["role:support"]
topics = ["orders/#", "dead-letter/#"]

[[policies]]
name = "fraud looks"
allow = ["connect", "view", "operate", "browse"]
to = ["role:fraud"]

[[policies]]
name = "root"
allow = ["connect", "publish", "subscribe"]
to = ["user:root"]

[[masks]]
name = "cards"
topics = ["orders/#"]
fields = ["card"]
key = true
shown_to = ["role:fraud"]
'''
SECRET = "4111-2222"
SUPPORT, FRAUDSTER = basic("sue", PASSWORD), basic("eve", PASSWORD)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory):
    node = Node(tmp_path_factory.mktemp("masks"), extra=USERS)
    node.start()
    root = basic("root", PASSWORD)
    body = json.dumps({"filters": ["orders/#"], "max_deliveries": 1}).encode()
    made = http("PUT", node.url("http", "/v1/consumers/lost"), body, {**root, "Content-Type": "application/json"})
    assert made.status in (200, 201), made.text
    for topic, card in (("orders/1", SECRET), ("orders/2", "x"), ("other", SECRET)):
        payload = json.dumps({"card": card, "sum": 7}).encode()
        assert node.publish(topic, payload, {**root, "Meshgate-Key": SECRET}).status < 300
    yield node
    node.kill9()


def browse(node: Node, login: dict[str, str], **params: str) -> list[dict[str, object]]:
    query = "&".join(f"{name}={value}" for name, value in params.items())
    answer = Admin(node, login).ask("GET", f"browse?{query}")
    assert answer.status == 200, answer.text
    found: list[dict[str, object]] = answer.json["events"]
    return found


def test_browse_shows_what_is_left_and_its_size(node: Node) -> None:
    rows = browse(node, SUPPORT, filter="orders/%23")
    assert [json.loads(str(row["payload"])) for row in rows] == [{"card": HIDDEN, "sum": 7}] * 2
    assert all(row["masked"] and row["key"] == HIDDEN for row in rows)
    assert rows[0]["size_bytes"] == rows[1]["size_bytes"], "a size does not tell how long the hidden value is"
    whole = browse(node, FRAUDSTER, filter="orders/%23")
    assert SECRET in str(whole[0]) and not whole[0]["masked"] and whole[0]["size_bytes"] != rows[0]["size_bytes"]


@pytest.mark.parametrize("piece", [SECRET, "4", "41"])
def test_a_search_finds_nothing_by_what_is_hidden(node: Node, piece: str) -> None:
    assert browse(node, SUPPORT, filter="orders/%23", match=piece) == []
    assert len(browse(node, FRAUDSTER, filter="orders/%23", match=piece)) == 2, "by its key, and by its payload"
    assert len(browse(node, SUPPORT, filter="orders/%23", match="sum")) == 2


def test_a_search_tells_nothing_of_events_that_may_not_be_browsed(node: Node) -> None:
    assert [row["readable"] for row in browse(node, SUPPORT, filter="other")] == [False]
    assert browse(node, SUPPORT, filter="other", match=SECRET) == []
    assert len(browse(node, SUPPORT, filter="other", match="othe")) == 1, "its topic may be seen"


def test_journey_queue_and_tail_hide_the_same(node: Node) -> None:
    admin = Admin(node, SUPPORT)
    place = browse(node, SUPPORT, filter="orders/1")[0]["id"]
    for path in (f"journey?id={place}", "consumers/lost/events"):
        answer = admin.ask("GET", path)
        assert answer.status == 200 and HIDDEN in answer.text and SECRET not in answer.text, answer.text
    login = [part for name, value in SUPPORT.items() for part in ("-H", f"{name}: {value}")]
    with CurlSse(node.url("console", "/api/v1/tail?filter=orders/%23"), *login) as stream:
        stream.next()
        node.publish("orders/3", json.dumps({"card": SECRET}).encode(), basic("root", PASSWORD))
        rows: list[dict[str, object]] = []
        while not rows:
            rows = stream.next().json
    assert json.loads(str(rows[0]["payload"])) == {"card": HIDDEN}


def test_a_dead_letter_is_hidden_by_the_topic_of_its_original(node: Node) -> None:
    root = basic("root", PASSWORD)
    json_type = {**root, "Content-Type": "application/json"}
    pulled = http("POST", node.url("http", "/v1/consumers/lost/pull"), b'{"max": 1}', json_type)
    assert pulled.status == 200, pulled.text
    token = pulled.json["events"][0]["token"]
    body = json.dumps({"tokens": [token]}).encode()
    gone = http("POST", node.url("http", "/v1/consumers/lost/reject"), body, json_type)
    assert gone.status == 200, gone.text
    letters = wait_until(lambda: Admin(node, SUPPORT).ask("GET", "deadletters/lost").json["dead_letters"], "given up")
    assert HIDDEN in str(letters) and SECRET not in str(letters) and letters[0]["masked"]
    copies = browse(node, SUPPORT, filter="dead-letter/%23")
    assert len(copies) == 1 and HIDDEN in str(copies) and SECRET not in str(copies)


def test_who_may_only_browse_reads_over_no_protocol(node: Node) -> None:
    for path, status in (("/v1/events?filter=orders/%23", 403), ("/v1/consumers/lost/events", 404),
                         ("/v1/consumers/lost/dead-letters", 404)):
        assert http("GET", node.url("http", path), None, SUPPORT).status == status
    codes: list[int] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "sue", protocol=paho.MQTTv5)
    client.username_pw_set("sue", PASSWORD)
    client.on_subscribe = lambda client, data, mid, reasons, properties: codes.extend(one.value for one in reasons)
    client.connect(*node.mqtt)
    client.loop_start()
    try:
        client.subscribe([("orders/#", paho.SubscribeOptions(qos=1)), ("orders/1", paho.SubscribeOptions(qos=0))])
        assert wait_until(lambda: codes, "SUBACK") == [0x87, 0x87], "not authorized [MQTT-3.9.3-2]"
    finally:
        client.loop_stop()
        client.disconnect()


def test_the_pages_of_the_console_hide_the_same(node: Node) -> None:
    place = browse(node, SUPPORT, filter="orders/1")[0]["id"]
    for path in ("/browse?filter=orders/%23", f"/journey?id={place}", f"/browse?filter=orders/%23&match={SECRET}"):
        page = http("GET", node.url("console", path), None, {**SUPPORT, "Accept": "text/html"})
        assert page.status == 200
        if "match=" in path:
            assert "<article" not in page.text, "what he looks for stands in the form, and nothing is found"
        else:
            assert SECRET not in page.text and "Part of it is hidden from you." in page.text



# -- masks that are managed ----------------------------------------------------------------------------------------

def test_a_managed_mask_counts_at_once_and_ends_with_its_document(node: Node) -> None:
    admin = Admin(node)
    assert '"sum":7' in str(browse(node, SUPPORT, filter="orders/1")[0]["payload"])
    version = admin.must_put("masks/sums", topics=["orders/#"], fields=["sum"], shown_to=["role:fraud"])["version"]
    assert json.loads(str(browse(node, SUPPORT, filter="orders/1")[0]["payload"])) == {"card": HIDDEN, "sum": HIDDEN}
    assert json.loads(str(browse(node, FRAUDSTER, filter="orders/1")[0]["payload"])) == {"card": SECRET, "sum": 7}
    assert {(row["name"], row["source"]) for row in admin.rows("masks")} == {("cards", "file"), ("sums", "managed")}
    assert admin.ask("DELETE", "masks/sums", {"version": version}).status == 200
    assert json.loads(str(browse(node, SUPPORT, filter="orders/1")[0]["payload"]))["sum"] == 7


@pytest.mark.parametrize(("document", "says"), [
    ({"topics": ["orders/#"]}, "hides nothing"), ({"fields": ["a"]}, "at least one topic filter"),
    ({"topics": ["a/#/b"], "fields": ["a"]}, "topics"), ({"topics": ["#"], "fields": ["a.*"]}, "no patterns"),
    ({"topics": ["#"], "payload": True, "shown_to": ["everybody"]}, "expected")])
def test_what_is_wrong_in_a_managed_mask_is_named(node: Node, document: dict[str, object], says: str) -> None:
    answer = Admin(node).put("masks/bad", **document)
    assert answer.status == 400 and says in answer.json["detail"]


def test_a_mask_of_the_file_is_changed_there_and_who_may_not_administer_changes_none(node: Node) -> None:
    assert Admin(node).put("masks/cards", topics=["x"], payload=True).status == 409
    assert Admin(node, SUPPORT).put("masks/mine", topics=["x"], payload=True).status == 403
