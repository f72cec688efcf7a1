"""What may be done over the management API, and the one way in which it is done.

    POST …?dry_run=1 {"reason": "…"}      what it would touch, in numbers; nothing happens
    POST …           Idempotency-Key: k   the same answer again for the same key, and the act only once

right ▸ target ▸ preview ▸ (dry run: answer) ▸ audit record on disk ▸ act ▸ answer with the record's id. An act that is
refused for want of right is in the audit trail, too.
"""
from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from mesh.management.acts.audit import Audit, AuditRefused
from mesh.management.acts.call import Call, Values
from protocols.rest.problems import Problem, problem_of
from protocols.scheduling import tickets
from routing.rights.policy import Identity
from routing.ticket import Ticket

KEYS_MAX: Final = 1_000                 # idempotency keys that are remembered, the newest


class Act(msgspec.Struct, frozen=True):
    """One act that is ready to be done.

    name: as in the audit trail, "consumer.pause".  preview: what it touches.  perform: does it; returns what to answer.
    """

    name: str
    target: str
    preview: Values
    perform: Callable[[], Values | Awaitable[Values]]
    before: object = None
    after: object = None


class Acts:
    """One per node."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._answers: OrderedDict[tuple[str, str], Values] = OrderedDict()
        self._under_way: dict[tuple[str, str], asyncio.Event] = {}      # with a key; set when it is over

    async def run(self, call: Call, act: Act) -> Values:
        """Who calls may do it, which was asked before. Raises Problem."""
        if call.dry_run:
            return {"dry_run": True, "act": act.name, "target": act.target, **act.preview}
        if not call.key:
            return await self._run(call, act)
        place = _place(call, act.name, act.target)
        while place in self._under_way:             # it was sent again while the first one was not answered yet
            await self._under_way[place].wait()
        over = self._under_way[place] = asyncio.Event()
        try:
            return await self._run(call, act)
        finally:
            del self._under_way[place]
            over.set()

    async def _run(self, call: Call, act: Act) -> Values:
        reason = call.body.get("reason") or call.reason
        if not isinstance(reason, str):
            raise Problem(400, "body-invalid", "reason is a text")
        known = self.answered(call, act.name, act.target)
        if known is not None:
            return known
        via = "link" if call.identity.protocol == "link" else "api"
        try:
            number = await self._audit.record(
                call.identity, act.name, act.target, reason=reason, before=act.before, after=act.after, via=via)
        except AuditRefused as error:
            raise problem_of(error.refusal) from error
        done = act.perform()
        if isinstance(done, Awaitable):
            done = await self._done(call.identity, act, done, via)
        answer = {**done, "audit": number}
        if call.key:
            self._answers[_place(call, act.name, act.target)] = answer
            if len(self._answers) > KEYS_MAX:
                self._answers.popitem(last=False)
        return answer

    def answered(self, call: Call, act: str, target: str) -> Values | None:
        """What this very call was answered before, by its idempotency key. For acts that cannot be prepared twice."""
        return self._answers.get(_place(call, act, target)) if call.key and not call.dry_run else None

    async def _done(self, identity: Identity, act: Act, under_way: Awaitable[Values], via: str) -> Values:
        """What takes longer may fail after its record is written: then there is another one that says so."""
        try:
            return await under_way
        except Problem as problem:
            try:
                await self._audit.record(
                    identity, act.name, act.target, outcome="failed", reason=problem.detail, via=via)
            except AuditRefused:
                pass
            raise

    async def forwarded(self, call: Call, what: str, target: str) -> None:
        """Another node is asked to do it; what came of it is in its own trail. Raises Problem."""
        reason = call.body.get("reason") or call.reason
        try:
            await self._audit.record(call.identity, what, target, outcome="asked", reason=str(reason))
        except AuditRefused as error:
            raise problem_of(error.refusal) from error

    async def refused(self, identity: Identity, what: str, rule: str) -> None:
        """Somebody who logged in tried what he may not."""
        try:
            await self._audit.record(identity, what[:200], "", outcome="denied", reason=rule)
        except AuditRefused:
            pass                # it was not done, and it is in the denials


async def durable(ticket: Ticket) -> None:
    """Wait until it is done. Raises Problem when it was refused."""
    await tickets.durable(ticket)
    refusal = next(iter(ticket.refusals.values()), None)
    if refusal is not None:
        raise problem_of(refusal)


def _place(call: Call, act: str, target: str) -> tuple[str, str]:
    return call.identity.user, f"{act} {target} {call.key}"
