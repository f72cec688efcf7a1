"""What a neighbour is given of the managed documents: who gets any, which, and their list, in steps. Loop thread only.

Hashes of passwords and keys are in it, so it is nothing unless this node says so: `entrust = true` of the neighbour's
entry, or `administer = true`, for who may say here who comes in. Of that it gets what counts at it, or at a node behind
it. Of a document that counted there once and does not any more it is told, when it asks, that it is elsewhere: a stub.
"""
from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.administration.documents import Key, Stored, stub_of
from mesh.administration.messages import LISTED_MAX, MESSAGE_BYTES_MAX, Documents, Listed, Told, told

if TYPE_CHECKING:
    from mesh.administration.book import Book
    from mesh.link.protocol.neighbour import Neighbour
    from mesh.topology.overlay import Overlay

PER_TURN: Final = 2_000             # documents that are looked at in one turn of the loop: 1 to 2 ms


def trusts(neighbour: Neighbour) -> bool:
    return neighbour.entrust or neighbour.administer


class Giving:
    """To one neighbour, as the mesh behind it is now."""

    def __init__(self, book: Book, overlay: Overlay, neighbour: Neighbour) -> None:
        self._book = book
        self._trusted = trusts(neighbour)
        places = {neighbour.node: neighbour.site, **overlay.behind(neighbour)}
        self._nodes, self._sites = set(places), set(places.values())

    def gets(self, stored: Stored) -> bool:
        """Does it count there? Deleted ones do."""
        if not self._trusted or stored.withheld:
            return False
        body = stored.body
        if body is None:
            return True
        nodes, sites = body.get("nodes"), body.get("sites")
        return (not nodes or not self._nodes.isdisjoint(nodes)) and (not sites or not self._sites.isdisjoint(sites))

    async def digest(self) -> str:
        """The sum of the marks of what it gets."""
        marks, found = self._book.marks, 0
        for number, (key, stored) in enumerate(list(self._book.documents.items()), 1):
            if self.gets(stored):
                found += marks.get(key, 0)
            if number % PER_TURN == 0:
                await asyncio.sleep(0)
        return f"{found % 2**128:032x}"

    async def listed(self, after: Key) -> Listed:
        """The page of keys after this one."""
        keys, documents, ranks = self._book.keys, self._book.documents, self._book.ranks
        rows: list[tuple[str, str, int, str, str]] = []
        number = 0
        at = bisect_right(keys, after)
        while at < len(keys):
            key = keys[at]
            if self.gets(documents[key]):
                if len(rows) == LISTED_MAX:
                    return Listed(rows, True)
                rows.append((*key, *ranks[key]))
            number += 1
            if number % PER_TURN == 0:
                await asyncio.sleep(0)          # others may be made meanwhile: the place is that of the key
                at = bisect_right(keys, key)
            else:
                at += 1
        return Listed(rows, False)

    def documents(self, keys: list[Key]) -> Documents:
        """As many as a message holds; it asks for the rest again."""
        found: list[Told] = []
        size = 0
        for key in keys:
            stored = self._book.documents.get(key)
            if stored is None or not self._trusted or stored.withheld:
                continue
            if not self.gets(stored):
                stored = stub_of(stored)
            size += len(msgspec.msgpack.encode(stored)) + 64
            if found and size > MESSAGE_BYTES_MAX // 2:
                break
            found.append(told(stored))
        return Documents(found)
