"""POST /v1/requests/{topic}: publish a request, wait for its answer, whatever protocol the responder speaks.

The event carries a reply topic and a correlation id; the first event on that topic is the answer (direct/replies.py).
Responders of MQTT 3.1.1, which see neither, are asked with ?address=topic: the request's topic then ends in two levels,
and the answer goes to "$reply/" and those two.
"""
from __future__ import annotations

import asyncio

import msgspec
from aiohttp import hdrs, web

from protocols.rest.auth import Doorkeeper, Session
from protocols.rest.counters import RestCounters
from protocols.rest.http.bodies import BodyMemory, read_body
from protocols.rest.prefer import preferences
from protocols.rest.problems import SERVER, Problem, problem_of
from protocols.rest.publishing.publish import PREFIX as EVENTS_PREFIX
from protocols.rest.publishing.publish import topic_of_path
from protocols.rest.settings import RestSettings
from protocols.rest.translation.cloud import check_media_type, is_cloud, one_event
from protocols.rest.translation.convert import PublishFields, publish_fields
from protocols.rest.translation.reply import reply_fields
from protocols.web.fields import list_of
from routing.direct.replies import Replies, has_receiver
from routing.errors import Refusal, TopicError
from routing.event import Event, Properties
from routing.rights.policy import REPLY_PREFIX, Action, Identity
from routing.router import Router
from routing.ticket import Ticket
from routing.topic import check_topic

PREFIX = "/v1/requests/"
_NONE = Properties()
# A responder chooses the content type: whatever it is, no browser runs it in our name (hostile.md row 84).
_INERT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}


class RequestsEndpoint:
    """The handler."""

    def __init__(self, router: Router, doorkeeper: Doorkeeper, settings: RestSettings, counters: RestCounters,
                 memory: BodyMemory, replies: Replies) -> None:
        self._router = router
        self._doorkeeper = doorkeeper
        self._settings = settings
        self._counters = counters
        self._memory = memory
        self._replies = replies

    async def post(self, request: web.Request) -> web.StreamResponse:
        session = await self._doorkeeper.session(request)
        topic, by_topic = _asked(request)
        fields = _fields(request)
        wait_s = self._wait_s(request)
        if not request.content.is_eof() and not by_topic:       # by topic: the rules are asked about the whole of it
            self._doorkeeper.check_publish(session, topic)
        payload = await read_body(request, session, self._settings, self._memory)
        answered: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        reply_to = self._replies.expect(
            session.identity.user, lambda event: None if answered.done() else answered.set_result(event))
        if isinstance(reply_to, Refusal):
            raise Problem(503, "overloaded", reply_to.text)
        asking = _Asking(session.identity, answered)
        self._router.logins.add(asking)
        try:
            if by_topic:
                topic = _addressed(topic, reply_to)
            event = self._event(fields, topic, payload, reply_to, wait_s)
            self._publish(event, session, answered)
            async with asyncio.timeout(wait_s):
                answer = await answered
        except TimeoutError:
            self._counters.replies_late += 1
            raise Problem(
                504, "reply-timeout", f"somebody wants {topic}, but no answer came within {wait_s:g} s") from None
        finally:
            self._router.logins.discard(asking)
            self._replies.forget(reply_to)
        self._counters.replies += 1
        return self._response(answer)

    def _event(self, fields: PublishFields, topic: str, payload: bytes, reply_to: str, wait_s: float) -> Event:
        now_ms = self._router.clock_ms()
        if is_cloud(fields):
            if check_media_type(fields):
                raise Problem(415, "media-type-unsupported", "a request is one event, not a batch of them")
            event = one_event(fields, payload, topic, now_ms)
        else:
            event = fields.event(topic, payload, now_ms)
        known = event.properties or _NONE
        event.properties = msgspec.structs.replace(
            known, reply_to=reply_to,
            correlation=known.correlation if known.correlation is not None else reply_to.rpartition("/")[2],
            # nobody is to work on a request whose answer nobody waits for
            expires_at_ms=known.expires_at_ms if known.expires_at_ms is not None else now_ms + round(wait_s * 1000))
        return event

    def _publish(self, event: Event, session: Session, answered: asyncio.Future[Event]) -> None:
        """Raises Problem (403, 504 …) at once, or fails the future when the disk refuses it."""
        refusal = self._router.policy.refuse(
            session.identity, Action.PUBLISH, event.topic, self._router.clock_ms())
        if refusal is not None:                         # who may not ask does not learn whether somebody would answer
            raise problem_of(refusal)
        event.publisher = session.identity.user
        if not self._wanted(event.topic):
            raise Problem(504, "no-responder", f"nobody that we know of wants {event.topic}; it was not sent")
        ticket = self._router.publish([event], session.publisher)

        def stored(done: Ticket) -> None:
            if done.refusals and not answered.done():
                answered.set_exception(problem_of(done.refusals[0]))

        ticket.on_done(stored)

    def _wanted(self, topic: str) -> bool:
        return has_receiver(self._router, topic) or bool(self._router.routes.of(topic).consumers)

    def _wait_s(self, request: web.Request) -> float:
        asked = preferences(list_of(request.headers, "Prefer")).wait_s
        if asked is None:
            return self._settings.request_timeout_s
        return float(min(max(asked, 1), self._settings.request_timeout_max_s))

    def _response(self, answer: Event) -> web.Response:
        fields = {hdrs.CACHE_CONTROL: "no-store", hdrs.SERVER: SERVER, **_INERT}
        named, lost = reply_fields(answer)
        for what in lost:
            self._router.ledger.lost("event", "http", what)
        response = web.Response(body=answer.payload, headers=fields)
        for name, value in named:
            response.headers.add(name, value)
        self._counters.payload_bytes_out += len(answer.payload)
        return response


class _Asking:
    """Holder of routing/logins.py: who waits for an answer."""

    def __init__(self, identity: Identity, answered: asyncio.Future[Event]) -> None:
        self.identity = identity
        self._answered = answered

    def rights_changed(self, identity: Identity) -> None:
        self.identity = identity
        if identity.revoked and not self._answered.done():
            self._answered.set_exception(Problem(403, "not-authorized", "the login does not hold any more"))


def _asked(request: web.Request) -> tuple[str, bool]:
    """The topic, and whether the request is addressed by topic. Raises Problem (400)."""
    query = request.rel_url.raw_query_string
    if query not in ("", "address=topic"):
        raise Problem(400, "query-invalid", "the query takes address=topic")
    if "#" in request.raw_path:
        raise Problem(400, "topic-invalid", "a # in a path must be percent-encoded; no topic has one")
    return topic_of_path(EVENTS_PREFIX + request.rel_url.raw_path[len(PREFIX):]), bool(query)


def _addressed(topic: str, reply_to: str) -> str:
    """<topic>/<node>/<id>"""
    longer = f"{topic}/{reply_to[len(REPLY_PREFIX):]}"
    try:
        check_topic(longer)
    except TopicError as error:
        raise Problem(400, "topic-invalid", str(error)) from None
    return longer


def _fields(request: web.Request) -> PublishFields:
    """Raises Problem (400)."""
    fields = publish_fields(request.headers.items())
    if fields.reply_to is not None or fields.retain:
        raise Problem(400, "header-invalid", "a request has its reply topic from the node, and is not retained")
    if fields.message_id is not None or fields.idempotency_key is not None:
        raise Problem(400, "header-invalid", "a request has no message id or Idempotency-Key: it is new each time")
    return fields
