"""Templates: the topic that a dead letter goes to.

    {topic}   the whole topic of the event      {rest}   without its first level      {queue}   the queue's name

A template that begins with a scheme ("amqp:…") is made a topic by the protocol that has registered for it, see
Queues.resolvers.
"""
from __future__ import annotations

from urllib.parse import quote

from routing.errors import TopicError
from routing.event import Event
from routing.topic import check_topic


def fill(template: str, event: Event, queue: str) -> str | None:
    """None: what comes out is no topic."""
    topic = template.replace("{topic}", event.topic).replace("{rest}", event.topic.partition("/")[2])
    topic = topic.replace("{queue}", quote(queue, safe=""))
    try:
        check_topic(topic)
    except TopicError:
        return None
    return topic
