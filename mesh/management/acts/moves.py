"""Moving what waits somewhere else: what is ready in a queue, or for any consumer.

    POST   consumers/{name}/move   {"to": "$queue/other", "max"}      to: a topic; $queue/NAME is a queue
                                   {"back": true, "max"}              dead letters: each to the queue that gave it up
    GET    consumers/{name}/move   how far it is
    DELETE consumers/{name}/move   stop it
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from mesh.management.acts.act import Act, Acts
from mesh.management.acts.call import Call, Endpoint, Values
from mesh.management.acts.consumers import consumer_of
from mesh.management.acts.mover import BACK, Move, Moves
from protocols.rest.problems import Problem, problem_of
from routing.errors import TopicError
from routing.queues.depth import depth_of
from routing.queues.options import QUEUE_TOPICS
from routing.rights.policy import Action
from routing.topic import check_topic

if TYPE_CHECKING:
    from routing.router import Router

END_MAX_S: Final = 1.0              # the answer waits so long for the end of a short move


class MoveBody(msgspec.Struct, forbid_unknown_fields=True):
    """max: how many at most; without one all that is ready now."""

    to: str = ""
    back: bool = False
    max: Annotated[int, msgspec.Meta(ge=1)] | None = None
    dry_run: bool = False
    reason: str = ""


class MoveActs:
    def __init__(self, router: Router, acts: Acts, changed: Callable[[], None]) -> None:
        self._router = router
        self._acts = acts
        self._changed = changed
        self._moves = Moves(router)

    def close(self) -> None:
        self._moves.close()

    def endpoints(self) -> list[Endpoint]:
        body: Values = {"to": {"type": "string", "maxLength": 1_000}, "back": {"type": "boolean"},
                        "max": {"type": "integer", "minimum": 1}}
        return [
            Endpoint("POST", "consumers/{name}/move", Action.OPERATE,
                     "Publish what is ready under another topic, and take it away here.", self.move, body=body),
            Endpoint("GET", "consumers/{name}/move", Action.VIEW, "How far a move is.", self.progress),
            Endpoint("DELETE", "consumers/{name}/move", Action.OPERATE, "Stop a move.", self.cancel, body={}),
        ]

    async def move(self, call: Call) -> Values:
        consumer = consumer_of(self._router, call)
        body = call.as_(MoveBody)
        if body.back == bool(body.to):
            raise Problem(400, "body-invalid", "either to or back")
        to = BACK if body.back else body.to
        if not body.back:
            check_target(self._router, call, to)
        if consumer.paused:
            raise Problem(409, "conflict", f"{consumer.name} is paused, so nothing leaves it; resume it first")
        if not self._router.rights.may_attach(call.identity, consumer):
            raise Problem(403, "not-authorized", f"moving takes the right to read all that {consumer.name} reads")
        depth = depth_of(consumer)
        wanted = depth.ready if body.max is None else min(depth.ready, body.max)
        preview = {"ready": depth.ready, "unacked": depth.unacked, "moved": wanted, "to": to}

        async def perform() -> Values:
            move = Move(self._router, call.identity, to, wanted)
            if wanted:
                refusal = self._moves.begin(consumer, move)
                if refusal is not None:
                    raise problem_of(refusal)
                assert move.task is not None
                await asyncio.wait((move.task,), timeout=END_MAX_S)
            else:
                move.state = "done"
            self._changed()
            if move.state == "failed" and not move.moved:
                raise Problem(409, "conflict", f"nothing was moved: {move.trouble}")
            return {"consumer": consumer.name, **move.shown()}
        return await self._acts.run(call, Act("consumer.move", consumer.name, preview, perform, None, preview))

    async def progress(self, call: Call) -> Values:
        return self._of(call).shown()

    async def cancel(self, call: Call) -> Values:
        move = self._of(call)
        consumer = consumer_of(self._router, call)

        def perform() -> Values:
            self._moves.cancel(move)
            self._changed()
            return {"consumer": consumer.name, **move.shown()}
        return await self._acts.run(call, Act("consumer.stop-move", consumer.name, move.shown(), perform))

    def _of(self, call: Call) -> Move:
        consumer = consumer_of(self._router, call)
        move = self._moves.of(consumer)
        if move is None:
            raise Problem(404, "not-found", f"no move of {consumer.name} was begun since this node was started")
        return move


def check_target(router: Router, call: Call, to: str) -> None:
    """A topic under which the caller may publish; of a queue that is there. Raises Problem."""
    try:
        check_topic(to)
    except TopicError as error:
        raise Problem(400, "body-invalid", f"to: {error}") from error
    if to.startswith(QUEUE_TOPICS) and router.queues.get(to.removeprefix(QUEUE_TOPICS)) is None:
        raise Problem(404, "not-found", f"there is no queue {to.removeprefix(QUEUE_TOPICS)[:200]}")
    refusal = router.policy.refuse(call.identity, Action.PUBLISH, to, router.clock_ms())
    if refusal is not None:
        raise problem_of(refusal)
