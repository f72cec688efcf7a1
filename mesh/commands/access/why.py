"""`meshgate why`: what was refused lately, by which rule, and what would allow it.

For who stands before a client that only says "connection lost": MQTT 3.1.1 has no word for a refused publish.
"""
from __future__ import annotations

import argparse
from urllib.parse import quote

from mesh.commands.access.policy import verdict_lines
from mesh.commands.client.http import Client
from mesh.commands.client.managed import Values, add_common, get, print_json, rows_of
from mesh.process.logs import one_line
from routing.errors import Reason

DENIALS_MAX = 1_000         # a node lists no more
LOGIN = {                   # of a refused login: what to do
    Reason.BAD_CREDENTIALS: "the password or token is wrong, or there is no such user: meshgate user list, user passwd",
    Reason.LOCKED_OUT: "too many wrong passwords; it ends by itself, see Lock-out in docs/operations.md",
    Reason.BUSY: "too many logins at once; the client tries again",
}


def add_why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("who", nargs="?", default="",
                        help="a user, a client id, a topic or the number of a denial (default: everybody's)")
    parser.add_argument("--count", type=int, default=5, metavar="N", help="so many, the newest first (5)")
    add_common(parser, act=False)
    parser.set_defaults(run=run_why)


def run_why(options: argparse.Namespace) -> int:
    client = Client(options)
    rows = [row for row in rows_of(get(client, "denials", {"limit": str(DENIALS_MAX)}), "denials")
            if not options.who or options.who in (str(row["id"]), row["user"], row["client_id"], row["topic"])]
    found = [get(client, f"denials/{quote(str(row['id']), safe='')}") for row in _distinct(rows)[:options.count]]
    if options.json:
        return print_json(found)
    for denial in found:
        print("\n".join(_told(denial)))
    if not found:
        whose = f" of {options.who}" if options.who else ""
        print(f"nothing{whose} was refused, as far as this node remembers (the last {DENIALS_MAX:,} since its start)")
    return 0


def _distinct(rows: list[Values]) -> list[Values]:
    """The newest of each kind: a client that tries again and again has one line."""
    newest: dict[tuple[object, ...], Values] = {}
    for row in rows:
        newest.setdefault((row["user"], row["action"], row["topic"], row["rule"]), row)
    return list(newest.values())


def _told(denial: Values) -> list[str]:
    client = f", client {denial['client_id']}" if denial["client_id"] else ""
    what = f"{denial['action']} {denial['topic']}".rstrip()
    lines = [one_line(f"{denial['time']} {denial['user'] or 'nobody'} ({denial['protocol']}{client}, "
                      f"{denial['address'] or 'no address'}) may not {what}")]
    login = next((text for reason, text in LOGIN.items() if denial["rule"] == reason.value), "")
    if denial["action"] == "connect" and login:
        return [*lines, f"  because  {denial['rule']}", f"  to do    {login}"]
    now, *more = verdict_lines(denial["now"])
    lines.append(f"  because  {denial['rule']}")
    if now != f"no: {denial['rule']}":
        lines.append(f"  by now   {now}")
    if now.startswith("no"):
        lines += [f"  to do    {line}" for line in more]
        if more and ": remove " not in more[-1]:        # a deny beats whatever would be allowed
            lines.append(f"  to do    a draft of that: meshgate policy allow {denial['id']}")
    return [one_line(line) for line in lines]
