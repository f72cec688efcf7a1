"""Topics in the order of their levels, found by filter from any place on, a bounded step at a time.

A key is a topic with U+0000 in the place of "/" (no topic may hold that character [MQTT-1.5.4-2]), so that keys sort
level by level. They stand in runs of at most RUN_MAX, so that adding one moves few of the others.

    find(filter, place) looks at the first key at or behind place. If the filter does not match it, the filter says what
    the next key is that it could match, and the search goes on there: whole branches are passed over at once.

A place is a text that sorts like a key. It stays good while topics come and go, so whoever walks keeps nothing else.
"""
from __future__ import annotations

from bisect import bisect_left, insort

RUN_MAX = 1_024
SEPARATOR = "\0"
BEHIND = "\1"           # key + BEHIND sorts behind everything below that key
BEHIND_DOLLAR = "%"     # the character after "$"


def key_of(topic: str) -> str:
    return topic.replace("/", SEPARATOR)


class TopicIndex:
    __slots__ = ("_firsts", "_runs", "count")

    def __init__(self) -> None:
        self.count = 0
        self._runs: list[list[str]] = []
        self._firsts: list[str] = []            # the first key of each run

    def add(self, key: str) -> None:
        """key must not be there."""
        self.count += 1
        if not self._runs:
            self._runs.append([key])
            self._firsts.append(key)
            return
        number = self._run_of(key)
        run = self._runs[number]
        if len(run) >= RUN_MAX:
            half = len(run) // 2
            if number == len(self._runs) - 1 and key > run[-1]:     # topics that come in order fill whole runs
                half = len(run)
            self._runs.insert(number + 1, run[half:])
            del run[half:]
            if half == RUN_MAX:
                self._runs[number + 1].append(key)
                self._firsts.insert(number + 1, key)
                return
            self._firsts.insert(number + 1, self._runs[number + 1][0])
            if key >= self._firsts[number + 1]:
                number += 1
                run = self._runs[number]
        insort(run, key)
        self._firsts[number] = run[0]

    def remove(self, key: str) -> None:
        """key must be there."""
        number = self._run_of(key)
        run = self._runs[number]
        at = bisect_left(run, key)
        assert run[at] == key
        del run[at]
        self.count -= 1
        if not run:
            del self._runs[number]
            del self._firsts[number]
        else:
            self._firsts[number] = run[0]

    def _run_of(self, key: str) -> int:
        """The run that a key stands in, or would."""
        number = bisect_left(self._firsts, key)
        if number < len(self._firsts) and self._firsts[number] == key:
            return number
        return max(number - 1, 0)

    def find(self, pattern: str, place: str, keys_max: int, looks_max: int) -> tuple[list[str], str | None]:
        """Keys that the filter matches, in order, from a place ("" is the beginning) on; and where to go on, None: end.

        looks_max: places that are looked at, which bounds the work where little matches.
        """
        found: list[str] = []
        levels = pattern.split("/")
        place = max(place, _lowest(levels))
        number, at = self._seek(place)
        for _ in range(looks_max):
            if number == len(self._runs):
                return found, None
            run = self._runs[number]
            key = run[at]
            onward = _onward(levels, key)
            if onward is None:
                return found, None
            if onward == key:
                found.append(key)
                place = key + SEPARATOR
                if len(found) >= keys_max:
                    break
                number, at = (number, at + 1) if at + 1 < len(run) else (number + 1, 0)
            else:
                place = onward
                number, at = self._seek(place)
        return found, place

    def _seek(self, place: str) -> tuple[int, int]:
        """Where the first key at or behind place stands: its run, and its index there."""
        if not self._runs:
            return 0, 0
        number = self._run_of(place)
        at = bisect_left(self._runs[number], place)
        if at == len(self._runs[number]):
            return number + 1, 0
        return number, at


def _lowest(levels: list[str]) -> str:
    """No key below this one is matched."""
    fixed: list[str] = []
    for level in levels:
        if level in ("+", "#"):
            break
        fixed.append(level)
    return SEPARATOR.join(fixed)


def _onward(levels: list[str], key: str) -> str | None:
    """The key itself when the filter matches it; else the lowest place behind it that could be matched, None: none."""
    have = key.split(SEPARATOR)
    for index, want in enumerate(levels):
        if want in ("#", "+") and index == 0 and key[:1] == "$":                    # [MQTT-4.7.2-1]
            return BEHIND_DOLLAR
        if want == "#":
            return key
        if index == len(have):                          # the key is a parent of what is wanted
            return SEPARATOR.join([*have, _lowest(levels[index:])])
        if want == "+" or want == have[index]:
            continue
        if have[index] < want:
            return SEPARATOR.join([*have[:index], _lowest(levels[index:])])
        return _next_branch(levels, have, index)
    if len(have) == len(levels):
        return key
    return _next_branch(levels, have, len(levels))


def _next_branch(levels: list[str], have: list[str], index: int) -> str | None:
    """Behind everything that shares the levels before the last + in front of index, and that one too."""
    for above in range(index - 1, -1, -1):
        if levels[above] == "+":
            return SEPARATOR.join(have[:above + 1]) + BEHIND
    return None
