"""The outcome modified: annotations that a receiver adds go with the message. AMQP 1.0 §3.4.5."""
from __future__ import annotations

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.message import inner, list_of, map_of, split
from protocols.amqp.codec.types import Described, Symbol, ULong
from protocols.amqp.nodes.addresses import queue_topic
from routing.event import Event
from routing.queues.options import QueueOptions
from routing.rights.policy import INTERNAL
from tests.protocols.amqp.raw import Raw, data
from tests.protocols.amqp.stand import Stand

WHY, WHO = Symbol("x-opt-why"), Symbol("x-opt-who")
OWN = encode(Described(ULong(0x72), {WHO: "sender", Symbol("x-opt-kept"): 7}))
NAMED = encode(Described(ULong(0x73), ["id"])) + encode(Described(ULong(0x74), {"number": 1}))


@pytest.fixture
def stand(tmp_path):
    started = Stand(tmp_path).start()

    def declare():
        started.router.queues.declare("dead", QueueOptions(), INTERNAL)
        started.router.queues.declare("q", QueueOptions(dead_letter=queue_topic("dead")), INTERNAL)

    started.do(declare)
    yield started
    started.stop()


def opened(stand, queue="q"):
    raw = Raw(stand.port)
    raw.begin()
    raw.receiver(f"queue://{queue}", credit=10)
    return raw


def told(message):
    """Annotations, delivery-count, payload."""
    sections = split(message)
    start, stop = inner(message, sections.value)
    header = list_of(message, sections.header)
    return (map_of(message, sections.message_annotations), header[4] if len(header) > 4 else None,
            message[start:stop])


def modify(raw, number, annotations, *, here=None):
    raw.send(p.Disposition(p.RECEIVER, number, None, True, p.Modified(True, here, annotations)))


def test_annotations_are_merged_and_stay_through_redeliveries(stand):
    raw = opened(stand)
    raw.sender("queue://q")
    raw.transfer(0, OWN + NAMED + data(b"x"))
    _, message = next_of(raw)
    modify(raw, 0, {WHY: "busy", WHO: "reader"})
    _, message = next_of(raw)
    assert told(message) == ({WHO: "reader", "x-opt-kept": 7, WHY: "busy"}, 1, b"x")
    modify(raw, 1, {WHY: "still busy"})
    _, message = next_of(raw)
    assert told(message) == ({WHO: "reader", "x-opt-kept": 7, WHY: "still busy"}, 2, b"x")
    sections = split(message)
    assert message[sections.properties[0]:] == (NAMED + data(b"x"))[3:], "nothing else is changed"


def test_one_of_another_protocol_is_annotated_too_and_others_read_it_as_before(stand):
    stand.do(lambda: stand.router.publish([Event(queue_topic("q"), b"71.5", 1, headers=(("unit", "C"),))],
                                          stand.router.internal))
    raw = opened(stand)
    _, message = raw.delivery()
    modify(raw, 0, {WHY: "later"})
    _, message = raw.delivery()
    assert told(message) == ({WHY: "later"}, 1, b"71.5")
    assert map_of(message, split(message).application_properties) == {"unit": "C"}


def test_they_are_in_the_dead_letter_of_what_is_undeliverable_here(stand):
    raw = opened(stand)
    raw.sender("queue://q")
    raw.transfer(0, data(b"x"))
    next_of(raw)
    modify(raw, 0, {WHY: "not mine"}, here=True)
    _, message = opened(stand, "dead").delivery()
    assert told(message)[0][WHY] == "not mine" and told(message)[2] == b"x"


def test_what_is_too_large_is_left_out_and_told(stand):
    raw = opened(stand)
    raw.sender("queue://q")
    raw.transfer(0, data(b"x"))
    next_of(raw)
    modify(raw, 0, {WHY: "y" * 80_000})
    _, message = next_of(raw)
    assert told(message) == ({}, 1, b"x")


def next_of(raw):
    """The next delivery, whatever comes before it."""
    while True:
        found, message, _ = raw.frame()
        if isinstance(found, p.Transfer):
            return found, message
