"""An exchange: its type, options and bindings."""
from __future__ import annotations

from protocols.amqp091.codec.tables import Table
from protocols.amqp091.topology.matching import DELAYED, DELAYED_TYPE, Binding, Matcher, matcher_of

PREDECLARED = (
    ("", "direct"), ("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
    ("amq.headers", "headers"), ("amq.match", "headers"),
)


class Exchange:
    """type is one of matching.TYPES, or DELAYED; kind is how it matches: of the TYPES."""

    __slots__ = ("alternate", "arguments", "auto_delete", "bindings", "durable", "incoming", "internal",
                 "kind", "matcher", "name", "type", "user")

    def __init__(self, name: str, type_: str, durable: bool, auto_delete: bool, internal: bool, arguments: Table,
                 user: str) -> None:
        """user: who declared it."""
        self.name = name
        self.type = type_
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments
        self.user = user
        alternate = arguments.get("alternate-exchange")
        self.alternate = alternate if isinstance(alternate, str) else None
        self.kind = str(arguments.get(DELAYED_TYPE)) if type_ == DELAYED else type_
        self.matcher: Matcher = matcher_of(self.kind, arguments)
        self.bindings: dict[tuple[str, str, bool, str, bytes], Binding] = {}    # that go out from it
        self.incoming: dict[tuple[str, str, bool, str, bytes], Binding] = {}    # from other exchanges to it

    @property
    def delays(self) -> bool:
        return self.type == DELAYED
