"""Subscriptions and the trie that finds those which match a topic.

Two kinds of entries stand in the router's trie: direct Subscriptions (live, at most once) and Consumers (guaranteed
lane). The mesh keeps the names of nodes in one of its own.
The router turns the entries of a topic into a Route and keeps it until the table changes.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from routing.event import Event
from routing.policy import Identity

if TYPE_CHECKING:
    from routing.consumer import Consumer


class DirectTarget:
    """What a Route says of one sink: all its direct subscriptions that match the topic."""

    __slots__ = ("alone", "no_local", "sink", "subscriptions")

    def __init__(self, sink: Sink, subscriptions: tuple[Subscription, ...], alone: bool) -> None:
        """alone: no other sink gets the events, so nothing encoded for this one is worth keeping."""
        self.sink = sink
        self.alone = alone
        self.subscriptions = subscriptions
        self.no_local = all(subscription.no_local for subscription in subscriptions)


class Sink(Protocol):
    """Receiver of the direct lane: one per connection."""

    identity: Identity
    consumer: Consumer | None       # where it also matches, the consumer alone delivers
    inbox: list[tuple[list[Event], DirectTarget, bool]]     # events of one topic; True: plain, see Router.publish
    inbox_scheduled: bool

    def flush_inbox(self) -> None:
        """Encode and write what is in the inbox and empty it. Called once per loop turn; must not raise."""


class Subscription:
    """Live interest of one sink in a topic filter. options belongs to the adapter."""

    __slots__ = ("no_local", "options", "pattern", "sink")

    def __init__(self, pattern: str, sink: Sink, options: Any = None, no_local: bool = False) -> None:
        self.pattern = pattern
        self.sink = sink
        self.options = options
        self.no_local = no_local


class _Node:
    __slots__ = ("children", "entries")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.entries: list[Any] | None = None


class FilterTrie:
    """Topic filters → entries. Matching visits at most 2 branches per level and no more nodes than exist."""

    def __init__(self) -> None:
        self._root = _Node()
        self.count = 0
        self.wanted: dict[str, int] = {}        # filter → entries that stand under it
        self.on_wanted: list[Callable[[str, bool], None]] = []      # told of filters that appear (True) and go (False)

    def add(self, pattern: str, entry: Subscription | Consumer | str) -> None:
        node = self._root
        for level in pattern.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        if node.entries is None:
            node.entries = []
        node.entries.append(entry)
        self.count += 1
        known = self.wanted.get(pattern, 0)
        self.wanted[pattern] = known + 1
        if not known:
            self._tell(pattern, True)

    def remove(self, pattern: str, entry: Subscription | Consumer | str) -> bool:
        """False when the entry was not there."""
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in pattern.split("/"):
            child = node.children.get(level) if node.children is not None else None
            if child is None:
                return False
            path.append((node, level))
            node = child
        if node.entries is None or entry not in node.entries:
            return False
        node.entries.remove(entry)
        self.count -= 1
        left = self.wanted[pattern] - 1
        if left:
            self.wanted[pattern] = left
        else:
            del self.wanted[pattern]
            self._tell(pattern, False)
        for parent, level in reversed(path):
            assert parent.children is not None
            child = parent.children[level]
            if child.entries or child.children:
                break
            del parent.children[level]
        return True

    def _tell(self, pattern: str, appeared: bool) -> None:
        for callback in self.on_wanted:
            callback(pattern, appeared)

    def match(self, topic: str) -> list[Any]:
        """Entries whose filter matches the topic; one that stands under several filters comes several times."""
        found: list[Any] = []
        nodes = [self._root]
        wild = topic[:1] != "$"                                 # [MQTT-4.7.2-1]
        for level in topic.split("/"):
            below: list[_Node] = []
            for node in nodes:
                children = node.children
                if children is None:
                    continue
                if wild:
                    rest = children.get("#")
                    if rest is not None and rest.entries:
                        found.extend(rest.entries)
                    any_one = children.get("+")
                    if any_one is not None:
                        below.append(any_one)
                exact = children.get(level)
                if exact is not None:
                    below.append(exact)
            wild = True
            nodes = below
            if not nodes:
                return found
        for node in nodes:
            if node.entries:
                found.extend(node.entries)
            if node.children is not None:
                rest = node.children.get("#")                   # "a/#" matches "a" too
                if rest is not None and rest.entries:
                    found.extend(rest.entries)
        return found
