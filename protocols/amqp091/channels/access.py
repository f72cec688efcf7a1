"""What a user may do with exchanges and queues: rights on topics, as everywhere in the mesh, in words of AMQP.

    queue q         read: subscribe to $queue/q        change it: who declared it, or who may manage
    exchange x      use: publish or subscribe to some of x/#        change it: who declared it, or who may manage
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.amqp091.codec.codes import ACCESS_REFUSED, RESOURCE_LOCKED, SoftError
from protocols.amqp091.topology.names import fanout_filter, queue_topic
from routing.rights.policy import Action

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel
    from protocols.amqp091.topology.exchange import Exchange
    from protocols.amqp091.topology.queue import Queue


def check_queue(channel: Channel, name: str) -> None:
    """May this user know of a queue of that name, whether it is there or not?"""
    router, identity = channel.connection.server.router, channel.identity
    topic = queue_topic(name)
    if not (router.policy.decide(identity, Action.SUBSCRIBE, topic).allowed
            or router.policy.decide(identity, Action.PUBLISH, topic).allowed):
        _denied(channel, Action.SUBSCRIBE, topic, f"access to queue '{name}' in vhost '{channel.connection.vhost}'")


def check_exchange(channel: Channel, name: str) -> None:
    permissions = channel.connection.server.router.policy.permissions(channel.identity)
    pattern = fanout_filter(name)
    if not any(permissions.allows_part_of(pattern, action) for action in (Action.PUBLISH, Action.SUBSCRIBE)):
        _denied(channel, Action.PUBLISH, pattern, f"access to exchange '{name}' in vhost '{channel.connection.vhost}'")


def check_own_queue(channel: Channel, queue: Queue) -> None:
    """May this user delete it, bind it and so on?"""
    check_exclusive(channel, queue)
    router = channel.connection.server.router
    if not router.rights.may_change(channel.identity, queue.core.consumer):
        _denied(channel, Action.MANAGE, "", f"configure access to queue '{queue.name}' in vhost "
                                            f"'{channel.connection.vhost}'")


def check_own_exchange(channel: Channel, exchange: Exchange) -> None:
    router, identity = channel.connection.server.router, channel.identity
    if exchange.user != identity.user and not router.policy.decide(identity, Action.MANAGE).allowed:
        _denied(channel, Action.MANAGE, "", f"configure access to exchange '{exchange.name}' in vhost "
                                            f"'{channel.connection.vhost}'")


def check_filter(channel: Channel, pattern: str) -> None:
    """May this user receive some of what the filter matches? The router asks again for each topic."""
    router, identity = channel.connection.server.router, channel.identity
    if not router.policy.decide(identity, Action.SUBSCRIBE, pattern).allowed:
        _denied(channel, Action.SUBSCRIBE, pattern, f"read access to '{pattern}'")


def check_publish(channel: Channel, pattern: str) -> None:
    router, identity = channel.connection.server.router, channel.identity
    if not router.policy.decide(identity, Action.PUBLISH, pattern).allowed:
        _denied(channel, Action.PUBLISH, pattern, f"write access to '{pattern}'")


def check_exclusive(channel: Channel, queue: Queue) -> None:
    if queue.owner is not None and queue.owner is not channel.connection:
        raise SoftError(
            RESOURCE_LOCKED, f"cannot obtain exclusive access to locked queue '{queue.name}' in vhost "
            f"'{channel.connection.vhost}'. It could be originally declared on another connection or the exclusive "
            "property value does not match that of the original declaration.")


def _denied(channel: Channel, action: Action, topic: str, what: str) -> None:
    router, identity = channel.connection.server.router, channel.identity
    router.policy.refuse(identity, action, topic, router.clock_ms())        # counted, and in the list of denials
    raise SoftError(ACCESS_REFUSED, f"{what} refused for user '{identity.user}'")
