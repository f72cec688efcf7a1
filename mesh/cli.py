"""The command `meshgate`: arguments to one of mesh/commands, errors to one line and an exit code.

Exit codes: 0 done, 1 it did not work, 2 the arguments are wrong, 130 interrupted.
"""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

# Name → module in a room of mesh/commands, function that adds its arguments, what it does. Only the module of the
# command that was asked for is loaded: some of them know a whole node.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("local.node", "add_up", "run a node"),
    "check": ("local.node", "add_check", "check a configuration file and print the effective settings"),
    "passwd": ("local.node", "add_passwd", "make a password hash for the configuration"),
    "apikey": ("local.apikey", "add_apikey", "make an API key for a program"),
    "login": ("access.login", "add_login", "log in to a node and keep the token as a context"),
    "logout": ("access.login", "add_logout", "end the login of a context"),
    "contexts": ("access.login", "add_contexts", "nodes that you have logged in to; choose one"),
    "tui": ("status.dashboard", "add_tui", "the mesh in this terminal"),
    "top": ("status.dashboard", "add_top", "one screen of the mesh without keys, for a wall or `watch`"),
    "get": ("status.get", "add_get", "any list of a node as text, JSON or CSV"),
    "pub": ("messaging.events", "add_pub", "publish an event"),
    "sub": ("messaging.events", "add_sub", "print events as they come"),
    "doctor": ("status.doctor", "add_doctor", "is a node well, and if not, what to do"),
    "status": ("status.show", "add_status", "how a running node is"),
    "streams": ("status.show", "add_streams", "its streams"),
    "topics": ("messaging.kafka", "add_topics", "Kafka topics: list, describe, create, alter, delete"),
    "groups": ("messaging.kafka", "add_groups", "Kafka groups: list, describe, reset-offsets, delete"),
    "consumers": ("status.show", "add_consumers", "its consumers with their lag; seek, pause, resume, delete one"),
    "webhooks": ("status.show", "add_webhooks", "its webhooks: what was delivered, what failed and why, the breaker"),
    "clients": ("status.show", "add_clients", "who is connected; kick one"),
    "links": ("status.links", "add_links", "its links with their state and backlog; pause, resume, drain, kick one"),
    "topology": ("status.topology", "add_topology", "the mesh as it sees it: nodes and links, routes, interest, lag"),
    "denials": ("status.show", "add_denials", "what was refused lately, and by which rule"),
    "why": ("access.why", "add_why", "why a client was refused, and what would allow it"),
    "policy": ("access.policy", "add_policy", "rules: list, change, draft, apply, roll back, can-i"),
    "user": ("access.user", "add_user", "managed users: list, add, passwd, roles, lock"),
    "key": ("access.key", "add_key", "managed API keys: list, new, rotate, revoke"),
    "audit": ("access.audit", "add_audit", "who did what; and the proof that nothing of it was changed"),
    "clock": ("status.clock", "add_clock", "whether it trusts the wall clock; confirm a jump"),
    "import": ("rabbitmq.importing", "add_import", "take over exchanges, queues and bindings of RabbitMQ"),
    "log": ("local.log", "add_log", "verify or dump a log, also that of a running node"),
}


class _Version(argparse.Action):
    """Looks for the version only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: object) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from mesh.version import meshgate_version

        print(f"meshgate {meshgate_version()}")
        parser.exit()


def make_parser(asked: str | None) -> argparse.ArgumentParser:
    """asked: the command whose arguments are wanted; the others are names in the help."""
    parser = argparse.ArgumentParser(
        prog="meshgate", description="Event mesh gateway: many protocols, one durable log.")
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, add, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        if name == asked:
            getattr(import_module(f"mesh.commands.{module}"), add)(command)
    return parser


def _joined(given: list[str]) -> list[str]:
    """`--sort -lag_events`, as in the terminal dashboard, is an option with its value; argparse sees two options."""
    found: list[str] = []
    for word in given:
        if found and found[-1] == "--sort" and word.startswith("-"):
            found[-1] = f"--sort={word}"
        else:
            found.append(word)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = _joined(sys.argv[1:] if arguments is None else list(arguments))
    parser = make_parser(next((word for word in given if not word.startswith("-")), None))
    if not given:
        parser.print_help()
        return 2
    options = parser.parse_args(given)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return int(code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:         # `meshgate sub '#' | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from routing.errors import MeshgateError  # late: `--version` does without

        if not isinstance(error, MeshgateError):
            raise
        for line in str(error).splitlines():
            print(f"meshgate: {line}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
