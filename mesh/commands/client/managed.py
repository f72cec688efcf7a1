"""What the commands that act on a node have in common: reading, acts with --dry-run and --reason, tables; and for
`policy`, `user` and `key`: one managed document is fetched, changed, put back.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from urllib.parse import quote, urlencode

import msgspec

from mesh.commands.client.errors import CommandError, RefusedError
from mesh.commands.client.http import Client, add_options
from mesh.commands.client.table import format_table

Values = dict[str, object]
PLURALS = {"user": "users", "key": "keys", "role": "roles", "policy": "policies", "peer": "peers", "mask": "masks",
           "quota": "quotas"}
_UNEXPECTED = "the node's answer is not what this version expects"


def add_common(parser: argparse.ArgumentParser, *, act: bool) -> None:
    parser.add_argument("--json", action="store_true", help="print the node's answer as JSON")
    if act:
        parser.add_argument("--dry-run", action="store_true", help="say what it would change, and do nothing")
        parser.add_argument("--reason", default="", metavar="TEXT", help="stands in the history and in the audit trail")
    add_options(parser, "console")


def print_json(answer: object) -> int:
    print(msgspec.json.format(msgspec.json.encode(answer)).decode())
    return 0


def get(client: Client, path: str, params: dict[str, str] | None = None) -> Values:
    """Raises CommandError."""
    query = f"?{urlencode(params)}" if params else ""
    return _values(client.json(f"/api/v1/{path}{query}"))


def act(client: Client, method: str, path: str, options: argparse.Namespace, body: Values | None = None) -> Values:
    """One act, as --dry-run and --reason say. Raises CommandError."""
    sent = {**(body or {}), "reason": options.reason, "dry_run": options.dry_run}
    return _values(client.json(f"/api/v1/{path}", method, msgspec.json.encode(sent)))


def _values(answer: object) -> Values:
    if not isinstance(answer, dict):
        raise CommandError(_UNEXPECTED)
    return answer


def rows_of(answer: Values, name: str) -> list[Values]:
    """Raises CommandError."""
    try:
        return msgspec.convert(answer.get(name), list[Values])
    except msgspec.ValidationError as error:
        raise CommandError(_UNEXPECTED) from error


def place(kind: str, name: str) -> str:
    return f"{PLURALS[kind]}/{quote(name, safe='')}"


def show_table(options: argparse.Namespace, table: str, columns: list[str], heads: list[str] | None = None) -> int:
    answer = get(Client(options), table, {"limit": "10000"})
    if options.json:
        return print_json(answer)
    print(format_table(heads or columns, [[row.get(column) for column in columns] for row in rows_of(answer, table)]))
    return 0


def update(options: argparse.Namespace, kind: str, name: str, change: Callable[[Values], Values], *,
           new: bool = False) -> Values:
    """Change a document from what it is now; new: there must be none. Raises CommandError."""
    client = Client(options)
    if new:
        if _is_there(client, kind, name):
            raise CommandError(f"there is a {kind} {name} already: meshgate {kind} --help says how to change it")
        return act(client, "PUT", place(kind, name), options, {"document": change({}), "version": ""})
    now = get(client, place(kind, name))
    document = msgspec.convert(now.get("document"), Values)
    return act(client, "PUT", place(kind, name), options, {"document": change(document), "version": now["version"]})


def _is_there(client: Client, kind: str, name: str) -> bool:
    try:
        get(client, place(kind, name))
    except RefusedError:            # not there, or not to be seen: what is asked next says which
        return False
    return True


def delete(options: argparse.Namespace, kind: str, name: str) -> Values:
    client = Client(options)
    version = get(client, place(kind, name))["version"]
    return act(client, "DELETE", place(kind, name), options, {"version": version})


def done(options: argparse.Namespace, answer: Values, text: str) -> int:
    if options.json:
        return print_json(answer)
    if options.dry_run:
        print(f"would be {text}:")
        return print_json({name: value for name, value in answer.items() if name not in ("dry_run", "act", "target")})
    where = f" (revision {answer['revision']}, audit {answer.get('audit')})" if "revision" in answer else ""
    state = answer.get("state")
    print(f"{text}{where}" + (f": {state}" if state not in (None, "", "in force") else ""))
    return 0
