"""`meshgate key list|new|rotate|revoke`: managed API keys of a running node. A key is shown once."""
from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client
from mesh.commands.client.managed import Values, act, add_common, delete, done, place, show_table, update
from mesh.values.units import parse_duration_ms


def add_key(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="keys of the file and managed ones")
    add_common(listing, act=False)
    listing.set_defaults(run=run_list)
    new = actions.add_parser("new", help="make a key")
    new.add_argument("name", help="also the user, unless --for names another")
    new.add_argument("--for", dest="owner", default="", metavar="USER", help="who the program is, for policies")
    new.add_argument("--role", action="append", default=[], metavar="ROLE", help="several times")
    new.add_argument("--expires", metavar="AGE", help="such as 90d; without it the key is good until it is revoked")
    rotate = actions.add_parser("rotate", help="another key in its place; the old one counts a while longer")
    rotate.add_argument("name")
    rotate.add_argument("--overlap", default="1h", metavar="AGE", help="how long the old one counts (1h)")
    revoke = actions.add_parser("revoke", help="it counts no more, and what it opened ends")
    revoke.add_argument("name")
    for parser_of, run in ((new, run_new), (rotate, run_rotate), (revoke, run_revoke)):
        add_common(parser_of, act=True)
        parser_of.set_defaults(run=run)


def run_list(options: argparse.Namespace) -> int:
    return show_table(options, "keys", ["name", "source", "state", "user", "roles", "until", "by"])


def run_new(options: argparse.Namespace) -> int:
    document: Values = {"user": options.owner, "roles": options.role}
    if options.expires is not None:
        document["until"] = f"{datetime.now(UTC) + _age(options.expires):%Y-%m-%dT%H:%M:%SZ}"
    return _shown(options, update(options, "key", options.name, lambda _: document, new=True), "made")


def run_rotate(options: argparse.Namespace) -> int:
    body: Values = {"overlap_s": _age(options.overlap).total_seconds()}
    return _shown(options, act(Client(options), "POST", f"{place('key', options.name)}/rotate", options, body),
                  "rotated")


def run_revoke(options: argparse.Namespace) -> int:
    return done(options, delete(options, "key", options.name), f"revoked key {options.name}")


def _shown(options: argparse.Namespace, answer: Values, what: str) -> int:
    """The key to standard error, as `meshgate apikey` does: what is redirected must not have it."""
    key = answer.pop("key", None)
    code = done(options, answer, f"{what} key {options.name}")
    if key is not None:
        sys.stdout.flush()
        print(f"the key, shown this once: {key}", file=sys.stderr)
    return code


def _age(text: str) -> timedelta:
    try:
        return timedelta(milliseconds=parse_duration_ms(text))
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{text}: {error}") from error
