"""Subscriptions of the direct lane: live interest, delivered at most once, and who gets it.

They stand in the router's trie (filter_trie.py) beside the Consumers of the guaranteed lane. The router turns the
entries of a topic into a Route and keeps it until the table changes.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from routing.event import Event
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer


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

    __slots__ = ("no_local", "options", "pattern", "since_ms", "sink")

    def __init__(self, pattern: str, sink: Sink, options: Any = None, no_local: bool = False) -> None:
        self.pattern = pattern
        self.sink = sink
        self.options = options
        self.no_local = no_local
        self.since_ms = 0               # wall clock; set by the router
