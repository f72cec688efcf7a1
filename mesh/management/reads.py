"""Reads of the management API that are no tables: the overview, histories, browsing, who may do what."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesh.identity.users import AUTHENTICATED
from mesh.management.acts.call import TEXT, Call, Endpoint, Param, Values, Viewed
from mesh.management.browse import Browser, parse_search
from mesh.management.figures.attention import overview
from mesh.management.paging.table import QueryError
from mesh.management.security.refusals import as_problems
from protocols.formats.event_json import parse_rfc3339
from protocols.rest.problems import Problem, problem_of
from routing.rights.policy import Action, Identity, Policy

if TYPE_CHECKING:
    from mesh.management.figures.sampler import Sampler
    from mesh.node import Node

NAMES: Values = {"type": "array", "items": {"type": "string"}}


class Reads:
    """One per node."""

    def __init__(self, node: Node, sampler: Sampler, viewed: Viewed, browser: Browser) -> None:
        self._viewed = viewed
        self._node = node
        self._sampler = sampler
        self._browser = browser

    def endpoints(self) -> list[Endpoint]:
        time = "A time as RFC 3339 has it, with its zone."
        ask = {"user": TEXT, "roles": NAMES, "client_id": TEXT, "topic": TEXT, "draft": TEXT,
               "action": {"type": "string", "enum": [action.value for action in Action]}}
        return [
            Endpoint("GET", "status", Action.VIEW, "The node: name, state, listeners, counts.", self.status),
            Endpoint("GET", "overview", Action.VIEW, "One sentence, what needs attention, figures.", self.overview,
                     (Param("scope", "mesh: of all nodes.", {"type": "string", "enum": ["mesh"]}),)),
            Endpoint("GET", "ledger", Action.VIEW, "What was published, refused, dropped; time of the loop.",
                     self.ledger),
            Endpoint("GET", "clock", Action.VIEW, "Does the node trust the wall clock?", self.clock),
            Endpoint("GET", "whoami", Action.VIEW, "The login, and what it may do.", self.whoami),
            Endpoint("GET", "history", Action.VIEW, "A figure over time, or the names of all figures.", self.history, (
                Param("kind", "node, link, stream or consumer"), Param("id", "its name"),
                Param("series", "the figure; without it the names of all"), Param("from", time), Param("until", time))),
            Endpoint("GET", "browse", Action.VIEW, "Stored events.", self.browse, (
                Param("filter", "a topic filter"), Param("from", time), Param("until", time),
                Param("match", "a piece of topic, key, header or payload", {"type": "string", "maxLength": 200}),
                Param("limit", "how many", {"type": "integer", "minimum": 1, "maximum": 1_000}),
                Param("cursor", "of the page before"))),
            Endpoint("POST", "can-i", Action.VIEW, "May they, and which rule says so?", self.can_i, body=ask),
        ]

    async def status(self, call: Call) -> Values:
        return self._node.status()

    async def overview(self, call: Call) -> Values:
        return overview(self._node, self._sampler)

    async def clock(self, call: Call) -> Values:
        return self._node.clock_status()

    async def ledger(self, call: Call) -> Values:
        return {"losses": self._node.router.ledger.snapshot()}

    async def whoami(self, call: Call) -> Values:
        return {**rights_of(self._node, call.identity), "http": self._node.http_places()}

    async def browse(self, call: Call) -> Values:
        try:
            search = parse_search(call.query)
            await self._viewed(call.identity, "browse", search.filter)
            return await self._browser.page(search, call.query.get("cursor", ""), call.identity)
        except QueryError as error:
            raise Problem(400, "query-invalid", str(error)) from error

    async def history(self, call: Call) -> Values:
        """?kind=consumer&id=billing&series=lag_events&from=&until=   Times: RFC 3339; from: 15 minutes ago."""
        params = call.query
        kind, subject = params.get("kind", "node"), params.get("id", self._node.name)
        figure = params.get("series", "")
        figures = self._sampler.histories.figures(kind, subject)
        if not figures:
            raise Problem(404, "not-found", f"there is no history of {kind[:100]} {subject[:200]}")
        if not figure:
            return {"kind": kind, "id": subject, "series": figures}
        series = self._sampler.histories.get(kind, subject, figure)
        if series is None:
            raise Problem(404, "not-found", f"there is no series {figure[:100]}; there are {', '.join(figures)}")
        now_s = self._node.clock_ms() // 1000
        until_s = _time_s(params.get("until", ""), now_s)
        points = series.points(_time_s(params.get("from", ""), until_s - 900), until_s)
        return {"kind": kind, "id": subject, "series": figure, "start_ms": points.start_s * 1000,
                "step_ms": points.step_s * 1000, "values": points.values}

    async def can_i(self, call: Call) -> Values:
        """The same function that decides on every protocol."""
        body = call.body
        try:
            action = Action(body.get("action"))
        except ValueError:
            names = ", ".join(one.value for one in Action)
            raise Problem(400, "body-invalid", f"action is one of {names}") from None
        user = body.get("user", "")
        roles = body["roles"] if "roles" in body else self._roles_of(user, call.identity)
        client_id, topic = body.get("client_id", ""), body.get("topic", "")
        if not all(isinstance(text, str) for text in (user, client_id, topic)) or not (
                isinstance(roles, list) and all(isinstance(role, str) for role in roles)):
            raise Problem(400, "body-invalid", "user, client_id and topic are texts, roles a list of texts")
        identity = Identity(user or "anonymous", tuple(roles), client_id=client_id)
        policy = await self._policy_of(body.get("draft"), call.identity)
        answer = policy.can_i(identity, action, topic)
        return {"user": identity.user, "roles": roles, "action": action.value, "topic": topic,
                "allowed": answer.decision.allowed, "rule": answer.decision.rule, "runner_up": answer.runner_up,
                "change": answer.change.text if answer.change is not None else None}

    async def _policy_of(self, draft: object, asking: Identity) -> Policy:
        """That in force, or the one that a draft would make. Raises Problem."""
        node = self._node
        if draft is None:
            return node.router.policy
        refusal = node.router.policy.refuse(asking, Action.ADMINISTER, "", node.clock_ms())
        if refusal is not None:
            raise problem_of(refusal)
        found = node.administration.book.drafts.get(draft) if isinstance(draft, str) else None
        if found is None:
            raise Problem(404, "not-found", f"there is no draft {str(draft)[:200]}")
        async with node.administration.lock:
            with as_problems():
                prepared = await node.administration.prepare(found.changes, author=found.author, reason=found.reason)
        return Policy(prepared.rights.rules)

    def _roles_of(self, user: object, asking: Identity) -> list[str]:
        """Those that a user or the user of a key has on this node: for himself, and for who administers."""
        if user == asking.user:
            return list(asking.roles)
        if not self._node.router.policy.decide(asking, Action.ADMINISTER).allowed:
            return []
        rights = self._node.administration.rights
        known = [(one.name, one.roles) for one in rights.users]
        known += [(one.user, one.roles) for one in rights.keys.values()]
        return next(([*roles, AUTHENTICATED] for name, roles in known if name == user), [])


def rights_of(node: Node, identity: Identity) -> dict[str, Any]:
    decide = node.router.policy.decide
    actions = (Action.VIEW, Action.OPERATE, Action.AUDIT, Action.ADMINISTER, Action.MANAGE)
    decisions = {action.value: decide(identity, action) for action in actions}
    return {
        "user": identity.user, "roles": list(identity.roles), "address": identity.address,
        "may": {name: decision.allowed for name, decision in decisions.items()},
        "because": {name: decision.rule for name, decision in decisions.items()},
    }


def _time_s(text: str, default_s: int) -> int:
    if not text:
        return default_s
    found = parse_rfc3339(text)
    if found is None:
        raise Problem(400, "query-invalid", "a time is RFC 3339 with its zone, such as 2026-01-31T12:00:00Z")
    return max(found // 1000, 0)
