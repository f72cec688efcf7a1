"""Drafts and revisions in the management API: several changes that are applied as one step, and the way back.

    PUT drafts/spring {"changes": [{"kind", "name", "document" | null, "version"?}], "reason"}
    POST drafts/spring/apply                    POST revisions/12/rollback: everything as it was after revision 12
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from mesh.administration.administration import Invalid, Stale
from mesh.administration.book import CHANGES_MAX, DRAFTS_MAX, VALUE_BYTES_MAX, Change, Draft
from mesh.administration.check import name_problem
from mesh.administration.documents import differences, without_secrets
from mesh.administration.revisions import Head
from mesh.management.acts.act import Act, Acts
from mesh.management.acts.call import TEXT, Call, Endpoint, Values
from mesh.management.security.changing import change_of
from mesh.management.security.refusals import as_problems
from protocols.rest.problems import Problem
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node


class ChangeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    name: str
    document: dict[str, Any] | None
    version: str | None = None              # None: the one that there is now


class DraftBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    changes: list[ChangeBody]
    shadow: bool = False
    reason: str = ""
    dry_run: bool = False


class DraftsApi:
    def __init__(self, node: Node, acts: Acts, changed: Callable[[], None]) -> None:
        self._node = node
        self._administration = node.administration
        self._acts = acts
        self._changed = changed

    def endpoints(self) -> list[Endpoint]:
        body = {"changes": {"type": "array", "items": {"type": "object"}, "maxItems": CHANGES_MAX},
                "shadow": {"type": "boolean"}}
        admin = Action.ADMINISTER
        return [
            Endpoint("GET", "drafts/{name}", admin, "A draft: what it changes, and what stands in its way.", self.show),
            Endpoint("PUT", "drafts/{name}", admin, "Keep changes to be looked at.", self.put, body=body),
            Endpoint("DELETE", "drafts/{name}", admin, "Forget a draft.", self.delete, body={}),
            Endpoint("POST", "drafts/{name}/apply", admin, "Make its changes, all in one step.", self.apply, body={}),
            Endpoint("GET", "revisions/{number}", admin, "A step that was made, document by document.", self.revision),
            Endpoint("POST", "revisions/{number}/rollback", admin,
                     "Everything as it was after this step; a new step itself.", self.rollback, body={}),
            Endpoint("DELETE", "conflicts/{name}", admin, "A conflict was looked at: forget it. name: KIND/NAME.",
                     self.settle, body={"version": TEXT}),
        ]

    # -- drafts -----------------------------------------------------------------------------------------------

    def draft(self, call: Call) -> Draft:
        """Raises Problem."""
        found = self._administration.book.drafts.get(call.names["name"])
        if found is None:
            raise Problem(404, "not-found", f"there is no draft {call.names['name'][:200]}")
        return found

    async def show(self, call: Call) -> Values:
        draft = self.draft(call)
        administration = self._administration
        problem = ""
        conflicts: list[Values] = []
        async with administration.lock:
            try:
                await administration.prepare(draft.changes, author=draft.author, reason=draft.reason)
            except Stale as error:
                problem, conflicts = str(error), error.conflicts
            except Invalid as error:
                problem = str(error)
        return {**draft_row(draft), "changes": [self._change_shown(change) for change in draft.changes],
                "problem": problem, "conflicts": conflicts}

    def _change_shown(self, change: Change) -> Values:
        stored = self._administration.book.current(change.key)
        before = stored.body if stored is not None else None
        return {"kind": change.kind, "name": change.name, "version": change.version,
                "document": without_secrets(change.body), "changes": differences(before, change.body)}

    async def put(self, call: Call) -> Values:
        name, body = call.names["name"], call.as_(DraftBody)
        self.check_room(name, len(body.changes))
        changes = tuple([
            (await change_of(self._administration, one.kind, one.name, one.document, one.version, make=False)).change
            for one in body.changes])
        draft = Draft(name, changes, call.identity.user, self._node.clock_ms(), body.reason[:500], body.shadow)
        return await self.keep(call, draft, {"changes": len(changes)}, [
            {"kind": change.kind, "name": change.name, "document": without_secrets(change.body)}
            for change in changes])

    def check_room(self, name: str, changes: int) -> None:
        """For a draft of that name with so many. Raises Problem."""
        problem = name_problem("draft", name)
        if problem is not None:
            raise Problem(400, "body-invalid", f"name: {problem}")
        drafts = self._administration.book.drafts
        if name not in drafts and len(drafts) >= DRAFTS_MAX:
            raise Problem(409, "conflict", f"there are {DRAFTS_MAX} drafts: apply or delete one")
        if changes > CHANGES_MAX:
            raise Problem(400, "body-invalid", f"changes: at most {CHANGES_MAX}")

    async def keep(self, call: Call, draft: Draft, about: Values, after: Any, more: Values | None = None) -> Values:
        """The act of it. about, after: for the audit trail. more: beside the row, in the answer. Raises Problem."""
        administration = self._administration
        with as_problems():
            administration.check(list(draft.changes))
        if draft.shadow and not call.dry_run:
            self._node.usage.close_bucket()             # what happened before it was made is none of its business
        if len(msgspec.msgpack.encode(draft)) > VALUE_BYTES_MAX:
            raise Problem(413, "payload-too-large", f"a draft has at most {VALUE_BYTES_MAX} bytes")

        async def perform() -> Values:
            async with administration.lock:
                with as_problems():
                    await administration.book.put_draft(draft)
            self._changed()
            return {**draft_row(draft), **(more or {})}
        return await self._acts.run(call, Act("draft.put", draft.name, about, perform, after=after))

    async def delete(self, call: Call) -> Values:
        draft = self.draft(call)

        async def perform() -> Values:
            async with self._administration.lock:
                with as_problems():
                    await self._administration.book.drop_draft(draft.name)
            self._changed()
            return {"draft": draft.name, "deleted": True}
        return await self._acts.run(call, Act("draft.delete", draft.name, draft_row(draft), perform))

    async def apply(self, call: Call) -> Values:
        known = self._acts.answered(call, "draft.apply", call.names["name"])
        if known is not None:
            return known
        draft = self.draft(call)
        return await self._apply(call, "draft.apply", draft.name, draft.changes, draft.reason, draft.name)

    # -- revisions --------------------------------------------------------------------------------------------

    async def revision(self, call: Call) -> Values:
        revisions = self._administration.book.revisions
        revision = revisions.get(_number(call))
        if revision is None:
            raise Problem(404, "not-found", f"there is no revision {call.names['number'][:200]}, or no more")
        return {**revision_row(revisions.head(revision.number)), "steps": [{
            "kind": step.after.kind, "name": step.after.name,
            "before": without_secrets(step.before.body) if step.before is not None else None,
            "after": without_secrets(step.after.body), "version": step.after.version,
            "changes": differences(step.before.body if step.before is not None else None, step.after.body),
        } for step in revision.steps]}

    async def rollback(self, call: Call) -> Values:
        number = _number(call)
        known = self._acts.answered(call, "revision.rollback", str(number))
        if known is not None:
            return known
        with as_problems():
            changes = tuple(await self._administration.back_to(number))
        return await self._apply(call, "revision.rollback", str(number), changes, f"back to revision {number}", "")

    async def _apply(self, call: Call, act: str, target: str, changes: tuple[Change, ...], reason: str,
                     draft: str) -> Values:
        administration = self._administration
        who, reason = call.identity.user, str(call.body.get("reason") or call.reason or reason)[:500]
        async with administration.lock:
            with as_problems():
                prepared = await administration.prepare(changes, author=who, reason=reason)
            steps = prepared.steps

            async def perform() -> Values:
                with as_problems():
                    revision = await administration.commit(prepared, author=who, reason=reason, draft=draft)
                self._changed()
                return revision_row(administration.book.revisions.head(revision.number))
            named = [{"kind": step.after.kind, "name": step.after.name,
                      "changes": differences(step.before.body if step.before else None, step.after.body)}
                     for step in steps]
            call = msgspec.structs.replace(call, reason=reason)
            return await self._acts.run(call, Act(act, target, {"documents": named}, perform, after=named))

    # -- conflicts --------------------------------------------------------------------------------------------

    async def settle(self, call: Call) -> Values:
        kind, _, name = call.names["name"].partition("/")
        if (kind, name) not in self._administration.book.conflicts:
            raise Problem(404, "not-found", f"there is no conflict {call.names['name'][:200]}; one is KIND/NAME")

        async def perform() -> Values:
            async with self._administration.lock:
                with as_problems():
                    await self._administration.book.settle((kind, name))
            self._changed()
            return {"kind": kind, "name": name, "settled": True}
        return await self._acts.run(call, Act("conflict.settle", f"{kind}/{name}", {"conflicts": 1}, perform))


def _number(call: Call) -> int:
    text = call.names["number"]
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise Problem(404, "not-found", "a revision is a number")
    return int(text)


def draft_row(draft: Draft) -> Values:
    return {"name": draft.name, "by": draft.author, "time_ms": draft.time_ms, "reason": draft.reason,
            "documents": [f"{change.kind}/{change.name}" for change in draft.changes], "shadow": draft.shadow,
            "simulated_ms": draft.simulated_ms}


def revision_row(head: Head) -> Values:
    more = [f"and {head.count - len(head.documents)} more"] if head.count > len(head.documents) else []
    return {"revision": head.number, "time_ms": head.time_ms, "by": head.author, "reason": head.reason,
            "source": head.source, "documents": [*head.documents, *more]}
