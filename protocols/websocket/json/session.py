"""One client of /v1/ws: what it says, what it is told, and how much of both may be under way. Sans-IO.

    new ── users are configured ──► waits for the first message (auth, or anything else as nobody) ──► open ──► over
     └──── credentials in the handshake, or no users ─────────────────────────────────────────────────►┘

Publishes of one read are one publish call; each is answered when its ticket is done. Nothing is read while too many of
them are under way, while the log is behind, or while the client does not take what it is told: so memory is bounded.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from protocols.formats.event_json import event_json
from protocols.formats.location import event_id
from protocols.websocket.json import messages as said_
from protocols.websocket.json.messages import BadMessage, Id, Request, Said, answer, basic, decode, event_of, refused
from protocols.websocket.json.opening import Caches, OpensSubscriptions
from protocols.websocket.json.subscription import JsonSubscription
from protocols.websocket.problems import POLICY_VIOLATION, TRY_AGAIN_LATER, problem_of
from protocols.websocket.settings import WebSocketSettings
from routing.direct.replies import Replies, has_receiver
from routing.errors import Reason, Refusal
from routing.event import Event, Properties
from routing.publishing.publisher import Publisher
from routing.rights.policy import Action, Identity
from routing.router import Router
from routing.ticket import Ticket

if TYPE_CHECKING:
    from protocols.websocket.json.counters import JsonCounters

VERSION = 1
BAD_MESSAGES_MAX = 100          # then the client is told to go: it does not speak this protocol


class Credentials:
    """What a client shows: the value of an Authorization field, or an API key, or nothing."""

    __slots__ = ("api_key", "authorization")

    def __init__(self, authorization: str | None = None, api_key: str | None = None) -> None:
        self.authorization = authorization
        self.api_key = api_key


class Stream(Protocol):
    """The channel, as its session sees it."""

    def send(self, message: bytes, *, is_binary: bool = False) -> None: ...

    def send_many(self, messages: list[bytes], *, is_binary: bool) -> None: ...

    def buffered_bytes(self) -> int: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def allow(self, message_bytes_max: int) -> None: ...

    def close_with(self, code: int, reason: str = "") -> None: ...

    def abort(self) -> None: ...


Login = Callable[[Credentials, Callable[[Identity | Refusal], None]], None]


class JsonSession(OpensSubscriptions):
    """See the module's head. end() must be called when the connection is gone."""

    def __init__(self, stream: Stream, router: Router, replies: Replies, settings: WebSocketSettings,
                 counters: JsonCounters, node: str, login: Login, caches: Caches, now_s: float) -> None:
        """login(credentials, done) answers at once or later."""
        super().__init__(router, settings, caches)
        self.deadline_s: float | None = now_s + settings.login_timeout_s    # for the first message
        self.heard_s = now_s
        self.blocked_since_s: float | None = None
        self.over = False
        self._stream = stream
        self._replies = replies
        self._counters = counters
        self._node = node
        self._login = login
        self._publisher: Publisher | None = None
        self._held: list[str | bytes] = []              # came while the login was under way
        self._paused: set[str] = set()                  # why nothing is read
        self._under_way = 0
        self._bad = 0
        self._requests: dict[str, tuple[Id, float]] = {}    # reply topic → id, deadline
        self._batch: list[tuple[Id, Event]] = []

    @property
    def is_open(self) -> bool:
        """Logged in, or let in as nobody."""
        return self._publisher is not None

    # -- login ------------------------------------------------------------------------------------------------

    def log_in(self, credentials: Credentials) -> None:
        self.deadline_s = None
        self._pause("login")
        self._login(credentials, self._logged_in)

    def _logged_in(self, outcome: Identity | Refusal) -> None:
        if self.over:
            return
        if isinstance(outcome, Refusal):
            code = TRY_AGAIN_LATER if outcome.reason is Reason.BUSY else POLICY_VIOLATION
            self.goodbye(problem_of(outcome), outcome.text, code)
            return
        self.identity = outcome
        self._publisher = self._router.publisher(outcome)
        self._router.logins.add(self)
        self._stream.allow(self._settings.message_bytes_max)
        settings = self._settings
        self.send(answer(
            "welcome", version=VERSION, node=self._node, user=outcome.user,
            limits={"message_bytes": settings.message_bytes_max, "payload_bytes": self._router.limits.payload_bytes_max,
                    "subscriptions": settings.subscriptions_max, "publishes": settings.publishes_max,
                    "requests": settings.requests_max, "unacked": settings.unacked_max,
                    "filters": said_.FILTERS_MAX}))
        held, self._held = self._held, []
        if held:
            self._take(held)
        self._resume("login")

    # -- in ---------------------------------------------------------------------------------------------------

    def receive(self, messages: list[str | bytes], now_s: float) -> None:
        """Whole messages of one read."""
        self.heard_s = now_s
        if self.over or not messages:
            return
        if self._publisher is not None:
            self._take(messages)
        elif "login" in self._paused:
            self._held += messages                      # one read at most: reading is paused
        else:
            self._first(messages)

    def _first(self, messages: list[str | bytes]) -> None:
        try:
            said, _ = decode(messages[0])
        except BadMessage as bad:
            self.goodbye(bad.problem, bad.text)
            return
        self._held = messages
        credentials = Credentials()
        if isinstance(said, said_.Auth):
            self._held = messages[1:]
            credentials = _credentials(said)
        self.log_in(credentials)

    def _take(self, messages: list[str | bytes]) -> None:
        for message in messages:
            self._counters.messages_in += 1
            try:
                said, payload = decode(message)
                if isinstance(said, said_.Publish | said_.Reply):
                    self._batch.append((said.id, event_of(said, payload, self._router.clock_ms())))
                elif isinstance(said, said_.CloudEventIn):
                    self._batch.append((said.id, said_.event_of_cloudevent(said)))
                else:
                    self._publish_batch()
                    self._act(said, payload)
            except BadMessage as bad:
                self._publish_batch()
                self._refuse_message(bad)
            if self.over:
                return
        self._publish_batch()

    def _refuse_message(self, bad: BadMessage) -> None:
        self._counters.problems[bad.problem] += 1
        self.send(refused(bad.id, bad.problem, bad.text))
        self._bad += bad.problem == "message-invalid"
        if self._bad > BAD_MESSAGES_MAX:
            self.goodbye("message-invalid", "too many messages that are none of this protocol")

    def _act(self, said: Said, payload: bytes | None) -> None:
        match said:
            case said_.Credit():
                if not 0 < said.add <= 1_000_000:
                    raise BadMessage("add is a number from 1 to 1000000", id=said.id)
                self._subscription(said.id, said.subscription).add_credit(said.add)
            case said_.Ack():
                _check_numbers(said.id, said.deliveries)
                self._subscription(said.id, said.subscription).ack(said.deliveries, said.up_to)
            case said_.Nack():
                _check_numbers(said.id, said.deliveries)
                if said.delay_ms is not None and not 0 <= said.delay_ms <= 86_400_000:
                    raise BadMessage("delay_ms is a number from 0 to 86400000", id=said.id)
                delay_s = None if said.delay_ms is None else said.delay_ms / 1000
                self._subscription(said.id, said.subscription).nack(said.deliveries, delay_s)
            case said_.Subscribe():
                self.subscribe(said)
            case said_.Unsubscribe():
                self.unsubscribe(said)
            case Request():
                self._request(said, payload)
            case said_.Ping():
                self.send(answer("pong", said.id))
            case said_.Auth():
                raise BadMessage("auth is the first message or none", id=said.id)
            case _:
                raise AssertionError(said)

    def _subscription(self, id: Id, name: str) -> JsonSubscription:
        found = self.subscriptions.get(name)
        if found is None:
            raise BadMessage(f"there is no subscription {name[:200]}", "not-found", id)
        return found

    # -- publish ----------------------------------------------------------------------------------------------

    def _publish_batch(self) -> None:
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        assert self._publisher is not None
        ids = [id for id, _ in batch]
        self._under_way += len(ids)
        if self._under_way > self._settings.publishes_max:
            self._pause("publishes")
        ticket = self._router.publish([event for _, event in batch], self._publisher)
        ticket.on_done(lambda done: self._published(ids, done))
        if self._router.pressure and "pressure" not in self._paused:
            self._pause("pressure")
            self._router.on_relief(lambda: self._resume("pressure"))

    def _published(self, ids: list[Id], ticket: Ticket) -> None:
        self._under_way -= len(ids)
        self._counters.events_in += len(ids) - len(ticket.refusals)
        if self.over:
            return
        for index, id in enumerate(ids):
            refusal = ticket.refusals.get(index)
            if refusal is not None:
                problem = problem_of(refusal)
                self._counters.problems[problem] += 1
                self.send(refused(id, problem, refusal.text))
            elif id is not None:
                self.send(_place(id, ticket.events[index]))
        if self._under_way <= self._settings.publishes_max // 2:
            self._resume("publishes")

    # -- requests ---------------------------------------------------------------------------------------------

    def _request(self, said: Request, payload: bytes | None) -> None:
        assert self._publisher is not None
        if said.id is None:
            raise BadMessage("a request needs an id, so that its answer can be told")
        if said.reply_to is not None:
            raise BadMessage("the node sets reply_to; publish to have answers sent elsewhere", id=said.id)
        if said.timeout_ms < 1:
            raise BadMessage("timeout_ms is at least 1", id=said.id)
        event = event_of(said, payload, self._router.clock_ms())
        refusal = self._router.policy.refuse(self.identity, Action.PUBLISH, event.topic, self._router.clock_ms())
        if refusal is not None:                         # who may not ask does not learn whether somebody would answer
            raise BadMessage(refusal.text, problem_of(refusal), said.id)
        if not has_receiver(self._router, event.topic):
            raise BadMessage(f"nobody is there who answers {event.topic[:200]}", "no-responder", said.id)
        if len(self._requests) >= self._settings.requests_max:
            raise BadMessage("requests_max of the connection is reached", "quota-exceeded", said.id)
        topic = self._replies.expect(self.identity.user, lambda reply: self._answered(topic, reply))
        if isinstance(topic, Refusal):
            raise BadMessage(topic.text, "quota-exceeded", said.id)
        properties = event.properties or Properties()
        event.properties = Properties(**{
            **{name: getattr(properties, name) for name in Properties.__struct_fields__}, "reply_to": topic,
            "correlation": properties.correlation if properties.correlation is not None else topic.rpartition("/")[2]})
        wait_s = min(said.timeout_ms / 1000, self._settings.request_timeout_max_s)
        self._requests[topic] = (said.id, self._router.clock_s() + wait_s)
        ticket = self._router.publish([event], self._publisher)
        ticket.on_done(lambda done: self._requested(topic, done))

    def _requested(self, topic: str, ticket: Ticket) -> None:
        refusal = ticket.refusals.get(0)
        if refusal is not None:
            self._request_over(topic, problem_of(refusal), refusal.text)

    def _answered(self, topic: str | Refusal, reply: Event) -> None:
        assert isinstance(topic, str)
        found = self._requests.pop(topic, None)
        if found is not None and not self.over:
            self.send(b'{"op":"response","id":%b,"event":%b}' % (said_.encoded(found[0]), event_json(reply)))

    def _request_over(self, topic: str, problem: str, text: str) -> None:
        self._replies.forget(topic)
        found = self._requests.pop(topic, None)
        if found is not None and not self.over:
            self.send(refused(found[0], problem, text))

    # -- out --------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return self.room_bytes() < 0

    def room_bytes(self) -> int:
        """What may still be written now; below 0: nothing. Exactly at the bound no socket says that it is full."""
        if self.blocked_since_s is not None:
            return -1
        return self._settings.send_buffer_bytes - self._stream.buffered_bytes()

    def send(self, message: bytes, *, is_binary: bool = False) -> None:
        if self.over:
            return
        self._stream.send(message, is_binary=is_binary)
        if self.full:
            self._pause("socket")                       # who does not take answers may ask no more

    def send_events(self, messages: list[bytes], payload_bytes: int, *, is_binary: bool) -> None:
        if self.over or not messages:
            return
        self._counters.events_out += len(messages)
        self._counters.payload_bytes_out += payload_bytes
        self._stream.send_many(messages, is_binary=is_binary)
        if self.full:
            self._pause("socket")

    def writing(self, blocked: bool) -> None:
        """The socket is full (True) or has drained (False)."""
        if blocked:
            if self.blocked_since_s is None:
                self.blocked_since_s = self._router.clock_s()
            self._pause("socket")
            return
        self.blocked_since_s = None
        self.flushed()

    def flushed(self) -> None:
        """What was gathered has gone to the socket."""
        if self.over or self.full:
            return
        for subscription in list(self.subscriptions.values()):
            subscription.written()
            if self.full:
                return
        self._resume("socket")

    def _pause(self, why: str) -> None:
        if not self._paused:
            self._stream.pause_reading()
        self._paused.add(why)

    def _resume(self, why: str) -> None:
        if why in self._paused:
            self._paused.discard(why)
            if not self._paused and not self.over:
                self.heard_s = self._router.clock_s()   # it could not be heard meanwhile
                self._stream.resume_reading()

    def rights_changed(self, identity: Identity) -> None:
        """Holder of routing/logins.py: other roles or rules, or the login counts no more."""
        self.identity = identity
        if identity.revoked:
            self.goodbye("not-authorized", "the login does not hold any more")
            return
        for subscription in list(self.subscriptions.values()):
            subscription.rights_changed(identity)

    # -- clock and end ----------------------------------------------------------------------------------------

    def tick(self, now_s: float, *, ping: bool) -> bool:
        """Called several times a second. ping: a ping interval is over. False: nothing more is to be expected of it."""
        if self.over:
            return False
        if self.deadline_s is not None and now_s >= self.deadline_s:
            self.goodbye("request-timeout", "the first message did not come in time")
            return False
        expires_ms = self.identity.expires_ms
        if expires_ms is not None and self._router.clock_ms() >= expires_ms:
            self.goodbye("bad-credentials", "the token has expired; come back with a new one")
            return False
        if self.blocked_since_s is not None and now_s - self.blocked_since_s >= self._settings.stall_timeout_s:
            self._counters.stalled += 1
            self._stream.abort()
            return False
        if not self._paused and now_s - self.heard_s >= self._settings.silence_max_s:
            self._counters.silent += 1
            self.goodbye("request-timeout", "no answer to a ping")
            return False
        for topic in [topic for topic, (_, deadline_s) in self._requests.items() if deadline_s <= now_s]:
            self._request_over(topic, "reply-timeout", "there was somebody to ask, but no answer in time")
        if ping:
            for subscription in list(self.subscriptions.values()):
                subscription.tick()
        return True

    def goodbye(self, problem: str, text: str, code: int = POLICY_VIOLATION) -> None:
        """Say why, then close."""
        self._counters.problems[problem] += 1
        self._stream.send(refused(None, problem, text, "goodbye"))
        self._stream.close_with(code, problem)
        self.end()

    def end(self) -> None:
        """The connection is gone. Idempotent."""
        if self.over:
            return
        self.over = True
        self._router.logins.discard(self)
        self._held.clear()
        for topic in self._requests:
            self._replies.forget(topic)
        self._requests.clear()
        subscriptions, self.subscriptions = self.subscriptions, {}
        for subscription in subscriptions.values():
            subscription.close()


def _credentials(said: said_.Auth) -> Credentials:
    if said.token is not None:
        return Credentials(f"Bearer {said.token}")
    if said.api_key is not None:
        return Credentials(None, said.api_key)
    if said.user is not None:
        return Credentials(basic(said.user, said.password or ""))
    return Credentials()


def _check_numbers(id: Id, numbers: list[int]) -> None:
    if len(numbers) > said_.NUMBERS_MAX:
        raise BadMessage(f"at most {said_.NUMBERS_MAX} deliveries in one message", id=id)


def _place(id: Id, event: Event) -> bytes:
    if not event.guaranteed or event.partition is None:
        return answer("published", id)
    stream, partition = event.partition.stream, event.partition.index
    return answer("published", id, stream=stream, partition=partition, offset=event.offset,
                  event_id=event_id(stream, partition, event.offset))
