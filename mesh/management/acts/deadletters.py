"""Dead letters: who has some, what they are and why, and what is done with them.

    GET    deadletters/{name}            of one consumer, oldest first, with where each was given up
    POST   deadletters/{name}/redrive    {"max", "rate", "ids"}   to the consumer once more; {"to"}: to another topic
    POST   deadletters/{name}/discard    {"max", "ids"}           let go; the events stay in the log until their time
    DELETE deadletters/{name}/redrive    stop it
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from mesh.management.acts.act import Act, Acts
from mesh.management.acts.call import Call, Endpoint, Param, Values, Viewed
from mesh.management.acts.consumers import consumer_of
from mesh.management.acts.moves import check_target
from mesh.management.masking import Masks
from mesh.management.paging.table import QueryError, parse_limit
from protocols.formats.event_json import event_shown, rfc3339
from protocols.formats.location import event_id, parse_event_id
from protocols.redrive import CHOSEN_MAX, Place, Redrive, Redrives, mark_of
from protocols.rest.problems import Problem
from protocols.scheduling.pace import Pace
from routing.rights.policy import Action, Identity

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.event import Event
    from routing.router import Router

LIST_MAX: Final = 200
LIST_BYTES_MAX: Final = 1024 * 1024
PAYLOAD_SHOWN_BYTES: Final = 4 * 1024
SHOWN: Final = ("payload", "payload_base64", "key", "content_type")
Ids = Annotated[list[str], msgspec.Meta(max_length=CHOSEN_MAX)]


class LettersBody(msgspec.Struct, forbid_unknown_fields=True):
    """max: how many at most.  rate: per second; without one as fast as they are taken in.  ids: these only.

    to: published there instead of handed to the consumer; "$queue/NAME" is a queue.
    """

    max: Annotated[int, msgspec.Meta(ge=1)] | None = None
    rate: Annotated[float, msgspec.Meta(gt=0, le=100_000)] | None = None
    ids: Ids = []
    to: str = ""
    dry_run: bool = False
    reason: str = ""


class DeadLetterActs:
    def __init__(self, router: Router, redrives: Redrives, acts: Acts, changed: Callable[[], None],
                 viewed: Viewed, masks: Masks) -> None:
        self._masks = masks
        self._router = router
        self._redrives = redrives
        self._acts = acts
        self._changed = changed
        self._viewed = viewed

    def endpoints(self) -> list[Endpoint]:
        body: Values = {
            "max": {"type": "integer", "minimum": 1},
            "ids": {"type": "array", "maxItems": CHOSEN_MAX, "items": {"type": "string"}}}
        rate: Values = {"rate": {"type": "number", "exclusiveMinimum": 0, "maximum": 100_000},
                        "to": {"type": "string", "maxLength": 1_000}}
        page = (Param("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": LIST_MAX}),
                Param("after", "The id of a dead letter: those behind it."))
        return [
            Endpoint("GET", "deadletters/{name}", Action.VIEW, "Dead letters of a consumer, oldest first.", self.list,
                     page),
            Endpoint("POST", "deadletters/{name}/redrive", Action.OPERATE,
                     "Hand them to the consumer once more, or to another topic.", self.redrive, body={**body, **rate}),
            Endpoint("POST", "deadletters/{name}/discard", Action.OPERATE, "Let them go.", self.discard, body=body),
            Endpoint("DELETE", "deadletters/{name}/redrive", Action.OPERATE, "Stop what goes on.", self.cancel,
                     body={}),
        ]

    # -- reads ------------------------------------------------------------------------------------------------

    async def list(self, call: Call) -> Values:
        consumer = consumer_of(self._router, call)
        limit, after = _page(call)
        await self._viewed(call.identity, "dead-letters", consumer.name)
        pace = Pace(self._router.turns)
        return await pace.run(self._list(consumer, call.identity, limit, after, pace))

    async def _list(self, consumer: Consumer, identity: Identity, limit: int, after: Place | None,
                    pace: Pace) -> Values:
        rows: list[Values] = []
        groups: Counter[tuple[str, str]] = Counter()
        size, more = 0, False
        async for event in self._redrives.pending(consumer, after, pace):
            if len(rows) >= limit or size >= LIST_BYTES_MAX:
                more = True
                break
            row = self._row(event, identity, consumer)
            rows.append(row)
            groups[row["reason"], row["topic"]] += 1
            size += min(row["size_bytes"], PAYLOAD_SHOWN_BYTES) + 500
            await pace.rest()
        redrive = self._redrives.of(consumer)
        return {
            "consumer": consumer.name, "dead_letters": rows, "next": rows[-1]["id"] if more else None,
            "groups": [{"reason": reason, "topic": topic, "count": count}
                       for (reason, topic), count in groups.most_common()],
            "redrive": redrive.shown() if redrive is not None else None,
        }

    def _row(self, event: Event, identity: Identity, consumer: Consumer) -> Values:
        """topic, count, reason: of the original. Who may not read that sees where and when it was given up."""
        mark = mark_of(event)
        assert mark is not None
        event, masked = self._masks.shown(event, identity)
        last = mark.history[-1] if mark.history else None
        partition = event.partition
        row: Values = {
            "id": event_id(partition.stream, partition.index, event.offset), "original": mark.event_id,
            "time": rfc3339(event.timestamp_ms), "topic": mark.topic, "reason": last.reason if last else "",
            "deliveries": last.count if last else 0, "size_bytes": len(event.payload),
            "history": [msgspec.structs.asdict(death) for death in mark.history],
        }
        if not self._redrives.may_show(event, identity, consumer, browse=True):
            return {**row, "readable": False}
        cut = len(event.payload) > PAYLOAD_SHOWN_BYTES
        if cut:
            event = msgspec.structs.replace(event, payload=event.payload[:PAYLOAD_SHOWN_BYTES])
        shown: dict[str, Any] = msgspec.to_builtins(event_shown(event), enc_hook=str)
        kept: Values = {name: shown[name] for name in SHOWN if name in shown}
        return {**row, "readable": True, "cut": cut, "masked": masked, "publisher": event.publisher, **kept}

    # -- acts -------------------------------------------------------------------------------------------------

    async def redrive(self, call: Call) -> Values:
        return await self._run(call, discard=False)

    async def discard(self, call: Call) -> Values:
        return await self._run(call, discard=True)

    async def _run(self, call: Call, *, discard: bool) -> Values:
        consumer = consumer_of(self._router, call)
        body = call.as_(LettersBody)
        chosen = [_place(text) for text in body.ids]
        if body.to:
            check_target(self._router, call, body.to)
        redrive = Redrive(body.max, body.rate, chosen, discard=discard, to="" if discard else body.to,
                          identity=call.identity)
        pace = Pace(self._router.turns)
        count, gone = await pace.run(self._redrives.preview(consumer, redrive, pace))
        preview: Values = {"discarded": count + gone} if discard else {"redriven": count, "gone": gone}
        if redrive.to:
            preview["to"] = redrive.to
        if call.dry_run and body.ids:
            preview["not_found"] = len(body.ids) - count - gone

        def perform() -> Values:
            if not self._redrives.begin(consumer, redrive):
                raise Problem(409, "conflict", f"another one of {consumer.name} goes on; stop it, or wait for its end")
            self._changed()
            return {"consumer": consumer.name, **redrive.shown()}
        name = "deadletters.discard" if discard else "deadletters.redrive"
        return await self._acts.run(call, Act(name, consumer.name, preview, perform, None, preview))

    async def cancel(self, call: Call) -> Values:
        consumer = consumer_of(self._router, call)
        redrive = self._redrives.of(consumer)
        if redrive is None:
            raise Problem(404, "not-found", f"nothing of {consumer.name} goes on")

        def perform() -> Values:
            self._redrives.cancel(redrive)
            self._changed()
            return {"consumer": consumer.name, **redrive.shown()}
        return await self._acts.run(call, Act("deadletters.stop", consumer.name, redrive.shown(), perform))


def _page(call: Call) -> tuple[int, Place | None]:
    try:
        limit = min(parse_limit(call.query.get("limit", "")), LIST_MAX)
    except QueryError as error:
        raise Problem(400, "query-invalid", str(error)) from error
    after = call.query.get("after", "")
    return limit, _place(after) if after else None


def _place(text: str) -> Place:
    found = parse_event_id(text)
    if found is None:
        raise Problem(400, "query-invalid", f"{text[:100]} is no id of an event")
    return found
