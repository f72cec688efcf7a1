"""Pulls: how a consumer hands events to clients that come, take and go. No thread, task or state outlives a pull.

    POST …/pull ──► Pull (a future, its room) ──► Puller: member of the Consumer, credit = room of the pulls that wait

What a pull was answered with stays in flight at the Consumer until it is acked, nacked or timed out, whether or not the
client is still there. A Puller is only presence: in mode shared one stands for all clients, in the others one for each
client name, so that the mode can tell them apart; it leaves when its client has been silent for a while and holds
nothing. Losing all of it, by a kill, loses no more than that.
"""
from __future__ import annotations

import asyncio
from collections import deque

from protocols.rest.problems import Problem, problem_of
from protocols.rest.settings import RestSettings
from routing.consumers.consumer import Consumer
from routing.consumers.definition.members import Mode
from routing.consumers.leases import give_back, held_by
from routing.cursors.cursor import Delivery
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity
from routing.router import Router

SWEEP_S = 1.0
DRY_CHECK_S = 0.002         # a pull that does not wait looks so often whether anything is coming
DRY_WAIT_MAX_S = 2.0        # and no longer than this, while the log is read


class Pull:
    """One request that waits for events."""

    __slots__ = ("deliveries", "done", "room", "room_bytes")

    def __init__(self, room: int, room_bytes: int) -> None:
        self.room = room
        self.room_bytes = room_bytes
        self.deliveries: list[Delivery] = []
        # None, or why it cannot be
        self.done: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()


class Puller:
    """A Member (see routing/consumers/definition/members.py) for one client, or for all of them."""

    def __init__(self, client: str, identity: Identity, consumer: Consumer) -> None:
        self.client = client
        self.identity = identity
        self.consumer = consumer
        self.credit = 0
        self.seen_s = 0.0
        self.attached = False
        self._waiting: deque[Pull] = deque()

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    def add(self, pull: Pull) -> None:
        self._waiting.append(pull)
        self.credit += pull.room
        self.consumer.ready(self)

    def remove(self, pull: Pull) -> None:
        """It has what it gets. Idempotent."""
        if pull in self._waiting:
            self._waiting.remove(pull)
            self._recount()

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Fill the pulls in their order."""
        for delivery in deliveries:
            self._fill(delivery)
        self._recount()

    def _fill(self, delivery: Delivery) -> None:
        pull = next((pull for pull in self._waiting if pull.room > 0 and pull.room_bytes > 0), None)
        if pull is None:                # bytes ran out in the middle of a hand-out: the last one gives it back
            pull = self._waiting[-1]
        pull.deliveries.append(delivery)
        pull.room -= 1
        pull.room_bytes -= len(delivery.event.payload)
        if not pull.done.done():
            pull.done.set_result(None)

    def _recount(self) -> None:
        self.credit = sum(pull.room for pull in self._waiting if pull.room > 0 and pull.room_bytes > 0)

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        self.attached = False
        self.finish(Refusal(Reason.NOT_FOUND, reason))

    def rights_changed(self, identity: Identity) -> None:
        """Holder of routing/logins.py. What was handed out before is the client's to answer, if it may log in."""
        self.identity = identity
        if identity.revoked:
            self.credit = 0
            self.finish(Refusal(Reason.NOT_AUTHORIZED, "the login does not hold any more"))

    def finish(self, reason: Refusal | None) -> None:
        """No pull waits any longer. reason: why they fail; None: they are answered with what there is."""
        for pull in self._waiting:
            if not pull.done.done():
                pull.done.set_result(reason)


class Pullers:
    """Who pulls from which consumer, on one listener."""

    def __init__(self, router: Router, settings: RestSettings) -> None:
        self._router = router
        self._settings = settings
        self._by_consumer: dict[Consumer, dict[str, Puller]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Pulls that wait now."""
        return self._router.shares.pulls.total

    def clients(self, consumer: Consumer) -> int:
        return len(self._by_consumer.get(consumer, ()))

    async def pull(self, consumer: Consumer, identity: Identity, client: str, *, count: int, size: int,
                   wait_s: float) -> list[Delivery]:
        """At most count events of about size payload bytes together; at once when there are some, else within wait_s.

        Raises Problem (403, 404, 409, 429, 503). When it is cancelled, what it had goes back.
        """
        if self._stopping:
            raise Problem(503, "shutting-down", "the node stops")
        puller = self._puller(consumer, identity, client)
        share = self._router.shares.pulls
        refusal = share.take(identity.user, self._settings.pulls_waiting_max)
        if refusal is not None:
            raise Problem(503, "overloaded", refusal.text)
        pull = Pull(count, size)
        puller.add(pull)
        try:
            await self._wait(consumer, pull, wait_s)
        except BaseException:                   # the client is gone before anything was written
            puller.remove(pull)
            give_back(consumer, pull.deliveries)
            raise
        finally:
            share.give(identity.user)
            puller.remove(pull)
            puller.seen_s = self._router.clock_s()
        return _trimmed(consumer, pull, size)

    async def _wait(self, consumer: Consumer, pull: Pull, wait_s: float) -> None:
        reason = None
        try:
            async with asyncio.timeout(wait_s or DRY_WAIT_MAX_S):
                if wait_s:
                    reason = await pull.done
                else:
                    before: object = None
                    while not pull.done.done() and (progress := _progress(consumer)) != before:
                        before = progress
                        await asyncio.sleep(DRY_CHECK_S)
                    reason = pull.done.result() if pull.done.done() else None
        except TimeoutError:
            pass
        if reason is not None and not pull.deliveries:
            raise problem_of(reason)

    # -- presence ---------------------------------------------------------------------------------------------

    def _puller(self, consumer: Consumer, identity: Identity, client: str) -> Puller:
        pullers = self._by_consumer.setdefault(consumer, {})
        name = f"{identity.user}\0" if consumer.spec.mode is Mode.SHARED else f"{identity.user}\0{client}"
        puller = pullers.get(name)
        if not self._router.rights.may_attach(identity, consumer):      # the roles of a user are not always the same
            raise problem_of(Refusal(
                Reason.NOT_AUTHORIZED, f"consumer {consumer.name} reads by roles that you do not have now"))
        if puller is None or not puller.attached:
            puller = self._arrive(consumer, pullers, name, identity)
        puller.identity = identity
        puller.seen_s = self._router.clock_s()
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)
        return puller

    def _arrive(self, consumer: Consumer, pullers: dict[str, Puller], name: str, identity: Identity) -> Puller:
        if consumer.spec.mode is Mode.EXCLUSIVE:
            for other in list(pullers.values()):
                if other.waits or held_by(consumer, other):
                    raise problem_of(Refusal(
                        Reason.CONFLICT, f"consumer {consumer.name} is exclusive, and another client reads it: it "
                        "waits for events, or holds some that it has not answered"))
                self._leave(other)
        if len(pullers) >= self._settings.consumer_clients_max:
            raise Problem(429, "quota-exceeded", "consumer_clients_max is reached for this consumer")
        puller = Puller(name, identity, consumer)
        refusal = consumer.attach(puller)
        if refusal is not None:
            raise problem_of(refusal)
        puller.attached = True
        self._router.logins.add(puller)
        pullers[name] = puller
        return puller

    def _leave(self, puller: Puller) -> None:
        pullers = self._by_consumer.get(puller.consumer, {})
        self._router.logins.discard(puller)
        if pullers.get(puller.client) is puller:
            del pullers[puller.client]
        if puller.attached:
            puller.attached = False
            puller.consumer.detach(puller)

    def _tick(self) -> None:
        """Let go of clients that have been silent and hold nothing."""
        self._sweep = None
        before_s = self._router.clock_s() - self._settings.consumer_client_lease_s
        for consumer, pullers in list(self._by_consumer.items()):
            for puller in list(pullers.values()):
                if not puller.waits and puller.seen_s <= before_s and not held_by(consumer, puller):
                    self._leave(puller)
            if not pullers or consumer.closed:
                del self._by_consumer[consumer]
        if self._by_consumer:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)

    def shutdown(self) -> None:
        """Pulls that wait are answered with nothing; what clients hold stays theirs to ack after the next start."""
        self._stopping = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for pullers in list(self._by_consumer.values()):
            for puller in list(pullers.values()):
                puller.finish(None)
                self._leave(puller)
        self._by_consumer.clear()


def _progress(consumer: Consumer) -> object:
    """Something else each time while events may be on their way to a member: their places, or the storing of who reads.

    A turn of the loop hands out what it can, so a consumer that has not moved between two looks has nothing for us.
    """
    if consumer.spec.durable and not consumer.attachment.stored and not consumer.closed:
        return object()
    return [cursor.position for cursor in consumer.cursors.values()], consumer.delivered


def _trimmed(consumer: Consumer, pull: Pull, size: int) -> list[Delivery]:
    """What fits; the rest goes back. One that is larger than all the room goes alone."""
    taken = 0
    for index, delivery in enumerate(pull.deliveries):
        taken += len(delivery.event.payload)
        if index and taken > size:
            give_back(consumer, pull.deliveries[index:])
            return pull.deliveries[:index]
    return pull.deliveries
