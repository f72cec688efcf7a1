"""Why was it refused, or let through, by the rules of then? And a draft that allows just what was denied.

    GET denials/17                  a row of the denials, with what decided then, and what would now
    GET explain?event=orders:0:42   who published a stored event, and by which rule it was let in
    POST denials/17/draft           a rule for this: the very user, action and topic, to be looked at and applied

The rules of then are the documents as they were, which the revisions tell, with the configuration file of now: whether
that was read again since stands in the answer. Who published an event is told by the usage record, for a week.
"""
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from mesh.administration.administration import Invalid
from mesh.administration.book import Change, Draft
from mesh.administration.check import NOT_IN_NAMES
from mesh.administration.effective import combine
from mesh.administration.usage_log import BUCKET_MS
from mesh.management.acts.call import TEXT, Call, Endpoint, Param, Values
from protocols.formats.event_json import rfc3339
from protocols.formats.location import parse_event_id
from protocols.rest.problems import Problem
from routing.rights.can_i import rule_for
from routing.rights.policy import Action, Identity, Policy

if TYPE_CHECKING:
    from mesh.management.security.drafts_api import DraftsApi
    from mesh.node import Node

EXPLAINED_MAX: Final = 100          # uses of one event: several clients may have published to its topic then
Denial = dict[str, Any]


class ExplainApi:
    def __init__(self, node: Node, drafts: DraftsApi) -> None:
        self._node = node
        self._administration = node.administration
        self._drafts = drafts

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "denials/{id}", Action.VIEW, "Why it was denied, by the rules of then and of now.",
                     self.denial),
            Endpoint("POST", "denials/{id}/draft", Action.ADMINISTER,
                     "A draft with a rule that allows what was denied, and nothing else.", self.draft,
                     body={"draft": TEXT}),
            Endpoint("GET", "explain", Action.ADMINISTER, "Who published an event, and by which rule it was let in.",
                     self.event, (Param("event", "its id, such as orders:0:42"),)),
        ]

    # -- denials ----------------------------------------------------------------------------------------------

    def _denial(self, call: Call) -> Denial:
        """Raises Problem."""
        number = call.names["id"]
        for denial in self._node.router.policy.denials:
            if str(denial["id"]) == number:
                return dict(denial)
        raise Problem(404, "not-found", f"there is no denial {number[:20]}, or it is not listed any more")

    async def denial(self, call: Call) -> Values:
        denial = self._denial(call)
        action, identity = Action(denial["action"]), _identity(denial)
        policy, revision = await self._policy_at(denial["time_ms"])
        administration = self._administration
        return {**denial, "time": rfc3339(denial["time_ms"]), "revision": revision,
                "then": _answer(policy, identity, action, denial["topic"]),
                "now": _answer(self._node.router.policy, identity, action, denial["topic"]),
                "file_read_since": denial["time_ms"] < administration.base_since_ms}

    async def _policy_at(self, time_ms: int) -> tuple[Policy, int]:
        """The rules of a moment, and the last revision that was in force then. Raises Problem."""
        administration = self._administration
        try:
            documents, revision = await administration.documents_at(time_ms)
        except Invalid as error:
            raise Problem(409, "conflict", str(error)) from error
        rights = await asyncio.to_thread(combine, administration.base, documents, administration.place, time_ms)
        return Policy(rights.rules), revision

    async def draft(self, call: Call) -> Values:
        """Never wider than what was asked."""
        denial = self._denial(call)
        action, identity = Action(denial["action"]), _identity(denial)
        answer = self._node.router.policy.can_i(identity, action, denial["topic"])
        if answer.decision.allowed:
            raise Problem(409, "conflict", f"it is allowed by now: {answer.decision.rule}")
        rule = rule_for(identity, action, denial["topic"], allow=True)
        if rule is None:
            raise Problem(409, "conflict", "no rule can name this user or topic")
        if self._node.router.policy.permissions(identity).denying(action, denial["topic"]):
            raise Problem(409, "conflict", f"{answer.decision.rule} denies it, and a deny beats what would be allowed: "
                                           "make that rule narrower, or take it back")
        name = call.body.get("draft") or f"denial {denial['id']}"
        if not isinstance(name, str):
            raise Problem(400, "body-invalid", "draft is a text")
        what = "".join(" " if char in NOT_IN_NAMES else char for char in f"{identity.user} {action.value} "
                       f"{denial['topic']}")
        document = {"allow": [action.value], "to": list(rule.to), "topics": list(rule.topics),
                    "description": f"made of denial {denial['id']}: {denial['rule']}"[:500]}
        policy = " ".join(what.split())[:200]
        change = Change("policy", policy, document, self._administration.book.version_of(("policy", policy)))
        return await self._keep(call, name, change, denial)

    async def _keep(self, call: Call, name: str, change: Change, denial: Denial) -> Values:
        known = self._administration.book.drafts.get(name)
        changes = (*(one for one in known.changes if one.key != change.key), change) if known is not None else (change,)
        self._drafts.check_room(name, len(changes))
        draft = Draft(name, changes, call.identity.user, self._node.clock_ms(),
                      known.reason if known is not None else f"denial {denial['id']}",
                      known is not None and known.shadow)
        return await self._drafts.keep(call, draft, {"changes": len(changes), "document": change.body}, change.body,
                                       {"document": change.body, "policy": change.name})

    # -- events -----------------------------------------------------------------------------------------------

    async def event(self, call: Call) -> Values:
        text = call.query.get("event", "")
        place = parse_event_id(text)
        if place is None:
            raise Problem(400, "query-invalid", "event: its id, such as orders:0:42")
        partition = self._node.router.streams.partition(place[0], place[1])
        found = partition.event(place[2]) if partition is not None else None
        if found is None:
            raise Problem(404, "not-found", f"there is no event {text[:300]}, or not any more")
        moment_ms = found.timestamp_ms
        uses, cut = await self._node.usage.merged(moment_ms - BUCKET_MS)
        rows = [{"user": use.user, "roles": list(use.roles), "client_id": use.client_id, "protocol": use.protocol,
                 "rule": use.rule, "events": tally.count}
                for use, tally in uses.items()
                if use.action is Action.PUBLISH and use.allowed and use.topic == found.topic
                and tally.first_ms <= moment_ms + BUCKET_MS and moment_ms <= tally.last_ms + BUCKET_MS]
        same = [row for row in rows if row["client_id"] == found.publisher or row["user"] == found.publisher]
        return {"event": text, "topic": found.topic, "time": rfc3339(moment_ms), "publisher": found.publisher,
                "allowed_by": (same or rows)[:EXPLAINED_MAX], "cut": cut}


def _identity(denial: Denial) -> Identity:
    return Identity(denial["user"], tuple(denial["roles"]), protocol=denial["protocol"], client_id=denial["client_id"])


def _answer(policy: Policy, identity: Identity, action: Action, topic: str) -> Values:
    answer = policy.can_i(identity, action, topic)
    return {"allowed": answer.decision.allowed, "rule": answer.decision.rule, "runner_up": answer.runner_up,
            "change": answer.change.text if answer.change is not None else None}


