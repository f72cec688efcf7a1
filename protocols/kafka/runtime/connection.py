"""One Kafka connection: frames in, requests one after the other, answers in the order of the requests.

    bytes ─► frames ─► may it start? ── no: the stream is not read ─┐
                           │ yes                                   ▼
                        Task ── answered ──► slot ──► the slots before it are answered: written

A request starts when those before it are answered, as on Kafka, whose clients count on that. A Produce may start when
all before it are Produces, too, which have their places in the log by then: they share a sync. What is not started
waits in the kernel, but for what one read gave; answers that nobody takes hold the reading up (transport/slices.py).
"""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from protocols.authentication.sasl import Exchange
from protocols.kafka.api import API_VERSIONS, Api, Values, is_long
from protocols.kafka.broker import Broker
from protocols.kafka.codec.errors import MalformedRequest
from protocols.kafka.codec.header import Header, read_header, skip_tags
from protocols.kafka.quotas.quotas import REQUEST
from protocols.kafka.runtime.call import Call
from protocols.kafka.runtime.fetch_sessions import Session
from protocols.kafka.runtime.frames import Splitter
from protocols.kafka.runtime.tasks import Task
from protocols.kafka.runtime.timers import Timer
from protocols.server import ClientRow
from protocols.transport.wire import ByteChannel
from routing.errors import Refusal
from routing.fairness.turns import Payer, Share
from routing.publishing.publisher import Publisher
from routing.rights.policy import Identity

log = logging.getLogger(__name__)

LARGE_BYTES = 64 * 1024             # a request that is larger counts to its user's share while it comes in
# Who leads? Metadata, FindCoordinator, DescribeCluster. And what tools ask every broker: ListGroups, DescribeConfigs,
# DescribeLogDirs, ListTransactions.
OF_FOLLOWERS = frozenset((3, 10, 60, 16, 32, 35, 66))
TEXT_MAX = 200                      # characters of a client's texts in a log line

_NOBODY = Identity("", protocol="kafka", revoked=True)


class _Slot:
    """The place of an answer. data: None until it is there, b"" when there is none to be sent."""

    __slots__ = ("data", "has_its_place", "task")

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.has_its_place = False              # a Produce whose batches are in the queue of the log
        self.task: Task[Any] | None = None


class KafkaConnection(Share):
    """See the module's head. Implements ConnectionHandler, Client and (routing/logins.py) Holder."""

    def __init__(self, broker: Broker, apis: dict[int, Api], channel: ByteChannel, now_s: float,
                 gone: Callable[[KafkaConnection], None]) -> None:
        super().__init__(channel if isinstance(channel, Payer) else None)
        self.channel = channel
        self.software = ""
        self.mechanism = ""
        self.exchange: Exchange | None = None
        self.fetch_session: Session | None = None
        self.on_closed: dict[object, Callable[[], None]] = {}
        self._session_held = 0                  # partitions in it, in the share of
        self._session_user = ""
        self._counted_for = ""                  # whose connection it is
        self.client_id = ""
        self._opened_ms = broker.router.clock_ms()
        self.last_request_s = now_s
        self.publisher: Publisher | None = None
        self._broker = broker
        self._apis = apis
        self._gone = gone
        self._identity = _NOBODY
        self._splitter = Splitter()
        self._frames: deque[bytes] = deque()
        self._slots: deque[_Slot] = deque()
        self._closed = False
        self._ends_after_answer = False
        self._waits_for_relief = False
        self._deciding = False                  # whether somebody without a login may do anything
        self._held_bytes = 0                    # of a large request, in its user's share
        self._held_for = ""
        self._answer_bytes = 0                  # fetched, and not yet taken by the socket
        self._answer_user = ""
        self._expiry: Timer | None = None
        self._throttled: Timer | None = None    # until then nothing is taken from it
        self._throttled_until_s = 0.0
        self._login_timer: Timer | None = broker.timers.call_at(
            now_s + broker.settings.login_timeout_s, self._login_too_late)

    # -- Client -----------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def is_logged_in(self) -> bool:
        return self._identity is not _NOBODY

    @property
    def is_logging_in(self) -> bool:
        return self.exchange is not None

    @property
    def address(self) -> str:
        return self.channel.address

    @property
    def local_address(self) -> str:
        return str(getattr(self.channel, "local_address", ""))

    def log_in(self, identity: Identity) -> Refusal | None:
        """A login, the first one or another one on the way (KIP-368). The first one takes a place of its user's."""
        broker = self._broker
        if not self.is_logged_in:
            refusal = broker.connections.take(identity.user, broker.settings.connections_max)
            if refusal is not None:
                return refusal
            self._counted_for = identity.user
            broker.router.logins.add(self)
        self._know(identity)
        return None

    def _know(self, identity: Identity) -> None:
        broker = self._broker
        broker.timers.cancel(self._login_timer)
        broker.timers.cancel(self._expiry)
        self._login_timer = self._expiry = None
        self._identity = identity
        self.publisher = broker.router.publisher(identity)
        if identity.expires_ms is not None:
            left_s = max((identity.expires_ms - broker.router.clock_ms()) / 1000, 0.0)
            self._expiry = broker.timers.call_at(broker.router.clock_s() + left_s, self._expired)

    def hold_answer(self, size: int) -> None:
        self._answer_bytes += size
        self._answer_user = self._identity.user
        self._broker.answers.add(self._answer_user, size)

    def keep_session(self, session: Session | None) -> bool:
        sessions, settings = self._broker.sessions, self._broker.settings
        sessions.give(self._session_user, self._session_held)
        self._session_held, self._session_user = 0, self._identity.user
        if session is not None:
            wanted = len(session.partitions)
            if sessions.take(self._session_user, settings.session_partitions_max, wanted) is None:
                self._session_held = wanted
            else:
                session = None
        self.fetch_session = session
        return session is not None

    def _give_answers(self) -> None:
        """What was fetched is with the socket, but for what its buffer may hold anyway."""
        if self._answer_bytes:
            self._broker.answers.give(self._answer_user, self._answer_bytes)
            self._answer_bytes = 0

    def end_after_answer(self) -> None:
        self._ends_after_answer = True

    # -- Holder -----------------------------------------------------------------------------------------------

    def rights_changed(self, identity: Identity) -> None:
        if identity.revoked:
            self.fail("the login counts no more")
        elif identity != self._identity:
            self._know(identity)

    def _expired(self) -> None:
        self.fail("the token has expired")

    def _login_too_late(self) -> None:
        self.fail("no login in time")

    # -- ConnectionHandler ------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now_s: float) -> None:
        if self._closed:
            return
        self.last_request_s = now_s
        counters = self._broker.counters
        counters["bytes_in"] += len(data)
        settings = self._broker.settings
        # Who needs no login may begin with a large batch, as producers do that have reconnected.
        known = self.is_logged_in or self._broker.authenticator.open or self.channel.tls_identity is not None
        bytes_max = settings.request_bytes_max if known else settings.pre_auth_bytes_max
        try:
            self._frames.extend(self._splitter.feed(data, bytes_max))
        except MalformedRequest as error:
            self.fail(str(error))
            return
        if self._splitter.wanted_bytes > LARGE_BYTES or self._held_bytes:
            self._hold(self._splitter.wanted_bytes)
        self._run(self.channel.over)

    def eof(self) -> None:
        if not self._closed:
            self._close()

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        self._give_answers()

    def describe(self) -> str:
        who = self._identity.user or "nobody yet"
        return f"Kafka client {self.client_id[:TEXT_MAX]!r} of {self.address} ({who})"

    def fail(self, why: str) -> None:
        """Close, and say why in the log: the protocol has no words for it."""
        if not self._closed:
            self._broker.counters["closed_by_us"] += 1
            self._broker.notice("%s: closed: %s", self.describe(), why[:TEXT_MAX])
            self._close()

    def end(self) -> None:
        """The node stops."""
        if not self._closed:
            self._close()

    def row(self) -> ClientRow:
        """For operators."""
        return {"client_id": self.client_id[:TEXT_MAX], "user": self._identity.user, "connected": True,
                "address": self.address, "protocol_version": self.software[:TEXT_MAX] or "unknown",
                "connected_since_ms": self._opened_ms, "in_flight": len(self._slots),
                "write_buffer_bytes": self.channel.buffered_bytes()}

    def _close(self) -> None:
        self._closed = True
        self._frames.clear()
        slots, self._slots = self._slots, deque()
        for slot in slots:
            if slot.task is not None:
                slot.task.cancel()
        self._hold(0)
        self._give_answers()
        self.keep_session(None)
        for told in list(self.on_closed.values()):
            told()
        broker = self._broker
        for timer in (self._login_timer, self._expiry, self._throttled):
            broker.timers.cancel(timer)
        broker.router.logins.discard(self)
        if self.is_logged_in:
            broker.connections.give(self._counted_for)
        self._gone(self)
        self.channel.close()

    def _hold(self, wanted: int) -> None:
        """Count a large request that is coming in to its user's share; without room, the connection ends."""
        bodies, settings = self._broker.bodies, self._broker.settings
        if self._held_bytes and wanted <= LARGE_BYTES:
            bodies.give(self._held_for, self._held_bytes)
            self._held_bytes = 0
        elif wanted > LARGE_BYTES and not self._held_bytes and self.is_logged_in:
            refusal = bodies.take(self._identity.user, settings.bodies_bytes_max, wanted)
            if refusal is not None:
                self.fail(refusal.text)
                return
            self._held_bytes, self._held_for = wanted, self._identity.user

    # -- requests ---------------------------------------------------------------------------------------------

    def go_on(self) -> float:
        """Its turn has come again."""
        if not self._closed:
            turns = self._broker.router.turns
            with turns.slice(self) as slice:
                self._run(lambda: slice.over)
        return 0.0

    def _run(self, over: Callable[[], bool]) -> None:
        frames = self._frames
        while frames and self._may_start(frames[0]):
            self._start(frames.popleft())
            if self._closed:
                return
            if frames and over():
                self.channel.pause_reading()
                self._broker.router.turns.queue(self)
                return
        if frames:
            self.channel.pause_reading()
        else:
            self.channel.resume_reading()

    def _may_start(self, frame: bytes) -> bool:
        if self._deciding or self._waits_for_relief or self._ends_after_answer or self._throttled is not None:
            return False
        slots = self._slots
        is_produce = frame[:2] == b"\0\0"
        if is_produce and self._broker.router.pressure:
            self._waits_for_relief = True
            self._broker.router.on_relief(self._relieved)
            return False
        if not slots:
            return True
        return is_produce and slots[-1].has_its_place and len(slots) < self._broker.settings.pipeline_max

    def _relieved(self) -> None:
        self._waits_for_relief = False
        self._go_on_later()

    def _go_on_later(self) -> None:
        if self._frames and not self._closed:
            self._broker.router.turns.queue(self)

    def _start(self, frame: bytes) -> None:
        broker = self._broker
        try:
            header = read_header(frame)
            self.client_id = header.client_id or ""
            api = self._apis.get(header.api_key)
            if api is None:
                raise MalformedRequest(f"API {header.api_key} is not served")
            if header.api_key == API_VERSIONS and not api.schema.serves(header.version):
                self._unsupported_api_versions(api, header)
                return
            if not api.schema.serves(header.version):
                raise MalformedRequest(f"version {header.version} of {api.schema.name} is not served")
            if not self.is_logged_in and not api.before_login:
                self._without_login(frame)
                return
            if not broker.cluster.leads and not api.before_login and header.api_key not in OF_FOLLOWERS:
                self.fail("another node leads the cluster")
                return
            at = skip_tags(frame, header.body_at) if api.schema.is_flexible(header.version) else header.body_at
            request = api.schema.decode_request(frame, at, header.version, broker.settings.request_items_max)
        except MalformedRequest as error:
            self.fail(str(error))
            return
        if self._login_timer is not None and broker.authenticator.open:
            broker.timers.cancel(self._login_timer)     # nobody logs in here: one that has asked anything may be idle
            self._login_timer = None
        broker.counters[f"requests.{api.schema.name}"] += 1
        slot = _Slot()
        self._slots.append(slot)
        task: Task[Values | None] = Task(broker.router.turns, f"{api.schema.name} of {self.describe()}",
                                        self.payer or self)
        slot.task = task
        call = Call(broker, self, header, task, lambda: self._has_its_place(slot))
        task.start(api.handle(call, request), lambda values, error: self._answered(slot, api, call, values, error))

    def _answered(self, slot: _Slot, api: Api, call: Call, values: Values | None, error: BaseException | None) -> None:
        if self._broker.quotas and self.is_logged_in:
            call.charge(REQUEST, call.task.worked_s * 100)
            if call.throttle_s > 0:
                self._hold_until(self._broker.router.clock_s() + call.throttle_s)
                if values is not None:
                    values = {**values, "throttle_time_ms": max(round(call.throttle_s * 1000), 1)}
        self._answer(slot, api, call.header, values, error)

    def _hold_until(self, due_s: float) -> None:
        """It is above a quota: nothing more is taken from it, whether or not it waits as told.      Source: KIP-219"""
        self._broker.counters["throttled"] += 1
        if due_s > self._throttled_until_s:
            self._throttled_until_s = due_s
            self._broker.timers.cancel(self._throttled)
            self._throttled = self._broker.timers.call_at(due_s, self._throttle_over)

    def _throttle_over(self) -> None:
        self._throttled = None
        self._go_on_later()

    def _has_its_place(self, slot: _Slot) -> None:
        slot.has_its_place = True
        self._go_on_later()

    def _unsupported_api_versions(self, api: Api, header: Header) -> None:
        """The body is of a version that nobody here knows; the answer has that of version 0.      Source: KIP-511"""
        slot = _Slot()
        self._slots.append(slot)
        zero = Header(header.api_key, 0, header.correlation_id, header.client_id, header.body_at)
        self._answer(slot, api, zero, {"error_code": 35, "api_keys": self._broker.api_rows}, None)

    def _without_login(self, frame: bytes) -> None:
        """Nobody has logged in, and somebody asks for more than that: may he, by his certificate or as nobody?"""
        self._deciding = True
        self._frames.appendleft(frame)
        self._broker.authenticator.authenticate(
            None, None, "kafka", self.client_id, self.address, self._decided,
            certificate_name=self.channel.tls_identity)

    def _decided(self, outcome: Identity | Refusal) -> None:
        self._deciding = False
        if self._closed:
            return
        if isinstance(outcome, Refusal):
            self.fail(f"a request before the login: {outcome.text}")
            return
        refusal = self.log_in(outcome)
        if refusal is not None:
            self.fail(refusal.text)
            return
        self._go_on_later()

    def _answer(self, slot: _Slot, api: Api, header: Header, values: Values | None,
                error: BaseException | None) -> None:
        if self._closed:
            return
        if isinstance(error, MalformedRequest):
            self.fail(str(error))
            return
        data: bytes | None = None
        if error is None and values is not None and is_long(values):
            slot.task = task = Task[bytes](self._broker.router.turns, f"an answer of {api.schema.name} to "
                                           f"{self.describe()}", self.payer or self)
            task.start(api.encoded_in_steps(header, values, task.rest),
                       lambda data, error: self._encoded(slot, api, header, data, error))
            return
        if error is None:
            try:
                data = api.encoded(header, values)
            except Exception as fault:
                error = fault
        self._encoded(slot, api, header, data, error)

    def _encoded(self, slot: _Slot, api: Api, header: Header, data: bytes | None, error: BaseException | None) -> None:
        """An answer is there: it goes out behind those before it."""
        if error is not None:
            log.error("kafka: %s in version %d: a fault of ours", api.schema.name, header.version, exc_info=error)
            self.fail("internal error")
            return
        slot.data, slot.task = data, None
        slots = self._slots
        while slots and slots[0].data is not None:
            data = slots.popleft().data
            if data:
                self._broker.counters["bytes_out"] += len(data)
                self.channel.write(data)
        if self._answer_bytes and self.channel.buffered_bytes() <= self._broker.settings.write_buffer_high_bytes:
            self._give_answers()
        if self._ends_after_answer and not slots:
            self._close()
        elif self._frames and not self._closed:
            self._go_on_later()

