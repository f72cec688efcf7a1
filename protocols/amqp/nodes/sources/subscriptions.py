"""Subscriptions: queues that a topic fills, for one receiver, or for several that share it. JMS 2.0 §8.3, Qpid JMS.

    not durable            link-lifetime, a name that nobody knows            amqp/<random>
    durable                container id and link name                         amqp/<container>/<name>
    shared                 link name up to "|", with "global" for all         amqp/<container>/<name>, amqp//<name>

Closing the link of a durable one ends it, detaching does not; JMS' unsubscribe() attaches without a source, and closes.
"""
from __future__ import annotations

import secrets
from typing import Any, NamedTuple
from urllib.parse import quote

from protocols.amqp.codec.conditions import INVALID_FIELD, RESOURCE_LOCKED, LinkFault, refused
from protocols.amqp.codec.performatives import Attach, Source
from protocols.amqp.resuming.suspended import CONNECTION_CLOSE, LINK_DETACH, NEVER, SESSION_END
from routing.errors import Refusal
from routing.queues.bindings import Binding
from routing.queues.options import NAME_CHARS_MAX, QueueOptions
from routing.queues.predicates import Predicate
from routing.queues.queue import Queue
from routing.rights.policy import Identity
from routing.router import Router

PREFIX = "amqp/"
EXPIRY_POLICIES = frozenset((LINK_DETACH, SESSION_END, CONNECTION_CLOSE))       # those that are said; none is never


class Wish(NamedTuple):
    """name: of the queue in the core."""

    name: str
    durable: bool
    shared: bool
    ends: str = NEVER                   # expiry-policy: with the link, the session, the connection, or not
    expires_s: float | None = None      # after so long without a reader


def wish_of(attach: Attach, source: Source | None, container_id: str) -> Wish:
    """What kind of subscription an attach asks for. Raises LinkFault: its name is too long."""
    wanted = (source.capabilities if source is not None else ()) + attach.desired_capabilities
    shared = "shared" in wanted
    durable = source is None or bool(source.durable) or source.expiry_policy == NEVER
    if not durable and not shared:
        return Wish(f"{PREFIX}{secrets.token_hex(8)}", False, False)
    base, _, suffix = attach.link_name.partition("|")
    if shared and "volatile" in suffix:
        durable = False
    owner = "" if "global" in wanted else container_id
    name = f"{PREFIX}{_part(owner)}/{_part(base)}"
    if not durable:
        name += "/volatile"
    if len(name) > NAME_CHARS_MAX:
        raise LinkFault(INVALID_FIELD, "the name of the subscription is too long")
    ends, expires_s = NEVER, None
    if durable and source is not None and source.expiry_policy in EXPIRY_POLICIES:
        if source.timeout:
            expires_s = float(source.timeout)
        else:
            ends = source.expiry_policy
    return Wish(name, durable, shared, ends, expires_s)


def has_ended(wish: Wish, link: Any) -> bool:
    """Its link has been detached: does the subscription go with it, with its session, its connection?"""
    return wish.ends == LINK_DETACH or (
        wish.ends == SESSION_END and link.session.ended) or (
        wish.ends == CONNECTION_CLOSE and link.session.connection.closed)


def _part(text: str) -> str:
    return quote(text, safe=" !$&'()*,;=:@~")


def open_subscription(router: Router, wish: Wish, pattern: str, predicate: Predicate | None,
                      identity: Identity) -> Queue:
    """Get or make it. One of another topic or selector is ended before: JMS 2.0 §8.3.3. Raises LinkFault."""
    queues = router.queues
    binding = Binding(pattern, predicate)
    known = queues.get(wish.name)
    if known is not None:
        if not router.rights.owns(identity, known.consumer):
            raise LinkFault("amqp:unauthorized-access", "the subscription belongs to somebody else")
        if known.bindings.live.keys() == {binding.key}:
            return known
        if known.consumer.members.all:
            raise LinkFault(RESOURCE_LOCKED, "the subscription has a reader, and another topic or selector")
        queues.delete(wish.name, reason="the subscription was changed")
    refusal = router.check_subscribe(identity, pattern)
    if refusal is not None:
        raise refused(refusal)
    queue = queues.declare(
        wish.name, QueueOptions(auto_delete=not wish.durable), identity, durable=wish.durable,
        expires_s=wish.expires_s)
    if isinstance(queue, Refusal):
        raise refused(queue)
    refusal = queue.bind(binding, identity)
    if refusal is not None:
        queues.delete(wish.name)
        raise refused(refusal)
    return queue


def find_subscription(router: Router, attach: Attach, container_id: str) -> Queue | None:
    """The one that an attach without a source means."""
    return router.queues.get(wish_of(attach, None, container_id).name)
