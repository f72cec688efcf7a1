"""What both kinds of link are: how one comes to its node, and how it ends. AMQP 1.0 §2.6. Sans-IO.

    attach ──► WAITING ── accept() ──► ATTACHED ── detach of either side ──► DETACHED
                  └────── refuse() ───────────────────────────────────────────▲
"""
from __future__ import annotations

import enum
from typing import ClassVar, Generic, TypeVar

from protocols.amqp.codec.composite import encode_composite
from protocols.amqp.codec.conditions import NOT_ALLOWED, LinkFault
from protocols.amqp.codec.performatives import Attach, Detach, Error
from protocols.amqp.engine.seams import SessionSide, SourceNode, TargetNode
from protocols.amqp.engine.unsettled import Tags, fitting

Node = TypeVar("Node", SourceNode, TargetNode)


FRAME_BYTES = 32            # of an attach beside its fields: the frame's head, and the sizes of list and map


class LinkState(enum.Enum):
    WAITING = "waits for its node"
    ATTACHED = "attached"
    DETACHED = "detached"


class Link(Generic[Node]):
    """Base of SendingLink and ReceivingLink."""

    role: ClassVar[bool]

    __slots__ = ("attach", "credit", "delivery_count", "handle", "name", "node", "resumes_only", "session", "state",
                 "told")

    def __init__(self, session: SessionSide, attach: Attach) -> None:
        self.session = session
        self.attach = attach
        self.name = attach.link_name
        self.handle = attach.handle             # ours is the same number as the peer's: both are free at the same time
        self.node: Node | None = None
        self.state = LinkState.WAITING
        self.credit = 0
        self.delivery_count = 0
        self.told: Tags | None = None           # what our attach has said to be unsettled
        self.resumes_only = False               # it has not said all: no new deliveries                  §2.7.3

    @property
    def is_attached(self) -> bool:
        return self.state is LinkState.ATTACHED

    @property
    def is_waiting(self) -> bool:
        """Its node has not decided, and the peer has not gone."""
        return self.state is LinkState.WAITING and not self.session.ended

    @property
    def is_gone(self) -> bool:
        return self.state is LinkState.DETACHED

    def without_terminus(self) -> Attach:
        """The answer to an attach that is refused."""
        raise NotImplementedError

    def say_attach(self, attach: Attach, unsettled: Tags | None) -> None:
        """Our attach, with as much of what is unsettled as fits in a frame of the peer's."""
        if unsettled:
            connection = self.session.connection
            size = len(encode_composite(attach, full=connection.full)) + FRAME_BYTES
            self.told, self.resumes_only = fitting(unsettled, connection.frame_max - size)
            attach.unsettled, attach.incomplete_unsettled = self.told, self.resumes_only or None
        self.session.send(attach)

    def refuse(self, fault: LinkFault) -> None:
        """Attach without our terminus, then detach with the reason.                              Source: §2.6.3"""
        if self.is_waiting:
            self.session.send(self.without_terminus())
            self.state = LinkState.ATTACHED
            self.fail(fault)

    def fail(self, fault: LinkFault) -> None:
        """Detach for good, with the reason."""
        if self.is_attached and not self.session.ended:
            self.session.send(Detach(self.handle, True, Error(fault.condition, fault.text[:1000], fault.info)))
            self.let_go(closed=True)

    def detached(self, detach: Detach) -> None:
        """By the peer: answered in kind."""
        if self.is_attached:
            self.let_go(closed=bool(detach.closed))
            self.session.send(Detach(self.handle, detach.closed))
        elif self.state is LinkState.WAITING:           # before we have answered its attach
            self.refuse(LinkFault(NOT_ALLOWED, "detached before it was attached"))
            self.state = LinkState.DETACHED

    def let_go(self, *, closed: bool) -> None:
        self.state = LinkState.DETACHED
        node, self.node = self.node, None
        self.session.forget(self)
        if node is not None:
            node.detach(closed=closed)
