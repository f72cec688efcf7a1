"""Azure's emulator mode from a raw socket: what is refused, and in which terms; bounds; who may stay."""
from __future__ import annotations

import pytest

from protocols.amqp.azure import entity_requests
from protocols.amqp.azure.batches import MESSAGE_FORMAT
from protocols.amqp.azure.places import Place, place_of
from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.decode import decode
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.message import list_of, map_of, split
from protocols.amqp.codec.types import Described, Symbol, Timestamp, ULong
from protocols.amqp.settings import Amqp10Settings
from routing.rights.policy import Action, Rule
from routing.settings import StreamSettings
from tests.protocols.amqp.raw import Raw, data
from tests.protocols.amqp.stand import Stand

HUB = StreamSettings("orders", ("orders/#",), partitions=2)
READ_0 = "amqps://host/orders/ConsumerGroups/$Default/Partitions/0"


@pytest.fixture
def stands(tmp_path):
    made = []

    def make(**options):
        made.append(Stand(tmp_path, settings=Amqp10Settings(azure=True, batch_events_max=1_000),
                          streams=[HUB, StreamSettings("events", ("#",))], **options).start())
        return made[-1]

    yield make
    for stand in made:
        stand.stop()


def opened(stand):
    raw = Raw(stand.port)
    raw.begin()
    return raw


def section(code, value):
    return encode(Described(ULong(code), value))


def request(number, properties, value=None):
    return b"".join((encode(Described(ULong(0x73), [f"m{number}", None, None, None, "answers"])),
                     section(0x74, properties), section(0x77, value)))


def desk(raw, address, handle=0):
    """A pair of links for requests."""
    raw.sender(address, handle)
    raw.send(p.Attach(f"a{handle}", handle + 1, p.RECEIVER, source=p.Source(address), target=p.Target("answers")))
    raw.expect(p.Attach)
    raw.credit(100, handle + 1)


def answer(raw):
    """Status, text, value and correlation id of the next one."""
    while True:
        found, message, _ = raw.frame()
        if isinstance(found, p.Transfer):
            break
    sections = split(message)
    told = map_of(message, sections.application_properties)
    assert told["status-code"] == told["statusCode"]
    correlation = list_of(message, sections.properties)[5]
    return told["status-code"], told["status-description"], decode(message, *sections.value)[0], correlation


@pytest.mark.parametrize(("address", "place"), [
    ("amqps://host:5672/orders", Place("orders", True)),
    ("orders/Partitions/3", Place("orders", False, "", 3)),
    ("sb://host/a/b/ConsumerGroups/$Default/Partitions/12", Place("a/b", True, "$Default", 12)),
    ("amqp://h/orders/Partitions/x", Place("orders", True, "", -1)),
    ("amqp://h/orders/Partitions/-1", Place("orders", True, "", -1)),
    ("amqp://h/orders/Partitions/99999999999", Place("orders", True, "", -1)),
    ("plant/graz", Place("plant/graz", False)),
])
def test_addresses(address, place):
    assert place_of(address) == place


def test_without_the_setting_none_of_it_is_there(tmp_path):
    stand = Stand(tmp_path, streams=[HUB, StreamSettings("events", ("#",))]).start()
    try:
        raw = opened(stand)
        assert "MSSBCBS" not in raw.mechanisms
        assert raw.sender("$cbs").target is None
        assert raw.expect(p.Detach).error.condition == "amqp:unauthorized-access"
    finally:
        stand.stop()


def test_where_people_log_in_nothing_is_allowed_before_a_token_is_taken(stands):
    stand = stands(users=[("ana", "secret", ())], rules=(Rule(allow=(Action.CONNECT, Action.PUBLISH), to=("*",)),))
    raw = opened(stand)
    for address in ("orders", "amqps://host/orders", "$management", "queue://jobs", None):
        assert raw.sender(address, 5).target is None
        assert raw.expect(p.Detach).error.condition == "amqp:unauthorized-access"
        raw.send(p.Detach(5, True))
    desk(raw, "$cbs")
    raw.transfer(0, request(0, {"operation": "put-token", "type": "jwt"}, "nothing that is known"))
    assert answer(raw)[::3] == (401, "m0")
    raw.transfer(1, request(1, {"operation": "put-token"}, "SharedAccessSignature sr=sb%3a%2f%2fhost&sig=x&se=1&skn=a"))
    status, text, _, _ = answer(raw)
    assert status == 401 and "API key" in text
    raw.transfer(2, request(2, {"operation": "drop-token"}, "x"))
    assert answer(raw)[0] == 400
    raw.transfer(3, request(3, {"operation": "put-token"}, 5))
    assert answer(raw)[0] == 400
    assert raw.sender("orders", 5).target is None
    assert stand.do(lambda: len(stand.router.logins)) == 0


def test_tokens_are_not_taken_without_tls_where_the_settings_say_so(tmp_path):
    stand = Stand(tmp_path, users=[("ana", "secret", ())], rules=(Rule(allow=(Action.CONNECT,), to=("*",)),),
                  settings=Amqp10Settings(azure=True, passwords_need_tls=True)).start()
    try:
        raw = opened(stand)
        desk(raw, "$cbs")
        raw.transfer(0, request(0, {"operation": "put-token", "type": "jwt"}, "whatever it is"))
        status, text, _, _ = answer(raw)
        assert status == 401 and "TLS" in text
    finally:
        stand.stop()


def scheduled(raw, number, user):
    message = encode(Described(ULong(0x73), [None, user])) + data(b"x")
    raw.transfer(number, request(number, {"operation": "com.microsoft:schedule-message"}, {
        "messages": [{"message-id": "m", "message": message}]}))
    return answer(raw)


def test_a_scheduled_message_of_somebody_else_is_refused(stands):
    stand = stands(users=[("ana", "secret", ())], rules=(
        Rule(allow=(Action.CONNECT, Action.PUBLISH, Action.SUBSCRIBE), to=("*",)),))
    raw = Raw(stand.port, login=False)
    raw.sasl("PLAIN", b"\0ana\0secret")
    raw.open()
    raw.begin()
    desk(raw, "jobs/$management")
    assert scheduled(raw, 0, b"eve")[0] == 401
    status, _, value, _ = scheduled(raw, 1, b"ana")
    assert status == 200 and len(value["sequence-numbers"].items) == 1


def test_who_shows_no_token_is_let_go(tmp_path):
    stand = Stand(tmp_path, users=[("ana", "secret", ())], rules=(Rule(allow=(Action.CONNECT,), to=("*",)),),
                  settings=Amqp10Settings(azure=True, connect_timeout_s=0.3)).start()
    try:
        assert opened(stand).closed() == "amqp:unauthorized-access"
    finally:
        stand.stop()


def test_management_answers_bad_questions(stands):
    raw = opened(stands())
    desk(raw, "$management")
    good = {"operation": "READ", "type": "com.microsoft:partition", "name": "orders", "partition": "0"}
    for number, (change, status) in enumerate((
            ({}, 200), ({"operation": "WRITE"}, 400), ({"type": "com.microsoft:cloud"}, 400), ({"name": "none"}, 404),
            ({"partition": "2"}, 404), ({"partition": "-1"}, 404), ({"partition": 0}, 404), ({"partition": "²"}, 404),
            ({"name": 7}, 404), ({"name": "$queues"}, 401), ({"operation": None}, 400))):
        raw.transfer(number, request(number, {**good, **change}))
        assert answer(raw)[::3] == (status, f"m{number}"), change
    raw.transfer(99, b"\x00\x53\x74\xa1\x01")
    assert raw.expect(p.Detach).error.condition == "amqp:decode-error"


def test_answers_that_nobody_reads_are_bounded(stands):
    raw = opened(stands())
    raw.sender("$management")
    raw.send(p.Attach("a", 1, p.RECEIVER, source=p.Source("$management"), target=p.Target("answers")))
    raw.expect(p.Attach)
    for number in range(150):
        raw.transfer(number, request(number, {"operation": "?"}), settled=True)
    assert raw.expect(p.Detach).error.condition == "amqp:resource-limit-exceeded"


def test_what_is_peeked_is_bounded_in_bytes_and_one_message_always_fits(stands, monkeypatch):
    """hostile.md 90: 250 messages of a megabyte are no answer, and 100 of those no memory."""
    monkeypatch.setattr(entity_requests, "PEEKED_BYTES_MAX", 3_000)
    raw = opened(stands())
    desk(raw, "jobs/$management")
    message = data(b"x" * 2_000)
    for number in range(3):
        raw.transfer(number, request(number, {"operation": "com.microsoft:schedule-message"}, {
            "messages": [{"message-id": "m", "message": message}]}))
        assert answer(raw)[0] == 200
    raw.transfer(3, request(3, {"operation": "com.microsoft:peek-message"},
                            {"from-sequence-number": 0, "message-count": 250}))
    status, _, value, _ = answer(raw)
    assert status == 200 and len(value["messages"]) == 1


@pytest.mark.parametrize(("address", "condition"), [
    ("amqps://host/orders", "amqp:invalid-field"),
    ("amqps://host/orders/ConsumerGroups/$Default/Partitions/2", "amqp:not-found"),
    ("amqps://host/orders/ConsumerGroups/$Default/Partitions/x", "amqp:not-found"),
    ("amqps://host/none/ConsumerGroups/$Default/Partitions/0", "amqp:not-found"),
    ("amqps://host/$queues/ConsumerGroups/$Default/Partitions/0", "amqp:unauthorized-access"),
])
def test_what_cannot_be_read(stands, address, condition):
    raw = opened(stands())
    assert raw.receiver(address).source is None
    assert raw.expect(p.Detach).error.condition == condition


def test_who_may_read_only_a_part_reads_no_partition(stands):
    stand = stands(rules=(Rule(allow=(Action.CONNECT, Action.SUBSCRIBE, Action.PUBLISH), to=("*",)),
                          Rule(deny=(Action.SUBSCRIBE,), to=("*",), topics=("orders/secret",))))
    raw = opened(stand)
    assert raw.receiver(READ_0).source is None
    assert raw.expect(p.Detach).error.condition == "amqp:unauthorized-access"


def test_a_user_without_rights_does_not_learn_which_hubs_there_are(stands):
    stand = stands(rules=(Rule(allow=(Action.CONNECT,), to=("*",)),))
    raw = opened(stand)
    for handle, name in enumerate(("orders", "none")):
        assert raw.sender(f"amqps://host/{name}", handle).target is None
        assert raw.expect(p.Detach).error.condition == "amqp:unauthorized-access"
    desk(raw, "$management", 8)
    for number, name in enumerate(("orders", "none")):
        raw.transfer(number, request(number, {"operation": "READ", "type": "com.microsoft:eventhub", "name": name}), 8)
        assert answer(raw)[0] == 401


def sent(raw, number, message, **options):
    raw.transfer(number, message, message_format=MESSAGE_FORMAT, **options)
    return raw.expect(p.Disposition).state


class Batches(Raw):
    def transfer(self, number, message, handle=0, *, channel=0, message_format=0, **options):
        self.send(p.Transfer(handle, number, b"%d" % number, message_format, **options), message, channel=channel)


def sender_of_batches(stand, address="amqps://host/orders/Partitions/1"):
    raw = Batches(stand.port)
    raw.begin()
    raw.sender(address)
    return raw


def batch(*messages, annotations=None):
    head = section(0x72, annotations) if annotations else b""
    return head + b"".join(section(0x75, message) for message in messages)


def test_batches_that_are_none_are_rejected_and_nothing_of_them_is_stored(stands):
    stand = stands()
    raw = sender_of_batches(stand)
    for number, message in enumerate((
            batch(), batch(data(b"x"), b"\xff\xff"), batch(data(b"x"), data(b"y")[:-1]), b"\x00\x53\x75\xa1\x01x",
            batch(data(b"x")) + b"\x00", section(0x75, data(b"x"))[:-2], b"\x00\x80" + batch(data(b"x")))):
        assert sent(raw, number, message).error.condition == "amqp:decode-error", message
    assert sent(raw, 20, batch(*[data(b"x")] * 1_001)).error.condition == "amqp:link:message-size-exceeded"
    partition = stand.do(lambda: stand.router.streams.by_name["orders"].partitions[1])
    assert partition.next_offset == 0
    assert isinstance(sent(raw, 21, batch(*[data(b"%d" % number) for number in range(1_000)])), p.Accepted)
    assert partition.next_offset == 1_000


def test_what_comes_behind_a_large_batch_counts_behind_it(stands):
    stand = stands()
    raw = sender_of_batches(stand)
    raw.transfer(0, batch(*[data(b"in the batch")] * 900), message_format=MESSAGE_FORMAT)
    raw.transfer(1, data(b"behind"))
    settled = set()
    while settled != {0, 1}:
        found = raw.expect(p.Disposition)
        settled |= set(range(found.first, (found.last if found.last is not None else found.first) + 1))
    last = stand.do(lambda: stand.router.streams.by_name["orders"].partitions[1].event(900))
    assert last.payload == b"behind"


def test_the_key_of_a_batch_is_that_of_its_events(stands):
    stand = stands()
    raw = sender_of_batches(stand)
    own = section(0x72, {Symbol("x-opt-partition-key"): "own"}) + data(b"x")
    sent(raw, 0, batch(data(b"x"), own, annotations={Symbol("x-opt-partition-key"): "k"}))
    partition = stand.do(lambda: stand.router.streams.by_name["orders"].partitions[1])
    assert [stand.do(lambda offset=offset: partition.event(offset).key) for offset in (0, 1)] == [b"k", b"own"]


def test_a_transaction_does_not_reach_a_hub(stands):
    raw = sender_of_batches(stands())
    raw.transfer(0, data(b"x"), state=p.TransactionalState(b"1"))
    assert raw.expect(p.Detach).error.condition == "amqp:not-implemented"


def receiver(raw, handle, epoch=None, **options):
    properties = {Symbol("com.microsoft:epoch"): epoch} if epoch is not None else None
    raw.send(p.Attach(f"r{handle}", handle, p.RECEIVER, source=p.Source(READ_0), target=p.Target(),
                      properties=properties, **options))
    return raw.expect(p.Attach)


def test_epochs_that_are_none_are_refused(stands):
    raw = opened(stands())
    for handle, epoch in enumerate((-1, "1", True, 1.5)):
        assert receiver(raw, handle, epoch).source is None
        assert raw.expect(p.Detach).error.condition == "amqp:invalid-field"


def test_the_same_epoch_takes_over_and_the_place_is_free_when_the_reader_has_gone(stands):
    stand = stands()
    first, second = opened(stand), opened(stand)
    assert receiver(first, 0, 5).source is not None
    assert receiver(second, 0, 5).source is not None
    assert first.expect(p.Detach).error.condition == "amqp:link:stolen"
    first.send(p.Detach(0, True))
    assert receiver(first, 0, 4).source is None
    assert first.expect(p.Detach).error.condition == "amqp:link:stolen"
    first.send(p.Detach(0, True))
    second.socket.close()
    third = opened(stand)
    for _ in range(100):
        if receiver(third, 0, 4).source is not None:
            break
        third.expect(p.Detach)
        third.send(p.Detach(0, True))
    else:
        pytest.fail("the place is not free")


def test_a_reader_that_answers_nothing_reads_on(stands):
    """Azure's SDK for Python settles no event of a hub: the table of unsettled ones must not fill."""
    stand = stands()
    for number in range(5):
        stand.publish("orders", b"%d" % number, key=b"k")
    index = stand.do(lambda: next(one.index for one in stand.router.streams.by_name["orders"].partitions
                                  if one.next_offset))
    raw = opened(stand)
    raw.send(p.Attach("r", 0, p.RECEIVER, p.UNSETTLED, source=p.Source(READ_0[:-1] + f"{index}"), target=p.Target()))
    raw.expect(p.Attach)
    raw.credit(5, 0)
    for number in range(5):
        transfer, message = raw.delivery()
        assert transfer.settled is False and message.endswith(data(b"%d" % number))
        annotations = map_of(message, split(message).message_annotations)
        assert annotations[Symbol("x-opt-offset")] == str(number) and annotations[Symbol("x-opt-partition-key")] == "k"
        assert isinstance(annotations[Symbol("x-opt-enqueued-time")], Timestamp)
    unsettled = stand.do(lambda: sum(len(session.unsettled) for one in stand.amqp.connections
                                     for session in one.sessions.values()))
    assert unsettled == 0
