"""Simulation, usage and learning in the management API.

    POST drafts/NAME/simulate {"hours": 24}      GET usage?hours=24      POST learn {"user": "ana", "hours": 168}

A draft with `shadow` is compared with everything that happened since it was made, whenever it is looked at: it runs
beside the rules in force, and does nothing.
"""
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.administration.learn import learn
from mesh.administration.simulate import simulate
from mesh.management.acts.call import TEXT, Call, Endpoint, Param, Values
from mesh.management.security.drafts_api import DraftsApi
from mesh.management.security.refusals import as_problems
from protocols.rest.problems import Problem
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.administration.book import Draft
    from mesh.node import Node

HOURS: Final = 24.0
HOURS_MAX: Final = 7 * 24.0
AT_ONCE_MAX: Final = 2              # simulations under way; each is a thread that wants the interpreter


class SimulationApi:
    def __init__(self, node: Node, drafts: DraftsApi) -> None:
        self._node = node
        self._administration = node.administration
        self._drafts = drafts
        self._under_way = 0

    def endpoints(self) -> list[Endpoint]:
        hours: Values = {"type": "number", "exclusiveMinimum": 0, "maximum": HOURS_MAX}
        admin = Action.ADMINISTER
        return [
            Endpoint("POST", "drafts/{name}/simulate", admin, "What a draft would have done to what people did.",
                     self.simulate, body={"hours": hours}),
            Endpoint("GET", "usage", admin, "Which rule decided how often, and which was never needed.", self.usage,
                     (Param("hours", "how far back", hours),)),
            Endpoint("POST", "learn", admin, "The smallest rules that allow what a user did.", self.learn,
                     body={"user": TEXT, "hours": hours}),
        ]

    async def simulate(self, call: Call) -> Values:
        draft = self._drafts.draft(call)
        now_ms = self._node.clock_ms()
        from_ms = draft.time_ms if draft.shadow and "hours" not in call.body else now_ms - self._ms(call)
        found = await self._compare(draft, from_ms)
        async with self._administration.lock:
            if self._administration.book.drafts.get(draft.name) is draft:
                with as_problems():
                    await self._administration.book.put_draft(
                        msgspec.structs.replace(draft, simulated_ms=now_ms))
        return {"draft": draft.name, "from_ms": from_ms, "until_ms": now_ms, **found}

    async def _compare(self, draft: Draft, from_ms: int) -> Values:
        """Raises Problem."""
        administration = self._administration
        if self._under_way >= AT_ONCE_MAX:
            raise Problem(503, "busy", f"{AT_ONCE_MAX} simulations are under way: try again in a moment")
        self._under_way += 1
        try:
            async with administration.lock:
                with as_problems():
                    prepared = await administration.prepare(draft.changes, author=draft.author, reason=draft.reason)
            uses, cut = await self._node.usage.merged(from_ms)
            found = await asyncio.to_thread(simulate, administration.rights, prepared.rights, uses)
            return {**found, "cut": cut}
        finally:
            self._under_way -= 1

    async def usage(self, call: Call) -> Values:
        from_ms = self._node.clock_ms() - self._ms(call)
        uses, cut = await self._node.usage.merged(from_ms)
        rules: dict[str, Values] = {}
        for use, tally in uses.items():
            row = rules.setdefault(use.rule, {"rule": use.rule, "uses": 0, "events": 0, "last_ms": 0})
            row["uses"] += 1
            row["events"] += tally.count
            row["last_ms"] = max(row["last_ms"], tally.last_ms)
        names = [rule.name for rule in self._node.router.policy.rules]
        return {"from_ms": from_ms, "rules": sorted(rules.values(), key=lambda row: str(row["rule"])),
                "unused": [name for name in names if name not in rules], "cut": cut,
                "left_out": self._node.router.usage.left_out}

    async def learn(self, call: Call) -> Values:
        user = call.body.get("user")
        if not isinstance(user, str) or not user:
            raise Problem(400, "body-invalid", "user: whose rules are wanted")
        uses, cut = await self._node.usage.merged(self._node.clock_ms() - self._ms(call))
        return {"user": user, "documents": await asyncio.to_thread(learn, uses, user), "cut": cut}

    def _ms(self, call: Call) -> int:
        """How far back. Raises Problem."""
        found = call.body.get("hours", call.query.get("hours", HOURS))
        try:
            hours = float(found) if not isinstance(found, bool) else -1.0
        except (TypeError, ValueError):
            hours = -1.0
        if not 0 < hours <= HOURS_MAX:
            raise Problem(400, "query-invalid", f"hours: expected up to {HOURS_MAX:g}")
        return round(hours * 3_600_000)
