"""Hubs: the streams of the node as Event Hubs. They are what Kafka's clients see as topics; orders.eu ↔ orders/eu.

    read        subscribe to everything that the stream may hold, as by Kafka
    send        publish to a part of it; the door in asks for each event
    describe    either

Rights are asked before it is looked whether there is such a hub, so that a refusal does not tell.
"""
from __future__ import annotations

from protocols.amqp.codec.conditions import NOT_FOUND, LinkFault, refused
from protocols.amqp.nodes.finding import denied
from routing.rights.policy import Action, Identity
from routing.router import Router
from routing.streams.streams import Stream

OWN_MARK = "$"              # begins the names of the node's own streams


class Hubs:
    """One per server."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def find(self, name: str) -> Stream | None:
        return None if name.startswith(OWN_MARK) else self._router.streams.by_name.get(name)

    def readable(self, name: str, identity: Identity) -> Stream:
        """Raises LinkFault."""
        stream = self._found(name, identity, Action.SUBSCRIBE)
        refusal = self._router.may_fetch(identity, stream.name)
        if refusal is not None:
            raise refused(refusal)
        return stream

    def writable(self, name: str, identity: Identity) -> Stream:
        return self._found(name, identity, Action.PUBLISH)

    def described(self, name: str, identity: Identity) -> Stream:
        return self._found(name, identity, Action.SUBSCRIBE, Action.PUBLISH)

    def _found(self, name: str, identity: Identity, *actions: Action) -> Stream:
        """Any of the actions is enough."""
        stream = self.find(name)
        patterns = stream.filters if stream is not None else _would_be(name)
        permissions = self._router.policy.permissions(identity)
        if not any(permissions.allows_part_of(pattern, action) for action in actions for pattern in patterns):
            raise denied(self._router, identity, actions[0], patterns[0])
        if stream is None:
            raise LinkFault(NOT_FOUND, f"there is no hub {name[:260]}: a hub is a stream or a Kafka topic of the node")
        return stream


def _would_be(name: str) -> tuple[str, ...]:
    """What a stream of this name would hold, if it were made as a Kafka topic is."""
    return (f"{name.replace('.', '/')}/#",)
