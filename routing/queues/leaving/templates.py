"""Templates: the topic that a dead letter goes to.

    {topic}   the whole topic of the event      {rest}   without its first level      {queue}   the queue's name

A template that begins with a scheme ("amqp:…") is made letters by the protocol that has registered for it, see
Queues.resolvers: it may send an event to several topics, and rewrite what it keeps of its own.
"""
from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from routing.errors import TopicError
from routing.event import Event, Native
from routing.topic import check_topic


class Letter(NamedTuple):
    """One copy of an event that a queue lets go. right: the topic to which the queue's owner must be allowed to
    publish. native: what the copy carries of the protocol it came by.
    """

    topic: str
    right: str
    native: Native | None


def letters_of(template: str, event: Event, queue: str) -> list[Letter]:
    """One, or none when what comes out is no topic."""
    topic = fill(template, event, queue)
    native = event.properties.native if event.properties is not None else None
    return [Letter(topic, topic, native)] if topic is not None else []


def fill(template: str, event: Event, queue: str) -> str | None:
    """None: what comes out is no topic."""
    topic = template.replace("{topic}", event.topic).replace("{rest}", event.topic.partition("/")[2])
    topic = topic.replace("{queue}", quote(queue, safe=""))
    try:
        check_topic(topic)
    except TopicError:
        return None
    return topic
