"""Answers by direct reply-to between nodes: who asked is connected to another node than who answers.

The name that stands in reply-to ends with the asker's node. There the answer goes as a direct message on the topic
$reply/<node>/amqp091/<the rest of the name>, at most once: knowing the name is the right to answer. Its payload is the
properties of the message, after their length in four bytes, and its body.
"""
from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from protocols.amqp091.codec.codes import AmqpError
from protocols.amqp091.codec.properties import decode_properties
from protocols.amqp091.replies import PREFIX, DirectReplies
from routing.direct.subscription import DirectTarget, Subscription
from routing.event import Event
from routing.rights.policy import INTERNAL, REPLY_PREFIX, Identity

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.router import Router


class FarReplies:
    """One per server: a Sink of the direct lane."""

    def __init__(self, router: Router, replies: DirectReplies, node: str) -> None:
        self.identity: Identity = INTERNAL
        self.consumer: Consumer | None = None
        self.inbox: list[tuple[list[Event], DirectTarget, bool]] = []
        self.inbox_scheduled = False
        self._router = router
        self._replies = replies
        self._node = node
        if node:
            refusal = router.subscribe(Subscription(f"{REPLY_PREFIX}{node}/amqp091/+", self))
            assert refusal is None, refusal

    def send(self, name: str, properties: bytes, body: bytes) -> bool:
        """False: nobody can be reached under this name."""
        remote = self._router.routes.remote
        topic = self._topic(name)
        if remote is None or topic is None or not remote.wants(topic):
            return False
        remote.send([Event(topic, len(properties).to_bytes(4, "big") + properties + body)])
        return True

    def is_far(self, name: str) -> bool:
        """Was it given out by another node, as it says?"""
        return self._topic(name) is not None

    def _topic(self, name: str) -> str | None:
        identifier, node = _parts(name)
        return f"{REPLY_PREFIX}{node}/amqp091/{identifier}" if node and node != self._node else None

    def flush_inbox(self) -> None:
        inbox, self.inbox = self.inbox, []
        for events, _, _ in inbox:
            for event in events:
                size, payload = int.from_bytes(event.payload[:4], "big"), event.payload[4:]
                name = f"{PREFIX}{event.topic.rpartition('/')[2]}.{quote(self._node, safe='')}"
                asker = self._replies.asker(name)
                if asker is not None and size <= len(payload) and _are_properties(payload[:size]):
                    asker(payload[:size], payload[size:])


def _are_properties(data: bytes) -> bool:
    """Who knows the name may send bytes of any kind, by any protocol; the asker's client would end with them."""
    try:
        decode_properties(data)
    except AmqpError:
        return False
    return True


def _parts(name: str) -> tuple[str, str]:
    """number and proof as one, and the node; "" for a name that is none."""
    number, _, rest = name.removeprefix(PREFIX).partition(".")
    proof, _, node = rest.partition(".")
    if not number.isalnum() or not proof.isalnum():
        return "", ""
    return f"{number}.{proof}", unquote(node)
