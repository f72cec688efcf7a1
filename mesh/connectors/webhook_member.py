"""One webhook: member of a consumer that POSTs each event to a URL, and acks it when the receiver took it.

    Consumer ── deliver ──► KeyQueues ── one per key ──► breaker ▸ rate ▸ handshake ──► POST ──► 2xx: ack
                                ▲                                                        └─► later, or dead letter

Retries stay here, so that a key's next event waits for its former one. An event that is never taken is tried for ever,
unless the consumer has max_deliveries: then it goes to the dead letters. While the breaker is open, and for its probes,
no failure is held against an event. A node that is killed repeats what was under way, marked.
"""
from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from yarl import URL

from mesh.connectors.webhook_breaker import Breaker, State
from mesh.connectors.webhook_client import Outcome, WebhookClient
from mesh.connectors.webhook_permission import Permission
from mesh.connectors.webhook_queue import KeyQueues
from mesh.connectors.webhook_rate import Rate
from mesh.connectors.webhook_request import make_request
from mesh.connectors.webhook_settings import WebhookSettings
from mesh.connectors.webhook_sign import signed
from routing.consumers.consumer import Consumer
from routing.consumers.definition.push import Push
from routing.cursors.cursor import Delivery
from routing.event import is_expired
from routing.queues.options import Cause
from routing.rights.policy import Identity
from routing.router import Router

if TYPE_CHECKING:
    from mesh.connectors.webhook_secrets import Resolved

logger = logging.getLogger(__name__)

HELD_MAX = 1_000        # deliveries held, under way and waiting for their key; the consumer bounds their bytes
ACK_TIMEOUT_OFF_S = 10 * 366 * 86_400.0
EVENT_AT_FAULT = frozenset({400, 409, 413, 414, 415, 422, 431})     # says nothing about the receiver
PAUSES = frozenset({429, 503})      # with Retry-After: everything waits
JITTER = 0.2                        # of a back-off, so that retries do not come in step
STOP_S = 2.0                        # requests under way may end in this time when the node stops


class WebhookMember:
    """See the module's head. Event loop only. start(), then stop() or abandon()."""

    def __init__(self, router: Router, consumer: Consumer, push: Push, url: URL, resolved: Resolved,
                 client: WebhookClient, settings: WebhookSettings, node: str,
                 closed: Callable[[WebhookMember], None], room: Callable[[WebhookMember], int]) -> None:
        """closed: called when the consumer is gone.  room: requests that it may have under way now."""
        self._identity = consumer.identity
        self.push = push
        self.consumer: Consumer | None = consumer
        self.counts = dict.fromkeys(("delivered", "failed", "retried", "dead_lettered", "expired"), 0)
        self.last_problem = ""
        self.last_status = 0
        self._router = router
        self._url = url
        self.resolved = resolved
        self._client = client
        self._closed = closed
        self._room = room
        self._stopping = False
        self._queues = KeyQueues()
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_open_s, settings.breaker_open_max_s)
        self.permission = Permission(push, node, settings.handshake_age_s)
        self._rate = Rate(push.rate_per_minute)
        self._requests: set[asyncio.Task[None]] = set()
        self._counted: set[int] = set()                 # held deliveries whose last failure counts as an attempt
        self._asking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._random = random.Random()
        self.credit = HELD_MAX

    @property
    def identity(self) -> Identity:
        """It has no rights of its own: they are those of the consumer's owner, as he is now."""
        if self.consumer is not None:
            self._identity = self.consumer.identity
        return self._identity

    @identity.setter
    def identity(self, identity: Identity) -> None:
        raise AttributeError("a webhook has its consumer's identity")

    # -- life -------------------------------------------------------------------------------------------------

    def start(self) -> str | None:
        """Attach to the consumer. Returns why that was refused."""
        assert self.consumer is not None
        refusal = self.consumer.attach(self)
        return refusal.text if refusal is not None else None

    async def stop(self) -> None:
        """Let what is under way end, for a moment, then let go of the consumer."""
        self.credit = 0
        if self._timer is not None:
            self._timer.cancel()
        consumer, self._stopping = self.consumer, True
        if self._requests and consumer is not None:
            await asyncio.wait(self._requests, timeout=STOP_S)
        self.abandon()
        if consumer is not None:
            consumer.detach(self)
        await self._client.close()

    def abandon(self) -> None:
        """Drop everything at once: what was under way counts as not delivered."""
        self._stopping = True
        self.consumer = None
        self.credit = 0
        self._queues.clear()
        self._counted.clear()
        for task in (*self._requests, *([self._asking] if self._asking is not None else [])):
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        self.abandon()
        self.last_problem = reason
        self._closed(self)

    # -- events -----------------------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.event.partition is not None and consumer.spec.ack_timeout_s is not None:
                consumer.extend(delivery, ACK_TIMEOUT_OFF_S)        # the time of a request is ours to keep
            self._queues.add(delivery)
        self._pump()

    def _pump(self) -> None:
        """Send what may go out now, and see to it that we are called when more may."""
        if self._stopping or self.consumer is None:
            return
        now_s = self._router.clock_s()
        room = min(self.push.max_in_flight, self._room(self))
        while len(self._requests) < room and self._queues.waiting(now_s):
            if not self.permission.granted(now_s):
                self._ask_permission(now_s)
                break
            if not self.breaker.may_send(now_s) or not self._rate.may_send(now_s):
                break
            delivery = self._queues.take(now_s)
            assert delivery is not None
            if is_expired(delivery.event, self._router.clock_ms()):
                self.counts["expired"] += 1
                self._settle(delivery)
                continue
            if not self._router.rights.may_read_event(self.consumer.identity, delivery.event):
                self._settle(delivery)          # the rules have changed since it was handed out
                continue
            self._rate.sent(now_s)
            task = asyncio.get_running_loop().create_task(self._send(delivery, self.breaker.sent()))
            self._requests.add(task)
            task.add_done_callback(self._ended)
        self._set_timer(now_s)

    def _set_timer(self, now_s: float) -> None:
        dues = [due for due in (
            self._queues.next_due_s(), self._rate.next_s(now_s), self.permission.next_s(now_s),
            self.breaker.until_s if self.breaker.state is State.OPEN else None) if due is not None]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        coming = [due for due in dues if due > now_s]
        if coming and self._queues.held:
            self._timer = asyncio.get_running_loop().call_later(min(coming) - now_s, self._pump)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """There is room for another request."""
        self._requests.discard(task)
        self._pump()

    async def _send(self, delivery: Delivery, probe: bool) -> None:
        event = delivery.event
        if id(delivery) in self._counted:
            self._counted.discard(id(delivery))
            delivery.attempts += 1              # only now: a detach in between counts one, too
        try:
            request = make_request(event, self.push.format, self._router.store.epoch, self._router.clock_ms(),
                                   self._router.ledger.lost)
            now_ms = self._router.clock_ms()
            fields = {**request.fields, "Webhook-Attempt": str(delivery.attempts), **self.resolved.headers,
                      **signed(self.resolved.keys, request.message_id, now_ms // 1000, request.body)}
            outcome = await self._client.post(self._url, fields, request.body)
        except asyncio.CancelledError:
            self.breaker.give_back()
            raise
        except Exception:                       # ours: the event is kept and tried again
            logger.exception("webhook %s: a fault of ours while sending", self._name())
            outcome = Outcome(0, "internal error")
        if self.consumer is None:
            return
        if outcome.taken:
            self._taken(delivery)
        else:
            self._not_taken(delivery, outcome, probe)

    def _taken(self, delivery: Delivery) -> None:
        self.last_status, self.last_problem = 200, ""
        self.counts["delivered"] += 1
        if self.breaker.state is not State.CLOSED:
            logger.info("webhook %s: the receiver is back", self._name())
        self.breaker.succeeded()
        self._settle(delivery)

    def _settle(self, delivery: Delivery) -> None:
        """Done with it: its key's next may go."""
        consumer = self.consumer
        assert consumer is not None
        self._queues.done(delivery)
        consumer.ack((delivery,))
        self._ask_for_more()

    def _ask_for_more(self) -> None:
        self.credit = HELD_MAX - self._queues.held
        if self.credit > 0 and self.consumer is not None:
            self.consumer.ready(self)

    def _not_taken(self, delivery: Delivery, outcome: Outcome, probe: bool) -> None:
        consumer = self.consumer
        assert consumer is not None
        now_s = self._router.clock_s()
        self.counts["failed"] += 1
        self.last_status, self.last_problem = outcome.status, _problem(outcome)
        was = self.breaker.state
        if outcome.status == 410:
            self.breaker.gone(now_s)
        elif outcome.status in PAUSES and outcome.retry_after_s is not None:
            self.breaker.hold(now_s, outcome.retry_after_s)
        elif outcome.status in EVENT_AT_FAULT:
            self.breaker.answered()
        else:
            self.breaker.failed(now_s)
        if self.breaker.state is State.OPEN and was is not State.OPEN:
            logger.warning("webhook %s: %s; nothing is sent for %.0f s", self._name(), self.last_problem,
                           self.breaker.until_s - now_s)
        if outcome.status not in PAUSES and not probe:
            limit = consumer.spec.max_deliveries
            if limit is not None and delivery.attempts >= limit:
                self._give_up(delivery, consumer)
                return
            self._counted.add(id(delivery))
        self.counts["retried"] += 1
        wait_s = self._back_off_s(delivery, consumer)
        self._queues.later(delivery, now_s + max(wait_s, outcome.retry_after_s or 0.0))

    def _back_off_s(self, delivery: Delivery, consumer: Consumer) -> float:
        spec = consumer.spec
        exponent = min(delivery.attempts - 1, 30)
        wait_s: float = min(spec.backoff_initial_s * 2 ** exponent, spec.backoff_max_s)
        return wait_s * (1 + JITTER * (self._random.random() - 0.5))

    def _give_up(self, delivery: Delivery, consumer: Consumer) -> None:
        self.counts["dead_lettered"] += 1
        self._queues.done(delivery)
        delivery.attempts += 1                  # the number that the next attempt would have had
        self._router.registry.dead_letter(consumer, delivery, Cause.DELIVERY_LIMIT)
        self._ask_for_more()

    # -- handshake --------------------------------------------------------------------------------------------

    def _ask_permission(self, now_s: float) -> None:
        if self._asking is None and self.permission.may_ask(now_s):
            self._asking = asyncio.get_running_loop().create_task(self._handshake())

    async def _handshake(self) -> None:
        try:
            outcome = await self._client.handshake(self._url, self.permission.origin, self.permission.wanted_rate)
            now_s = self._router.clock_s()
            problem = self.permission.answered(outcome, now_s)
            if problem:
                self.last_status, self.last_problem = outcome.status, problem
                logger.warning("webhook %s: %s", self._name(), problem)
            else:
                self._rate.limit(self.permission.rate_per_minute)
        finally:
            self._asking = None
        self._pump()

    # -- for people -------------------------------------------------------------------------------------------

    def _name(self) -> str:
        return self.consumer.name if self.consumer is not None else "?"

    @property
    def state(self) -> str:
        if self.breaker.state is not State.CLOSED:
            return str(self.breaker.state.value)
        return "closed" if self.permission.granted(self._router.clock_s()) else "not permitted"

    def snapshot(self) -> dict[str, Any]:
        """For the management API. No secret is in it, nor the query of the URL, which may hold one."""
        now_s = self._router.clock_s()
        return {
            "url": shown_url(self._url), "format": self.push.format, "state": self.state,
            "open_for_s": round(max(self.breaker.until_s - now_s, 0.0), 1) if self.breaker.state is State.OPEN else 0.0,
            "opened": self.breaker.opened, "in_flight": len(self._requests), "held": self._queues.held,
            "waiting_to_retry": self._queues.sleeping, **self.counts,
            "expired": self.counts["expired"] + (0 if self.consumer is None else self.consumer.expired),
            "signed": bool(self.resolved.keys),
            "last_status": self.last_status, "last_problem": self.last_problem,
        }


def shown_url(url: URL) -> str:
    return str(url.with_query(None)) + ("?…" if url.query_string else "")


def _problem(outcome: Outcome) -> str:
    text = f"HTTP {outcome.status} {outcome.text}" if outcome.status else outcome.text
    return "".join(char if char.isprintable() else "?" for char in text[:200])      # a receiver's words in our log
