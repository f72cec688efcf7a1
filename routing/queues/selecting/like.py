"""LIKE of SQL-92: % is any text, _ one character. A search for each literal part, never a power of them."""
from __future__ import annotations

import re
from typing import NamedTuple

SEARCHED_MAX = 4_096        # characters in which a part with _ is looked for, each place costing its length,
PART_MAX = 32               # which is this at most: 0.8 ms


class Part(NamedTuple):
    """What stands between two %. fixed: None where any character may stand somewhere in it."""

    size: int
    fixed: str | None
    wild: re.Pattern[str]


class Like(NamedTuple):
    """A pattern cut at each %. wild: parts that are searched for and have _ in them; wild_chars: of all of those."""

    parts: tuple[Part, ...]
    wild: int
    wild_chars: int

    def steps(self, size: int) -> int:
        """What a look at a text of so many characters costs at most: some 11 ns each."""
        return size + min(size, SEARCHED_MAX) * self.wild_chars


def like_of(pattern: str, escape: str) -> Like:
    """escape: "" or one character. Raises ValueError: the pattern is none, or too long."""
    parts: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for char in characters:
        if char == escape:
            following = next(characters, None)
            if following is None:
                raise ValueError("LIKE ends with its escape character")
            parts[-1].append(following)
        elif char == "%":
            parts.append([])
        else:
            parts[-1].append(None if char == "_" else char)
    searched = [part for part in parts[1:-1] if None in part]
    if any(len(part) > PART_MAX for part in searched):
        raise ValueError(f"LIKE has more than {PART_MAX} characters, _ among them, between two %")
    return Like(tuple(map(_part, parts)), len(searched), sum(map(len, searched)))


def _part(characters: list[str | None]) -> Part:
    fixed = None if None in characters else "".join(char or "" for char in characters)
    wild = re.compile("".join("." if char is None else re.escape(char) for char in characters), re.DOTALL)
    return Part(len(characters), fixed, wild)       # it matches in one way only: nothing to go back to


def is_like(text: str, like: Like) -> bool | None:
    """Each part as early as it can be: what is left is never less for it. None: the text is too long for that."""
    parts = like.parts
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return len(text) == first.size and first.wild.match(text) is not None
    position, end = first.size, len(text) - last.size
    if position > end or first.wild.match(text) is None or last.wild.match(text, end) is None:
        return False
    for part in parts[1:-1]:
        if not part.size:
            continue
        if part.fixed is not None:
            found = text.find(part.fixed, position, end)
        elif end - position > SEARCHED_MAX:
            return None
        else:
            match = part.wild.search(text, position, end)
            found = match.start() if match is not None else -1
        if found < 0:
            return False
        position = found + part.size
    return True
