"""Desk: a node that answers requests, as $cbs and $management do: one link brings them, another takes the answers.

    request    message-id · reply-to · application properties · value
    answer     correlation-id · application properties status-code, status-description · value

An answer goes by the link whose target is the request's reply-to, else by the last one of the same session. Some SDKs
look for status-code, others for statusCode, so both are there.        Source: AMQP Management and CBS, working drafts
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from protocols.amqp.codec.composite import build, encode_composite
from protocols.amqp.codec.conditions import DECODE_ERROR, RESOURCE_LIMIT, UNAUTHORIZED, DecodeFault, LinkFault
from protocols.amqp.codec.decode import decode
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.message import ABSENT, VALUE, MessageProperties, list_of, map_of, split
from protocols.amqp.codec.performatives import ACCEPTED, Target
from protocols.amqp.codec.types import Int, Value
from protocols.amqp.engine.receiving import Incoming
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.nodes.answering import Answering

ANSWERS_MAX = 100           # that are made, or wait for credit: whoever asks on without reading is refused
ANSWERS_BYTES_MAX = 4 * 1024 * 1024     # of those of one connection that wait
TEXT_CHARS_MAX = 1_000


class Request(NamedTuple):
    """properties: application properties. value: the body, None when it is none."""

    properties: dict[Value, Value]
    value: Value

    def text(self, name: str) -> str:
        """An application property that is text; "" when it is none."""
        found = self.properties.get(name)
        return str(found) if isinstance(found, str) else ""


Answer = Callable[[int, str, Value], None]      # status, text, value


class Desk(Answering):
    """Of one connection and one address."""

    def __init__(self, connection: Any, ask: Callable[[Request, Answer], None],
                 close: Callable[[], None] = lambda: None) -> None:
        """ask(request, answer): what it raises as LinkFault is the answer. close(): the connection has gone."""
        super().__init__(connection)
        self._ask = ask
        self.close = close
        self._answers: deque[tuple[str | None, Any, bytes]] = deque()       # reply-to, session, message
        self._asking = 0                    # requests that are not answered yet
        self.waiting_bytes = 0              # of answers

    # -- answers ----------------------------------------------------------------------------------------------

    def send(self) -> None:
        """What waits, as far as there is credit; an answer for which there is no link any more is nobody's."""
        self._connection.cork()
        waiting, self._answers = self._answers, deque()
        for entry in waiting:
            link = self._link_for(entry[0], entry[1])
            if link is None:
                continue
            if link.room() > 0:
                link.send(entry[2], None, settled=True)
            else:
                self._answers.append(entry)
        self.waiting_bytes = sum([len(message) for _, _, message in self._answers])
        self._connection.uncork()

    def _link_for(self, reply_to: str | None, session: Any) -> SendingLink | None:
        beside = None
        for link in reversed(self._links):
            target = link.attach.target
            if reply_to and isinstance(target, Target) and target.address == reply_to:
                return link
            if beside is None and link.session is session:
                beside = link
        return beside

    # -- requests ---------------------------------------------------------------------------------------------

    def take(self, delivery: Incoming, message: bytes) -> None:
        desks: dict[str, Desk] = self._connection.parts.desks
        if len(self._answers) + self._asking >= ANSWERS_MAX or (
                sum([desk.waiting_bytes for desk in desks.values()]) >= ANSWERS_BYTES_MAX):
            raise LinkFault(RESOURCE_LIMIT, "answers are not read")
        try:
            sections = split(message, ordered=False)
            properties = build(MessageProperties, list_of(message, sections.properties))
            asked = map_of(message, sections.application_properties)
            value = decode(message, *sections.value)[0] if sections.kind == VALUE and sections.value != ABSENT else None
        except DecodeFault as fault:
            raise LinkFault(DECODE_ERROR, fault.text) from None
        delivery.answer(ACCEPTED)
        self._connection.flush_answers()
        session = delivery.link.session

        def answer(status: int, text: str, found: Value) -> None:
            self._asking -= 1
            if self._connection.closed:
                return
            told = {"status-code": Int(status), "status-description": text[:TEXT_CHARS_MAX],
                    "statusCode": Int(status), "statusDescription": text[:TEXT_CHARS_MAX]}
            self._answers.append((properties.reply_to, session, b"".join((
                encode_composite(MessageProperties(correlation_id=properties.message_id, to=properties.reply_to)),
                b"\x00\x53\x74", encode(told), b"\x00\x53\x77", encode(found)))))
            self.send()

        self._asking += 1
        try:
            self._ask(Request(asked, value), answer)
        except LinkFault as fault:
            answer(401 if fault.condition == UNAUTHORIZED else 404, fault.text, None)
