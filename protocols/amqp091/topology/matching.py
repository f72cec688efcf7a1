"""Which bindings of an exchange a message fits: one table per exchange type, asked once per exchange and key.

    direct    the key is the binding's      topic     words, * one word, # any number, none included
    fanout    all                           headers   x-match: all, any, all-with-x, any-with-x
    x-consistent-hash · x-modulus-hash      one of the destinations, by the hash of the key, a header or a property

A topic table is a tree of words that is walked with the set of all places where the words so far may lead, so what a
key with 28 words and bindings full of # costs is bounded by words × places.
"""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b
from typing import Protocol

import msgspec

from protocols.amqp091.codec.tables import Table, Value, encode_table

HASH_POINTS = 64            # on the ring, for each unit of weight
HASH_WEIGHT_MAX = 1_000
_X_MATCH = "x-match"


class Binding(msgspec.Struct, frozen=True):
    """destination is a queue, or with to_exchange an exchange."""

    source: str
    destination: str
    to_exchange: bool
    key: str
    arguments: Table
    filter: str | None = None       # what a topic filter says exactly the same as, None: there is none

    @property
    def identity(self) -> tuple[str, str, bool, str, bytes]:
        """Two bindings that agree in this are one."""
        return self.source, self.destination, self.to_exchange, self.key, canonical(self.arguments)


def canonical(arguments: Table) -> bytes:
    """The same bytes for tables that say the same: integers of any width are equal."""
    return encode_table(dict(sorted(arguments.items())))


class Message(Protocol):
    """What hash and headers exchanges look at beside the key."""

    @property
    def headers(self) -> Table: ...

    def property_text(self, name: str) -> str: ...


class Matcher(Protocol):
    needs_message: bool             # the key alone does not decide

    def add(self, binding: Binding) -> None: ...

    def remove(self, binding: Binding) -> None: ...

    def match(self, key: str, message: Message) -> Iterable[Binding]: ...


class Direct:
    needs_message = False

    def __init__(self) -> None:
        self._by_key: dict[str, list[Binding]] = {}

    def add(self, binding: Binding) -> None:
        found = self._by_key.setdefault(binding.key, [])
        found.append(binding)

    def remove(self, binding: Binding) -> None:
        found = self._by_key[binding.key]
        found.remove(binding)
        if not found:
            del self._by_key[binding.key]

    def match(self, key: str, message: Message) -> Iterable[Binding]:
        return self._by_key.get(key, ())


class Fanout:
    needs_message = False

    def __init__(self) -> None:
        self._all: list[Binding] = []

    def add(self, binding: Binding) -> None:
        self._all.append(binding)

    def remove(self, binding: Binding) -> None:
        self._all.remove(binding)

    def match(self, key: str, message: Message) -> Iterable[Binding]:
        return self._all


class _Word:
    __slots__ = ("bindings", "children")

    def __init__(self) -> None:
        self.children: dict[str, _Word] = {}
        self.bindings: list[Binding] = []


class Topic:
    needs_message = False

    def __init__(self) -> None:
        self._root = _Word()

    def add(self, binding: Binding) -> None:
        node = self._root
        for word in words_of(binding.key):
            node = node.children.setdefault(word, _Word())
        node.bindings.append(binding)

    def remove(self, binding: Binding) -> None:
        path = [self._root]
        words = words_of(binding.key)
        for word in words:
            path.append(path[-1].children[word])
        path[-1].bindings.remove(binding)
        for parent, word in zip(reversed(path[:-1]), reversed(words)):
            child = parent.children[word]
            if child.bindings or child.children:
                return
            del parent.children[word]

    def match(self, key: str, message: Message) -> Iterable[Binding]:
        places: dict[_Word, bool] = {}          # True: behind a #, it takes any word and stays
        _reach(self._root, False, places)
        for word in words_of(key):
            after: dict[_Word, bool] = {}
            for node, stays in places.items():
                if stays:
                    _reach(node, True, after)
                for name in {word, "*"}:
                    child = node.children.get(name)
                    if child is not None and name != "#":
                        _reach(child, False, after)
            places = after
            if not places:
                break
        return [binding for node in places for binding in node.bindings]


def _reach(node: _Word, stays: bool, places: dict[_Word, bool]) -> None:
    """node can be where we are, and so can what is behind a #, which may stand for no word at all."""
    places[node] = places.get(node, False) or stays
    behind = node.children.get("#")
    while behind is not None and not places.get(behind):
        places[behind] = True
        behind = behind.children.get("#")


def words_of(key: str) -> list[str]:
    return key.split(".") if key else []


class Headers:
    needs_message = True

    def __init__(self) -> None:
        self._all: list[Binding] = []

    def add(self, binding: Binding) -> None:
        self._all.append(binding)

    def remove(self, binding: Binding) -> None:
        self._all.remove(binding)

    def match(self, key: str, message: Message) -> Iterable[Binding]:
        headers = message.headers
        return [binding for binding in self._all if headers_match(binding.arguments, headers)]


def headers_match(arguments: Table, headers: Table) -> bool:
    """Does a message with these headers fit? A void argument asks only that the header is there."""
    kind = arguments.get(_X_MATCH, "all")
    with_x = isinstance(kind, str) and kind.endswith("-with-x")
    wanted = [(name, value) for name, value in arguments.items()
              if name != _X_MATCH and (with_x or not name.startswith("x-"))]
    found = (name in headers and (value is None or _equal(value, headers[name])) for name, value in wanted)
    return any(found) if kind in ("any", "any-with-x") else all(found)


def _equal(one: Value, other: Value) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


class Hashed:
    """x-consistent-hash: the key of a binding is its weight. x-modulus-hash: all weigh the same."""

    needs_message = True

    def __init__(self, arguments: Table, *, weighted: bool) -> None:
        self._header = arguments.get("hash-header")
        self._property = arguments.get("hash-property")
        self._weighted = weighted
        self._ring: list[tuple[int, Binding]] = []

    def add(self, binding: Binding) -> None:
        weight = int(binding.key) if self._weighted and binding.key.isdigit() and binding.key.isascii() else 1
        name = f"{binding.to_exchange}\0{binding.destination}"
        for point in range(HASH_POINTS * min(weight, HASH_WEIGHT_MAX)):
            self._ring.append((_hash(f"{name}\0{point}"), binding))
        self._ring.sort(key=lambda entry: entry[0])

    def remove(self, binding: Binding) -> None:
        self._ring = [entry for entry in self._ring if entry[1] is not binding]

    def match(self, key: str, message: Message) -> Iterable[Binding]:
        if not self._ring:
            return ()
        place = bisect_left(self._ring, _hash(self._text(key, message)), key=lambda entry: entry[0])
        return (self._ring[place % len(self._ring)][1],)

    def _text(self, key: str, message: Message) -> str:
        if isinstance(self._header, str):
            return str(message.headers.get(self._header, ""))
        if isinstance(self._property, str):
            return message.property_text(self._property)
        return key


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


TYPES = ("direct", "fanout", "topic", "headers", "x-consistent-hash", "x-modulus-hash")
DELAYED = "x-delayed-message"       # any of them, which x-delayed-type says, whose messages may wait: see delays.py
DELAYED_TYPE = "x-delayed-type"


def matcher_of(type_: str, arguments: Table) -> Matcher:
    """type_: one of TYPES."""
    if type_ in ("x-consistent-hash", "x-modulus-hash"):
        return Hashed(arguments, weighted=type_ == "x-consistent-hash")
    kinds: dict[str, type[Direct] | type[Fanout] | type[Topic] | type[Headers]] = {
        "direct": Direct, "fanout": Fanout, "topic": Topic, "headers": Headers}
    return kinds[type_]()
