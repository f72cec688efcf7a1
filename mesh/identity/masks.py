"""[[masks]]: parts of payloads that the console, the terminal and the management API do not show to everybody.

Settings and their checks; mesh/management/masking.py does it. Who may subscribe to a topic reads it whole over every
protocol, so masks are for people who may `browse` it and no more: overlaps() warns of the others.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from routing.errors import TopicError
from routing.rights.rules import Action, Rule
from routing.topic import check_filter, filters_intersect

MASKS_MAX: Final = 100              # each is looked at once for each topic and person that come up
PARTS_MAX: Final = 100              # fields, headers or topics of one mask
PART_CHARACTERS_MAX: Final = 200
FIELD_NAMES_MAX: Final = 8
SUBJECTS: Final = ("user:", "role:")


class MaskTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is hidden, in events of which topics, from everybody but whom."""

    name: str
    topics: tuple[str, ...]                 # topic filters, as they are here
    fields: tuple[str, ...] = ()            # of a JSON payload: the last names of the way to it, "card", "card.number"
    headers: tuple[str, ...] = ()
    key: bool = False                       # the key of the event, too
    payload: bool = False                   # the whole payload, whatever it is
    shown_to: tuple[str, ...] = ()          # "user:NAME", "role:NAME": who sees it all the same


def check_masks(masks: tuple[MaskTable, ...]) -> Iterator[str]:
    """Problems, each one line that begins with the path of the setting."""
    if len(masks) > MASKS_MAX:
        yield f"masks: at most {MASKS_MAX}"
    names: set[str] = set()
    for index, mask in enumerate(masks):
        path = f"masks[{index}]"
        if not mask.name or not mask.name.isprintable() or len(mask.name) > PART_CHARACTERS_MAX:
            yield f"{path}.name: expected 1 to {PART_CHARACTERS_MAX} printable characters"
        if mask.name in names:
            yield f"{path}.name: {mask.name} is there twice"
        names.add(mask.name)
        if not (mask.fields or mask.headers or mask.key or mask.payload):
            yield f"{path}: hides nothing; name fields or headers, or say key = true or payload = true"
        if not mask.topics:
            yield f"{path}.topics: at least one topic filter"
        yield from _check_parts(path, mask)


def _check_parts(path: str, mask: MaskTable) -> Iterator[str]:
    for number, pattern in enumerate(mask.topics):
        try:
            check_filter(pattern)
        except TopicError as error:
            yield f"{path}.topics[{number}]: {error}"
    for kind in ("fields", "headers", "topics", "shown_to"):
        parts = getattr(mask, kind)
        if len(parts) > PARTS_MAX:
            yield f"{path}.{kind}: at most {PARTS_MAX}"
        for number, part in enumerate(parts):
            if len(part) > PART_CHARACTERS_MAX and kind != "topics":
                yield f"{path}.{kind}[{number}]: at most {PART_CHARACTERS_MAX} characters"
    for number, field in enumerate(mask.fields):
        names = field.split(".")
        if not all(names) or len(names) > FIELD_NAMES_MAX or any(mark in field for mark in "*[]$"):
            yield (f"{path}.fields[{number}]: at most {FIELD_NAMES_MAX} names with dots between them, such as "
                   f"\"card.number\", got {field[:80]!r}; lists need no mark, and there are no patterns")
    for number, subject in enumerate(mask.shown_to):
        if not subject.startswith(SUBJECTS) or not subject.partition(":")[2] or "%" in subject:
            yield f"{path}.shown_to[{number}]: expected \"user:NAME\" or \"role:NAME\", got {subject[:80]!r}"


def overlaps(masks: Iterable[MaskTable], rules: Iterable[Rule]) -> Iterator[str]:
    """A warning for each mask that somebody gets round by subscribing."""
    for index, mask in enumerate(masks):
        for rule in rules:
            others = [subject for subject in rule.to if subject not in mask.shown_to]
            if Action.SUBSCRIBE in rule.allow and others and any(
                    filters_intersect(topic, _without_marks(pattern))
                    for topic in mask.topics for pattern in rule.filters):
                yield (f"masks[{index}]: {mask.name} hides nothing from {', '.join(others)} who subscribes, as "
                       f"policy {rule.name or 'without a name'} allows; allow \"browse\" in its place")


def _without_marks(pattern: str) -> str:
    """A filter that is at least as wide, whatever %u and %c stand for."""
    return "/".join("+" if "%u" in level or "%c" in level else level for level in pattern.split("/"))
