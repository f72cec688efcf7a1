"""ReceivingLink: the peer sends, we receive. Credit, multi-frame and aborted transfers. AMQP 1.0 §2.6. Sans-IO.

How it comes and goes is in link.py.
"""
from __future__ import annotations

from typing import Any

import msgspec

from protocols.amqp.codec.composite import Composite
from protocols.amqp.codec.conditions import (
    ILLEGAL_STATE,
    MESSAGE_SIZE,
    NOT_ALLOWED,
    RESOURCE_LIMIT,
    TRANSFER_LIMIT,
    ConnectionFault,
    DecodeFault,
    LinkFault,
)
from protocols.amqp.codec.performatives import (
    FIRST,
    RECEIVER,
    SECOND,
    SETTLED,
    Attach,
    Coordinator,
    Flow,
    Target,
    TransactionalState,
    Transfer,
)
from protocols.amqp.engine import serial
from protocols.amqp.engine.link import Link, LinkState
from protocols.amqp.engine.seams import SessionSide, TargetNode
from protocols.amqp.engine.unsettled import Tags, UnsettledMap


class Incoming(msgspec.Struct):
    """A delivery that has come whole, or is on its way."""

    link: Any                           # ReceivingLink
    delivery_id: int
    tag: bytes
    settled: bool
    txn_id: bytes | None = None
    message_format: int = 0
    resumed: bool = False
    settles_first: bool = False         # whatever its link does

    def answer(self, state: Composite) -> None:
        """What became of it. Nothing is said of one that was settled."""
        self.link.answer(self, state)


class ReceivingLink(Link[TargetNode]):
    """See the module's head."""

    role = RECEIVER

    __slots__ = ("_incoming", "_partial", "_window", "last_bytes", "second", "unanswered", "unsettled")

    def __init__(self, session: SessionSide, attach: Attach) -> None:
        super().__init__(session, attach)
        self.delivery_count = attach.initial_delivery_count or 0
        self.second = bool(attach.rcv_settle_mode)      # we wait for the sender to settle
        self.unanswered = 0
        self.last_bytes = 0                     # of the last transfer, less its head
        self.unsettled: UnsettledMap | None = None      # of a link that may be resumed
        self._window = session.connection.container.link_credit
        self._incoming: Incoming | None = None          # of which more frames are to come
        self._partial = bytearray()                     # not a list of frames: there may be one per byte, or of none

    # -- attaching --------------------------------------------------------------------------------------------

    def accept(self, node: TargetNode, target: Target | Coordinator | None, *,
               properties: dict[Any, Any] | None = None, capabilities: tuple[str, ...] = (),
               unsettled: Tags | None = None) -> None:
        """unsettled: what of an earlier link of this name is so."""
        if self.state is not LinkState.WAITING or self.session.ended:
            node.detach(closed=True)
            return
        self.node = node
        self.state = LinkState.ATTACHED
        attach = self.attach
        self.say_attach(Attach(
            self.name, self.handle, RECEIVER, attach.snd_settle_mode, SECOND if self.second else FIRST, attach.source,
            target, max_message_size=self.session.connection.container.message_bytes_max,
            offered_capabilities=capabilities, properties=properties), unsettled)
        self.credit = self._window
        self._grant()

    def without_terminus(self) -> Attach:
        return Attach(self.name, self.handle, RECEIVER, source=self.attach.source)

    def settle_first(self) -> None:
        """Before accept(): settle at once, whatever the sender has asked for. It hears of it by the answer."""
        self.second = False

    # -- credit -----------------------------------------------------------------------------------------------

    def flow(self, flow: Flow) -> None:
        """The sender's view of the link.                                                          Source: §2.6.7"""
        if flow.delivery_count is not None:
            passed = serial.distance(self.delivery_count, flow.delivery_count)
            if passed > 0:                              # it has given credit up
                self.delivery_count = flow.delivery_count
                self.credit = max(self.credit - passed, 0)
        if self.is_attached and (flow.echo or self.credit < self._window // 2):
            if not self.session.connection.withholds_credit:
                self.credit = self._window
            self._grant()

    def _grant(self) -> None:
        self.session.flow_of_link(self.handle, self.delivery_count, self.credit, drain=False, available=None,
                                  echo=False)

    # -- transfers --------------------------------------------------------------------------------------------

    def transfer(self, transfer: Transfer, payload: bytes) -> None:
        """One frame.                                                                    Source: §2.6.14, §2.7.5"""
        incoming = self._incoming
        if incoming is None:
            if self.credit <= 0:
                raise LinkFault(TRANSFER_LIMIT, "a transfer without credit")
            if transfer.delivery_id is None or transfer.delivery_tag is None:
                raise ConnectionFault("amqp:decode-error", "the first transfer of a delivery has no id or no tag")
            if len(transfer.delivery_tag) > 32:
                raise DecodeFault("a delivery-tag has at most 32 bytes")
            self.delivery_count = (self.delivery_count + 1) & serial.MASK
            self.credit -= 1
            incoming = Incoming(self, transfer.delivery_id, transfer.delivery_tag, False, None,
                                transfer.message_format or 0, bool(transfer.resume))
            if self.resumes_only and not incoming.resumed:
                raise LinkFault(ILLEGAL_STATE, "a new delivery before all that is unsettled was told")       # §2.7.3
        elif transfer.delivery_id is not None and transfer.delivery_id != incoming.delivery_id:
            raise LinkFault(NOT_ALLOWED, "another delivery begins before the last one has come whole")
        if self.is_settled(transfer):
            incoming.settled = True
        if transfer.rcv_settle_mode == FIRST:                                                   # §2.7.5
            incoming.settles_first = True
        if type(transfer.state) is TransactionalState:
            incoming.txn_id = transfer.state.txn_id
        if transfer.aborted:
            if self.unsettled is not None and incoming.resumed:
                self.unsettled.settled(incoming.tag)
            self._drop()
            self.refill()
            return
        if transfer.more:
            self._incoming = incoming
            self._keep(payload)
            return
        if self._incoming is not None:
            self._keep(payload)
            payload = bytes(self._partial)
            self._drop()
        elif len(payload) > self.session.connection.container.message_bytes_max:
            raise LinkFault(MESSAGE_SIZE, "the message is larger than max-message-size")
        self._incoming = None
        node = self.node
        assert node is not None
        if not incoming.settled:
            self.unanswered += 1
        if self.unsettled is None or not self._has_come_before(incoming, payload):
            node.take(incoming, payload)
        if self.credit <= self._window >> 1:
            self.refill()

    def is_settled(self, transfer: Transfer) -> bool:
        return bool(transfer.settled) or self.attach.snd_settle_mode == SETTLED

    # -- in a run ---------------------------------------------------------------------------------------------

    make_incoming = Incoming

    def run_room(self) -> int:
        """Deliveries that may come."""
        if not self.is_attached or self._incoming is not None:
            return 0
        return min(self.credit, self.session.run_room())

    def ran(self, count: int, *, settled: bool) -> None:
        """So many have come."""
        self.delivery_count = (self.delivery_count + count) & serial.MASK
        self.credit -= count
        if not settled:
            self.unanswered += count
        self.session.ran(count)
        if self.credit <= self._window >> 1:
            self.refill()

    # -- what came before -------------------------------------------------------------------------------------

    def _has_come_before(self, incoming: Incoming, payload: bytes) -> bool:
        """One that an earlier link has brought is answered as it was then, and not taken again.    Source: §2.6.13"""
        kept = self.unsettled
        assert kept is not None
        tag = incoming.tag
        is_known = incoming.resumed and tag in kept.states
        if incoming.settled:
            kept.settled(tag)
            return is_known or (incoming.resumed and not payload)       # the sender states an outcome again
        if not is_known:
            if incoming.txn_id is None:
                kept.came(tag)
            return False
        outcome = kept.states[tag]
        if outcome is None:
            kept.resumed(incoming)
        else:
            self.answer(incoming, outcome)
        return True

    def _keep(self, payload: bytes) -> None:
        """A part of a message. All parts on a connection together have a bound."""
        connection = self.session.connection
        self._partial += payload
        connection.partial_bytes += len(payload)
        if len(self._partial) > connection.container.message_bytes_max:
            raise LinkFault(MESSAGE_SIZE, "the message is larger than max-message-size")
        if connection.partial_bytes > connection.container.partial_bytes_max:
            raise LinkFault(RESOURCE_LIMIT, "too many messages that have not come whole")

    def _drop(self) -> None:
        self.session.connection.partial_bytes -= len(self._partial)
        self._partial = bytearray()
        self._incoming = None

    def refill(self) -> None:
        """Credit anew, when half of it is used; not for what waits for an answer: that would have no bound.

        A quarter at a time, at least: one flow for each answer would cost more than the answers.
        """
        if not self.is_attached or self.credit > self._window >> 1 or self.session.connection.withholds_credit:
            return
        credit = self._window - min(self.unanswered, self._window)
        grown = credit - self.credit
        if grown > self._window >> 2 or (grown > 0 and not self.unanswered):
            self.credit = credit
            self._grant()

    def answer(self, incoming: Incoming, state: Composite) -> None:
        """Called by Incoming.answer()."""
        if incoming.settled:
            return
        self.unanswered -= 1
        goes_out = self.is_attached and not self.session.ended
        waits = self.second and not incoming.settles_first
        if self.unsettled is not None:
            again = self.unsettled.decided(incoming.tag, state, settled=goes_out and not waits)
            if again is not None and again is not incoming:
                again.answer(state)
                again.link.session.connection.flush_answers()
            if goes_out and waits:
                self.session.to_be_settled(incoming.delivery_id, self, incoming.tag)
        if goes_out:
            self._say(incoming.delivery_id, incoming.delivery_id, state, settled=not waits)

    def answer_all(self, first: int, count: int, state: Composite) -> None:
        """As answer(), of so many from first on that came unsettled, where nothing is kept of them."""
        self.unanswered -= count
        if self.is_attached and not self.session.ended:
            self._say(first, (first + count - 1) & serial.MASK, state, settled=not self.second)

    def _say(self, first: int, last: int, state: Composite, *, settled: bool) -> None:
        self.session.answer(first, last, state, settled=settled)
        if self.credit <= self._window >> 1:
            self.refill()

    def let_go(self, *, closed: bool) -> None:
        self._drop()
        super().let_go(closed=closed)
