"""Users, keys, roles, policies and link peers in the management API: one of a kind is read, put, deleted.

    GET users/ana     PUT users/ana  If-Match: "3@graz-1"     DELETE users/ana     POST keys/till-7/rotate

A PUT or DELETE is a change of one document, applied at once; more than one at a time, or to be looked at first, is a
draft (drafts_api.py).
"""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.administration.book import Change
from mesh.administration.documents import Stored, differences, without_secrets
from mesh.identity.apikeys import hash_key, make_key
from mesh.management.acts.act import Act, Acts
from mesh.management.acts.call import TEXT, Call, Endpoint, Values
from mesh.management.security.changing import Asked, change_of, version_of
from mesh.management.security.refusals import as_problems
from protocols.rest.problems import Problem
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node

PLURALS: Final = {"user": "users", "key": "keys", "role": "roles", "policy": "policies", "peer": "peers",
                  "mask": "masks", "quota": "quotas"}
VERSIONS_SHOWN: Final = 100         # of one document, the newest
OVERLAP_MAX_S: Final = 30 * 86_400
OVERLAP_S: Final = 3_600.0          # for which the old key still counts after a rotation, unless the call says more


class DocumentsApi:
    def __init__(self, node: Node, acts: Acts, changed: Callable[[], None]) -> None:
        """changed: the tables are not what they were."""
        self._node = node
        self._administration = node.administration
        self._acts = acts
        self._changed = changed

    def endpoints(self) -> list[Endpoint]:
        found = []
        document = {"document": {"type": "object"}, "version": TEXT}
        for kind, plural in PLURALS.items():
            action = Action.VIEW if kind in ("policy", "role") else Action.ADMINISTER
            found += [
                Endpoint("GET", f"{plural}/{{name}}", action, f"A managed {kind}, with its versions.",
                         self._show(kind)),
                Endpoint("PUT", f"{plural}/{{name}}", Action.ADMINISTER, f"Make or change a managed {kind}.",
                         self._put(kind), body=document),
                Endpoint("DELETE", f"{plural}/{{name}}", Action.ADMINISTER, f"Delete a managed {kind}.",
                         self._delete(kind), body={"version": TEXT}),
            ]
        found.append(Endpoint("POST", "keys/{name}/rotate", Action.ADMINISTER,
                              "A new key in the place of one, which counts a while longer.", self.rotate,
                              body={"overlap_s": {"type": "number", "minimum": 0, "maximum": OVERLAP_MAX_S}}))
        return found

    def _show(self, kind: str) -> Callable[[Call], Awaitable[Values]]:
        async def show(call: Call) -> Values:
            name = call.names["name"]
            stored = self._administration.book.current((kind, name))
            if stored is None or stored.body is None:
                where = ""
                if self._administration.in_file((kind, name)):
                    built_in = name.startswith("built in: ")
                    where = ": it is built in" if built_in else ": it stands in the configuration file"
                raise Problem(404, "not-found", f"there is no managed {kind} {name[:200]}{where}")
            return {**shown(stored), "state": self._administration.state_of(stored.key),
                    "versions": await self._versions(kind, name)}
        return show

    async def _versions(self, kind: str, name: str) -> list[Values]:
        """Newest first, with what each changed: at most VERSIONS_SHOWN. Older ones are read from the log."""
        found: list[Values] = []
        revisions = self._administration.book.revisions
        for head in revisions.with_document((kind, name)):
            revision = revisions.get(head.number)
            for step in revision.steps if revision is not None else ():
                if step.key == (kind, name):
                    before = step.before.body if step.before is not None else None
                    found.append({"revision": head.number, "version": step.after.version, "by": step.after.author,
                                  "time_ms": step.after.time_ms, "reason": step.after.reason,
                                  "changes": differences(before, step.after.body)})
            if len(found) >= VERSIONS_SHOWN:
                break
            await asyncio.sleep(0)
        return found

    def _put(self, kind: str) -> Callable[[Call], Awaitable[Values]]:
        async def put(call: Call) -> Values:
            if not isinstance(call.body.get("document"), dict):
                raise Problem(400, "body-invalid", "document: an object; DELETE deletes one")
            known = self._acts.answered(call, f"{kind}.put", call.names["name"])
            if known is not None:
                return known
            asked = await change_of(self._administration, kind, call.names["name"], call.body["document"],
                                    version_of(call.match, call.body), make=True)
            return await self._run(call, f"{kind}.put", asked)
        return put

    def _delete(self, kind: str) -> Callable[[Call], Awaitable[Values]]:
        async def delete(call: Call) -> Values:
            name = call.names["name"]
            known = self._acts.answered(call, f"{kind}.delete", name)
            if known is not None:
                return known
            if not self._administration.book.version_of((kind, name)) and not self._administration.in_file(
                    (kind, name)):
                raise Problem(404, "not-found", f"there is no managed {kind} {name[:200]}")
            change = Change(kind, name, None, version_of(call.match, call.body))
            return await self._run(call, f"{kind}.delete", Asked(change))
        return delete

    async def rotate(self, call: Call) -> Values:
        name = call.names["name"]
        known_answer = self._acts.answered(call, "key.rotate", name)
        if known_answer is not None:
            return known_answer
        overlap_s = call.body.get("overlap_s", OVERLAP_S)
        known = isinstance(overlap_s, (int, float)) and not isinstance(overlap_s, bool)
        if not known or not 0 <= overlap_s <= OVERLAP_MAX_S:
            raise Problem(400, "body-invalid", f"overlap_s: expected 0 to {OVERLAP_MAX_S} seconds")
        stored = self._administration.book.current(("key", name))
        if stored is None or stored.body is None:
            raise Problem(404, "not-found", f"there is no managed key {name[:200]}")
        made = make_key()
        ends = datetime.fromtimestamp(self._node.clock_ms() / 1000 + overlap_s, UTC)
        body = {**stored.body, "key_hash": hash_key(made), "old_hash": stored.body["key_hash"],
                "old_until": msgspec.to_builtins(ends)}
        return await self._run(call, "key.rotate", Asked(Change("key", name, body, stored.version), made))

    async def _run(self, call: Call, act: str, asked: Asked) -> Values:
        administration, change = self._administration, asked.change
        who, reason = call.identity.user, str(call.body.get("reason") or call.reason)[:500]
        async with administration.lock:
            with as_problems():
                prepared = await administration.prepare([change], author=who, reason=reason)
            step = prepared.steps[0]
            before = step.before.body if step.before is not None else None

            async def perform() -> Values:
                with as_problems():
                    revision = await administration.commit(prepared, author=who, reason=reason)
                self._changed()
                answer: Values = {**shown(step.after), "revision": revision.number,
                                  "state": administration.state_of(change.key)}
                return {**answer, "key": asked.key} if asked.key else answer
            preview = {"changes": differences(before, change.body), "from_version": change.version}
            return await self._acts.run(call, Act(
                act, change.name, preview, perform, without_secrets(before), without_secrets(change.body)))


def shown(stored: Stored) -> Values:
    """One version for people."""
    return {"kind": stored.kind, "name": stored.name, "version": stored.version if stored.body is not None else "",
            "document": without_secrets(stored.body), "by": stored.author, "time_ms": stored.time_ms,
            "reason": stored.reason, "node": stored.node}
