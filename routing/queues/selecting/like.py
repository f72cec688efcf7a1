"""LIKE of SQL-92: % is any text, _ one character. A search for each literal part, never a power of them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

SEARCHED_MAX = 4_096         # characters in which a part with _ is looked for, each place costing its length,
PART_MAX = 32               # which is this at most

Part: TypeAlias = "list[str | None]"        # characters; None: any one


def like_parts(pattern: str, escape: str) -> list[Part]:
    """The pattern cut at each %. escape: "" or one character. Raises ValueError: it is none, or too long."""
    parts: list[Part] = [[]]
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
    if any(None in part and len(part) > PART_MAX for part in parts[1:-1]):
        raise ValueError(f"LIKE has more than {PART_MAX} characters, _ among them, between two %")
    return parts


def is_like(text: str, parts: Sequence[Part]) -> bool | None:
    """Each part as early as it can be: what is left is never less for it. None: the text is too long for that."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return len(text) == len(first) and _stands(text, 0, first)
    if len(text) < len(first) + len(last) or not _stands(text, 0, first) or not _stands(
            text, len(text) - len(last), last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in parts[1:-1]:
        if not part:
            continue
        if None in part and end - position > SEARCHED_MAX:
            return None
        found = _find(text, part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def _stands(text: str, position: int, part: Part) -> bool:
    return all(char is None or text[position + index] == char for index, char in enumerate(part))


def _find(text: str, part: Part, position: int, end: int) -> int:
    if None not in part:
        return text.find("".join(char or "" for char in part), position, end)
    for start in range(position, end - len(part) + 1):
        if _stands(text, start, part):
            return start
    return -1
