"""SendingLink: we send, the peer receives. Credit, drain, settlement. AMQP 1.0 §2.6. Sans-IO.

How it comes and goes is in link.py.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.amqp.codec import hot
from protocols.amqp.codec.composite import Composite
from protocols.amqp.codec.performatives import MIXED, SENDER, SETTLED, UNSETTLED, Attach, Flow, Rejected, Source
from protocols.amqp.engine import serial
from protocols.amqp.engine.link import Link, LinkState
from protocols.amqp.engine.seams import SessionSide, SourceNode
from protocols.amqp.engine.unsettled import Tags

CREDIT_MAX = 0x7FFFFFFF

SettleLater = Callable[[int, Composite | None], None]     # delivery id, what the receiver has said


class SendingLink(Link[SourceNode]):
    """See the module's head. tags are numbers of eight bytes, of their own on each link."""

    role = SENDER

    __slots__ = ("_pack", "_start", "_tag", "draining", "settle_later", "settle_mode", "unsettled")

    def __init__(self, session: SessionSide, attach: Attach) -> None:
        super().__init__(session, attach)
        self.draining = False
        self.unsettled = 0                      # deliveries of it in the session's table
        self.settle_later: SettleLater | None = None    # of a node that says itself when it has settled: settled()
        self.settle_mode = attach.snd_settle_mode if attach.snd_settle_mode is not None else MIXED
        self._start = hot.transfer_head(self.handle)
        self._tag = 0
        self._pack: tuple[Callable[..., bytes], bytes] | None = None    # once several deliveries went at a time

    @property
    def presettled(self) -> bool:
        """The peer wants all deliveries settled."""
        return self.settle_mode == SETTLED

    # -- attaching --------------------------------------------------------------------------------------------

    def accept(self, node: SourceNode, source: Source | None, *, properties: dict[Any, Any] | None = None,
               capabilities: tuple[str, ...] = (), unsettled: Tags | None = None) -> None:
        """source: what of the wishes applies, which is how the peer learns of it.

        unsettled: deliveries of an earlier link of this name, which will be sent again.
        """
        if self.state is not LinkState.WAITING or self.session.ended:
            node.detach(closed=True)
            return
        self.node = node
        self.state = LinkState.ATTACHED
        attach = self.attach
        self.say_attach(Attach(
            self.name, self.handle, SENDER, attach.snd_settle_mode, attach.rcv_settle_mode, source, attach.target,
            initial_delivery_count=0, max_message_size=self.session.connection.container.message_bytes_max,
            offered_capabilities=capabilities, properties=properties), unsettled)
        self.resumes_only = self.resumes_only or bool(attach.incomplete_unsettled)
        if self.credit or self.draining:
            self._told()

    def without_terminus(self) -> Attach:
        return Attach(self.name, self.handle, SENDER, target=self.attach.target, initial_delivery_count=0)

    # -- credit -----------------------------------------------------------------------------------------------

    def flow(self, flow: Flow) -> None:
        """The receiver's view of the link.                                                        Source: §2.6.7"""
        if flow.link_credit is not None:
            seen = flow.delivery_count if flow.delivery_count is not None else 0
            allowed = min(flow.link_credit, CREDIT_MAX)     # more is the edge of serial arithmetic: it would be none
            self.credit = max(serial.distance(self.delivery_count, serial.after(seen, allowed)), 0)
        self.draining = bool(flow.drain)
        if self.state is LinkState.ATTACHED:
            self._told()
            if flow.echo and not self.draining:
                self.tell()

    def _told(self) -> None:
        assert self.node is not None
        self.node.credit_changed()
        if self.draining and self.is_attached:
            self.node.drain()

    def room(self) -> int:
        """Deliveries that may go now: what the receiver, the session and the socket take."""
        if self.state is not LinkState.ATTACHED or self.session.connection.paused:
            return 0
        return min(self.credit, self.session.room())

    def drained(self) -> None:
        """Nothing is left to send: give the credit back.                                          Source: §2.6.7"""
        if self.draining and self.is_attached:
            self.delivery_count = serial.after(self.delivery_count, self.credit)
            self.credit = 0
            self.draining = False
            self.session.flow_of_link(self.handle, self.delivery_count, 0, drain=True, available=0, echo=False)
            assert self.node is not None
            self.node.credit_changed()

    def tell(self) -> None:
        """Our view of the link."""
        self.session.flow_of_link(self.handle, self.delivery_count, self.credit, drain=self.draining, available=None,
                                  echo=False)

    # -- deliveries -------------------------------------------------------------------------------------------

    def send(self, message: bytes, held: Any, *, settled: bool, message_format: int = 0,
             tag: bytes | None = None, tracked: bool = True, resumed: bool = False) -> None:
        """One message, for which there is room(). held: comes back by node.settle(), unless it is settled, or not
        tracked. resumed: it was sent before, by an earlier link of this name, with the same tag.
        """
        self._tag += 1
        self.delivery_count = (self.delivery_count + 1) & serial.MASK
        self.credit -= 1
        self.session.send_delivery(self, self._start, tag or self._tag.to_bytes(8, "big"), message, held,
                                   settled=settled, message_format=message_format, tracked=tracked, resumed=resumed)

    def send_all(self, messages: list[bytes], held: list[Any], *, settled: bool) -> None:
        """As send() of each, for which there is room()."""
        if len(messages) > 1:
            if self._pack is None:
                self._pack = hot.transfer_frames(self.session.channel, self.handle)
            count = len(messages)
            pack, prefix = self._pack
            if self.session.send_deliveries(self, pack, prefix, self._tag, messages, held, settled=settled):
                self._tag += count
                self.delivery_count = (self.delivery_count + count) & serial.MASK
                self.credit -= count
                return
        for message, one in zip(messages, held):
            self.send(message, one, settled=settled)

    def send_untracked(self, message: bytes) -> None:
        """One message whose answer nobody waits for. It is sent settled, unless the receiver wants none that is."""
        self.send(message, None, settled=self.settle_mode != UNSETTLED, tracked=False)

    def settled(self, delivery_id: int, state: Composite | None) -> None:
        """We have settled, too (second receiver settle mode).                                     Source: §2.6.12

        An error is not told to who said it: Azure's SDK for Python takes it for one of ours.
        """
        if type(state) is Rejected:
            state = Rejected()
        self.session.connection.write_frame(
            self.session.channel, hot.disposition(
                SENDER, delivery_id, delivery_id, True, state, full=self.session.connection.full))

    def let_go(self, *, closed: bool) -> None:
        self.credit = 0
        super().let_go(closed=closed)
