"""What [[masks]] hide, taken out of an event before anything else is done with it for somebody who looks at it.

    event ── masks of its topic, and of the original's, that are not shown_to him ──► event without what they hide

Browsing, tailing, journeys, queues and dead letters work with the event that comes out: its size, its cut, what a
search finds in it are those of what is shown. So nothing of what is hidden is told by the way. What cannot be
looked into (no JSON, too large, too deep, a text) is hidden whole, for nobody can say where in it the field is.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from mesh.identity.masks import MaskTable
from routing.event import Event
from routing.filters.filter_trie import FilterTrie
from routing.rights.policy import Identity

HIDDEN: Final = "(hidden)"          # of one length, whatever stood there
LOOKED_INTO_BYTES_MAX: Final = 16 * 1024    # 10 ms of the loop at worst; no page shows more of a payload anyway
KNOWN_BYTES_MAX: Final = 4 * 1024 * 1024    # for which topics which masks hold, for whom: remembered so far
WAY_CHARACTERS: Final = 1_000       # of a way that are compared; a field has 200 at most
DOCUMENT_BEGINS: Final = ("{", "[", '"')
COVERS_MAX: Final = 100            # sets of masks that hold together
_ENTRY_BYTES: Final = 300


class Cover(msgspec.Struct, frozen=True):
    """What is hidden from somebody in events of one topic, by all masks together."""

    fields: frozenset[str]          # each with a dot before it, in small letters
    counts: tuple[int, ...]         # of how many names they are
    headers: frozenset[str]
    key: bool
    payload: bool

    def of(self, event: Event) -> Event:
        """A copy without what is hidden."""
        headers = tuple((name, HIDDEN if name.lower() in self.headers else value) for name, value in event.headers)
        key = HIDDEN.encode() if self.key and event.key is not None else event.key
        return msgspec.structs.replace(event, payload=self._payload(event.payload), headers=headers, key=key,
                                       mqtt4_frame=None, mqtt5_frame=None)

    def _payload(self, payload: bytes) -> bytes:
        if not payload or not (self.payload or self.fields):
            return payload
        if self.payload or len(payload) > LOOKED_INTO_BYTES_MAX:
            return HIDDEN.encode()
        try:
            value = msgspec.json.decode(payload)
            if isinstance(value, str):
                return HIDDEN.encode()
            return msgspec.json.encode(self._without(value, ""))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return HIDDEN.encode()

    def _without(self, value: Any, way: str) -> Any:
        """way: the names that lead here, ".customer.card"; lists have none, so a field in a list of them is found."""
        if isinstance(value, dict):
            found = {}
            for name, inner in value.items():
                there = f"{way}.{name.lower()}"[-WAY_CHARACTERS:]
                found[name] = HIDDEN if self._hides(there) else self._without(inner, there)
            return found
        if isinstance(value, list):
            return [self._without(inner, way) if isinstance(inner, (dict, list, str)) else inner for inner in value]
        if isinstance(value, str) and value.lstrip()[:1] in DOCUMENT_BEGINS:
            return HIDDEN                           # a document in a text: nobody looks into it
        return value

    def _hides(self, way: str) -> bool:
        for count in self.counts:
            before = way.rsplit(".", count)[0]
            if way[len(before):] in self.fields:
                return True
        return False


class Masks:
    """One per node. Loop thread only."""

    def __init__(self, tables: Callable[[], tuple[MaskTable, ...]]) -> None:
        """tables: those of the configuration as it is now."""
        self._tables = tables
        self._taken: tuple[MaskTable, ...] = ()
        self._trie = FilterTrie()
        self._known: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Cover | None] = {}
        self._known_bytes = 0
        self._covers: dict[tuple[int, ...], Cover] = {}

    def shown(self, event: Event, identity: Identity) -> tuple[Event, bool]:
        """The event as this person may see it, and whether something of it is hidden."""
        cover = self._cover(identity, event)
        return (event, False) if cover is None else (cover.of(event), True)

    def _cover(self, identity: Identity, event: Event) -> Cover | None:
        tables = self._tables()
        if tables is not self._taken:
            self._take(tables)
        if not tables:
            return None
        dead = event.properties.dead_letter if event.properties is not None else None
        topics = (event.topic, *dead.topics) if dead is not None else (event.topic,)     # a dead letter is a copy
        place = identity.user, identity.roles, topics
        if place not in self._known:
            self._known_bytes += _ENTRY_BYTES + sum(map(len, topics))
            if self._known_bytes > KNOWN_BYTES_MAX:
                self._known, self._known_bytes = {}, 0
            self._known[place] = self._made(identity, topics)
        return self._known[place]

    def _take(self, tables: tuple[MaskTable, ...]) -> None:
        self._taken, self._trie = tables, FilterTrie()
        self._known, self._known_bytes, self._covers = {}, 0, {}
        for index, mask in enumerate(tables):
            for pattern in dict.fromkeys(mask.topics):
                self._trie.add(pattern, index)

    def _made(self, identity: Identity, topics: tuple[str, ...]) -> Cover | None:
        me = {f"user:{identity.user}", *(f"role:{role}" for role in identity.roles)}
        found = {index for topic in topics for index in self._trie.match(topic)}
        chosen = tuple(index for index in sorted(found) if me.isdisjoint(self._taken[index].shown_to))
        if not chosen:
            return None
        cover = self._covers.get(chosen)
        if cover is None:
            if len(self._covers) >= COVERS_MAX:
                self._covers.clear()
            cover = self._covers[chosen] = _cover_of([self._taken[index] for index in chosen])
        return cover


def _cover_of(masks: list[MaskTable]) -> Cover:
    fields = frozenset(f".{field.lower()}" for mask in masks for field in mask.fields)
    return Cover(fields, tuple(sorted({field.count(".") for field in fields})),
                 frozenset(header.lower() for mask in masks for header in mask.headers),
                 any(mask.key for mask in masks), any(mask.payload for mask in masks))
