"""`meshgate user list|add|passwd|roles|lock|unlock|delete`: managed users of a running node.

A password is asked for twice, or is $MESHGATE_NEW_PASSWORD; never on the command line, where other users could read it.
"""
from __future__ import annotations

import argparse
import getpass
import os
import sys

from mesh.commands.client.errors import CommandError
from mesh.commands.client.managed import Values, add_common, delete, done, show_table, update


def add_user(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="users of the file and managed ones")
    add_common(listing, act=False)
    listing.set_defaults(run=run_list)
    add = actions.add_parser("add", help="make a user; asks for the password")
    add.add_argument("name")
    add.add_argument("--role", action="append", default=[], metavar="ROLE", help="several times")
    add.add_argument("--until", metavar="TIME", help="the account ends then, such as 2027-01-31T12:00:00Z")
    add.add_argument("--certificate", action="store_true", help="no password: by client certificate only")
    for name, about in (("passwd", "a new password"), ("roles", "other roles"), ("lock", "nobody logs in as him"),
                        ("unlock", "take the lock away"), ("delete", "delete a user")):
        one = actions.add_parser(name, help=about)
        one.add_argument("name")
        if name == "roles":
            one.add_argument("role", nargs="*", help="all that he has from now on")
        add_common(one, act=True)
        one.set_defaults(run=run_act)
    add_common(add, act=True)
    add.set_defaults(run=run_act)


def run_list(options: argparse.Namespace) -> int:
    return show_table(options, "users", ["name", "source", "state", "roles", "password", "until", "by"])


def run_act(options: argparse.Namespace) -> int:
    action, name = options.action, options.name
    if action == "delete":
        return done(options, delete(options, "user", name), f"deleted user {name}")
    if action == "add":
        made: Values = {"roles": options.role}
        if options.until is not None:
            made["until"] = options.until
        if not options.certificate:
            made["password"] = _new_password(name)
        return done(options, update(options, "user", name, lambda _: made, new=True), f"made user {name}")
    changes: dict[str, Values] = {
        "roles": {"roles": getattr(options, "role", [])}, "lock": {"enabled": False}, "unlock": {"enabled": True},
        "passwd": {"password": _new_password(name)} if action == "passwd" else {}}
    answer = update(options, "user", name, lambda document: {**document, **changes[action]})
    return done(options, answer, {"passwd": "new password of", "roles": "new roles of", "lock": "locked",
                                  "unlock": "unlocked"}[action] + f" user {name}")


def _new_password(user: str) -> str:
    password = os.environ.get("MESHGATE_NEW_PASSWORD")
    if password is not None:
        return password
    if not sys.stdin.isatty():
        raise CommandError("set MESHGATE_NEW_PASSWORD, or run this in a terminal to be asked for the password")
    password = getpass.getpass(f"new password of {user}: ")
    if getpass.getpass("once more: ") != password:
        raise CommandError("the two are not the same")
    return password
