"""/management: queues, exchanges and bindings as RabbitMQ 4's own clients ask for them, HTTP in AMQP messages.

    request    message-id · to = path · subject = method · reply-to $me · value = body      on a link to /management
    answer     correlation-id · subject = status · value = body             on a link from it, same connection

What is asked is done by the protocol that keeps it (protocols/declaring.py). Source: RabbitMQ 4.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

from protocols.amqp.codec.composite import build, encode_composite
from protocols.amqp.codec.conditions import DECODE_ERROR, RESOURCE_LIMIT, DecodeFault, LinkFault
from protocols.amqp.codec.decode import decode
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.message import ABSENT, VALUE, MessageProperties, list_of, split
from protocols.amqp.codec.performatives import ACCEPTED
from protocols.amqp.codec.types import Array, UInt, ULong, Value
from protocols.amqp.engine.receiving import Incoming
from protocols.amqp.nodes.answering import Answering
from protocols.declaring import Declarer, Declaring, Outcome

ANSWERS_MAX = 100           # that wait for credit: whoever asks on without reading is refused
_VERSION = b"\x00\x53\x74" + encode({"http:response": "1.1"})
_STATUS = {403: 403, 404: 404, 405: 400, 406: 409, 530: 403, 540: 400, 503: 400, 501: 400, 502: 400, 506: 403}
_NO_BODY: Value = None

Answer = Callable[[int, Value], None]


class BadRequest(ValueError):
    """Answered with 400."""


class Management(Answering):
    """Of one connection."""

    def __init__(self, declaring: Declaring, declarer: Declarer, connection: Any,
                 new_token: Callable[[bytes, Callable[[bool], None]], None]) -> None:
        """new_token(token, done): the client has another one."""
        super().__init__(connection)
        self._declaring = declaring
        self._declarer = declarer
        self._new_token = new_token
        self._answers: deque[bytes] = deque()

    def close(self) -> None:
        self._declarer.close()

    def send(self) -> None:
        self._connection.cork()
        while self._answers:
            link = next((one for one in reversed(self._links) if one.room() > 0), None)
            if link is None:
                break
            link.send(self._answers.popleft(), None, settled=True)
        self._connection.uncork()

    # -- requests ---------------------------------------------------------------------------------------------

    def take(self, delivery: Incoming, message: bytes) -> None:
        if len(self._answers) >= ANSWERS_MAX:
            raise LinkFault(RESOURCE_LIMIT, "answers of /management are not read")
        try:
            sections = split(message, ordered=False)    # RabbitMQ's Python client writes an empty body first
            properties = build(MessageProperties, list_of(message, sections.properties))
            body = decode(message, *sections.value)[0] if sections.kind == VALUE and sections.value != ABSENT else None
        except DecodeFault as fault:
            raise LinkFault(DECODE_ERROR, fault.text) from None
        delivery.answer(ACCEPTED)
        self._connection.flush_answers()

        def answer(status: int, found: Value) -> None:
            self._answers.append(b"".join((
                encode_composite(MessageProperties(
                    correlation_id=properties.message_id, subject=str(status), to=properties.reply_to)),
                _VERSION, b"\x00\x53\x77", encode(found))))
            self.send()

        try:
            self._route(str(properties.subject or ""), str(properties.to or ""), body, answer)
        except BadRequest as error:
            answer(400, str(error))

    def _route(self, method: str, path: str, body: Value, answer: Answer) -> None:
        path, _, query = path.partition("?")
        parts = path.lstrip("/").split("/")
        if parts[0] == "queues" and len(parts) >= 2:
            self._queue(method, unquote(parts[1]), parts[2:], body, answer)
        elif parts[0] == "exchanges" and len(parts) == 2:
            self._exchange(method, unquote(parts[1]), body, answer)
        elif parts[0] == "bindings":
            self._binding(method, parts[1:], query, body, answer)
        elif method == "PUT" and parts == ["auth", "tokens"]:
            token = body.get("token") if isinstance(body, dict) else body
            if not isinstance(token, bytes):
                raise BadRequest("a token is binary")
            self._new_token(token, lambda fine: answer(204 if fine else 403, None if fine else "the token is refused"))
        else:
            answer(404, "there is nothing at this path")

    def _queue(self, method: str, name: str, rest: list[str], body: Value, answer: Answer) -> None:
        if method == "PUT" and not rest:
            wanted = _map(body)
            there = self._declaring.queue(name) is not None

            def declared(outcome: Outcome) -> None:
                if outcome.code == 200:
                    answer(200 if there else 201, self._shown(name))
                else:
                    _refused(outcome, answer)

            self._declarer.do("queue.declare", {
                "queue": name, "durable": wanted.get("durable", True) is not False,
                "auto_delete": wanted.get("auto_delete") is True, "exclusive": wanted.get("exclusive") is True,
                "arguments": _arguments(wanted)}, declared)
        elif method == "GET" and not rest:
            self._declarer.do("queue.declare", {"queue": name, "passive": True}, lambda outcome: (
                answer(200, self._shown(name)) if outcome.code == 200 else _refused(outcome, answer)))
        elif method == "DELETE" and rest in ([], ["messages"]):
            self._declarer.do("queue.purge" if rest else "queue.delete", {"queue": name}, lambda outcome: (
                answer(200, {"message_count": ULong(outcome.values.get("message_count", 0))})
                if outcome.code == 200 else _refused(outcome, answer)))
        else:
            answer(405, "a queue takes PUT, GET and DELETE")

    def _shown(self, name: str) -> Value:
        found = self._declaring.queue(name)
        if found is None:
            return None
        node = "meshgate"
        return {"name": name, "vhost": "/", "durable": found["durable"], "auto_delete": found["auto_delete"],
                "exclusive": found["exclusive"], "type": found["type"], "leader": node,
                "replicas": Array(0xA1, [node]), "arguments": _outward(found["arguments"]),
                "message_count": ULong(found["message_count"]), "consumer_count": UInt(found["consumer_count"])}

    def _exchange(self, method: str, name: str, body: Value, answer: Answer) -> None:
        if method == "PUT":
            wanted = _map(body)
            self._declarer.do("exchange.declare", {
                "exchange": name, "type": str(wanted.get("type", "direct")),
                "durable": wanted.get("durable", True) is not False, "auto_delete": wanted.get("auto_delete") is True,
                "internal": wanted.get("internal") is True, "arguments": _arguments(wanted)}, _no_content(answer))
        elif method == "DELETE":
            self._declarer.do("exchange.delete", {"exchange": name}, _no_content(answer))
        else:
            answer(405, "an exchange takes PUT and DELETE")

    def _binding(self, method: str, parts: list[str], query: str, body: Value, answer: Answer) -> None:
        if method == "POST" and not parts:
            wanted = _map(body)
            self._bind(True, str(wanted.get("source", "")), wanted.get("destination_queue"),
                       wanted.get("destination_exchange"), str(wanted.get("binding_key") or ""), _arguments(wanted),
                       answer)
        elif method == "DELETE" and len(parts) == 1:
            found = dict(part.partition("=")[::2] for part in parts[0].split(";"))
            queue, exchange = found.get("dstq"), found.get("dste")
            source = unquote(found.get("src", ""))
            if queue is not None and exchange is None and self._declaring.queue(unquote(queue)) is None \
                    and self._declaring.has_exchange(unquote(queue)):       # its Python client says dstq for both
                queue, exchange = None, queue
            self._bind(False, source, unquote(queue) if queue is not None else None,
                       unquote(exchange) if exchange is not None else None, unquote(found.get("key", "")), {}, answer)
        elif method == "GET" and not parts:
            asked = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
            source, to_exchange = asked.get("src", ""), "dste" in asked
            destination = asked.get("dste" if to_exchange else "dstq", "")
            where = "destination_exchange" if to_exchange else "destination_queue"
            self._declarer.bindings(source, destination, to_exchange, lambda outcome: (
                answer(200, [{"source": source, where: destination, "binding_key": one["key"],
                              "arguments": _outward(one["arguments"])} for one in outcome.values["bindings"]
                             if "key" not in asked or asked["key"] == one["key"]])
                if outcome.code == 200 else _refused(outcome, answer)))
        else:
            answer(405, "bindings take POST, GET and DELETE")

    def _bind(self, bind: bool, source: str, queue: Value, exchange: Value, key: str, arguments: dict[str, Any],
              answer: Answer) -> None:
        if not isinstance(queue, str) and not isinstance(exchange, str):
            raise BadRequest("a binding has a destination")
        fields: dict[str, Any] = {"routing_key": key, "arguments": arguments}
        if isinstance(queue, str):
            fields |= {"queue": queue, "exchange": source}
        else:
            fields |= {"destination": exchange, "source": source}
        kind = "queue" if isinstance(queue, str) else "exchange"
        self._declarer.do(f"{kind}.{'bind' if bind else 'unbind'}", fields, _no_content(answer))


def _no_content(answer: Answer) -> Callable[[Outcome], None]:
    return lambda outcome: answer(204, None) if outcome.code == 200 else _refused(outcome, answer)


def _refused(outcome: Outcome, answer: Answer) -> None:
    answer(_STATUS.get(outcome.code, 500), outcome.text)


def _map(body: Value) -> dict[Any, Any]:
    if not isinstance(body, dict):
        raise BadRequest("the body is no map")
    return body


def _arguments(wanted: dict[Any, Any]) -> dict[str, Any]:
    """As AMQP 0-9-1 has them."""
    found = wanted.get("arguments")
    if found is None:
        return {}
    return {str(name): _inward(value) for name, value in _map(found).items()}


def _inward(value: Value) -> Value:
    if isinstance(value, bool) or value is None or isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Array):
        return [_inward(item) for item in value.items]
    if isinstance(value, list):
        return [_inward(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _inward(item) for name, item in value.items()}
    raise BadRequest("an argument of a type that a queue has no use for")


def _outward(table: dict[str, Any]) -> Value:
    return {name: _inward(value) for name, value in table.items()
            if isinstance(value, (bool, int, float, str, bytes, list, dict)) or value is None}
