"""/v1/consumers: durable consumers, made, shown, changed, paused, moved and deleted. Pulling is in pulling.py.

A consumer is the same one for every protocol (architecture §5); names with a slash are those of MQTT sessions and the
like and are not served here. Who may use a consumer and who may change it says routing/consumers/rights.py; for
everybody else it is not there. An answer comes when what it says is on disk.
"""
from __future__ import annotations

import asyncio
import string
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from protocols.formats.event_json import rfc3339
from protocols.formats.location import OFFSET_MAX
from protocols.rest.auth import Doorkeeper, Session
from protocols.rest.consumers.declaring import QueueBody, check_queue, declare, fill_sample, filters_of, queue_json
from protocols.rest.consumers.pull import Pullers
from protocols.rest.http.bodies import BodyMemory
from protocols.rest.http.guard import pace_of
from protocols.rest.http.waiting import Waiting
from protocols.rest.json_body import json_body, json_response
from protocols.rest.problems import Problem, problem_of
from protocols.rest.reading.positions import start_of
from protocols.rest.settings import RestSettings
from protocols.rest.translation.convert import percent_decoded
from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.consumers.definition.push import StrictPush
from routing.consumers.registry.registry import start_position
from routing.consumers.registry.stored import CONSUMER
from routing.consumers.snapshot import snapshot
from routing.errors import Refusal, TopicError
from routing.rights.policy import Identity
from routing.router import Router
from routing.ticket import Ticket
from routing.topic import check_topic

NAME_CHARS_MAX = 128
NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "._~-")     # RFC 3986 §2.3, unreserved
LIST_MAX = 1_000
LIST_STEP = 50                  # consumers looked at between two looks at the clock
IN_FLIGHT_MAX = 10_000
DELIVERIES_MAX = 1_000
SECONDS_MAX = 366 * 86_400.0
COUNT_WAIT_S = 2.0          # a seek answers with what is counted by then
COUNT_ASK_S = 0.02


class ConsumerBody(msgspec.Struct, forbid_unknown_fields=True):
    """PUT: the whole consumer. start counts only when it is made."""

    filters: list[str]
    mode: Mode = Mode.SHARED
    start: str | int = "latest"
    streams: list[str] = []
    max_in_flight: int = 1_000
    ack_timeout_s: float | None = None
    max_deliveries: int | None = None
    backoff_initial_s: float = 1.0
    backoff_max_s: float = 60.0
    dead_letter_topic: str | None = None
    dead_letter_expired: bool = False
    expires_s: float | None = None
    push: StrictPush | None = None
    queue: QueueBody | None = None


class SeekBody(msgspec.Struct, forbid_unknown_fields=True):
    """to: earliest, latest, a time, an id or position; or an offset of the partition that is named."""

    to: str | int
    stream: str | None = None
    partition: int | None = None
    dry_run: bool = False


class ConsumersEndpoint:
    """All handlers under /v1/consumers but those of pulling.py and deadletters.py."""

    def __init__(self, router: Router, doorkeeper: Doorkeeper, settings: RestSettings, memory: BodyMemory,
                 pullers: Pullers) -> None:
        self.router = router
        self.settings = settings
        self.memory = memory
        self.pullers = pullers
        self.waiting = Waiting(settings.publish_timeout_s)
        self.on_made: list[Callable[[Consumer], None]] = []     # before it is stored, in the same commit
        self._doorkeeper = doorkeeper

    # -- shared with the endpoints beside -----------------------------------------------------------------------

    async def session(self, request: web.Request) -> Session:
        return await self._doorkeeper.session(request)

    def consumer(self, request: web.Request, identity: Identity) -> Consumer:
        """The consumer in the path. Raises Problem (400, 404)."""
        name = name_of(request)
        found = self.router.consumers.get(name)
        if found is None or not self._may_use(identity, found):
            raise Problem(404, "not-found", f"there is no consumer {name} that you may use")
        return found

    def _may_use(self, identity: Identity, consumer: Consumer) -> bool:
        if not consumer.is_named:
            return False
        rights = self.router.rights
        return rights.may_change(identity, consumer) or rights.may_share(identity, consumer)

    def managed(self, request: web.Request, identity: Identity) -> Consumer:
        """The same, to do with it what changes it for all: for its owner, and who may manage.

        Raises Problem (400, 403, 404).
        """
        consumer = self.consumer(request, identity)
        refusal = self.router.rights.refuse_change(identity, consumer)
        if refusal is not None:
            raise problem_of(refusal)
        return consumer

    async def stored(self, consumer: Consumer) -> None:
        """Wait until the consumer's state is on disk. Raises Problem (500, 503, 507)."""
        ticket = self.router.registry.checkpoint(consumer)
        if ticket is not None:
            await self.durable(ticket)

    async def durable(self, ticket: Ticket) -> None:
        if not ticket.done and not await self.waiting.durable(ticket):
            raise Problem(503, "outcome-unknown", "the disk did not answer in time; it may be done. Ask again")
        if ticket.refusals:
            raise problem_of(next(iter(ticket.refusals.values())))

    # -- handlers -----------------------------------------------------------------------------------------------

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Make it, or change it to what the body says: 201 or 200."""
        session = await self.session(request)
        name = name_of(request)
        self._doorkeeper.check_subscribe(session)
        self._check_name(session.identity, name)
        body = await json_body(request, ConsumerBody, session, self.settings, self.memory)
        self._check_name(session.identity, name)            # others had their turn
        known = self.router.consumers.get(name)
        spec = self._spec(name, body, known)
        if known is None:
            refusal = self.router.shares.consumers.refuse(session.identity.user, self.settings.consumers_max)
            if refusal is not None:
                raise problem_of(refusal)
        if body.queue is not None:
            consumer: Consumer | Refusal = declare(self.router, spec, body.queue, session.identity)
        else:
            consumer = self.router.open_consumer(spec, session.identity)
        if isinstance(consumer, Refusal):
            raise problem_of(consumer)
        if known is None:
            for told in self.on_made:
                told(consumer)
        await self.stored(consumer)
        return json_response(self.shown(consumer), 201 if known is None else 200)

    def _check_name(self, identity: Identity, name: str) -> None:
        known = self.router.consumers.get(name)
        if known is not None and not self._may_use(identity, known):
            raise Problem(409, "conflict", f"the name {name} is taken")

    def _spec(self, name: str, body: ConsumerBody, known: Consumer | None) -> ConsumerSpec:
        settings = self.settings
        if body.queue is not None:
            check_queue(body)
        if not (body.filters or body.queue is not None) or len(body.filters) > settings.consumer_filters_max:
            raise _bad(f"filters: 1 to {settings.consumer_filters_max} topic filters")
        timeout_s = body.ack_timeout_s if body.ack_timeout_s is not None else settings.ack_timeout_s
        _within("ack_timeout_s", timeout_s, 0.1, settings.ack_timeout_max_s)
        _within("max_in_flight", body.max_in_flight, 1, IN_FLIGHT_MAX)
        _within("backoff_initial_s", body.backoff_initial_s, 0, SECONDS_MAX)
        _within("backoff_max_s", body.backoff_max_s, 0, SECONDS_MAX)
        if body.max_deliveries is not None:
            _within("max_deliveries", body.max_deliveries, 1, DELIVERIES_MAX)
        if body.expires_s is not None:
            _within("expires_s", body.expires_s, 1, SECONDS_MAX)
        if body.dead_letter_topic is not None:
            template = body.dead_letter_topic
            _check_dead_letter_topic(fill_sample(template) if body.queue is not None else template)
        for stream in body.streams:
            if stream not in self.router.streams.by_name:
                raise Problem(404, "not-found", f"there is no stream {stream[:200]}")
        filters = tuple(dict.fromkeys(body.filters))
        start = known.spec.start if known is not None else start_of(
            self.router, body.start, filters, tuple(body.streams))
        return ConsumerSpec(
            name, filters, body.mode, start, tuple(body.streams), max_in_flight=body.max_in_flight,
            ack_timeout_s=timeout_s, max_deliveries=body.max_deliveries, backoff_initial_s=body.backoff_initial_s,
            backoff_max_s=body.backoff_max_s, dead_letter_topic=body.dead_letter_topic,
            dead_letter_expired=body.dead_letter_expired, expires_s=body.expires_s,
            push=body.push.plain() if body.push is not None else None)

    async def get(self, request: web.Request) -> web.StreamResponse:
        session = await self.session(request)
        return json_response(self.shown(self.consumer(request, session.identity)))

    async def list(self, request: web.Request) -> web.StreamResponse:
        """By name, a page at a time: ?after=<name>&limit=."""
        session = await self.session(request)
        after, limit = _page(request)
        pace = pace_of(request)
        names = []
        for number, (name, known) in enumerate(list(self.router.consumers.items())):
            if name > after and self._may_use(session.identity, known):
                names.append(name)
            if number % LIST_STEP == 0:
                await pace.rest()
        names.sort()
        page = []
        for name in names[:limit]:
            consumer = self.router.consumers.get(name)
            if consumer is not None:                    # deleted while others had their turn
                page.append(self.shown(consumer))
                await pace.rest()
        return json_response({"consumers": page, "next": names[limit - 1] if len(names) > limit else None})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """204 when it is gone for good."""
        session = await self.session(request)
        consumer = self.managed(request, session.identity)
        self.router.delete_consumer(consumer.name)
        await self.durable(self.router.state.delete(CONSUMER + consumer.name))
        return web.Response(status=204)

    async def pause(self, request: web.Request) -> web.StreamResponse:
        return await self._pause(request, paused=True)

    async def resume(self, request: web.Request) -> web.StreamResponse:
        return await self._pause(request, paused=False)

    async def _pause(self, request: web.Request, *, paused: bool) -> web.StreamResponse:
        session = await self.session(request)
        consumer = self.managed(request, session.identity)
        (consumer.pause if paused else consumer.resume)()
        await self.stored(consumer)
        return json_response(self.shown(consumer))

    async def seek(self, request: web.Request) -> web.StreamResponse:
        """Read on from elsewhere; dry_run: say only how many events would come."""
        session = await self.session(request)
        consumer = self.managed(request, session.identity)
        body = await json_body(request, SeekBody, session, self.settings, self.memory)
        positions = self._positions(consumer, body)
        if not body.dry_run:
            consumer.seek(positions)
            await self.stored(consumer)
        count = self.router.registry.count_from(consumer, positions)
        try:
            deadline_s = self.router.clock_s() + COUNT_WAIT_S
            while not count.exact and self.router.clock_s() < deadline_s:
                await asyncio.sleep(COUNT_ASK_S)
        finally:
            count.close()
        placed = [{"stream": partition.stream, "partition": partition.index, "position": position}
                  for partition, position in positions.items()]
        return json_response({
            "dry_run": body.dry_run, "events": count.events, "events_state": "exact" if count.exact else "counting",
            "positions": placed})

    def _positions(self, consumer: Consumer, body: SeekBody) -> dict[Any, int]:
        chosen = [partition for partition in consumer.cursors
                  if body.stream in (None, partition.stream) and body.partition in (None, partition.index)]
        if not chosen:
            raise Problem(404, "not-found", f"consumer {consumer.name} does not read such a partition")
        if isinstance(body.to, int):
            if len(chosen) > 1:
                raise _bad("to: an offset belongs to one partition: name stream and partition")
            if not 0 <= body.to <= OFFSET_MAX:
                raise _bad("to: an offset is not negative and has at most 63 bits")
            return {chosen[0]: start_position(chosen[0], body.to)}
        start = start_of(self.router, body.to, tuple(consumer.filters), consumer.spec.streams)
        return {partition: start_position(partition, start) for partition in chosen}

    def shown(self, consumer: Consumer) -> dict[str, Any]:
        """What GET says of a consumer."""
        spec, state = consumer.spec, snapshot(consumer)
        options = spec.queue
        queue = self.router.queues.get(consumer.name)
        dead_letter_topic = spec.dead_letter_topic or f"dead-letter/{consumer.name}"
        return {
            "name": consumer.name, "kind": state["kind"],
            "filters": list(consumer.filters) if queue is None else filters_of(queue), "mode": spec.mode.value,
            "streams": list(spec.streams), "user": consumer.identity.user, "paused": consumer.paused,
            "max_in_flight": spec.max_in_flight, "ack_timeout_s": spec.ack_timeout_s,
            "max_deliveries": spec.max_deliveries, "backoff_initial_s": spec.backoff_initial_s,
            "backoff_max_s": spec.backoff_max_s, "expires_s": spec.expires_s,
            "dead_letter_topic": dead_letter_topic if options is None else options.dead_letter,
            "queue": queue_json(queue) if queue is not None else None,
            "ready": state["ready"], "unacked": state["unacked"],
            "dead_letter_expired": spec.dead_letter_expired,
            "push": msgspec.to_builtins(spec.push) if spec.push is not None else None,
            "time": rfc3339(self.router.clock_ms()),
            "lag": {"events": state["lag_events"], "seconds": state["lag_seconds"], "state": state["lag_state"]},
            "clients": self.pullers.clients(consumer), "readers": len(consumer.members),
            "in_flight": consumer.in_flight, "delivered": consumer.delivered, "acked": consumer.acked,
            "redelivered": consumer.redelivered, "dead_lettered": consumer.dead_lettered,
            "expired": consumer.expired,
            "positions": state["cursors"],
        }


def name_of(request: web.Request) -> str:
    """The consumer's name in the path. Raises Problem (400)."""
    name = percent_decoded(request.match_info["name"])
    if not 0 < len(name) <= NAME_CHARS_MAX or not NAME_CHARACTERS.issuperset(name) or name in (".", ".."):
        raise Problem(400, "name-invalid", f"a consumer's name has 1 to {NAME_CHARS_MAX} letters, digits, and . _ ~ -")
    return name


def _page(request: web.Request) -> tuple[str, int]:
    query = request.rel_url.query
    limit = query.get("limit", str(LIST_MAX))
    if set(query) - {"after", "limit"} or not limit.isascii() or not limit.isdigit() or len(limit) > 4 or not (
            1 <= int(limit) <= LIST_MAX):
        raise Problem(400, "query-invalid", f"the query takes after (a name) and limit (1 to {LIST_MAX})")
    return query.get("after", ""), int(limit)


def _check_dead_letter_topic(topic: str) -> None:
    try:
        check_topic(topic)
    except TopicError as error:
        raise _bad(f"dead_letter_topic: {error}") from None
    if topic.startswith("$"):
        raise _bad("dead_letter_topic: topics with $ are stored in no stream")


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:                      # false for NaN too, which JSON cannot say anyway
        raise _bad(f"{name}: from {least:g} to {most:g}")


def _bad(detail: str) -> Problem:
    return Problem(400, "body-invalid", detail)
