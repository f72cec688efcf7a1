"""Guests: parts of queues that no client has declared on this node. Somebody here publishes straight to a queue that is
on another node: the first message has the others asked for it, and a part is made here that keeps what is published
until it is fetched. It goes when the queue goes.

    publish to $queue/<name> ── no such queue here ──► Seek to everybody in sight
                                                  ◄── Offer: what it is ── make a part, from that message on
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from urllib.parse import unquote

from mesh.queues.messages import Message, Offer, Seek
from routing.errors import Refusal
from routing.queues.options import NAME_CHARS_MAX, QUEUE_TOPICS, straight_topic
from routing.rights.policy import INTERNAL, Identity

if TYPE_CHECKING:
    from mesh.queues.borders import Borders
    from mesh.queues.part import Part
    from routing.log.partition import Partition
    from routing.router import Router

SOUGHT_MAX: Final = 10_000          # names that somebody has published to, the latest: one may be declared yet
GUESTS_MAX: Final = 100_000
ANSWER_S: Final = 5.0               # what is published to a name is kept so long, if nobody has it


class Shared(Protocol):
    router: Router
    parts: dict[str, Part]
    clock_s: Callable[[], float]
    borders: Borders

    def say(self, node: str, message: Message) -> None: ...


class _Sought(NamedTuple):
    begins: dict[Partition, int]        # where its events begin
    until_s: float


class Guests:
    """One per node. Loop thread only."""

    def __init__(self, shared: Shared, nodes: Callable[[], Iterable[str]]) -> None:
        self._shared = shared
        self._nodes = nodes
        self._sought: dict[str, _Sought] = {}

    def start(self) -> None:
        self._shared.router.on_admitted.append(self._admitted)
        self._shared.router.queues.may_be_elsewhere = self.may_be_elsewhere

    def _admitted(self, identity: Identity, topic: str) -> None:
        """Router.on_admitted: before the first event of a publisher under this topic goes in."""
        if not topic.startswith(QUEUE_TOPICS) or identity is INTERNAL:
            return
        name = unquote(topic.removeprefix(QUEUE_TOPICS))
        if name not in self._shared.router.queues.by_name:
            self.may_be_elsewhere(name)

    def may_be_elsewhere(self, name: str) -> bool:
        """The others are asked, once. Whatever they say comes within a moment, or when it is declared there."""
        now_s = self._shared.clock_s()
        known = self._sought.get(name)
        if known is not None:
            return now_s < known.until_s
        nodes = list(self._nodes())
        if not nodes or "/" in name or not 0 < len(name) <= NAME_CHARS_MAX:
            return False
        if len(self._sought) >= SOUGHT_MAX:
            del self._sought[next(iter(self._sought))]
        self._sought[name] = _Sought(self._shared.router.queues.straight_ends(), now_s + ANSWER_S)
        for node in nodes:
            self._shared.say(node, Seek(name))
        return True

    def is_sought(self, name: str) -> bool:
        return name in self._sought

    def seek(self, node: str, seek: Seek) -> None:
        """Another node has events for a queue of ours."""
        part = self._shared.parts.get(seek.name)
        if part is not None and not part.guest_of and self._shared.borders.may_share(part.queue, node):
            spec = part.queue.consumer.spec
            self._shared.say(node, Offer(seek.name, part.user, part.queue.options, spec.expires_s, spec.max_deliveries))

    def offered(self, node: str, offer: Offer) -> None:
        if not self._shared.borders.may_pass(node, straight_topic(offer.name), []):
            return
        sought = self._sought.pop(offer.name, None)
        router = self._shared.router
        if sought is None or offer.name in router.queues.by_name or len(self._shared.parts) >= GUESTS_MAX:
            return
        owner = router.logins.renew_owner(Identity(offer.user, protocol="mesh"))
        queue = router.queues.declare(offer.name, offer.options, owner, expires_s=offer.expires_s,
                                      max_deliveries=offer.max_deliveries)
        if isinstance(queue, Refusal):
            return
        queue.consumer.move({partition: offset for partition, offset in sought.begins.items()
                             if partition in queue.consumer.cursors})
        part = self._shared.parts.get(offer.name)
        if part is not None:
            part.guest_of = node
            part.store()
