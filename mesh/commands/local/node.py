"""`meshgate up`, `check` and `passwd`: what is about this machine's node rather than a running one."""
from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.configuration.config import load_config
from mesh.configuration.effective import effective, format_toml, warnings_of
from mesh.configuration.outside import resolve_links, resolve_outside
from mesh.configuration.profile import effects
from mesh.identity.users import hash_password

PASSWORD_LENGTH_MIN = 8         # NIST SP 800-63B §3.1.1.2


def add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML configuration (default: loopback, no users)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data directory (default: node.data, ./meshgate-data)")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.set_defaults(run=run_up)


def add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print the effective configuration as JSON")
    parser.set_defaults(run=run_check)


def add_passwd(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="USER", help="also print the [[users]] table for this user")
    parser.add_argument("--role", action="append", default=[], metavar="ROLE", help="of this user; may be repeated")
    parser.set_defaults(run=run_passwd)


def run_up(options: argparse.Namespace) -> int:
    import gc

    from mesh.process.loop.lean import (
        import_aiohttp,  # late: the other commands should not pay for loading a whole node
    )

    gc.disable()                    # a start makes next to no garbage: until freeze_start()
    import_aiohttp()
    from mesh.process.service import run_node

    return run_node(options.config, options.data, options.log_format, options.log_level)


def run_check(options: argparse.Namespace) -> int:
    """Everything that could refuse the start, but for what only a start can find (a port that is taken)."""
    config = load_config(options.file)
    resolve_outside(config)
    resolve_links(config)
    shown = effective(config)
    held = effects(config)
    if options.json and held:
        shown["profile_effects"] = held
    elif held:
        print(f"# profile {config.node.profile.value}: what holds because of it")
        for line in held:
            print(f"#   {line}")
    print(msgspec.json.format(msgspec.json.encode(shown)).decode() if options.json else format_toml(shown), end="")
    if options.json:
        print()
    for warning in warnings_of(config):
        print(f"meshgate: warning: {warning}", file=sys.stderr)
    return 0


def run_passwd(options: argparse.Namespace) -> int:
    """Read a password from the terminal (twice) or one line of standard input; print its hash."""
    if options.role and options.name is None:
        raise CommandError("--role needs the name of a user")
    if sys.stdin.isatty():
        password = getpass.getpass("new password: ")
        if getpass.getpass("once more: ") != password:
            raise CommandError("the two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if len(password) < PASSWORD_LENGTH_MIN:
        raise CommandError(f"a password has at least {PASSWORD_LENGTH_MIN} characters")
    password_hash = hash_password(password)
    if options.name is None:
        print(password_hash)
    else:
        name = msgspec.json.encode(options.name).decode()       # a JSON string is a TOML string, a list of them, too
        roles = msgspec.json.encode(options.role).decode().replace('","', '", "')
        print(f'[[users]]\nname = {name}\npassword_hash = "{password_hash}"\nroles = {roles}')
    return 0
