"""`meshgate policy …`: rules and everything else that is managed on a running node, drafts, history, can-i.

    list · show NAME · set NAME FILE · delete NAME · draft NAME FILE · drafts · apply DRAFT · history · rollback NUMBER
    conflicts · can-i USER ACTION TOPIC · simulate DRAFT · usage · learn USER · explain DENIAL | EVENT · allow DENIAL

FILE is JSON, "-" standard input: of `set` a document, of `draft` {"changes": [{"kind", "name", "document"}, …]}.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from urllib.parse import quote

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client
from mesh.commands.client.managed import (
    PLURALS,
    Values,
    act,
    add_common,
    delete,
    done,
    get,
    place,
    print_json,
    show_table,
)
from mesh.commands.client.table import format_table

TABLES = {
    "list": ("policies", ["name", "source", "state", "allow", "deny", "to", "topics", "until"]),
    "drafts": ("drafts", ["name", "by", "documents", "reason", "shadow"]),
    "history": ("revisions", ["revision", "by", "source", "documents", "reason"]),
    "conflicts": ("conflicts", ["name", "kept_version", "kept_by", "gave_way_version", "gave_way_by"]),
}


def add_policy(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, about: str, *, is_act: bool = False, kind: bool = False) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=about, description=about[:1].upper() + about[1:] + ".")
        add_common(one, act=is_act)
        if kind:
            one.add_argument("--kind", choices=sorted(PLURALS), default="policy", help="of what (policy)")
        return one

    for name, about in (("list", "the rules, in force or not"), ("drafts", "changes that nobody has applied yet"),
                        ("history", "what was changed, newest first"),
                        ("conflicts", "changes made at two nodes at the same time")):
        add(name, about).set_defaults(run=lambda options: show_table(options, *TABLES[options.action]))
    show = add("show", "a document with its versions; or --draft, --revision", kind=True)
    show.add_argument("name")
    show.add_argument("--draft", action="store_true", help="NAME is a draft")
    show.add_argument("--revision", action="store_true", help="NAME is the number of a revision")
    show.set_defaults(run=run_show)
    put = add("set", "make or change a document, at once", is_act=True, kind=True)
    put.add_argument("name")
    put.add_argument("file", metavar="FILE", help="JSON, - is standard input")
    put.add_argument("--version", default=None, help="the one that you have seen (default: the one of now)")
    put.set_defaults(run=run_set)
    gone = add("delete", "delete a document, at once", is_act=True, kind=True)
    gone.add_argument("name")
    gone.set_defaults(run=lambda options: done(
        options, delete(options, options.kind, options.name), f"deleted {options.kind} {options.name}"))
    draft = add("draft", "keep changes to be looked at", is_act=True)
    draft.add_argument("name")
    draft.add_argument("file", metavar="FILE", help="JSON, - is standard input")
    draft.set_defaults(run=run_draft)
    apply = add("apply", "make the changes of a draft, all in one step", is_act=True)
    apply.add_argument("name", metavar="DRAFT")
    apply.set_defaults(run=lambda options: done(options, act(
        Client(options), "POST", f"drafts/{quote(options.name, safe='')}/apply", options),
        f"applied draft {options.name}"))
    back = add("rollback", "everything as it was after a revision", is_act=True)
    back.add_argument("number", type=int)
    back.set_defaults(run=lambda options: done(options, act(
        Client(options), "POST", f"revisions/{options.number}/rollback", options),
        f"back to revision {options.number}"))
    ask = add("can-i", "may they, and which rule says so; 0: yes, 1: no")
    ask.add_argument("who", metavar="USER", help="a user, or - for nobody who logged in")
    ask.add_argument("what", metavar="ACTION", help="publish, subscribe, connect, view, operate, audit, administer")
    ask.add_argument("topic", nargs="?", default="", help="a topic or filter")
    ask.add_argument("--role", action="append", default=None, help="instead of those that the user has")
    ask.add_argument("--client-id", default="")
    ask.add_argument("--draft", default=None, help="by the rules that this draft would make")
    ask.set_defaults(run=run_can_i)
    explain = add("explain", "why something was denied, or by which rule an event was let in")
    explain.add_argument("what", metavar="DENIAL | EVENT", help="the number of a denial, or the id of an event")
    explain.set_defaults(run=run_explain)
    allow = add("allow", "a draft with a rule for what was denied, no wider than that", is_act=True)
    allow.add_argument("number", metavar="DENIAL", type=int)
    allow.add_argument("--draft", default=None, help="put it into this draft (default: one of its own)")
    allow.set_defaults(run=run_allow)
    simulate = add("simulate", "what a draft would have done to what people did; 0: nothing, 1: something")
    simulate.add_argument("name", metavar="DRAFT")
    simulate.set_defaults(run=run_simulate)
    usage = add("usage", "which rule decided how often, and which was never needed")
    usage.set_defaults(run=run_usage)
    learn = add("learn", "the smallest rules that allow what a user did")
    learn.add_argument("name", metavar="USER")
    learn.set_defaults(run=lambda options: print_json(msgspec.convert(Client(options).json(
        "/api/v1/learn", "POST", msgspec.json.encode({"user": options.name, "hours": options.hours or 168.0})),
        Values)["documents"]))
    for one in (simulate, usage, learn):
        one.add_argument("--hours", type=float, default=None, help="how far back")


def run_show(options: argparse.Namespace) -> int:
    name = quote(options.name, safe="")
    path = f"drafts/{name}" if options.draft else f"revisions/{name}" if options.revision else place(
        options.kind, options.name)
    return print_json(get(Client(options), path))


def run_set(options: argparse.Namespace) -> int:
    client, where = Client(options), place(options.kind, options.name)
    version = options.version
    if version is None:
        plural = PLURALS[options.kind]
        rows = msgspec.convert(get(client, plural, {"id": options.name})[plural], list[Values])
        version = next((row["version"] for row in rows if row.get("version")), "")
    answer = act(client, "PUT", where, options, {"document": _json(options.file), "version": version})
    key = answer.pop("key", None)
    code = done(options, answer, f"set {options.kind} {options.name}")
    if key is not None:
        print(f"the key, shown this once: {key}", file=sys.stderr)
    return code


def run_draft(options: argparse.Namespace) -> int:
    answer = act(Client(options), "PUT", f"drafts/{quote(options.name, safe='')}", options, _json(options.file))
    return done(options, answer, f"kept draft {options.name}")


def run_can_i(options: argparse.Namespace) -> int:
    body: Values = {"user": "" if options.who == "-" else options.who, "action": options.what,
                    "topic": options.topic, "client_id": options.client_id}
    if options.draft is not None:
        body["draft"] = options.draft
    if options.role is not None:
        body["roles"] = options.role
    answer = Client(options).json("/api/v1/can-i", "POST", msgspec.json.encode(body))
    found = msgspec.convert(answer, Values)
    if options.json:
        print_json(found)
    else:
        print("\n".join(verdict_lines(found)))
    return 0 if found["allowed"] else 1


def verdict_lines(answer: object) -> list[str]:
    """An answer of can-i: yes or no and by which rule; what decides without that rule; what would turn it round."""
    found = msgspec.convert(answer, Values)
    allowed = bool(found["allowed"])
    lines = [f"{'yes' if allowed else 'no'}: {found['rule']}"]
    if found.get("runner_up"):
        lines.append(f"without that rule: {found['runner_up']}")
    if found.get("change"):
        lines.append(f"to {'forbid' if allowed else 'allow'} it: {found['change']}")
    return lines


def run_simulate(options: argparse.Namespace) -> int:
    path = f"/api/v1/drafts/{quote(options.name, safe='')}/simulate"
    body = {} if options.hours is None else {"hours": options.hours}
    found = msgspec.convert(Client(options).json(path, "POST", msgspec.json.encode(body)), Values)
    if options.json:
        print_json(found)
    changes = 0
    for name in ("newly_denied", "newly_allowed", "narrowed"):
        part = msgspec.convert(found[name], Values)
        changes += int(str(part["uses"]))
        if options.json:
            continue
        print(f"{name.replace('_', ' ')}: {part['uses']} uses, {part['clients']} clients, {part['events']} events")
        for row in msgspec.convert(part["rows"], list[Values])[:20]:
            print(f"  {row['user']} {row['action']} {row['topic']} ({row['protocol']}, {row['count']}): {row['rule']}")
    if not options.json and found["dead_rules"]:
        print(f"would decide nothing any more: {', '.join(msgspec.convert(found['dead_rules'], list[str]))}")
    return int(changes > 0)


def run_explain(options: argparse.Namespace) -> int:
    client = Client(options)
    if ":" in options.what:
        found = get(client, "explain", {"event": options.what})
        if not options.json:
            print(f"{found['topic']} at {found['time']} by {found['publisher'] or 'nobody known'}")
            for row in msgspec.convert(found["allowed_by"], list[Values]):
                who = f"user {row['user']} ({row['protocol']}, client {row['client_id'] or '–'})"
                print(f"  let in: {who}: {row['rule']}")
            return 0
        return print_json(found)
    found = get(client, f"denials/{quote(options.what, safe='')}")
    if options.json:
        return print_json(found)
    print(f"{found['time']} user {found['user']} ({found['protocol']}) {found['action']} {found['topic']}: "
          f"{found['rule']}")
    for when in ("then", "now"):
        answer, *more = verdict_lines(found[when])
        print(f"{when}: {answer}" + "".join(f"; {line}" for line in more))
    if found["file_read_since"]:
        print("the configuration file was read again since; its rules are those of now")
    return 0


def run_allow(options: argparse.Namespace) -> int:
    body: Values = {} if options.draft is None else {"draft": options.draft}
    answer = act(Client(options), "POST", f"denials/{options.number}/draft", options, body)
    return done(options, answer, f"kept in draft {answer.get('name', options.draft or f'denial {options.number}')}")


def run_usage(options: argparse.Namespace) -> int:
    params = {} if options.hours is None else {"hours": str(options.hours)}
    found = get(Client(options), "usage", params)
    if options.json:
        return print_json(found)
    print(format_table(["rule", "uses", "events"], [[row["rule"], row["uses"], row["events"]]
                                                    for row in msgspec.convert(found["rules"], list[Values])]))
    print(f"never needed: {', '.join(msgspec.convert(found['unused'], list[str])) or '–'}")
    return 0


def _json(file: str) -> Values:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return msgspec.json.decode(raw, type=Values)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise CommandError(f"{file}: not a JSON object: {error}") from error
