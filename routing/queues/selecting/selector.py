"""Selectors: conditions on an event's headers in the SQL-92 of JMS, compiled once, bounded in size and in cost.

    color = 'red' AND (weight BETWEEN 2 AND 8 OR name LIKE 'a\\_%' ESCAPE '\\') AND note IS NOT NULL

Names are headers, and JMSMessageID, JMSCorrelationID, JMSPriority, JMSTimestamp, JMSDeliveryMode and JMSExpiration.
Unknown is a third truth value: a comparison with what is not there, or of different types, is neither true nor false.
A LIKE costs a search per literal part of its pattern, never a power of them, and all LIKEs together have a bound.
Sources: JMS 2.0 §3.8.1, SQL-92.
"""
from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from routing.event import Event
from routing.queues.selecting.like import is_like, like_of
from routing.queues.selecting.logic import (
    Compiled,
    Names,
    Value,
    arithmetic,
    both,
    compared,
    either,
    is_null,
    negated,
    plain,
)

TEXT_MAX = 8_192            # characters of a selector
NODES_MAX = 512             # operations and operands of one: some 100 µs for each event
DEPTH_MAX = 64              # parentheses and operators in each other
DIGITS_MAX = 100            # of a whole number
WILD_PARTS_MAX = 16         # parts of all LIKEs of a selector that have _ in them and stand between two %: 13 ms
LIKE_CHARS_MAX = 65_536     # of the text that a pattern is held against; a longer one is unknown
LIKE_STEPS_MAX = 262_144    # of all LIKEs of a selector for one event, see like.py: 3 ms; beyond them they are unknown
COMPILED_MAX = 1_024        # selectors kept compiled


_TOKENS = re.compile(r"""\s*(?:
    (?P<text>'(?:[^']|'')*') | (?P<quoted>"(?:[^"]|"")*")
  | (?P<number>(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?[lLfFdD]?)
  | (?P<name>[A-Za-z_$][\w$.-]*(?<![.-])) | (?P<mark><>|!=|<=|>=|[=<>+\-*/%(),])
)""", re.VERBOSE)
_WORDS = frozenset(("AND", "OR", "NOT", "BETWEEN", "IN", "LIKE", "ESCAPE", "IS", "NULL", "TRUE", "FALSE"))


class SelectorError(ValueError):
    """The text is no selector; says where."""


class _Token(NamedTuple):
    kind: str                   # text, quoted, number, name, mark, word, end
    text: str
    place: int


def matches(text: str, event: Event) -> bool:
    """Is the selector true of the event? The text has passed check()."""
    return compile_selector(text)(Names(event)) is True


def check(text: str) -> None:
    """Raises SelectorError."""
    compile_selector(text)


@lru_cache(COMPILED_MAX)
def compile_selector(text: str) -> Compiled:
    """Raises SelectorError."""
    if len(text) > TEXT_MAX:
        raise SelectorError(f"a selector has at most {TEXT_MAX} characters")
    return _Parser(_tokens(text)).whole()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKENS.match(text, position)
        if match is None or match.lastgroup is None:
            raise SelectorError(f"the selector is not understood at character {position + 1}")
        kind, value = match.lastgroup, match[match.lastgroup]
        if kind == "name" and value.upper() in _WORDS:
            kind, value = "word", value.upper()
        found.append(_Token(kind, value, match.start(kind) + 1 if kind != "word" else match.start("name") + 1))
        position = match.end()
    found.append(_Token("end", "", len(text) + 1))
    return found


class _Parser:
    """Recursive descent: or · and · not · comparison · sum · product · sign · operand."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._nodes = 0
        self._wild_parts = 0

    def whole(self) -> Compiled:
        found = self._or()
        if self._next.kind != "end":
            self._fail()
        return found

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _fail(self) -> None:
        token = self._next
        what = f"{token.text!r:.40}" if token.text else "the end"
        raise SelectorError(f"the selector is not understood at {what}, character {token.place}")

    def _take(self, *texts: str) -> str | None:
        """One of these words or marks, if it comes next."""
        token = self._next
        if token.kind in ("word", "mark") and token.text in texts:
            self._at += 1
            return token.text
        return None

    def _need(self, text: str) -> None:
        if self._take(text) is None:
            self._fail()

    def _node(self, made: Compiled) -> Compiled:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise SelectorError(f"a selector has at most {NODES_MAX} operations and operands")
        return made

    def _or(self) -> Compiled:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise SelectorError(f"a selector has at most {DEPTH_MAX} levels")
        parts = [self._and()]
        while self._take("OR"):
            parts.append(self._and())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else self._node(either(parts))

    def _and(self) -> Compiled:
        parts = [self._not()]
        while self._take("AND"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else self._node(both(parts))

    def _not(self) -> Compiled:
        count = 0
        while self._take("NOT"):
            count += 1
        found = self._comparison()
        return self._node(negated(found)) if count % 2 else found

    def _comparison(self) -> Compiled:
        left = self._sum()
        operator = self._take("=", "<>", "!=", "<", ">", "<=", ">=")
        if operator is not None:
            return self._node(compared(operator, left, self._sum()))
        if self._take("IS"):
            but_not = self._take("NOT") is not None
            self._need("NULL")
            return self._node(is_null(left, but_not))
        but_not = self._take("NOT") is not None
        if self._take("BETWEEN"):
            low = self._sum()
            self._need("AND")
            found = both([compared(">=", left, low), compared("<=", left, self._sum())])
        elif self._take("IN"):
            found = self._among(left)
        elif self._take("LIKE"):
            found = self._like(left)
        else:
            if but_not:
                self._fail()
            return left
        return self._node(negated(found) if but_not else found)

    def _among(self, left: Compiled) -> Compiled:
        self._need("(")
        texts: set[Value] = set()
        while True:
            if self._next.kind == "text":
                texts.add(self._text())
            elif self._next.kind == "number":
                texts.add(self._number())
            else:
                self._fail()
            self._node(left)
            if self._take(")"):
                return lambda names: None if (value := left(names)) is None else plain(value) in texts
            self._need(",")

    def _like(self, left: Compiled) -> Compiled:
        if self._next.kind != "text":
            self._fail()
        pattern = self._text()
        escape = ""
        if self._take("ESCAPE"):
            if self._next.kind != "text":
                self._fail()
            escape = self._text()
            if len(escape) != 1:
                raise SelectorError("ESCAPE takes one character")
        try:
            like = like_of(pattern, escape)
        except ValueError as error:
            raise SelectorError(str(error)) from None
        self._wild_parts += like.wild
        if self._wild_parts > WILD_PARTS_MAX:
            raise SelectorError(f"LIKE has more than {WILD_PARTS_MAX} parts with _ between two %, all together")

        def test(names: Names) -> Value:
            value = left(names)
            if not isinstance(value, str) or len(value) > LIKE_CHARS_MAX:
                return None
            names.steps += like.steps(len(value))
            return is_like(value, like) if names.steps <= LIKE_STEPS_MAX else None

        return test

    def _sum(self) -> Compiled:
        found = self._product()
        while (operator := self._take("+", "-")) is not None:
            found = self._node(arithmetic(operator, found, self._product()))
        return found

    def _product(self) -> Compiled:
        found = self._sign()
        while (operator := self._take("*", "/", "%")) is not None:
            found = self._node(arithmetic(operator, found, self._sign()))
        return found

    def _sign(self) -> Compiled:
        negative = False
        while (operator := self._take("+", "-")) is not None:
            negative ^= operator == "-"
        found = self._operand()
        if negative:
            return self._node(arithmetic("-", lambda names: 0, found))
        return found

    def _operand(self) -> Compiled:
        token = self._next
        if self._take("("):
            found = self._or()
            self._need(")")
            return found
        if self._take("TRUE"):
            return self._node(lambda names: True)
        if self._take("FALSE"):
            return self._node(lambda names: False)
        if token.kind == "text":
            text = self._text()
            return self._node(lambda names: text)
        if token.kind == "number":
            number = self._number()
            return self._node(lambda names: number)
        if token.kind not in ("name", "quoted"):
            self._fail()
        self._at += 1
        name = token.text[1:-1].replace('""', '"') if token.kind == "quoted" else token.text
        return self._node(lambda names: names.value(name))

    def _text(self) -> str:
        text = self._next.text[1:-1].replace("''", "'")
        self._at += 1
        return text

    def _number(self) -> int | float:
        text = self._next.text.rstrip("lLfFdD")
        self._at += 1
        if not text.isdigit() or self._tokens[self._at - 1].text[-1] in "fFdD":
            return float(text)
        if len(text) > DIGITS_MAX:
            raise SelectorError(f"a whole number has at most {DIGITS_MAX} digits")
        return int(text)
