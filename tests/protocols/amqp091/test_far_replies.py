"""Answers by direct reply-to that come from another node, or from whoever knows the name."""
from __future__ import annotations

import pytest

from protocols.amqp091.far_replies import FarReplies
from protocols.amqp091.replies import DirectReplies
from routing.event import Event
from tests.support.routing import Desk


@pytest.mark.parametrize("payload", [
    b"", b"\0\0\0", b"\0\0\0\2", b"\xff\xff\xff\xff\0\0", b"\0\0\0\2\x20\0", b"\0\0\0\3\0\0x"])
def test_what_is_no_answer_does_not_reach_the_asker(tmp_path, payload):
    desk = Desk(tmp_path)
    replies, got = DirectReplies("here"), []
    far = FarReplies(desk.router, replies, "here")
    name = replies.open(lambda _: lambda properties, body: got.append((properties, body)))
    identifier = name.rpartition(".")[0].removeprefix("amq.rabbitmq.reply-to.")
    topic = f"$reply/here/amqp091/{identifier}"
    for answer in (payload, b"\0\0\0\2\0\0well"):
        desk.router.publish([Event(topic, answer)], desk.publisher)
        desk.run()
    assert got == [(b"\0\0", b"well")]
    assert far.inbox == []
    desk.close()
