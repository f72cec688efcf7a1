"""`meshgate topics` and `meshgate groups`: Kafka's topics and groups of a running node, over its management API."""
from __future__ import annotations

import argparse
from urllib.parse import quote

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client, add_options
from mesh.commands.client.managed import Values, act, get, print_json, rows_of, show_table
from mesh.commands.client.table import format_table

SHARED = ("json", "url", "config", "user", "ca", "context")         # options that the command and its acts have


def add_topics(parser: argparse.ArgumentParser) -> None:
    acts = parser.add_subparsers(dest="act", metavar="ACT")
    parser.set_defaults(run=list_topics, json=False)
    add_options(parser, "console")
    _act(acts, "list", "all topics", list_topics, named=False)
    _act(acts, "describe", "partitions and configurations of one", describe_topic)
    for name, text, run in (("create", "make one", create_topic),
                            ("alter", "other configurations, more partitions", alter_topic)):
        made = _act(acts, name, text, run)
        made.add_argument("--partitions", type=int, metavar="N")
        made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as retention.ms=36000")
        if name == "alter":
            made.add_argument("--unset", action="append", default=[], metavar="KEY", help="back to the default")
    _act(acts, "delete", "delete one with all its records", delete_topic)


def add_groups(parser: argparse.ArgumentParser) -> None:
    acts = parser.add_subparsers(dest="act", metavar="ACT")
    parser.set_defaults(run=list_groups, json=False)
    add_options(parser, "console")
    _act(acts, "list", "all groups", list_groups, named=False)
    _act(acts, "describe", "members of one, and where it stands", describe_group)
    reset = _act(acts, "reset-offsets", "have one read on from another place; it has no members then", reset_group)
    reset.add_argument("--to", required=True, metavar="PLACE",
                       help="earliest, latest, an offset, or a time such as 2026-01-31T12:00:00Z")
    reset.add_argument("--topic", help="of this topic only")
    reset.add_argument("--partition", type=int, metavar="N", help="of this partition only")
    _act(acts, "delete", "forget one and its offsets; it has no members then", delete_group)


def _act(acts: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, run: object, *,
         named: bool = True) -> argparse.ArgumentParser:
    parser = acts.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
    if named:
        parser.add_argument("name")
    if name not in ("list", "describe"):
        parser.add_argument("--dry-run", action="store_true", help="say what it would do, and do nothing")
        parser.add_argument("--reason", default="", help="for the audit trail")
    parser.add_argument("--json", action="store_true", help="print the node's answer as JSON")
    add_options(parser, "console")
    for option in parser._actions:              # what stands before the act counts, too: no default goes over it
        if option.dest in SHARED:
            option.default = argparse.SUPPRESS
    parser.set_defaults(run=run)
    return parser


def _told(options: argparse.Namespace, answer: Values, text: str) -> int:
    if options.json or options.dry_run:
        return print_json(answer)
    print(text)
    return 0


# -- topics ------------------------------------------------------------------------------------------------------

def list_topics(options: argparse.Namespace) -> int:
    return show_table(options, "streams", ["name", "partitions", "events", "size_bytes", "capture"])


def describe_topic(options: argparse.Namespace) -> int:
    answer = get(Client(options), _topic(options))
    if options.json:
        return print_json(answer)
    print(f"topic {answer['name']}, id {answer['id']}"
          f"{', of the configuration file' if answer['configured'] else ''}")
    print(format_table(("partition", "start", "end"), [
        [row["partition"], row["start"], row["end"]] for row in rows_of(answer, "partitions")]))
    print(format_table(("configuration", "value", "default"), [
        [row["name"], row["value"], row["default"]] for row in rows_of(answer, "config")]))
    return 0


def create_topic(options: argparse.Namespace) -> int:
    answer = act(Client(options), "POST", "streams", options, {
        "name": options.name, "partitions": 1 if options.partitions is None else options.partitions,
        "config": _config(options)})
    return _told(options, answer, f"made: {options.name}")


def alter_topic(options: argparse.Namespace) -> int:
    config = {**_config(options), **dict.fromkeys(options.unset)}
    if not config and options.partitions is None:
        raise CommandError("what is to change? --partitions N, --set KEY=VALUE, --unset KEY")
    answer = act(Client(options), "POST", _topic(options) + "/change", options, {
        "config": config, **({} if options.partitions is None else {"partitions": options.partitions})})
    return _told(options, answer, f"changed: {options.name}")


def delete_topic(options: argparse.Namespace) -> int:
    answer = act(Client(options), "DELETE", _topic(options), options)
    return _told(options, answer, f"deleted: {options.name}")


def _config(options: argparse.Namespace) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise CommandError(f"--set takes KEY=VALUE, got {text!r}")
        found[key] = value
    return found


def _topic(options: argparse.Namespace) -> str:
    return f"streams/{quote(options.name, safe='')}"


# -- groups ------------------------------------------------------------------------------------------------------

def list_groups(options: argparse.Namespace) -> int:
    return show_table(options, "groups", ["group", "kind", "state", "members", "lag_events", "topics"])


def describe_group(options: argparse.Namespace) -> int:
    answer = get(Client(options), _group(options))
    if options.json:
        return print_json(answer)
    print(f"group {answer['group']}: {answer['kind']}, {answer['state']}, {answer['members']} members")
    print(format_table(("topic", "partition", "offset", "end", "lag"), [
        [row["stream"], row["partition"], row["offset"], row["end"], row["lag"]] for row in rows_of(answer, "places")]))
    members = rows_of(answer, "detail")
    if members:
        print(format_table(("member", "client", "host"), [
            [row["member_id"], row["client_id"], row["host"]] for row in members]))
    return 0


def reset_group(options: argparse.Namespace) -> int:
    place: Values = {"to": int(options.to) if options.to.isdigit() else options.to}
    if options.topic is not None:
        place["stream"] = options.topic
    if options.partition is not None:
        place["partition"] = options.partition
    answer = act(Client(options), "POST", _group(options) + "/reset", options, place)
    rows = rows_of(answer, "positions")
    return _told(options, answer, format_table(("topic", "partition", "from", "to"), [
        [row["stream"], row["partition"], row["from"], row["position"]] for row in rows]))


def delete_group(options: argparse.Namespace) -> int:
    answer = act(Client(options), "DELETE", _group(options), options)
    return _told(options, answer, f"deleted: {options.name}")


def _group(options: argparse.Namespace) -> str:
    return f"groups/{quote(options.name, safe='')}"
