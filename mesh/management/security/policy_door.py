"""Policies that clients of a protocol change, as protocols/managed.py asks for it: by the same way as over the API.

right ▸ audit record on disk ▸ document on disk ▸ in force. Made with the node, opened once there is an audit trail.
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mesh.administration.administration import Administration, InFile, Invalid, LockedOut, Stale
from mesh.administration.book import BookRefused, Change
from mesh.administration.documents import PolicyDocument, body_of, document_of
from mesh.management.acts.audit import AuditRefused
from protocols.managed import PolicyChange
from routing.errors import Reason, Refusal
from routing.rights.policy import Action, Identity, Policy, Rule

if TYPE_CHECKING:
    from mesh.management.acts.audit import Audit


class PolicyDoor:
    """One per node. Loop thread only."""

    def __init__(self, administration: Administration, policy: Policy, clock_ms: Callable[[], int]) -> None:
        self._administration = administration
        self._policy = policy
        self._clock_ms = clock_ms
        self._audit: Audit | None = None
        self._changed: Callable[[], None] = lambda: None
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, audit: Audit, changed: Callable[[], None]) -> None:
        """changed: the tables are not what they were."""
        self._audit = audit
        self._changed = changed

    def in_force(self, beginning: str) -> Iterator[Rule]:
        administration = self._administration
        for stored in administration.book.alive("policy"):
            if stored.name.startswith(beginning) and administration.state_of(stored.key) == "in force":
                document = document_of("policy", stored.body or {})
                assert isinstance(document, PolicyDocument)
                yield Rule(document.allow, document.deny, document.to, document.topics, stored.name)

    def refuse(self, identity: Identity, act: str) -> Refusal | None:
        refusal = self._policy.refuse(identity, Action.ADMINISTER, "", self._clock_ms())
        if refusal is not None:
            self.note_denial(identity, act, refusal.text)
        return refusal

    def note_denial(self, identity: Identity, act: str, why: str) -> None:
        self._run(self._note_denial(identity, act, why))

    def record(self, identity: Identity, act: str, target: str, after: object,
               done: Callable[[Refusal | None], None]) -> None:
        self._run(self._record(identity, act, target, after, done))

    def change(self, identity: Identity, act: str, changes: Sequence[PolicyChange],
               done: Callable[[Refusal | None], None]) -> None:
        self._run(self._change(identity, act, changes, done))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _note_denial(self, identity: Identity, act: str, why: str) -> None:
        try:
            if self._audit is not None:
                await self._audit.record(identity, act, "", outcome="denied", reason=why, via=identity.protocol)
        except AuditRefused:
            pass                # it was not done, and it is in the denials

    async def _record(self, identity: Identity, act: str, target: str, after: object,
                      done: Callable[[Refusal | None], None]) -> None:
        refusal: Refusal | None = Refusal(Reason.STORAGE_FAILED, "internal error")
        try:
            if self._audit is None:
                refusal = Refusal(Reason.SHUTTING_DOWN, "the node is starting")
            else:
                await self._audit.record(identity, act, target, after=after, via=identity.protocol)
                refusal = None
        except AuditRefused as error:
            refusal = error.refusal
        finally:
            done(refusal)

    async def _change(self, identity: Identity, act: str, changes: Sequence[PolicyChange],
                      done: Callable[[Refusal | None], None]) -> None:
        refusal: Refusal | None = Refusal(Reason.STORAGE_FAILED, "internal error")
        try:
            refusal = await self._made(identity, act, changes)
        finally:
            done(refusal)

    async def _made(self, identity: Identity, act: str, changes: Sequence[PolicyChange]) -> Refusal | None:
        administration, audit = self._administration, self._audit
        if audit is None:
            return Refusal(Reason.SHUTTING_DOWN, "the node is starting")
        who = identity.user
        async with administration.lock:
            made = [one for one in map(self._as_change, changes) if one is not None]
            if not made:
                return None
            try:
                prepared = await administration.prepare(made, author=who, reason="")
                await audit.record(
                    identity, act, ", ".join(one.name for one in made), via=identity.protocol,
                    before=[step.before.body if step.before is not None else None for step in prepared.steps],
                    after=[one.body for one in made])
                await administration.commit(prepared, author=who, reason="")
            except (InFile, LockedOut, Stale) as error:
                return Refusal(Reason.CONFLICT, str(error))
            except Invalid as error:
                return Refusal(Reason.PAYLOAD_INVALID, str(error))
            except (AuditRefused, BookRefused) as error:
                return error.refusal
        self._changed()
        return None

    def _as_change(self, asked: PolicyChange) -> Change | None:
        """None: there is nothing to delete (any more)."""
        version = self._administration.book.version_of(("policy", asked.name))
        if asked.rule is None:
            return Change("policy", asked.name, None, version) if version else None
        rule = asked.rule
        body = body_of(PolicyDocument(description=asked.description, allow=rule.allow, deny=rule.deny, to=rule.to,
                                      topics=rule.topics))
        return Change("policy", asked.name, body, version)
