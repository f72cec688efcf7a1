"""A queue as AMQP clients see it: its name and arguments, over the Queue that it is in the core (routing/queues)."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocols.amqp091.codec.tables import Table
from protocols.amqp091.topology import names
from protocols.amqp091.topology.arguments import QUORUM, QueueOptions
from routing.errors import Refusal
from routing.queues import options as core
from routing.queues.queue import Queue as CoreQueue
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.router import Router

DEAD_LETTER_SCHEME = "amqp"     # of templates: "amqp:<queue>", answered by dead_letters.py


class Queue:
    """owner: the connection that has it for itself (exclusive), None: anybody may use it."""

    __slots__ = ("arguments", "auto_delete", "core", "durable", "name", "options", "owner", "user")

    def __init__(self, name: str, durable: bool, auto_delete: bool, arguments: Table, options: QueueOptions,
                 user: str, owner: Any, found: CoreQueue) -> None:
        self.name = name
        self.durable = durable              # as declared: an exclusive one never outlives its connection
        self.auto_delete = auto_delete
        self.arguments = arguments
        self.options = options
        self.user = user
        self.owner = owner
        self.core = found

    @property
    def alive(self) -> bool:
        return not self.core.is_deleted

    @property
    def is_stored(self) -> bool:
        return self.core.consumer.spec.durable

    @property
    def is_quorum(self) -> bool:
        return self.options.type == QUORUM

    is_stream = False

    @property
    def readers(self) -> int:
        """Consumers, of all protocols."""
        return len(self.core.consumer.members.all)

    @property
    def is_counted(self) -> bool:
        """ready_count() is exact, as it is but after a start."""
        return self.core.depth().exact

    def ready_count(self) -> int:
        """Messages that wait to be delivered."""
        return self.core.depth().ready


def make(router: Router, name: str, durable: bool, auto_delete: bool, options: QueueOptions,
         identity: Identity) -> CoreQueue | Refusal:
    """The queue in the core."""
    limit = options.delivery_limit
    return router.queues.declare(
        names.core_name(name), core.QueueOptions(
            auto_delete=auto_delete, message_ttl_ms=options.message_ttl_ms, max_length=options.length_max,
            max_length_bytes=options.length_bytes_max,
            overflow="drop-head" if options.overflow == "drop-head" else "reject-publish",
            single_active=options.single_active, max_priority=options.priority_max or None,
            dead_letter=f"{DEAD_LETTER_SCHEME}:{name}" if options.dead_letter_exchange is not None else None,
        ), identity, durable=durable,
        expires_s=options.expires_ms / 1000 if options.expires_ms is not None else None,
        max_deliveries=limit + 1 if limit is not None and limit >= 0 else None)
