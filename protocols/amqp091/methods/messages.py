"""One published message: what is checked, where it goes, what of it is changed on the way in.

    CC, BCC       further routing keys; BCC is taken out     (RabbitMQ, Sender-selected Distribution)
    user-id       must be the one who logged in              reply-to amq.rabbitmq.reply-to becomes a name of its own
"""
from __future__ import annotations

from protocols.amqp091 import convert, replies
from protocols.amqp091.asked import Asked
from protocols.amqp091.channels import outgoing
from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.channels.content import Incoming
from protocols.amqp091.codec import codes
from protocols.amqp091.codec.codes import HardError, SoftError, refused
from protocols.amqp091.codec.properties import Content, decode_properties, encode_properties
from protocols.amqp091.codec.tables import without_field
from protocols.amqp091.delays import delay_of
from protocols.amqp091.methods import access
from protocols.amqp091.topology.exchange import Exchange
from protocols.amqp091.topology.names import core_name, topic_of
from protocols.amqp091.topology.topology import NOWHERE, Plain, Targets
from routing.errors import TopicError
from routing.event import Event
from routing.topic import check_topic

PUBLISH = (60, 40)
TOPICS_CACHED = 50_000


def take(channel: Channel, incoming: Incoming, body: bytes) -> Plain | None:
    """A message has come whole. Raises SoftError for what RabbitMQ closes the channel for.

    Returns what it comes to where that holds for every other one with the same exchange, key and properties.
    """
    peer, broker = channel.peer, channel.peer.broker
    topology = broker.declared.topology
    name, key = incoming.exchange, incoming.key
    tag = channel.confirms.next_tag()
    plain = topology.plain.get((name, key, incoming.properties))
    if plain is not None and channel.transaction is None:
        channel.publishing.add(channel.confirms, tag, Event(
            plain.topic, body, 1 if tag or plain.durable else 0, peer.client_id, None, (), plain.properties))
        return plain
    exchange = topology.exchanges.get(name)
    if exchange is None:
        raise SoftError(codes.NOT_FOUND, f"no exchange '{name}' in vhost '{peer.vhost}'", PUBLISH)
    if exchange.internal:
        raise SoftError(codes.ACCESS_REFUSED, f"cannot publish to internal exchange '{name}' in vhost "
                                              f"'{peer.vhost}'", PUBLISH)
    try:
        content = decode_properties(incoming.properties)
    except HardError as error:
        error.method = PUBLISH
        raise
    raw = _changed(channel, content, incoming.properties)
    if not name and key.startswith(replies.PREFIX):
        _answer(channel, incoming, raw, body, tag)
        return None
    if exchange.delays and delay_of(content):
        if content.expiration is not None:
            convert.expiration_ms(content.expiration)       # it counts from when the message is due
        _hold_back(channel, incoming, raw, body, tag)
        return None
    targets = _targets(channel, exchange, key, content)
    if content.raw_headers is not None and content.headers and "BCC" in content.headers:
        content.raw_headers = without_field(content.raw_headers, "BCC")
        del content.headers["BCC"]
        raw = encode_properties(content)
    event = None
    far = not name and not targets.queues and broker.router.queues.may_be_elsewhere(core_name(key))
    if name or targets.queues or (far and not incoming.mandatory):
        topic = _topic(channel, name, key)
        event = convert.event_of(topic, name, key, raw, content, body, peer.client_id,
                                 bool(tag) or channel.transaction is not None, broker.router.clock_ms())
        if targets.queues and not targets.copies and not content.varies and event.properties is not None:
            topology.remember(name, key, raw, Plain(topic, event.properties, content.delivery_mode == convert.DURABLE))
    returned = None
    if incoming.mandatory and not targets.queues and (event is None or not _wanted(channel, event.topic)):
        returned = outgoing.return_frames(
            channel.number, codes.NO_ROUTE, "NO_ROUTE", name, key, raw, body, peer.frame_max)
    if channel.transaction is not None:
        channel.transaction.publish(event, targets.copies, returned)
    elif event is not None and not targets.copies and returned is None:
        channel.publishing.add(channel.confirms, tag, event)
    else:
        channel.publishing.add_special(channel.confirms, tag, event, targets.copies, returned)
    return None


def _hold_back(channel: Channel, incoming: Incoming, raw: bytes, body: bytes, tag: int) -> None:
    """A delayed message: the right to publish is asked for now, where it goes when it is due."""
    peer, broker = channel.peer, channel.peer.broker
    access.check_publish(peer, _topic(channel, incoming.exchange, incoming.key))
    refusal = broker.delays.open()
    if refusal is not None:
        raise refused(refusal, PUBLISH)
    kept = broker.delays.event(incoming.exchange, incoming.key, raw, body, peer.client_id)
    if channel.transaction is not None:
        channel.transaction.publish(kept, (), None, inner=True)
    else:
        channel.publishing.add_inner(channel.confirms, tag, kept)


def _topic(channel: Channel, exchange: str, key: str) -> str:
    """The very same text for the same exchange and key: the router takes runs of one topic at once."""
    topology = channel.peer.broker.declared.topology
    known = topology.topics.get((exchange, key))
    if known is not None:
        return known
    topic = topic_of(exchange, key) if exchange else topology.straight_topic(key)
    try:
        check_topic(topic)
    except TopicError as error:
        raise SoftError(codes.PRECONDITION_FAILED, f"routing key '{key}' makes no topic: {error}", PUBLISH) from None
    if len(topology.topics) >= TOPICS_CACHED:
        topology.topics.clear()
    topology.topics[exchange, key] = topic
    return topic


def _changed(channel: Channel, content: Content, raw: bytes) -> bytes:
    """Check and complete the properties; the bytes as they go on."""
    user = content.user_id
    if user is not None and user != channel.peer.login_name:
        shown = user if isinstance(user, str) else user.decode("utf-8", "replace")
        raise SoftError(codes.PRECONDITION_FAILED, f"user_id property set to '{shown}' but authenticated user was "
                                                   f"'{channel.peer.login_name}'", PUBLISH)
    if content.reply_to == replies.QUEUE:
        if channel.asker is None:
            raise SoftError(codes.PRECONDITION_FAILED, "fast reply consumer does not exist", PUBLISH)
        content.reply_to = channel.asker.name
        return encode_properties(content)
    return raw


def _targets(channel: Channel, exchange: Exchange, key: str, content: Content) -> Targets:
    topology = channel.peer.broker.declared.topology
    asked = Asked(content)
    headers = content.headers
    if not headers or ("CC" not in headers and "BCC" not in headers):
        return topology.route(exchange, key, asked)
    keys = [key]
    for name in ("CC", "BCC"):
        more = headers.get(name)
        if more is None:
            continue
        if not isinstance(more, list) or not all(isinstance(one, str) for one in more):
            raise SoftError(codes.PRECONDITION_FAILED, f"invalid {name} header: an array of strings is expected",
                            PUBLISH)
        keys += [one for one in more if isinstance(one, str)]
    return topology.route_all(exchange, keys, asked)


def _wanted(channel: Channel, topic: str) -> bool:
    """Somebody who is no queue gets it: a subscriber or consumer of another protocol."""
    route = channel.peer.broker.router.routes.of(topic)
    return bool(route.direct or route.consumers)


def _answer(channel: Channel, incoming: Incoming, raw: bytes, body: bytes, tag: int) -> None:
    """An answer by direct reply-to: straight to the channel that asked."""
    peer, broker = channel.peer, channel.peer.broker
    target = broker.replies.asker(incoming.key)
    far = target is None and broker.far_replies.is_far(incoming.key)
    if target is None and not far and broker.replies.is_forged(incoming.key):
        raise SoftError(codes.ACCESS_REFUSED, "no reply is expected under this name", PUBLISH)
    returned = None
    if target is not None:
        target(raw, body)
    elif far and broker.far_replies.send(incoming.key, raw, body):
        pass
    elif incoming.mandatory:
        returned = outgoing.return_frames(channel.number, codes.NO_ROUTE, "NO_ROUTE", "", incoming.key, raw, body,
                                 peer.frame_max)
    channel.publishing.add_special(channel.confirms, tag, None, NOWHERE.copies, returned)
