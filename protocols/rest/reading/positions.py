"""Places in the log as text: `from` of readers, `start` and `to` of consumers; formats/start.py with problems."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.formats.event_json import parse_rfc3339
from protocols.formats.location import OFFSET_MAX, Vector
from protocols.formats.start import StartInvalid, StartLost
from protocols.formats.start import start_vector as find_start
from protocols.rest.problems import Problem
from routing.errors import TopicError
from routing.topic import check_filter

if TYPE_CHECKING:
    from routing.consumers.definition.spec import Start
    from routing.log.partition import Partition
    from routing.router import Router


def start_vector(text: str, partitions: list[Partition], epoch: str) -> Vector:
    """See protocols.formats.start.start_vector. Raises Problem (400, 410)."""
    try:
        return find_start(text, partitions, epoch)
    except StartInvalid as error:
        raise Problem(400, "position-invalid", str(error)) from None
    except StartLost as error:
        raise Problem(410, "position-lost", str(error)) from None


def start_of(router: Router, text: str | int, filters: tuple[str, ...], streams: tuple[str, ...]) -> Start:
    """The start of a consumer. A number is an offset in every partition that it reads. Raises Problem (400, 410)."""
    if isinstance(text, int):
        if not 0 <= text <= OFFSET_MAX:
            raise Problem(400, "position-invalid", "an offset is not negative and has at most 63 bits")
        return text
    if text in ("latest", "earliest"):
        return text
    time_ms = parse_rfc3339(text)
    if time_ms is not None:
        return {"time_ms": max(time_ms, 0)}
    reached = router.streams.holding([pattern for pattern in filters if _is_filter(pattern)], streams)
    vector = start_vector(text, reached, router.store.epoch)
    return [(stream, index, offset) for stream, offsets in vector.items() for index, offset in enumerate(offsets)]


def _is_filter(text: str) -> bool:
    """What breaks the grammar is refused elsewhere; here it only reaches no partition."""
    try:
        check_filter(text)
    except TopicError:
        return False
    return True
