"""Session: windows, handles, deliveries and their dispositions. AMQP 1.0 §2.5, §2.6. Sans-IO.

    begin ──► MAPPED ── end of the peer: answered ──────────────► gone
                 └───── fault: end with the reason ──► ENDED ── end of the peer ──► gone
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from protocols.amqp.codec import hot
from protocols.amqp.codec.composite import Composite
from protocols.amqp.codec.conditions import (
    FRAMING_ERROR,
    HANDLE_IN_USE,
    UNATTACHED_HANDLE,
    WINDOW_VIOLATION,
    ConnectionFault,
    LinkFault,
    SessionFault,
)
from protocols.amqp.codec.performatives import (
    RECEIVER,
    SENDER,
    Accepted,
    Attach,
    Begin,
    Detach,
    Disposition,
    End,
    Error,
    Flow,
    Modified,
    Rejected,
    Released,
    TransactionalState,
)
from protocols.amqp.engine import serial
from protocols.amqp.engine.link import LinkState
from protocols.amqp.engine.receiving import ReceivingLink
from protocols.amqp.engine.runs import run_of
from protocols.amqp.engine.seams import ConnectionSide
from protocols.amqp.engine.sending import SendingLink
from protocols.scheduling.longwork import in_pieces

OUTGOING_WINDOW = 0x7FFFFFFF        # frames that we may send: the peer's window is the bound
_OUTCOMES = (Accepted, Rejected, Released, Modified, TransactionalState)
ACCEPTED_PIECE = 500        # deliveries: some 0.2 ms
_TRANSFER_BYTES = 64                # more than the performative of a transfer takes


class Unsettled(msgspec.Struct, gc=False):
    """A delivery that the peer has not settled. held: of whoever sent it."""

    link: Any
    held: Any


class Session:
    """See the module's head. Our channel has the number of the peer's."""

    __slots__ = ("_answers", "_incoming_left", "_next_delivery", "_next_incoming", "_next_outgoing", "_remote_window",
                 "_to_settle", "_unsettled_max", "_waiting", "channel", "connection", "ended", "links", "unsettled")

    def __init__(self, connection: ConnectionSide, channel: int, begin: Begin, *, unsettled_max: int) -> None:
        self.connection = connection
        self.channel = channel
        self.ended = False
        self.links: dict[int, SendingLink | ReceivingLink] = {}         # by handle, those that end included
        self.unsettled: dict[int, Unsettled] = {}                       # deliveries that we have sent, by id
        self._to_settle: dict[int, tuple[ReceivingLink, bytes]] = {}    # answered, and the peer's to settle
        self._unsettled_max = unsettled_max
        self._next_incoming = begin.next_outgoing_id
        self._incoming_left = connection.container.session_window
        self._next_outgoing = 0
        self._next_delivery = 0
        self._remote_window = begin.incoming_window
        self._waiting: deque[bytes] = deque()                           # frames beyond the peer's window
        self._answers: list[tuple[int, int, Composite, bool]] = []      # first, last, state, settled
        self.send(Begin(channel, 0, self._incoming_left, OUTGOING_WINDOW, connection.container.handles_max - 1))

    # -- out --------------------------------------------------------------------------------------------------

    def send(self, performative: Composite) -> None:
        self.connection.say(self.channel, performative)

    @property
    def _is_full(self) -> bool:
        """The sessions of this connection hold all that they may for want of windows."""
        return self.connection.waiting_bytes >= self.connection.container.waiting_bytes_max

    def room(self) -> int:
        """Deliveries that may go now."""
        if self._waiting or self.ended or self._is_full:
            return 0
        return min(self._remote_window, self._unsettled_max - len(self.unsettled))

    def send_delivery(self, link: Any, start: bytes, tag: bytes, message: bytes, held: Any, *, settled: bool,
                      message_format: int, tracked: bool = True, resumed: bool = False) -> None:
        """In one frame or several. tracked: its answer is waited for.                           Source: §2.6.14"""
        number = self._next_delivery
        self._next_delivery = (number + 1) & serial.MASK
        if not settled and tracked:
            self.unsettled[number] = Unsettled(link, held)
            link.unsettled += 1
        full = self.connection.full
        room = self.connection.frame_max - 8 - _TRANSFER_BYTES
        first = hot.transfer if not resumed else hot.resumed_transfer
        if len(message) <= room:
            self._out(first(start, number, tag, settled, False, message_format, full=full) + message)
            return
        self._out(first(start, number, tag, settled, True, message_format, full=full) + message[:room])
        for position in range(room, len(message), room):
            more = position + room < len(message)
            self._out(hot.transfer_more(start, more, full=full) + message[position:position + room])

    def send_deliveries(self, link: Any, pack: Any, prefix: bytes, tag: int, messages: list[bytes], held: list[Any], *,
                        settled: bool) -> bool:
        """Each in one frame; the tags are the numbers behind tag. False: not all can go so, and none has."""
        count, connection = len(messages), self.connection
        fixed = hot.FRAME_BYTES + len(prefix)
        if (self._waiting or self._remote_window < count or connection.full
                or max(map(len, messages)) > connection.frame_max - fixed):
            return False
        number, mask, unsettled = self._next_delivery, serial.MASK, self.unsettled
        sign, end = hot.TAG, hot.SETTLED_END if settled else hot.UNSETTLED_END
        frames: list[bytes] = []
        add = frames.append
        for message, one in zip(messages, held):
            tag += 1
            add(pack(fixed + len(message), prefix, number, sign, tag, end))
            add(message)
            if not settled:
                unsettled[number] = Unsettled(link, one)
            number = (number + 1) & mask
        self._next_delivery = number
        if not settled:
            link.unsettled += count
        self._remote_window -= count
        self._next_outgoing = (self._next_outgoing + count) & mask
        connection.write_frames(frames)
        return True

    def _out(self, body: bytes) -> None:
        if self._remote_window <= 0 or self._waiting:
            self._waiting.append(body)
            self.connection.waiting_bytes += len(body)
            return
        self._remote_window -= 1
        self._next_outgoing = (self._next_outgoing + 1) & serial.MASK
        self.connection.write_frame(self.channel, body)

    def flow_of_link(self, handle: int, delivery_count: int, credit: int, *, drain: bool, available: int | None,
                     echo: bool) -> None:
        self._refill_window()
        self.send(Flow(self._next_incoming, self._incoming_left, self._next_outgoing, OUTGOING_WINDOW, handle,
                       delivery_count, credit, available, drain or None, echo or None))

    def _refill_window(self) -> None:
        self._incoming_left = self.connection.container.session_window

    # -- answers ----------------------------------------------------------------------------------------------

    def answer(self, first: int, last: int, state: Composite, *, settled: bool) -> None:
        """The disposition of deliveries that came; neighbours with the same one go in one frame."""
        answers = self._answers
        if answers:
            begun, end, known, done = answers[-1]
            if state is known and done is settled and first == (end + 1) & serial.MASK:
                answers[-1] = (begun, last, known, done)
                return
        else:
            self.connection.answers_wait(self)
        answers.append((first, last, state, settled))

    def to_be_settled(self, delivery_id: int, link: Any, tag: bytes) -> None:
        """The peer settles this one, of a link that may be resumed."""
        if len(self._to_settle) >= self._unsettled_max or self.connection.tags >= self._unsettled_max:
            for oldest in self._to_settle:              # of this session; another one's are its own
                self._settled_by_sender(oldest)
                break
        self._to_settle[delivery_id] = link, tag
        self.connection.tags += 1

    def flush_answers(self) -> None:
        """Called by the connection at the end of a batch."""
        answers, self._answers = self._answers, []
        if not self.ended:
            for first, last, state, settled in answers:
                self.connection.write_frame(
                    self.channel, hot.disposition(RECEIVER, first, last, settled, state, full=self.connection.full))

    # -- in ---------------------------------------------------------------------------------------------------

    def transfer(self, data: bytes, position: int, end: int) -> None:
        """position: behind the descriptor."""
        transfer, start = hot.decode_transfer(data, position, end)
        if self._incoming_left <= 0:
            raise SessionFault(WINDOW_VIOLATION, "more transfers than the window has room for")
        self.ran(1)                                     # also one that ends its link: others go on
        link = self.links.get(transfer.handle)
        if link is None:
            raise SessionFault(UNATTACHED_HANDLE, f"no link has handle {transfer.handle}")
        if type(link) is not ReceivingLink:
            raise LinkFaultOf(link, LinkFault("amqp:not-allowed", "a transfer on a link that is for receiving"))
        if link.state is LinkState.ATTACHED:
            try:
                link.transfer(transfer, data[start:end])
            except LinkFault as fault:
                raise LinkFaultOf(link, fault) from None
            if link.last_bytes != end - position:
                link.last_bytes = end - position
            elif link.unsettled is None and link.is_attached:
                connection, at = self.connection, position - 11
                run = connection.run
                if run is None or not run.fits(data, at):
                    connection.run = run_of(link, transfer, data[at:end], settled=link.is_settled(transfer))

    def run_room(self) -> int:
        """Transfers that may come."""
        return 0 if self.ended else self._incoming_left

    def ran(self, count: int) -> None:
        """So many transfers have come."""
        self._next_incoming = (self._next_incoming + count) & serial.MASK
        self._incoming_left -= count
        if self._incoming_left <= self.connection.container.session_window >> 1:
            self._refill_window()
            self.send(Flow(self._next_incoming, self._incoming_left, self._next_outgoing, OUTGOING_WINDOW))

    def flow(self, flow: Flow) -> None:
        """Windows, and one link's credit.                                                  Source: §2.5.6, §2.6.7"""
        was_closed, was_full = self.room() <= 0, self._is_full
        begin = flow.next_incoming_id if flow.next_incoming_id is not None else 0
        self._remote_window = serial.distance(self._next_outgoing, serial.after(begin, flow.incoming_window))
        if flow.incoming_window >= OUTGOING_WINDOW:     # the edge of serial arithmetic: without bound
            self._remote_window = OUTGOING_WINDOW
        while self._waiting and self._remote_window > 0:
            self._remote_window -= 1
            self._next_outgoing = (self._next_outgoing + 1) & serial.MASK
            body = self._waiting.popleft()
            self.connection.waiting_bytes -= len(body)
            self.connection.write_frame(self.channel, body)
        if flow.handle is not None:
            link = self.links.get(flow.handle)
            if link is None:
                raise SessionFault(UNATTACHED_HANDLE, f"no link has handle {flow.handle}")
            if link.state is not LinkState.DETACHED:
                try:
                    link.flow(flow)
                except LinkFault as fault:
                    raise LinkFaultOf(link, fault) from None
        elif flow.echo:
            self.send(Flow(self._next_incoming, self._incoming_left, self._next_outgoing, OUTGOING_WINDOW))
        if was_full and not self._is_full:
            self.connection.has_room()
        elif was_closed:
            self.has_room()

    def has_room(self) -> None:
        """The window, the table or the socket takes more."""
        for link in list(self.links.values()):
            if type(link) is SendingLink and link.credit > 0 and link.node is not None:
                link.node.credit_changed()

    def disposition(self, found: Disposition) -> None:
        """What became of deliveries.                                                       Source: §2.6.12, §2.7.6"""
        last = found.last if found.last is not None else found.first
        if found.role is SENDER:                        # the second settle mode's last word
            if found.settled and self._to_settle:
                self.connection.long_work(in_pieces(
                    self._numbers(found.first, last, self._to_settle), self._settled_by_sender))
            return
        if not found.settled and not isinstance(found.state, _OUTCOMES):
            return                                      # received, or nothing at all
        if found.first == last:
            self._settle(found.first, found)
        elif found.settled and type(found.state) is Accepted:
            self.connection.long_work(self._accepted(self._numbers(found.first, last, self.unsettled)))
        else:
            self.connection.long_work(in_pieces(
                self._numbers(found.first, last, self.unsettled), lambda number: self._settle(number, found)))

    def _accepted(self, numbers: Iterable[int]) -> Iterator[None]:
        """Most of all: settled, and accepted."""
        unsettled = self.unsettled
        link: Any = None
        held: list[Any] = []
        for count, number in enumerate(numbers, 1):
            one = unsettled.pop(number, None)
            if one is not None:
                if one.link is not link:
                    self._tell_accepted(link, held)
                    link, held = one.link, []
                held.append(one.held)
            if count % ACCEPTED_PIECE == 0:
                self._tell_accepted(link, held)
                held = []
                yield
        self._tell_accepted(link, held)

    def _tell_accepted(self, link: Any, held: list[Any]) -> None:
        if held:
            was_full = len(self.unsettled) + len(held) >= self._unsettled_max
            link.unsettled -= len(held)
            if link.node is not None:
                link.node.accepted(held)
            if was_full:
                self.has_room()

    def _settle(self, number: int, found: Disposition) -> None:
        one = self.unsettled.pop(number, None)
        if one is None:
            return                                      # of a link that has gone
        link = one.link
        link.unsettled -= 1
        if link.node is not None:
            link.node.settle(one.held, found.state, settled=bool(found.settled))
        if not found.settled:
            (link.settle_later or link.settled)(number, found.state)
        if len(self.unsettled) == self._unsettled_max - 1:      # it was full
            self.has_room()

    def _settled_by_sender(self, number: int) -> None:
        one = self._to_settle.pop(number, None)
        if one is not None:
            self.connection.tags -= 1
            link, tag = one
            if link.unsettled is not None:
                link.unsettled.settled(tag)

    @staticmethod
    def _numbers(first: int, last: int, known: Mapping[int, object]) -> Iterable[int]:
        """The deliveries from first to last that are there to be settled, in their order."""
        if first == last:
            return (first,)
        span = serial.distance(first, last)
        if span < 0:
            return ()
        if span <= len(known):
            return [(first + step) & serial.MASK for step in range(span + 1)]
        return [number for number in known if 0 <= serial.distance(first, number) <= span]

    def refill(self) -> None:
        """Credit for those who send, where it is due."""
        for link in self.links.values():
            if isinstance(link, ReceivingLink):
                link.refill()

    # -- links ------------------------------------------------------------------------------------------------

    def attach(self, attach: Attach) -> None:
        container = self.connection.container
        if attach.handle >= container.handles_max:
            raise ConnectionFault(FRAMING_ERROR, f"handle {attach.handle} is above handle-max")     # §2.7.2
        if attach.handle in self.links:
            raise SessionFault(HANDLE_IN_USE, f"handle {attach.handle} is in use")
        link: SendingLink | ReceivingLink
        if attach.role is RECEIVER:
            link = self.links[attach.handle] = SendingLink(self, attach)
            attach_to = container.attach_source
        else:
            if attach.initial_delivery_count is None:
                raise ConnectionFault("amqp:invalid-field", "a sender's attach has an initial-delivery-count")
            link = self.links[attach.handle] = ReceivingLink(self, attach)
            attach_to = container.attach_target
        try:
            attach_to(link, attach)
        except LinkFault as fault:
            if link.state is LinkState.WAITING:
                link.refuse(fault)
            else:
                raise LinkFaultOf(link, fault) from None

    def detach(self, detach: Detach) -> None:
        link = self.links.pop(detach.handle, None)
        if link is None:
            raise SessionFault(UNATTACHED_HANDLE, f"no link has handle {detach.handle}")
        if link.state is not LinkState.DETACHED:
            link.detached(detach)

    def forget(self, link: Any) -> None:
        """A link is no more: answers to its deliveries do not count."""
        if link.role is SENDER and link.unsettled:
            for number in [number for number, one in self.unsettled.items() if one.link is link]:
                del self.unsettled[number]
            link.unsettled = 0
        elif link.role is RECEIVER and self._to_settle:
            kept = {number: one for number, one in self._to_settle.items() if one[0] is not link}
            self.connection.tags -= len(self._to_settle) - len(kept)
            self._to_settle = kept

    # -- the end ----------------------------------------------------------------------------------------------

    def fail(self, fault: SessionFault) -> None:
        if not self.ended:
            self._leave()
            self.send(End(Error(fault.condition, fault.text[:1000], fault.info)))

    def end(self) -> None:
        """By the peer."""
        if not self.ended:
            self.flush_answers()
            self._leave()
            self.send(End())

    def lost(self) -> None:
        """The connection has gone."""
        if not self.ended:
            self._let_go()

    def _leave(self) -> None:
        """The other sessions of the connection may send what this one did not."""
        was_full = self._is_full
        self._let_go()
        if was_full and not self._is_full:
            self.connection.has_room()

    def _let_go(self) -> None:
        self.ended = True
        self.connection.waiting_bytes -= sum(map(len, self._waiting))
        self._waiting.clear()
        for link in list(self.links.values()):
            if link.state is LinkState.ATTACHED:
                link.let_go(closed=False)
            link.state = LinkState.DETACHED
        self.unsettled.clear()
        self.connection.tags -= len(self._to_settle)
        self._to_settle.clear()
        self.connection.container.session_ended(self)


class LinkFaultOf(LinkFault):
    """A LinkFault, with the link that it ends."""

    def __init__(self, link: SendingLink | ReceivingLink, fault: LinkFault) -> None:
        super().__init__(fault.condition, fault.text, fault.info)
        self.link = link

