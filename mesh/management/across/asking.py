"""Asking other nodes, and answering them. One per node, loop thread only.

    ask(node, …) ── Ask ──► overlay … overlay ──► on_message ── may the link ask that? may the person? ── serve
                 ◄─ Answer ────────────────────────────────────┘

What comes over a link is hearsay: the neighbour says who asks, and with which roles. So the link itself says what may
be asked over it (`console` of [[links]] and [[link_peers]]: nothing, view, or operate), whoever asks; then this node's
own rules are asked for "ana@graz-1" with the roles she is said to have, so that a rule for this node's own ana does not
count. Payloads are never shown over a link, and nobody reads the audit trail or administers over one. A neighbour's
questions are bounded in number and time, and a question of a node behind it counts for the neighbour that it came by.
"""
from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mesh.link.protocol.frames import PRIORITY_DIRECT
from mesh.management.acts.call import Call, Values
from mesh.questions import ANSWER_BYTES_MAX, ASK_BYTES_MAX, Answer, Ask, BadAsk, decode, encode, json_object
from mesh.topology.linkstate.pace import Bucket
from protocols.rest.problems import Problem, problem_of
from routing.rights.policy import Action, Identity

if TYPE_CHECKING:
    from mesh.link.protocol.neighbour import Neighbour
    from mesh.node import Node

logger = logging.getLogger(__name__)

ANSWER_MAX_S: Final = 5.0           # a question without an answer is given up
OPEN_MAX: Final = 1_000             # questions of this node that wait for their answers
SERVED_MAX: Final = 8               # of one neighbour at the same time
ASKS_PER_S: Final = 20.0            # of one neighbour
ASKS_BURST: Final = 100.0
GRANTS: Final = {"view": (Action.VIEW,), "operate": (Action.VIEW, Action.OPERATE)}

KINDS: Final = {400: "query-invalid", 403: "not-authorized", 404: "not-found", 409: "conflict", 503: "busy"}

Serve = Callable[[str, str, Call], Awaitable[Values]]


class NoAnswer(Exception):
    """word: "unreachable", "no answer"."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Asking:
    def __init__(self, node: Node, action_of: Callable[[str, str], Action | None], serve: Serve) -> None:
        """action_of: the right that (method, path) needs, None: nothing of the kind may be asked.  serve: answers."""
        self.counts: Counter[str] = Counter()
        self._node = node
        self._overlay = node.mesh.overlay
        self._action_of = action_of
        self._serve = serve
        self._waiting: dict[int, tuple[str, asyncio.Future[Answer]]] = {}
        self._serving: Counter[str] = Counter()
        self._paces: dict[str, Bucket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        node.mesh.on_asking = self.on_message

    # -- out --------------------------------------------------------------------------------------------------

    async def ask(self, to: str, method: str, path: str, call: Call) -> Values:
        """What that node answers. Raises NoAnswer, or Problem: what it refuses."""
        if len(self._waiting) >= OPEN_MAX:
            raise Problem(503, "busy", "too many questions to other nodes wait for their answers")
        identity = call.identity
        number = secrets.randbits(62)
        body = msgspec.json.encode(call.body, enc_hook=str) if call.body else b""
        if len(body) > ASK_BYTES_MAX:
            raise Problem(413, "payload-too-large", f"another node is asked with at most {ASK_BYTES_MAX} bytes")
        query = {name: text[:2_000] for name, text in call.query.items() if name not in ("node", "scope")}
        message = encode(Ask(number, method, path, dict(call.names), query, body, identity.user[:2_000],
                             identity.roles[:64], identity.address[:200], call.reason[:2_000], call.key[:200]))
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = to, answered
        try:
            if not self._overlay.send(to, message, PRIORITY_DIRECT):
                raise NoAnswer("unreachable")
            answer = await asyncio.wait_for(answered, ANSWER_MAX_S)
        except TimeoutError:
            raise NoAnswer("no answer") from None
        finally:
            del self._waiting[number]
        try:
            values = json_object(answer.body)
        except BadAsk:
            raise NoAnswer("no answer") from None
        if answer.status >= 400:
            detail = str(values.get("detail", "refused"))[:500]
            raise Problem(answer.status, KINDS.get(answer.status, "refused"), f"{to}: {detail}")
        return values

    # -- in ---------------------------------------------------------------------------------------------------

    def on_message(self, source: str, body: bytes) -> None:
        try:
            message = decode(body)
        except BadAsk:
            self.counts["bad"] += 1
            return
        if isinstance(message, Answer):
            to, answered = self._waiting.get(message.id, ("", None))
            if answered is None or to != source or answered.done():
                self.counts["unasked answers"] += 1         # late, or from somebody who was not asked
            else:
                answered.set_result(message)
            return
        came_by = self._overlay.came_by
        if came_by is None:
            return
        refusal = self._refuse(came_by)
        if refusal is not None:
            self.counts["refused"] += 1
            self._answer(source, message.id, refusal.status, {"detail": refusal.detail})
            return
        self._serving[came_by.node] += 1
        task = asyncio.get_running_loop().create_task(self._serve_one(source, came_by, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse(self, came_by: Neighbour) -> Problem | None:
        now_s = self._node.router.clock_s()
        pace = self._paces.get(came_by.node)
        if pace is None:
            pace = self._paces[came_by.node] = Bucket(ASKS_BURST, ASKS_PER_S, now_s)
        if self._serving[came_by.node] >= SERVED_MAX or not pace.take(1, now_s):
            return Problem(503, "busy", "too many questions over this link")
        return None

    async def _serve_one(self, source: str, came_by: Neighbour, ask: Ask) -> None:
        try:
            limit_s = ANSWER_MAX_S if ask.method == "GET" else None         # an act that was written down is done
            status, values = 200, await asyncio.wait_for(self._values(source, came_by, ask), limit_s)
        except Problem as problem:
            status, values = problem.status, {"detail": problem.detail}
        except TimeoutError:
            status, values = 503, {"detail": "it took too long"}
        except Exception:
            logger.exception("a question of %s could not be answered", source)
            status, values = 500, {"detail": "internal error"}
        finally:
            self._serving[came_by.node] -= 1
        self.counts["answered"] += 1
        self._answer(source, ask.id, status, values)

    async def _values(self, source: str, came_by: Neighbour, ask: Ask) -> Values:
        """Raises Problem."""
        action = self._action_of(ask.method, ask.path)
        if action is None:
            raise Problem(404, "not-found", f"{self._node.name} has no {ask.path} for other nodes")
        granted = {one for word in came_by.console for one in GRANTS.get(word, ())}
        if action not in granted:
            raise Problem(403, "not-authorized", f"{self._node.name} takes no {action.value} over this link")
        identity = Identity(f"{ask.user}@{source}", ask.roles, protocol="link", address=f"{ask.address} by {source}")
        if self._node.authenticator.open:
            identity = msgspec.structs.replace(identity, roles=())
        refusal = self._node.router.policy.refuse(identity, action, "", self._node.clock_ms())
        if refusal is not None:
            raise problem_of(refusal)
        unread = msgspec.structs.replace(identity, revoked=True)        # no payload: that is for who logs in here
        try:
            call = Call(unread, ask.names, ask.query, json_object(ask.body), ask.reason, ask.key)
        except BadAsk as error:
            raise Problem(400, "body-invalid", str(error)) from error
        return await self._serve(ask.method, ask.path, call)

    def _answer(self, to: str, number: int, status: int, values: Values) -> None:
        body = fitting(values)
        self._overlay.send(to, encode(Answer(number, status, body)), PRIORITY_DIRECT)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


def fitting(values: Values) -> bytes:
    """As JSON of at most ANSWER_BYTES_MAX: of a table fewer rows, and "cut"."""
    body = msgspec.json.encode(values, enc_hook=str)
    rows: list[Any] = values.get("rows", [])
    while len(body) > ANSWER_BYTES_MAX and len(rows) > 1:
        rows = rows[:max(len(rows) * ANSWER_BYTES_MAX // len(body) - 1, 1)]
        body = msgspec.json.encode({**values, "rows": rows, "cut": True}, enc_hook=str)
    if len(body) > ANSWER_BYTES_MAX:
        return msgspec.json.encode({"detail": "too large to be sent over a link", "cut": True, "rows": []})
    return body
