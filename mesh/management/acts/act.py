"""What may be done over the management API, and the one way in which it is done.

    POST …?dry_run=1 {"reason": "…"}      what it would touch, in numbers; nothing happens
    POST …           Idempotency-Key: k   the same answer again for the same key, and the act only once

right ▸ target ▸ preview ▸ (dry run: answer) ▸ audit record on disk ▸ act ▸ answer with the record's id. An act that is
refused for want of right is in the audit trail, too.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from mesh.management.acts.audit import Audit, AuditRefused
from mesh.management.answers import json_answer
from protocols.fields import one_of
from protocols.rest.problems import Problem, problem_of
from routing.rights.policy import Identity

KEYS_MAX: Final = 1_000                 # idempotency keys that are remembered, the newest
KEY_CHARACTERS_MAX: Final = 200
Values = dict[str, Any]


class Act(msgspec.Struct, frozen=True):
    """One act that is ready to be done.

    name: as in the audit trail, "consumer.pause".  preview: what it touches.  perform: does it; returns what to answer.
    """

    name: str
    target: str
    preview: Values
    perform: Callable[[], Values]
    before: object = None
    after: object = None


class Acts:
    """One per node."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._answers: OrderedDict[tuple[str, str], Values] = OrderedDict()

    async def run(self, request: web.Request, identity: Identity, act: Act, body: Values) -> web.Response:
        """identity: who may do it, which was asked before."""
        if is_dry_run(request, body):
            return json_answer({"dry_run": True, "act": act.name, "target": act.target, **act.preview})
        reason = body.get("reason") or one_of(request.headers, "X-Reason") or ""
        if not isinstance(reason, str):
            raise Problem(400, "body-invalid", "reason is a text")
        key = one_of(request.headers, "Idempotency-Key") or ""
        if len(key) > KEY_CHARACTERS_MAX:
            raise Problem(400, "query-invalid", f"an Idempotency-Key has at most {KEY_CHARACTERS_MAX} characters")
        known = self._answers.get((identity.user, f"{act.name} {act.target} {key}")) if key else None
        if known is not None:
            return json_answer(known)
        try:
            number = await self._audit.record(
                identity, act.name, act.target, reason=reason, before=act.before, after=act.after)
        except AuditRefused as error:
            raise problem_of(error.refusal) from error
        answer = {**act.perform(), "audit": number}
        if key:
            self._answers[identity.user, f"{act.name} {act.target} {key}"] = answer
            if len(self._answers) > KEYS_MAX:
                self._answers.popitem(last=False)
        return json_answer(answer)

    async def refused(self, request: web.Request, identity: Identity, rule: str) -> None:
        """Somebody who logged in tried what he may not."""
        try:
            await self._audit.record(
                identity, f"{request.method} {request.path}"[:200], "", outcome="denied", reason=rule)
        except AuditRefused:
            pass                # it was not done, and it is in the denials


def is_dry_run(request: web.Request, body: Values) -> bool:
    asked = body.get("dry_run", request.query.get("dry_run", "") not in ("", "0", "false"))
    if not isinstance(asked, bool):
        raise Problem(400, "body-invalid", "dry_run is true or false")
    return asked


async def body_of(request: web.Request) -> Values:
    """The JSON object of a request; {} when it has no body. Raises Problem."""
    raw = await request.read()
    if not raw:
        return {}
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Problem(400, "body-invalid", f"the body is a JSON object: {error}") from error
