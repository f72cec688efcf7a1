"""The command bar: what was typed → what to do; and how it could go on. Pure.

    links state=blocked      a screen, with a filter            sort -lag_events         order of the screen
    consumers/billing        the details of one                 can-i ana publish a/b    asks the rules
    browse plant/# from=1h   stored events                      tail plant/#             events as they come
    journey events:0:17      who got it, who not, and why       context graz             another node
    open http://…/links?…    the view of a web address
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

TABLES = ("nodes", "links", "streams", "topics", "consumers", "queues", "exchanges", "bindings", "groups",
          "transactions", "deadletters", "clients", "webhooks", "bridges", "policies", "drafts", "revisions",
          "conflicts", "users", "keys", "roles", "peers", "masks", "quotas", "denials", "audit", "logins",
          "listeners")
SCREENS = ("pulse", "map", *TABLES, "browse", "tail", "journey", "can-i", "contexts", "help")
OTHERS = ("open", "sort", "context", "login", "quit")
ALIASES = {
    "": "pulse", "overview": "pulse", "home": "pulse", "topology": "map", "m": "map", "n": "nodes", "l": "links",
    "s": "streams", "to": "topics", "c": "consumers", "co": "consumers", "dl": "deadletters", "cl": "clients",
    "qu": "queues", "w": "webhooks", "p": "policies", "d": "denials", "a": "audit", "b": "browse", "t": "tail",
    "j": "journey", "ctx": "contexts", "?": "help", "q": "quit", "q!": "quit", "cani": "can-i",
}
EVENT_PARAMS = ("from", "until", "match")


class CommandError(ValueError):
    """One line for who typed it."""


@dataclass(frozen=True)
class Command:
    """name: of SCREENS or OTHERS.  key: of one row, for its details.  rest: what follows, as it was typed."""

    name: str
    key: str = ""
    rest: str = ""
    params: dict[str, str] = field(default_factory=dict)


def parse(text: str, base_path: str = "") -> Command:
    """base_path: what addresses of the node's web console begin with. Raises CommandError."""
    head, _, rest = text.strip().lstrip(":").strip().partition(" ")
    name, slash, key = head.partition("/")
    known = ALIASES.get(name, name)
    if known not in SCREENS and known not in OTHERS:
        fitting = [one for one in (*SCREENS, *OTHERS) if one.startswith(name)]
        if len(fitting) != 1 or slash:
            raise CommandError(f"there is no {name[:40]}; ? shows what there is")
        known = fitting[0]
    if known == "open":
        return of_address(rest.strip(), base_path)
    if slash and key and known in TABLES:
        node = rest.strip().removeprefix("node=") if rest.strip().startswith("node=") else ""
        return Command(known, unquote(key), params={"node": node} if node else {})
    if known == "journey" and not is_event_id(rest.strip()):
        known = "browse"                # look for it first
    if known in ("browse", "tail"):
        return Command(known, rest=rest.strip(), params=event_params(rest))
    return Command(known, rest=rest.strip())


def event_params(text: str) -> dict[str, str]:
    """Of browse and tail: a topic filter, and from= until= match=, of which the last may have blanks."""
    found: dict[str, str] = {}
    words = text.split()
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if equals and name in EVENT_PARAMS:
            if name == "match":
                found[name] = " ".join([value, *words[index + 1:]])
                break
            found[name] = value
        elif "filter" not in found:
            found["filter"] = word
        else:
            raise CommandError(f"what is {word[:40]}? a topic filter comes first, then from=, until=, match=")
    return found


def is_event_id(text: str) -> bool:
    """stream:partition:offset"""
    stream, partition, offset = [*text.rsplit(":", 2), "", ""][:3]
    return bool(stream) and partition.isdecimal() and offset.isdecimal()


def of_address(address: str, base_path: str = "") -> Command:
    """The view of an address of the web console, whole or from its path on. Raises CommandError."""
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query))
    segments = parts.path.removeprefix(base_path).strip("/").split("/", 1)
    name = ALIASES.get(segments[0], segments[0])
    if name not in SCREENS:
        raise CommandError(f"this terminal has no view of {address[:100]}")
    if len(segments) > 1 and name in TABLES:
        return Command(name, unquote(segments[1]), params={"node": query["node"]} if query.get("node") else {})
    if name == "topics" and query.get("under"):
        return Command(name, query["under"])
    if name == "can-i":
        words = [query.get(one, "") for one in ("user", "action", "topic")]
        more = [f"{one}={query[one]}" for one in ("roles", "client_id") if query.get(one)]
        return Command(name, rest=" ".join(word for word in (*words, *more) if word))
    if name == "journey" and is_event_id(query.get("id", "")):
        return Command(name, rest=query["id"])
    if name in ("browse", "tail", "journey"):
        name = "tail" if name == "tail" else "browse"
        return Command(name, params={one: query[one] for one in ("filter", *EVENT_PARAMS) if query.get(one)})
    return Command(name, rest=query.get("filter", ""),
                   params={one: query[one] for one in ("sort", "after") if query.get(one)})


def completions(text: str, *, fields: Sequence[str] = (), contexts: Iterable[str] = (),
                names: Iterable[str] = ()) -> list[str]:
    """Whole command lines that begin with what was typed.  fields: of the screen.  names: of its rows."""
    head, blank, rest = text.partition(" ")
    if not blank:
        name, slash, key = head.partition("/")
        if slash:
            return [f"{name}/{one}" for one in names if one.startswith(key)]
        return [one for one in (*SCREENS, *OTHERS) if one.startswith(head)]
    known = ALIASES.get(head, head)
    if known == "context":
        return [f"{head} {one}" for one in contexts if one.startswith(rest)]
    if known == "sort":
        minus = "-" if rest.startswith("-") else ""
        return [f"{head} {minus}{one}" for one in fields if one.startswith(rest.removeprefix("-"))]
    if known == "can-i":
        words = rest.split(" ")
        if len(words) == 2:
            actions = ("publish", "subscribe", "browse", "connect", "view", "operate", "audit", "administer", "manage")
            return [f"{head} {words[0]} {one} " for one in actions if one.startswith(words[1])]
        return []
    if known in ("browse", "tail"):
        return [f"{text}{one[len(last):]}" for last in [rest.split(" ")[-1]] if last
                for one in ("from=", "until=", "match=") if one.startswith(last)]
    if known in TABLES:
        return complete_filter(text, fields)
    return []


def complete_filter(text: str, fields: Sequence[str]) -> list[str]:
    """A filter whose last word is the beginning of a column."""
    last = text.rsplit(" ", 1)[-1]
    if not last or any(mark in last for mark in "=<>~!\""):
        return []
    return [text + one[len(last):] for one in fields if one.startswith(last) and one != last]
