"""Assignors of consumer groups: who reads which partitions. Pure.                                    Source: KIP-848

    uniform     everybody as many as anybody, and who has a partition keeps it where that allows
    range       of each topic a run of neighbouring partitions, so that topics with equal counts go together
"""
from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heapreplace
from itertools import groupby
from operator import itemgetter

MIXED_STICKY_MAX = 32   # members of a group that read different topics; with more, who had what counts for nothing

Partitions = set[tuple[bytes, int]]                 # topic id and index
Subscriptions = Mapping[str, frozenset[bytes]]      # by member: topic ids


def uniform(subscriptions: Subscriptions, counts: Mapping[bytes, int], before: Mapping[str, Partitions]
            ) -> dict[str, Partitions]:
    """counts: partitions of each topic.  before: the assignment that was, of those who are still there."""
    found: dict[str, Partitions] = {member: set() for member in subscriptions}
    free = {(topic, index) for topic in set().union(*subscriptions.values()) for index in range(counts.get(topic, 0))}
    alike = len(set(subscriptions.values())) == 1
    levels = not alike and len(subscriptions) <= MIXED_STICKY_MAX       # it costs the square of the members, and more
    if not alike and not levels:
        before = {}
    least, more = divmod(len(free), len(subscriptions)) if alike else (len(free), 0)
    for member in sorted(subscriptions, key=lambda name: -len(before.get(name, ()))):
        kept = sorted(place for place in before.get(member, ()) if place in free and place[0] in subscriptions[member])
        room = least + (1 if more and len(kept) > least else 0)
        more -= room > least
        found[member] = set(kept[:room])
        free -= found[member]
    for topic, places in groupby(sorted(free), itemgetter(0)):
        takers = [(len(found[member]), member) for member, topics in subscriptions.items() if topic in topics]
        heapify(takers)
        for place in places:
            size, member = takers[0]
            found[member].add(place)
            heapreplace(takers, (size + 1, member))
    if levels:
        _level(subscriptions, found)
    return found


def _level(subscriptions: Subscriptions, found: dict[str, Partitions]) -> None:
    """Where subscriptions differ: from who has most to who has least, half of what is between them at a time."""
    held: dict[str, dict[bytes, list[int]]] = {}
    for member, places in found.items():
        of_member = held[member] = {}
        for topic, index in sorted(places):
            of_member.setdefault(topic, []).append(index)
    sizes = {member: len(places) for member, places in found.items()}
    for _ in range(sum(sizes.values())):
        if not _move(subscriptions, held, sizes):
            break
    for member, topics in held.items():
        found[member] = {(topic, index) for topic, indexes in topics.items() for index in indexes}


def _move(subscriptions: Subscriptions, held: dict[str, dict[bytes, list[int]]], sizes: dict[str, int]) -> bool:
    by_size = sorted(sizes, key=lambda member: (sizes[member], member))
    for rich in reversed(by_size):
        for poor in by_size:
            room = (sizes[rich] - sizes[poor]) // 2
            if room < 1:
                break
            for topic in sorted(held[rich].keys() & subscriptions[poor]):
                given = held[rich][topic][:room]
                del held[rich][topic][:room]
                if not held[rich][topic]:
                    del held[rich][topic]
                held[poor].setdefault(topic, []).extend(given)
                sizes[rich] -= len(given)
                sizes[poor] += len(given)
                return True
    return False


def range_(subscriptions: Subscriptions, counts: Mapping[bytes, int], before: Mapping[str, Partitions]
           ) -> dict[str, Partitions]:
    """As uniform(), but what was counts for nothing."""
    found: dict[str, Partitions] = {member: set() for member in subscriptions}
    for topic in set().union(*subscriptions.values()):
        takers = sorted(member for member, topics in subscriptions.items() if topic in topics)
        each, more = divmod(counts.get(topic, 0), len(takers))
        first = 0
        for number, member in enumerate(takers):
            last = first + each + (number < more)
            found[member].update((topic, index) for index in range(first, last))
            first = last
    return found


ASSIGNORS = {"uniform": uniform, "range": range_}
DEFAULT = "uniform"
