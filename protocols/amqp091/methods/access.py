"""What a user may do with exchanges and queues: rights on topics, as everywhere in the mesh, in words of AMQP.

    queue q         read: subscribe to $queue/q        change it: who declared it, or who may manage
    exchange x      use: publish or subscribe to some of x/#        change it: who declared it, or who may manage
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.codec.codes import ACCESS_REFUSED, RESOURCE_LOCKED, SoftError
from protocols.amqp091.topology.names import fanout_filter, queue_topic
from protocols.amqp091.topology.streamqueue import StreamQueue
from routing.rights.policy import Action

if TYPE_CHECKING:
    from protocols.amqp091.topology.exchange import Exchange
    from protocols.amqp091.topology.queue import Queue


def check_queue(peer: Peer, name: str) -> None:
    """May this user know of a queue of that name, whether it is there or not?"""
    router, identity = peer.broker.router, peer.identity
    topic = queue_topic(name)
    if not (router.policy.decide(identity, Action.SUBSCRIBE, topic).allowed
            or router.policy.decide(identity, Action.PUBLISH, topic).allowed):
        _denied(peer, Action.SUBSCRIBE, topic, f"access to queue '{name}' in vhost '{peer.vhost}'")


def check_exchange(peer: Peer, name: str) -> None:
    permissions = peer.broker.router.policy.permissions(peer.identity)
    pattern = fanout_filter(name)
    if not any(permissions.allows_part_of(pattern, action) for action in (Action.PUBLISH, Action.SUBSCRIBE)):
        _denied(peer, Action.PUBLISH, pattern, f"access to exchange '{name}' in vhost '{peer.vhost}'")


def check_own_queue(peer: Peer, queue: Queue | StreamQueue) -> None:
    """May this user delete it, bind it and so on?"""
    check_exclusive(peer, queue)
    router = peer.broker.router
    if isinstance(queue, StreamQueue):
        allowed = queue.user == peer.identity.user or router.policy.decide(peer.identity, Action.MANAGE).allowed
    else:
        allowed = router.rights.may_change(peer.identity, queue.core.consumer)
    if not allowed:
        _denied(peer, Action.MANAGE, "", f"configure access to queue '{queue.name}' in vhost "
                                            f"'{peer.vhost}'")


def check_own_exchange(peer: Peer, exchange: Exchange) -> None:
    router, identity = peer.broker.router, peer.identity
    if exchange.user != identity.user and not router.policy.decide(identity, Action.MANAGE).allowed:
        _denied(peer, Action.MANAGE, "", f"configure access to exchange '{exchange.name}' in vhost "
                                            f"'{peer.vhost}'")


def check_filter(peer: Peer, pattern: str) -> None:
    """May this user receive some of what the filter matches? The router asks again for each topic."""
    router, identity = peer.broker.router, peer.identity
    if not router.policy.decide(identity, Action.SUBSCRIBE, pattern).allowed:
        _denied(peer, Action.SUBSCRIBE, pattern, f"read access to '{pattern}'")


def check_publish(peer: Peer, pattern: str) -> None:
    router, identity = peer.broker.router, peer.identity
    if not router.policy.decide(identity, Action.PUBLISH, pattern).allowed:
        _denied(peer, Action.PUBLISH, pattern, f"write access to '{pattern}'")


def check_exclusive(peer: Peer, queue: Queue | StreamQueue) -> None:
    if queue.owner is not None and queue.owner is not peer:
        raise SoftError(
            RESOURCE_LOCKED, f"cannot obtain exclusive access to locked queue '{queue.name}' in vhost "
            f"'{peer.vhost}'. It could be originally declared on another connection or the exclusive "
            "property value does not match that of the original declaration.")


def _denied(peer: Peer, action: Action, topic: str, what: str) -> None:
    router, identity = peer.broker.router, peer.identity
    router.policy.refuse(identity, action, topic, router.clock_ms())        # counted, and in the list of denials
    raise SoftError(ACCESS_REFUSED, f"{what} refused for user '{identity.user}'")
