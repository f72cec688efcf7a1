"""The command `meshgate`: arguments to one of mesh/commands, errors to one line and an exit code.

Exit codes: 0 done, 1 it did not work, 2 the arguments are wrong, 130 interrupted.
"""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from mesh.commands import apikey, audit, clock, events, links, log, node, show, topology
from mesh.version import meshgate_version
from routing.errors import MeshgateError

COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "up": (node.add_up, "run a node"),
    "check": (node.add_check, "check a configuration file and print the effective settings"),
    "passwd": (node.add_passwd, "make a password hash for the configuration"),
    "apikey": (apikey.add_apikey, "make an API key for a program"),
    "pub": (events.add_pub, "publish an event"),
    "sub": (events.add_sub, "print events as they come"),
    "status": (show.add_status, "how a running node is"),
    "streams": (show.add_streams, "its streams"),
    "consumers": (show.add_consumers, "its consumers with their lag; seek, pause, resume, delete one"),
    "webhooks": (show.add_webhooks, "its webhooks: what was delivered, what failed and why, the breaker"),
    "clients": (show.add_clients, "who is connected; kick one"),
    "links": (links.add_links, "its links with their state and backlog; pause, resume, drain, kick one"),
    "topology": (topology.add_topology, "the mesh as it sees it: nodes and links, routes, interest, lag"),
    "denials": (show.add_denials, "what was refused lately, and by which rule"),
    "audit": (audit.add_audit, "who did what; and the proof that nothing of it was changed"),
    "clock": (clock.add_clock, "whether it trusts the wall clock; confirm a jump"),
    "log": (log.add_log, "verify or dump a log, also that of a running node"),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshgate", description="Event mesh gateway: many protocols, one durable log.")
    parser.add_argument("--version", action="version", version=f"meshgate {meshgate_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (add, text) in COMMANDS.items():
        add(commands.add_parser(name, help=text, description=text[:1].upper() + text[1:] + "."))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return int(code)
    except MeshgateError as error:
        for line in str(error).splitlines():
            print(f"meshgate: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:         # `meshgate sub '#' | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
