"""azure-eventhub in emulator mode, beside a Kafka client on the same streams: sending, reading, checkpoints, epochs."""
from __future__ import annotations

import threading
import time

import pytest
from azure.eventhub import (
    CheckpointStore,
    EventData,
    EventHubConsumerClient,
    EventHubProducerClient,
    parse_connection_string,
)
from azure.eventhub.amqp import AmqpAnnotatedMessage
from azure.eventhub.exceptions import ConnectError, EventHubError
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.interop.kafka_node import unique
from tests.support.node import Node, meshgate
from tests.support.wait import DEADLINE_S, wait_until

TYPED = {"text": "ä", "int": 7, "float": 1.5, "yes": True, "bytes": b"\x00\xff"}


def config(hub):
    return f'[amqp10]\nazure = true\n[[streams]]\nname = "{hub}"\ncapture = ["{hub}/#"]\npartitions = 3\n'


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    started = Node(tmp_path_factory.mktemp("eventhub"), config("orders"),
                   listeners=("amqp", "http", "console", "kafka"))
    started.start()
    yield started
    assert "Traceback" not in started.process.log_text(), started.process.log_tail(80)
    started.kill9()


def connection_string(node, signature="SharedAccessKeyName=any;SharedAccessKey=c2VjcmV0"):
    return f"Endpoint=sb://127.0.0.1:{node.ports['amqp']};{signature};UseDevelopmentEmulator=true"


def producer(node, hub, **options):
    return EventHubProducerClient.from_connection_string(
        connection_string(node), eventhub_name=hub, retry_total=0, **options)


def consumer(node, hub, group="$Default", **options):
    return EventHubConsumerClient.from_connection_string(
        connection_string(node), group, eventhub_name=hub, retry_total=0, load_balancing_interval=0.5, **options)


def make_hub(node, partitions=1):
    """A Kafka topic is a hub."""
    name = unique("hub")
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{node.ports['kafka']}"})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(DEADLINE_S)
    return name


class Reading:
    """A consumer client in a thread of its own."""

    def __init__(self, client, start="-1", *, checkpoint=False, wait=True, **options):
        self.client = client
        self.found = []                 # (partition, event)
        self.errors = []
        self.closed = []

        def on_event(context, event):
            self.found.append((context.partition_id, event))
            if checkpoint:
                context.update_checkpoint(event)

        self.thread = threading.Thread(target=lambda: client.receive(
            on_event=on_event, on_error=lambda context, error: self.errors.append(error),
            on_partition_close=lambda context, reason: self.closed.append((context.partition_id, reason)),
            starting_position=start, **options), daemon=True)
        self.thread.start()

    def bodies(self):
        return [event.body_as_str() for _, event in self.found]

    def until(self, count):
        wait_until(lambda: len(self.found) >= count, f"{count} events, of which came {len(self.found)}: {self.errors}")
        return self

    def close(self):
        self.client.close()
        self.thread.join(DEADLINE_S)
        return self


def read_all(node, hub, count, **options):
    return Reading(consumer(node, hub), **options).until(count).close()


def kafka_records(node, topic, count):
    client = Consumer({"bootstrap.servers": f"127.0.0.1:{node.ports['kafka']}", "group.id": unique("group"),
                       "auto.offset.reset": "earliest"})
    client.subscribe([topic])
    found, deadline_s = [], time.monotonic() + DEADLINE_S
    while len(found) < count:
        assert time.monotonic() < deadline_s, found
        record = client.poll(0.2)
        if record is not None:
            assert record.error() is None
            found.append(record)
    client.close()
    return found


def test_what_azure_sends_a_kafka_client_reads_with_its_headers_as_text(node):
    hub = make_hub(node)
    event = EventData(b"one")
    event.properties = dict(TYPED)
    event.content_type = "application/x"
    event.message_id = "id-1"
    with producer(node, hub) as client:
        client.send_event(event, partition_key="k1")
    (record,) = kafka_records(node, hub, 1)
    headers = dict(record.headers())
    assert (record.key(), record.value()) == (b"k1", b"one")
    assert {name: headers[name] for name in TYPED} == {
        "text": "ä".encode(), "int": b"7", "float": b"1.5", "yes": b"true",
        "bytes": b"\x00\xff"}
    assert (headers["content-type"], headers["message-id"]) == (b"application/x", b"id-1")


def test_what_azure_sends_azure_reads_with_every_type(node):
    hub = make_hub(node)
    event = EventData(b"\x00 body")
    event.properties = dict(TYPED)
    event.correlation_id = "c"
    value = AmqpAnnotatedMessage(value_body={"a": [1, "x", None]}, annotations={"x-mine": 5})
    sequence = AmqpAnnotatedMessage(sequence_body=[[1, 2], ["3"]])
    with producer(node, hub) as client:
        client.send_batch([event], partition_key="k")
        client.send_event(value)
        client.send_event(sequence)
    first, second, third = [event for _, event in read_all(node, hub, 3).found]
    assert (b"".join(first.body), first.partition_key, first.correlation_id) == (b"\x00 body", b"k", "c")
    assert first.properties == {b"text": "ä".encode(), b"int": 7, b"float": 1.5, b"yes": True,
                                b"bytes": b"\x00\xff"}
    assert (first.offset, first.sequence_number, second.offset, third.sequence_number) == ("0", 0, "1", 2)
    assert abs(first.enqueued_time.timestamp() - time.time()) < 60
    assert second.raw_amqp_message.body == {b"a": [1, b"x", None]}
    assert second.raw_amqp_message.annotations[b"x-mine"] == 5
    assert list(third.raw_amqp_message.body) == [[1, 2], [b"3"]]


def test_what_kafka_sends_azure_reads(node):
    hub = make_hub(node)
    sender = Producer({"bootstrap.servers": f"127.0.0.1:{node.ports['kafka']}"})
    sender.produce(hub, b"value", b"key", headers=[
        ("text", "ä".encode()), ("n", b"%d" % (1 << 40)), ("n;type", b"int"), ("raw", b"\xff\x00")])
    assert sender.flush(DEADLINE_S) == 0
    ((_, event),) = read_all(node, hub, 1).found
    assert (b"".join(event.body), event.partition_key) == (b"value", b"key")
    assert event.properties == {b"text": "ä".encode(), b"n": 1 << 40, b"raw": b"\xff\x00"}


def test_a_batch_is_stored_whole_in_the_partition_it_was_sent_to(node):
    with producer(node, "orders") as client:
        before = client.get_partition_properties("2")["last_enqueued_sequence_number"]
        batch = client.create_batch(partition_id="2")
        count = 0
        with pytest.raises(ValueError, match="size limit"):       # as the SDK's own example fills one
            while True:
                batch.add(EventData(f"event {count}"))
                count += 1
        client.send_batch(batch)
        told = client.get_partition_properties("2")
    assert told["last_enqueued_sequence_number"] == before + count and told["is_empty"] is False
    reading = Reading(consumer(node, "orders"), start=before, partition_id="2").until(2_000).close()
    assert reading.bodies()[:2_000] == [f"event {number}" for number in range(2_000)] and count > 10_000
    assert {partition for partition, _ in reading.found} == {"2"}


def test_what_is_refused_is_an_error_with_its_reason(node):
    hub = make_hub(node)
    event = AmqpAnnotatedMessage(data_body=b"x" * 1_060_000)        # fits in a message, and not in an event
    with producer(node, hub) as client:
        with pytest.raises(EventHubError, match="payload has"):
            client.send_event(event, timeout=20)
        assert client.get_partition_properties("0")["is_empty"] is True


def test_keys_go_where_kafka_sends_them_and_the_rest_takes_turns(node):
    hub = make_hub(node, 3)
    keys = [f"key-{number}" for number in range(12)]
    with producer(node, hub) as client:
        for key in keys:
            client.send_event(EventData(key), partition_key=key)
        for number in range(6):
            client.send_event(EventData(f"no key {number}"))
    found = {event.body_as_str(): partition for partition, event in read_all(node, hub, 18).found}
    sender = Producer({"bootstrap.servers": f"127.0.0.1:{node.ports['kafka']}", "partitioner": "murmur2_random"})
    placed = {}
    for key in keys:
        sender.produce(hub, b"", key.encode(), on_delivery=lambda _, record: placed.setdefault(
            record.key().decode(), str(record.partition())))
    assert sender.flush(DEADLINE_S) == 0
    assert {key: found[key] for key in keys} == placed
    assert {found[f"no key {number}"] for number in range(6)} == {"0", "1", "2"}


def test_a_hub_tells_of_itself(node):
    with producer(node, "orders") as client:
        told = client.get_eventhub_properties()
        assert (told["eventhub_name"], told["partition_ids"]) == ("orders", ["0", "1", "2"])
    hub = make_hub(node, 1)
    with producer(node, hub) as client:
        assert client.get_partition_properties("0")["is_empty"] is True
        client.send_event(EventData("x"))
        found = client.get_partition_properties("0")
    assert (found["beginning_sequence_number"], found["last_enqueued_sequence_number"], found["last_enqueued_offset"],
            found["is_empty"]) == (0, 0, "0", False)
    with producer(node, "nobody-made-this") as client, pytest.raises(EventHubError, match="there is no hub"):
        client.get_eventhub_properties()


def test_a_reader_begins_where_it_says_and_hears_of_the_end(node):
    hub = make_hub(node)
    with producer(node, hub) as client:
        for number in range(5):
            client.send_event(EventData(f"{number}"))
            time.sleep(0.01)
    events = [event for _, event in read_all(node, hub, 5, track_last_enqueued_event_properties=True).found]
    assert events[0].sequence_number == 0
    for start, inclusive, left in (("1", False, "234"), (1, True, "1234"), (events[3].enqueued_time, True, "34")):
        reading = Reading(consumer(node, hub), start=start, starting_position_inclusive=inclusive).until(len(left))
        assert "".join(reading.close().bodies()) == left
    latest = Reading(consumer(node, hub), start="@latest", partition_id="0",
                     track_last_enqueued_event_properties=True)
    with producer(node, hub) as client:
        def sent_and_seen():
            client.send_event(EventData("later"))
            time.sleep(0.2)
            return latest.found
        wait_until(sent_and_seen, "an event that came after the reader")
    assert set(latest.close().bodies()) == {"later"}


class SharedStore(CheckpointStore):
    """Checkpoints that several clients share, as those in Azure's blobs."""

    def __init__(self):
        self.owners, self.places, self.lock = {}, {}, threading.Lock()

    def list_ownership(self, fully_qualified_namespace, eventhub_name, consumer_group, **_):
        with self.lock:
            return [dict(one) for one in self.owners.values()]

    def claim_ownership(self, ownership_list, **_):
        claimed = []
        with self.lock:
            for one in ownership_list:
                known = self.owners.get(one["partition_id"])
                if known is not None and known["etag"] != one.get("etag"):
                    continue
                kept = {**one, "etag": str(time.monotonic_ns()), "last_modified_time": time.time()}
                self.owners[one["partition_id"]] = kept
                claimed.append(dict(kept))
        return claimed

    def update_checkpoint(self, checkpoint, **_):
        with self.lock:
            self.places[checkpoint["partition_id"]] = checkpoint

    def list_checkpoints(self, fully_qualified_namespace, eventhub_name, consumer_group, **_):
        with self.lock:
            return list(self.places.values())


def test_a_reader_goes_on_from_its_checkpoint_also_after_kill_9(node):
    hub, store = make_hub(node, 2), SharedStore()
    with producer(node, hub) as client:
        for number in range(10):
            client.send_event(EventData(f"{number}"))
    first = Reading(consumer(node, hub, checkpoint_store=store), checkpoint=True).until(10).close()
    assert sorted(first.bodies()) == [f"{number}" for number in range(10)]
    node.kill9()
    node.restart()
    with producer(node, hub) as client:
        for number in range(10, 14):
            client.send_event(EventData(f"{number}"))
    second = Reading(consumer(node, hub, checkpoint_store=store), checkpoint=True).until(4).close()
    assert sorted(second.bodies()) == ["10", "11", "12", "13"]


def test_two_processors_share_the_partitions_and_the_one_that_stays_takes_all(node):
    hub, store = make_hub(node, 4), SharedStore()
    options = {"checkpoint_store": store, "partition_ownership_expiration_interval": 4}
    one = Reading(consumer(node, hub, **options))
    wait_until(lambda: len(store.owners) == 4, "the first processor has them all")
    two = Reading(consumer(node, hub, **options))
    wait_until(lambda: sorted(map(len, owned(store).values())) == [2, 2], "two each")
    with producer(node, hub) as client:
        for partition in range(4):
            client.send_batch([EventData(f"{partition}")], partition_id=f"{partition}")
        wait_until(lambda: {*one.bodies(), *two.bodies()} == {"0", "1", "2", "3"}, "each partition is read")
        assert one.found and two.found
        one.close()
        wait_until(lambda: sorted(map(len, owned(store).values())) == [4], "the other has them all")
        client.send_batch([EventData("after")], partition_id="0")
        client.send_batch([EventData("after")], partition_id="3")
        wait_until(lambda: two.bodies().count("after") == 2, f"it reads them: {two.errors}")
    two.close()


def owned(store):
    by_owner = {}
    with store.lock:
        for partition, one in store.owners.items():
            if one["owner_id"]:
                by_owner.setdefault(one["owner_id"], set()).add(partition)
    return by_owner


def test_a_higher_epoch_takes_the_partition_over_and_a_lower_one_is_refused(node):
    hub = make_hub(node)
    with producer(node, hub) as client:
        client.send_event(EventData("a"))
        first = Reading(consumer(node, hub), partition_id="0", owner_level=1).until(1)
        second = Reading(consumer(node, hub), partition_id="0", owner_level=2).until(1)
        wait_until(lambda: first.errors, "the first one hears of it")
        assert "amqp:link:stolen" in str(first.errors[0]) and "epoch 2" in str(first.errors[0])
        third = Reading(consumer(node, hub), partition_id="0", owner_level=1)
        wait_until(lambda: third.errors, "the lower epoch is refused")
        assert "amqp:link:stolen" in str(third.errors[0])
        fourth = Reading(consumer(node, hub), partition_id="0")
        wait_until(lambda: fourth.errors, "so is one without")
        other_group = Reading(consumer(node, hub, "others"), partition_id="0").until(1)
        client.send_event(EventData("b"))
        second.until(2)
        other_group.until(2)
    assert second.bodies() == other_group.bodies() == ["a", "b"]
    for reading in (first, second, third, fourth, other_group):
        reading.close()


def test_with_users_a_key_of_the_node_is_shown_as_the_signature(tmp_path):
    made = meshgate("apikey", "till", "--user", "pos-9", "--role", "cashier", "--expires", "1d")
    key, table = made.stderr.decode().split(": ")[1].strip(), made.stdout.decode()
    node = Node(tmp_path, config("pos") + table + '[[policies]]\nallow = ["publish"]\nto = ["user:pos-9"]\n'
                'topics = ["pos/#"]\n[[policies]]\nallow = ["connect"]\nto = ["*"]\n',
                listeners=("amqp", "http", "console"))
    node.start()
    try:
        with EventHubProducerClient.from_connection_string(
                connection_string(node, f"SharedAccessSignature={key}"), eventhub_name="pos") as client:
            client.send_event(EventData("paid"))
            assert client.get_eventhub_properties()["eventhub_name"] == "pos"
        reading = Reading(EventHubConsumerClient.from_connection_string(
            connection_string(node, f"SharedAccessSignature={key}"), "$Default", eventhub_name="pos", retry_total=0),
            partition_id="0")
        wait_until(lambda: reading.errors, "who may not read is told")
        assert "unauthorized" in str(reading.errors[0]) and not reading.found
        reading.close()
        with producer(node, "pos") as client, pytest.raises((ConnectError, EventHubError), match=r"401|API key"):
            client.send_event(EventData("not paid"))
        with EventHubProducerClient.from_connection_string(
                connection_string(node, "SharedAccessSignature=mgk_wrong"), eventhub_name="pos",
                retry_total=0) as client, pytest.raises(EventHubError):
            client.send_event(EventData("not paid"))
    finally:
        node.kill9()


def test_the_connection_string_is_azures_own():
    found = parse_connection_string(
        "Endpoint=sb://localhost;SharedAccessKeyName=a;SharedAccessKey=b;UseDevelopmentEmulator=true;EntityPath=orders")
    assert found.eventhub_name == "orders"
