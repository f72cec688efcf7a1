"""The smallest rules that allow what a user did: for somebody to look at, and to make narrower or wider. Pure.

Topics as they were used. Where a level took many values it becomes +, where it was the user's own name %u. A filter
that was subscribed stays as it is. Nothing that was refused is in it, and there is no # that was not asked for.
"""
from __future__ import annotations

from typing import Any, Final

from mesh.administration.usage_log import Merged
from routing.rights.rules import Action, fits
from routing.topic import filter_covers

VALUES_MAX: Final = 8               # of one level; with more it is a +
TOPICS_MAX: Final = 1_000           # of a rule
COMPARED_MAX: Final = 1_000_000     # filters with topics, to leave out what others cover: a second or two


def learn(uses: Merged, user: str) -> list[dict[str, Any]]:
    """A policy document for each set of topics that he published to, or subscribed to."""
    rules = []
    for action in (Action.PUBLISH, Action.SUBSCRIBE):
        topics = {use.topic for use in uses
                  if use.user == user and use.action is action and use.allowed and use.topic[:1] != "$"}
        if topics:
            narrow = narrowed([_own(topic, user) for topic in sorted(topics)])
            rules.append({"allow": [action.value], "to": [f"user:{user}"], "topics": narrow[:TOPICS_MAX]})
    if len(rules) == 2 and rules[0]["topics"] == rules[1]["topics"]:
        return [{**rules[0], "allow": ["publish", "subscribe"]}]
    return rules


def _own(topic: str, user: str) -> str:
    if not fits(user):
        return topic
    return "/".join("%u" if level == user else level for level in topic.split("/"))


def narrowed(topics: list[str]) -> list[str]:
    """Filters that cover these topics and as little else as VALUES_MAX lets them.

    Those that others cover are left out, but for where there are too many to be compared.
    """
    by_length: dict[tuple[int, bool], list[list[str]]] = {}
    for topic in topics:
        levels = topic.split("/")
        by_length.setdefault((len(levels), levels[-1] == "#"), []).append(levels)
    found = [("/".join(levels)) for group in by_length.values() for levels in _joined(group, 0)]
    filters = set(found)
    wide = [one for one in filters if "+" in one or "#" in one]         # no other covers anything
    if len(wide) * len(filters) > COMPARED_MAX:
        return sorted(filters)
    return sorted(one for one in filters if not any(one != other and filter_covers(other, one) for other in wide))


def _joined(group: list[list[str]], at: int) -> list[list[str]]:
    """Topics of one length that are the same before a level."""
    if at == len(group[0]):
        return group[:1]
    values: dict[str, list[list[str]]] = {}
    for levels in group:
        values.setdefault(levels[at], []).append(levels)
    if len(values) > VALUES_MAX:
        values = {"+": [[*levels[:at], "+", *levels[at + 1:]] for levels in group]}
    return [levels for one in values.values() for levels in _joined(one, at + 1)]
