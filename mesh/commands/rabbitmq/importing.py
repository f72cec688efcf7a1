"""`meshgate import rabbitmq FILE`: exchanges, queues and bindings of another broker, declared here over AMQP 0-9-1."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mesh.commands.client.errors import CommandError
from mesh.commands.client.target import password_of
from mesh.commands.rabbitmq.amqp import AmqpClient, Refused
from mesh.commands.rabbitmq.definitions import DEFINITIONS_BYTES_MAX, Plan, plan_of, read

URL_DEFAULT = "amqp://127.0.0.1:5672"


def add_import(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="BROKER", required=True)
    rabbit = kinds.add_parser("rabbitmq", help="definitions of RabbitMQ: rabbitmqctl export_definitions FILE")
    rabbit.add_argument("file", type=Path)
    rabbit.add_argument("--dry-run", action="store_true", help="say what would be made, and what has no counterpart")
    rabbit.add_argument("--vhost", default="/", help="the virtual host whose definitions are taken (default: /)")
    rabbit.add_argument("--amqp", default=URL_DEFAULT, metavar="URL",
                        help=f"the node's AMQP listener (default: {URL_DEFAULT}); amqps:// for TLS")
    rabbit.add_argument("--ca", type=Path, metavar="FILE", help="certificate authority of the node, for amqps://")
    rabbit.add_argument("--user", help="log in as; the password is $MESHGATE_PASSWORD or asked for")
    rabbit.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        if options.file.stat().st_size > DEFINITIONS_BYTES_MAX:
            raise CommandError(f"{options.file} is larger than {DEFINITIONS_BYTES_MAX} bytes")
        raw = options.file.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {options.file}: {error.strerror}") from error
    plan = plan_of(read(raw), options.vhost)
    if options.dry_run:
        for step in plan.steps:
            print(step.text)
        _print_rest(plan)
        print(f"{len(plan.steps)} to make, {len(plan.gaps)} without a counterpart; nothing was changed")
        return 0
    refused = _make(options, plan)
    _print_rest(plan)
    print(f"{len(plan.steps) - refused} made or there already, {refused} refused, "
          f"{len(plan.gaps)} without a counterpart")
    return 1 if refused else 0


def _make(options: argparse.Namespace, plan: Plan) -> int:
    """How many steps the node has refused."""
    url = urlsplit(options.amqp)
    if url.scheme not in ("amqp", "amqps") or not url.hostname:
        raise CommandError(f"{options.amqp} is no URL of an AMQP listener: amqp://host:5672")
    user = options.user or (unquote(url.username) if url.username else None)
    password = password_of(user) if user else "guest"
    refused = 0
    with AmqpClient(url.hostname, url.port or (5671 if url.scheme == "amqps" else 5672), user or "guest", password,
                    tls=url.scheme == "amqps", ca=options.ca) as client:
        for step in plan.steps:
            try:
                client.ask(step.method)
            except Refused as error:
                refused += 1
                print(f"{step.text}: {error.text}", file=sys.stderr)
    return refused


def _print_rest(plan: Plan) -> None:
    if plan.gaps:
        print("\nno counterpart:")
        for gap in plan.gaps:
            print(f"  {gap}")
    if plan.rights:
        print("\nrights, for the configuration file:\n")
        print("\n".join(plan.rights))
