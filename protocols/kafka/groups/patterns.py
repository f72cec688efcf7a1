"""Patterns of topic names that a client sends: a part of RE2's language whose cost is bounded.        Source: KIP-848

Letters, \\-escapes, a dot, [sets], ?, * and +, alternatives with |, and ( ) or (?: ) without a ?, * or + behind them. *
and + may stand twice in an alternative, of which there may be four; ? and an inner | four times: so a look at a name of
249 characters has an end, whatever the pattern is.
"""
from __future__ import annotations

import re
from functools import lru_cache

PATTERN_CHARACTERS_MAX = 1_000
REPEATS_MAX = 2                     # of * and + in one alternative
SQUARES_MAX = 4                     # alternatives with so many: a look at each costs the square of the name's length
CHOICES_MAX = 4                     # of ? and of | within ( )
_TOKEN = re.compile(r"\\[^a-zA-Z0-9]|\\[dwsDWS]|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?:)?|[^\\\[(]", re.DOTALL)


class BadPattern(ValueError):
    """The text says what is taken."""


@lru_cache(maxsize=1_000)
def compile_pattern(text: str) -> re.Pattern[str]:
    """To be used with fullmatch. Raises BadPattern."""
    if len(text) > PATTERN_CHARACTERS_MAX:
        raise BadPattern(f"a pattern has at most {PATTERN_CHARACTERS_MAX} characters")
    at, repeats, squares, choices, depth, before = 0, 0, 0, 0, 0, ""
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise BadPattern(f"not taken from here on: {text[at:at + 20]!r}")
        token, at = found[0], found.end()
        if token in "*+?{":
            if token == "{" or before in ("", "(", "(?:", ")", "|", "*", "+", "?"):
                raise BadPattern("?, * and + stand behind one character or set; counts and lazy ones are not taken")
            repeats += token in "*+"
            squares += token in "*+" and repeats == REPEATS_MAX
            choices += token == "?"
        elif token == "|" and depth == 0:
            repeats = choices = 0
        elif token == "|":
            choices += 1
        depth += (token in ("(", "(?:")) - (token == ")")
        if repeats > REPEATS_MAX or choices > CHOICES_MAX:
            raise BadPattern(f"in an alternative * and + stand {REPEATS_MAX} times at most, ? and an inner | "
                             f"{CHOICES_MAX} times")
        if squares > SQUARES_MAX:
            raise BadPattern(f"at most {SQUARES_MAX} alternatives have {REPEATS_MAX} * or +")
        before = token
    try:
        return re.compile(text)
    except (re.error, OverflowError) as error:
        raise BadPattern(str(error)) from None
