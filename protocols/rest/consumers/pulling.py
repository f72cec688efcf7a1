"""POST /v1/consumers/{name}/pull, ack, nack, extend: how any replica of a client works on a durable consumer.

Tokens carry all that an answer needs (tokens.py), so it does not matter who pulled, nor whether the node was killed
in between. ack, nack and extend say per token whether it counted; one that did not is no error, the event comes again.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import msgspec
from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from protocols.formats.cloudevents import BATCH_CONTENT_TYPE
from protocols.formats.event_json import event_json
from protocols.rest.auth import Session
from protocols.rest.consumers.consumers import ConsumersEndpoint
from protocols.rest.consumers.tokens import BadToken, Token, Tokens, same_generation
from protocols.rest.counters import RestCounters
from protocols.rest.http.guard import pace_of
from protocols.rest.json_body import FIELDS, json_body, json_response
from protocols.rest.prefer import preferences
from protocols.rest.problems import Problem
from protocols.rest.translation.cloud import CloudEventLines, batch_pieces, wants_batch
from protocols.web.fields import list_of
from routing.consumers.consumer import Consumer
from routing.consumers.leases import Answer, ack_place, extend_place, nack_place, reject_place
from routing.cursors.cursor import Delivery
from routing.log.partition import Partition

CHUNK_BYTES = 64 * 1024         # of an answer, encoded and written at a time
CLIENT_CHARS_MAX = 128
STEP_TOKENS = 50                # read, or answered, between two looks at the clock

Settle = Callable[[Partition, Token], Answer]


class PullBody(msgspec.Struct, forbid_unknown_fields=True):
    max: Annotated[int, msgspec.Meta(ge=1)] = 100
    max_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None
    wait_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    client: Annotated[str, msgspec.Meta(max_length=CLIENT_CHARS_MAX)] = ""


class TokensBody(msgspec.Struct, forbid_unknown_fields=True):
    tokens: list[str]


class NackBody(TokensBody, forbid_unknown_fields=True):
    delay_s: Annotated[float, msgspec.Meta(ge=0)] | None = None


class ExtendBody(TokensBody, forbid_unknown_fields=True):
    seconds: Annotated[float, msgspec.Meta(gt=0)]


class PullingEndpoint:
    """Handlers; the consumers themselves are in the router."""

    def __init__(self, consumers: ConsumersEndpoint, counters: RestCounters) -> None:
        self._consumers = consumers
        self._counters = counters
        self._settings = consumers.settings
        self._router = consumers.router

    def _pulled(self, request: web.Request, session: Session) -> Consumer:
        """Raises Problem (400, 404, 409)."""
        consumer = self._consumers.consumer(request, session.identity)
        if consumer.spec.push is not None:
            raise Problem(409, "conflict", f"consumer {consumer.name} pushes its events to a URL")
        return consumer

    async def pull(self, request: web.Request) -> web.StreamResponse:
        session = await self._consumers.session(request)
        consumer = self._pulled(request, session)
        body = await json_body(request, PullBody, session, self._settings, self._consumers.memory)
        size = self._settings.pull_bytes_max
        deliveries = await self._consumers.pullers.pull(
            consumer, session.identity, body.client, count=min(body.max, self._settings.pull_events_max),
            size=min(body.max_bytes or size, size), wait_s=min(body.wait_s, self._settings.pull_wait_max_s))
        self._counters.pulls += 1
        self._counters.events_pulled += len(deliveries)
        self._counters.payload_bytes_out += sum(len(delivery.event.payload) for delivery in deliveries)
        return await self._answer(request, consumer, deliveries)

    async def _answer(
        self, request: web.Request, consumer: Consumer, deliveries: list[Delivery],
    ) -> web.StreamResponse:
        """{"events": […]} or a CloudEvents batch, in one piece when it is small, else encoded while it is sent."""
        tokens = Tokens(self._router.store.epoch, consumer.name)
        fields = FIELDS
        if wants_batch(request):
            chunks = batch_pieces(_documents(consumer, tokens, deliveries, CloudEventLines(self._router)), CHUNK_BYTES)
            fields = {**FIELDS, "Content-Type": BATCH_CONTENT_TYPE}
        else:
            chunks = _chunks(consumer, tokens, deliveries)
        first = next(chunks)
        second = next(chunks, None)
        if second is None:
            return web.Response(body=first, headers=fields)
        response = web.StreamResponse(headers=fields)
        if request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        else:
            response.headers[hdrs.CONNECTION] = "close"
            response.force_close()
        await response.prepare(request)
        await response.write(first)
        await response.write(second)
        pace = pace_of(request)
        for chunk in chunks:
            await response.write(chunk)
            await pace.rest()
        await response.write_eof()
        return response

    async def ack(self, request: web.Request) -> web.StreamResponse:
        """Done. The answer comes when that is on disk: what it says is acked never comes again."""
        session = await self._consumers.session(request)
        consumer = self._pulled(request, session)
        body = await json_body(request, TokensBody, session, self._settings, self._consumers.memory)
        answer = await self._settle(request, consumer, body.tokens, "acked", lambda partition, token: ack_place(
            consumer, partition, token.offset))
        if preferences(list_of(request.headers, "Prefer")).respond_async:
            return json_response(answer, 202)
        await self._consumers.stored(consumer)
        return json_response(answer)

    async def nack(self, request: web.Request) -> web.StreamResponse:
        """Not done: again, after delay_s or the consumer's back-off."""
        session = await self._consumers.session(request)
        consumer = self._pulled(request, session)
        body = await json_body(request, NackBody, session, self._settings, self._consumers.memory)
        if body.delay_s is not None and body.delay_s > self._settings.ack_timeout_max_s:
            raise Problem(400, "body-invalid", f"delay_s: at most {self._settings.ack_timeout_max_s:g}")
        return json_response(await self._settle(
            request, consumer, body.tokens, "nacked", lambda partition, token: nack_place(
                consumer, partition, token.offset, token.attempt, body.delay_s)))

    async def reject(self, request: web.Request) -> web.StreamResponse:
        """Never again from this consumer: to its dead letters; a queue without any lets them go for good."""
        session = await self._consumers.session(request)
        consumer = self._pulled(request, session)
        body = await json_body(request, TokensBody, session, self._settings, self._consumers.memory)
        return json_response(await self._settle(
            request, consumer, body.tokens, "rejected", lambda partition, token: reject_place(
                consumer, partition, token.offset, token.attempt)))

    async def extend(self, request: web.Request) -> web.StreamResponse:
        """More time, counted from now."""
        session = await self._consumers.session(request)
        consumer = self._pulled(request, session)
        body = await json_body(request, ExtendBody, session, self._settings, self._consumers.memory)
        if body.seconds > self._settings.ack_timeout_max_s:
            raise Problem(400, "body-invalid", f"seconds: at most {self._settings.ack_timeout_max_s:g}")
        return json_response(await self._settle(
            request, consumer, body.tokens, "extended", lambda partition, token: extend_place(
                consumer, partition, token.offset, token.attempt, body.seconds)))

    async def _settle(
        self, request: web.Request, consumer: Consumer, texts: list[str], word: str, settle: Settle,
    ) -> dict[str, object]:
        """Apply to each token; all of them are checked before the first. Raises Problem (400)."""
        if not texts or len(texts) > self._settings.tokens_max:
            raise Problem(400, "body-invalid", f"tokens: 1 to {self._settings.tokens_max}")
        pace = pace_of(request)
        tokens: list[Token] = []
        for token in self._read(consumer, texts):
            tokens.append(token)
            if len(tokens) % STEP_TOKENS == 0:
                await pace.rest()
        stale: list[str] = []
        streams = self._router.streams
        for number, (text, token) in enumerate(zip(texts, tokens)):
            if number % STEP_TOKENS == 0:
                await pace.rest()
            partition = streams.partition(token.stream, token.partition)
            fits = partition is not None and same_generation(token, consumer.generation)
            if partition is None or not fits or settle(partition, token) is Answer.STALE:
                stale.append(text)
        return {word: len(texts) - len(stale), "stale": stale}

    def _read(self, consumer: Consumer, texts: Iterable[str]) -> Iterator[Token]:
        reader = Tokens(self._router.store.epoch, consumer.name)
        for number, text in enumerate(texts):
            try:
                yield reader.read(text)
            except BadToken:
                raise Problem(
                    400, "token-invalid", f"tokens[{number}] is no token of consumer {consumer.name}") from None


def _documents(
    consumer: Consumer, tokens: Tokens, deliveries: list[Delivery], lines: CloudEventLines,
) -> Iterator[bytes]:
    """Each delivery as a CloudEvent; the extension attributes meshgatetoken and meshgateattempt are about it."""
    for delivery in deliveries:
        event, attempts = delivery.event, delivery.attempts
        token = tokens.write(Token(
            consumer.generation, event.offset, event.partition.index, attempts, event.partition.stream))
        yield lines.with_attributes(event, {"meshgatetoken": token, "meshgateattempt": attempts})


def _chunks(consumer: Consumer, tokens: Tokens, deliveries: list[Delivery]) -> Iterator[bytes]:
    """The answer of a pull in pieces of about CHUNK_BYTES; at least one."""
    parts: list[bytes] = [b'{"events":[']
    size = 0
    for number, delivery in enumerate(deliveries):
        event, attempts = delivery.event, delivery.attempts
        token = tokens.write(Token(
            consumer.generation, event.offset, event.partition.index, attempts, event.partition.stream))
        shown = event_json(event)
        if number:
            parts.append(b",")
        parts += (shown[:-1], b',"attempt":%d,"redelivered":%b,"token":"%b"}' % (
            attempts, b"true" if attempts > 1 else b"false", token.encode("ascii")))
        size += len(shown)
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    parts.append(b"]}")
    yield b"".join(parts)
