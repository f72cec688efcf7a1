"""POST of one event past aiohttp's request cycle: no task, no request object, no future; half of the CPU of a post.

    aiohttp's parser ─► GuardedHandler ─► Express.take ─► Router.publish ─ commit ─► Post.stored ─► one write
                             └─ not taken, or the answer is not the usual one: aiohttp's cycle, see PublishEndpoint

What is taken has been through the usual way once: a request is taken when its head is the one that the last publish
request of the connection had (but for the length of the body), that one was let in, and nothing has changed since.
So the rules stand in one place, and here only what makes sure that they would say the same again.

Non-obvious: Head.express must be False for every head whose treatment depends on more than the head, the session, and
whether the node is open to everybody.
"""
from __future__ import annotations

from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.typedefs import RawHeaders

from protocols.authentication.authenticator import Authenticator
from protocols.rest.auth import Session
from protocols.rest.http.guard import GuardedHandler
from protocols.rest.http.waiting import Waiting
from protocols.rest.settings import RestSettings
from protocols.rest.translation.convert import PublishFields
from protocols.web.fields import has
from routing.event import Event
from routing.router import Router
from routing.ticket import Ticket

HEAD_KEPT_BYTES_MAX = 1_024     # of each connection's last publish request
_UNUSUAL = (hdrs.CONTENT_ENCODING, hdrs.EXPECT, hdrs.TRANSFER_ENCODING, hdrs.UPGRADE)


class Head:
    """The head of the last publish request on a connection, and what it means: most clients send it again and again."""

    __slots__ = ("_headers", "_length_at", "_properties", "_raw", "cloud", "express", "fields", "open", "session")

    def __init__(
        self, request: web.Request, fields: PublishFields, cloud: bool, session: Session, is_open: bool,
    ) -> None:
        """session: who sent it. is_open: everybody was let in then (see Authenticator)."""
        self.fields = fields
        self.cloud = cloud
        self.session = session
        self.open = is_open
        self._raw = request.raw_headers
        lengths = [at for at, (name, _) in enumerate(self._raw) if name.lower() == b"content-length"]
        self._length_at = lengths[0] if len(lengths) == 1 else len(self._raw)
        self.express = (
            not cloud and not fields.says_form and fields.guaranteed and not fields.respond_async and request.keep_alive
            and request.version == HttpVersion11 and len(lengths) == 1
            and not any(has(request.headers, name) for name in _UNUSUAL))
        self._headers = tuple(fields.headers)
        self._properties = fields.properties(0) if fields.ttl_ms is None else None

    @property
    def size_bytes(self) -> int:
        return sum(len(name) + len(value) for name, value in self._raw)

    def matches(self, raw: RawHeaders) -> bool:
        """raw is this head, but perhaps for the length of the body."""
        mine = self._raw
        if raw == mine:
            return True
        at = self._length_at
        return (len(raw) == len(mine) and at < len(raw) and raw[at][0] == mine[at][0]
                and raw[:at] == mine[:at] and raw[at + 1:] == mine[at + 1:])

    def event(self, topic: str, payload: bytes, now_ms: int) -> Event:
        """The same as PublishFields.event() makes of it."""
        fields = self.fields
        properties = self._properties if fields.ttl_ms is None else fields.properties(now_ms)
        return Event(topic, payload, 1, self.session.identity.user, fields.key, self._headers, properties,
                     fields.retain)


class Post:
    """One event that was taken, until it is on disk or there is something else to say."""

    __slots__ = ("_connection", "_express", "failure", "late", "ticket")

    def __init__(self, connection: GuardedHandler, express: Express) -> None:
        self._connection: GuardedHandler | None = connection
        self._express = express
        self.ticket: Ticket | None = None       # None again when it was answered: the payload must not stay in memory
        self.late = False                       # the disk did not answer in time
        self.failure: Exception | None = None   # a fault of ours

    def done(self) -> bool:
        return self._connection is None

    def stored(self, ticket: Ticket) -> None:
        """The ticket is done."""
        connection = self._connection
        if connection is None:
            return
        if ticket.refusals:
            self.resume()
            return
        self._connection = self.ticket = None
        connection.answered(self._express.answer(ticket.events[0]))

    def expire(self) -> None:
        self.late = True
        self.resume()

    def resume(self) -> None:
        """Let aiohttp's cycle answer; the event has been published."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.resume(self)


class Express:
    """Takes the requests of one listener."""

    def __init__(self, router: Router, authenticator: Authenticator, settings: RestSettings, waiting: Waiting,
                 topics: dict[str, str], answer: Callable[[Event], bytes]) -> None:
        """topics: request target → topic, of those that are good. answer: for an event that was stored."""
        self._router = router
        self._authenticator = authenticator
        self._body_bytes_max = settings.body_bytes_max
        self._waiting = waiting
        self._topics = topics
        self.answer = answer

    def take(self, connection: GuardedHandler, message: object, payload: StreamReader) -> bool:
        """True: the request is ours, and connection.answered() or .resume() will follow. False: nothing was done."""
        head = connection.last_head
        if (
            not isinstance(head, Head) or not head.express or not isinstance(message, RawRequestMessage)
            or message.method != "POST" or message.version is not HttpVersion11
            or not payload.is_eof() or payload.total_bytes > self._body_bytes_max or payload.exception() is not None
            or not head.matches(message.raw_headers)
        ):
            return False
        topic = self._topics.get(message.path)
        session = head.session
        now_s = connection.time_s()
        if (
            topic is None or session is not connection.session or session.expires_s <= now_s
            or session.generation != self._router.logins.generation
            or head.open is not self._authenticator.open or self._router.pressure
        ):
            return False
        event = head.event(topic, payload.read_nowait(-1), self._router.clock_ms())
        post = Post(connection, self)
        try:
            post.ticket = ticket = self._router.publish([event], session.publisher)
        except Exception as error:
            post.failure = error
            post.resume()
            return True
        if ticket.done:                         # refused, a repeat, or of no stream
            post.resume()
        else:
            ticket.on_done(post.stored)
            self._waiting.watch(post, now_s)
        return True
