"""`meshgate apikey`: make an API key. The key is shown once; the configuration gets its hash."""
from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.identity.apikeys import hash_key, make_key
from mesh.identity.auth_settings import user_problem
from mesh.values.units import parse_duration_ms


def add_apikey(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="shown in logs; also the user, unless --user names another")
    parser.add_argument("--user", metavar="USER", help="who the program is, for policies")
    parser.add_argument("--role", action="append", default=[], metavar="ROLE", help="for policies; several times")
    parser.add_argument("--expires", metavar="AGE", help="such as 90d; without it the key is good until it is removed")
    parser.set_defaults(run=run_apikey)


def run_apikey(options: argparse.Namespace) -> int:
    """The [[api_keys]] table to standard output, the key to standard error: `… >> node.toml` must not have it."""
    problem = user_problem(options.user or options.name)
    if problem is not None:
        raise CommandError(problem)
    key = make_key()
    lines = ["[[api_keys]]", f"name = {_toml(options.name)}", f'key_hash = "{hash_key(key)}"']
    if options.user is not None:
        lines.append(f"user = {_toml(options.user)}")
    lines.append(f"roles = {_toml(options.role)}")
    if options.expires is not None:
        try:
            age = timedelta(milliseconds=parse_duration_ms(options.expires))
            moment = datetime.now(UTC) + age
        except (ValueError, OverflowError) as error:
            raise CommandError(f"--expires: {error}") from error
        lines.append(f"expires = {moment:%Y-%m-%dT%H:%M:%SZ}")
    print("\n".join(lines), flush=True)
    print(f"\nthe key, shown this once: {key}", file=sys.stderr)
    return 0


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()          # JSON texts and lists of them are TOML
