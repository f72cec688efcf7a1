"""azure-servicebus in emulator mode: queues and subscriptions, every way to settle, and proton on the same queues."""
from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from azure.servicebus import (
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import MessageLockLostError, ServiceBusError

from tests.interop.kafka_node import unique
from tests.support.node import Node

WAIT_S = 20
SHORT_S = 1.5


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    started = Node(tmp_path_factory.mktemp("servicebus"), "[amqp10]\nazure = true\n",
                   listeners=("amqp", "http", "console"))
    started.start()
    yield started
    assert "Traceback" not in started.process.log_text(), started.process.log_tail(80)
    started.kill9()


@pytest.fixture
def client(node):
    with connect(node) as opened:
        yield opened


def connect(node):
    return ServiceBusClient.from_connection_string(
        f"Endpoint=sb://127.0.0.1:{node.ports['amqp']};SharedAccessKeyName=any;SharedAccessKey=c2VjcmV0;"
        "UseDevelopmentEmulator=true", retry_total=0)


def send(client, queue, *messages, topic=False):
    with client.get_topic_sender(queue) if topic else client.get_queue_sender(queue) as sender:
        sender.send_messages(list(messages) if len(messages) > 1 else messages[0])


def receive(receiver, count):
    found = []
    deadline_s = time.monotonic() + WAIT_S
    while len(found) < count and time.monotonic() < deadline_s:
        found += receiver.receive_messages(max_message_count=count - len(found), max_wait_time=2)
    assert len(found) == count
    return found


def texts(messages):
    return [str(message) for message in messages]


def test_a_message_comes_out_with_all_its_properties(client):
    queue = unique("jobs")
    send(client, queue, ServiceBusMessage(
        b"body", application_properties={"n": 5, "text": "ä", "yes": True}, subject="s", content_type="application/x",
        correlation_id="c", message_id="m-1", reply_to="answers", to="t", time_to_live=timedelta(hours=1),
        partition_key="k"))
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        assert (b"".join(message.body), message.subject, message.content_type, message.correlation_id,
                message.message_id, message.reply_to, message.to, message.partition_key) == (
            b"body", "s", "application/x", "c", "m-1", "answers", "t", "k")
        assert message.application_properties == {b"n": 5, b"text": "ä".encode(), b"yes": True}
        assert message.delivery_count == 0 and message.sequence_number > 0 and message.lock_token is not None
        assert abs(message.enqueued_time_utc.timestamp() - time.time()) < 60
        receiver.renew_message_lock(message)
        receiver.complete_message(message)
        assert receiver.receive_messages(max_wait_time=SHORT_S) == []


def test_a_list_is_sent_as_one_batch_and_comes_in_order(client):
    queue = unique("jobs")
    send(client, queue, *[ServiceBusMessage(f"{number}") for number in range(500)])
    with client.get_queue_sender(queue) as sender:
        batch = sender.create_message_batch()
        for number in range(500, 520):
            batch.add_message(ServiceBusMessage(f"{number}"))
        sender.send_messages(batch)
    with client.get_queue_receiver(queue, receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE,
                                   prefetch_count=100) as receiver:
        assert texts(receive(receiver, 520)) == [f"{number}" for number in range(520)]


def test_abandoned_comes_again_counted_and_goes_to_the_dead_letters_in_the_end(client):
    queue = unique("jobs")
    send(client, queue, ServiceBusMessage("again"))
    with client.get_queue_receiver(queue) as receiver:
        for number in range(10):
            (message,) = receive(receiver, 1)
            assert message.delivery_count == number
            receiver.abandon_message(message)
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as letters:
        (letter,) = receive(letters, 1)
        assert str(letter) == "again"
        letters.complete_message(letter)


def test_what_nobody_settles_is_there_again_when_the_receiver_has_gone(client):
    queue = unique("jobs")
    send(client, queue, ServiceBusMessage("kept"))
    with client.get_queue_receiver(queue) as receiver:
        receive(receiver, 1)
    with client.get_queue_receiver(queue) as receiver:
        (message,) = receive(receiver, 1)
        receiver.complete_message(message)


def test_a_dead_letter_tells_why_also_after_kill_9(node):
    queue = unique("jobs")
    with connect(node) as client:
        send(client, queue, ServiceBusMessage("bad", application_properties={"n": 1}, subject="kept"))
        with client.get_queue_receiver(queue) as receiver:
            (message,) = receive(receiver, 1)
            receiver.dead_letter_message(message, reason="broken", error_description="it does not parse")
            assert receiver.receive_messages(max_wait_time=SHORT_S) == []
    node.kill9()
    node.restart()
    with connect(node) as client, client.get_queue_receiver(
            queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as letters:
        (letter,) = receive(letters, 1)
        assert (str(letter), letter.subject, letter.dead_letter_reason, letter.dead_letter_error_description,
                letter.dead_letter_source) == ("bad", "kept", "broken", "it does not parse", queue)
        assert letter.application_properties[b"n"] == 1
        letters.complete_message(letter)


def test_deferred_messages_wait_for_who_asks_by_number(node, client):
    queue = unique("jobs")
    send(client, queue, *[ServiceBusMessage(f"{number}") for number in range(4)])
    with client.get_queue_receiver(queue) as receiver:
        messages = receive(receiver, 4)
        numbers = [message.sequence_number for message in messages]
        for message in messages[:3]:
            receiver.defer_message(message)
        receiver.complete_message(messages[3])
        assert receiver.receive_messages(max_wait_time=SHORT_S) == []
        third, first = sorted(receiver.receive_deferred_messages([numbers[2], numbers[0]]), key=str, reverse=True)
        assert (str(first), str(third)) == ("0", "2") and first.sequence_number == numbers[0]
        receiver.complete_message(first)
        receiver.abandon_message(third)
        with pytest.raises(ServiceBusError):
            receiver.receive_deferred_messages(numbers[0])
        (second,) = receiver.receive_deferred_messages(numbers[1])
        receiver.dead_letter_message(second, reason="late")
        with pytest.raises((MessageLockLostError, ServiceBusError)):
            receiver._settle_message_via_mgmt_link("completed", [first._received_lock_token])
        (third,) = receiver.receive_deferred_messages(numbers[2])
        assert third.delivery_count == 1
        receiver.complete_message(third)
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as letters:
        (letter,) = receive(letters, 1)
        assert (str(letter), letter.dead_letter_reason) == ("1", "late")
        letters.complete_message(letter)


def test_peeking_takes_nothing(client):
    queue = unique("jobs")
    send(client, queue, *[ServiceBusMessage(f"{number}") for number in range(5)])
    with client.get_queue_receiver(queue) as receiver:
        assert texts(receiver.peek_messages(3)) == ["0", "1", "2"]
        assert texts(receiver.peek_messages(10)) == ["3", "4"]
        assert texts(receive(receiver, 5)) == ["0", "1", "2", "3", "4"]
        assert receiver.peek_messages(3, sequence_number=1) == []


@pytest.mark.parametrize("by", ["message", "request"])
def test_a_scheduled_message_comes_when_it_is_time(client, by):
    queue = unique("jobs")
    due = datetime.now(UTC) + timedelta(seconds=2.5)
    with client.get_queue_sender(queue) as sender:
        if by == "message":
            sender.send_messages(ServiceBusMessage("later", scheduled_enqueue_time_utc=due))
        else:
            (number,) = sender.schedule_messages(ServiceBusMessage("later"), due)
            assert number > 0
        sender.send_messages(ServiceBusMessage("now"))
    with client.get_queue_receiver(queue) as receiver:
        first, second = receive(receiver, 2)
        assert texts([first, second]) == ["now", "later"] and datetime.now(UTC) >= due
        receiver.complete_message(first)
        receiver.complete_message(second)


def test_scheduled_messages_are_cancelled_also_when_the_node_is_killed_then(node):
    queue, topic = unique("jobs"), unique("orders").replace(".", "-")
    due = datetime.now(UTC) + timedelta(seconds=30)
    with connect(node) as client:
        with client.get_queue_receiver(queue) as receiver, client.get_queue_sender(queue) as sender:
            first, second, third = sender.schedule_messages([ServiceBusMessage(f"{n}") for n in range(3)], due)
            assert receiver.receive_messages(max_wait_time=SHORT_S) == []
            sender.cancel_scheduled_messages(first)             # it waits in memory for its time
        with client.get_queue_sender(queue) as sender:
            (fourth,) = sender.schedule_messages(ServiceBusMessage("3"), due)
            sender.cancel_scheduled_messages([third, fourth])   # which nobody has read
            for gone in (first, fourth, fourth + 1_000):
                with pytest.raises(ServiceBusError):
                    sender.cancel_scheduled_messages(gone)
        names = ("billing", "shipping")
        for name in names:
            client.get_subscription_receiver(topic, name).peek_messages(1)
        with client.get_topic_sender(topic) as sender:
            (number,) = sender.schedule_messages(ServiceBusMessage("never"), due)
            sender.cancel_scheduled_messages(number)
    node.kill9()
    node.restart()
    with connect(node) as client:
        with client.get_queue_receiver(queue) as receiver:
            (message,) = receiver.peek_messages(10)
            assert (str(message), message.sequence_number) == ("1", second)
        for name in names:
            assert client.get_subscription_receiver(topic, name).peek_messages(10) == []


def test_each_subscription_gets_what_is_sent_to_its_topic(node, client):
    topic = unique("orders").replace(".", "-")
    with client.get_subscription_receiver(topic, "billing") as billing, client.get_subscription_receiver(
            topic, "shipping") as shipping:
        send(client, topic, ServiceBusMessage("one"), topic=True)
        for receiver in (billing, shipping):
            (message,) = receive(receiver, 1)
            assert str(message) == "one"
            receiver.dead_letter_message(message, reason="no")
    with client.get_subscription_receiver(topic, "billing", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as letters:
        assert texts(receive(letters, 1)) == ["one"]


def test_sessions_are_refused_with_a_reason(client):
    with pytest.raises(ServiceBusError, match="not served"), client.get_queue_receiver(
            unique("jobs"), session_id="s") as receiver:
        receiver.receive_messages(max_wait_time=SHORT_S)


def test_a_queue_is_shared_with_every_other_client(node, client):
    proton = pytest.importorskip("proton")
    utils = pytest.importorskip("proton.utils")
    queue = unique("jobs")
    with client.get_queue_receiver(queue) as receiver:
        connection = utils.BlockingConnection(f"amqp://127.0.0.1:{node.ports['amqp']}", timeout=WAIT_S)
        connection.create_sender(f"queue://{queue}").send(proton.Message(body=b"from proton", durable=True))
        (message,) = receive(receiver, 1)
        receiver.complete_message(message)
        send(client, queue, ServiceBusMessage(b"from Azure"))
    other = connection.create_receiver(f"queue://{queue}")
    assert other.receive(timeout=WAIT_S).body == b"from Azure"
    other.accept()
    connection.close()
