"""`meshgate links`: the links of a running node; pause, resume, drain, kick one."""
from __future__ import annotations

import argparse
from urllib.parse import quote

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client, add_options
from mesh.commands.client.table import format_table
from mesh.values.units import format_duration, format_size

ACTIONS = ("pause", "resume", "drain", "kick")


class Backlog(msgspec.Struct):
    frames: int
    bytes: int
    unconfirmed_bytes: int
    seconds: float | None


class Traffic(msgspec.Struct):
    bytes_s: int


class LinkRow(msgspec.Struct):
    """What the table shows of a link; the answer has more (--json)."""

    id: str
    direction: str
    state: str
    node: str | None
    site: str | None
    to: str | None
    remote: str | None
    tls: bool
    rtt_ms: float | None
    skew_ms: float | None
    backlog: Backlog
    sent: Traffic
    received: Traffic
    last_error: str | None


class LinksAnswer(msgspec.Struct):
    links: list[LinkRow]


def add_links(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=ACTIONS, help="drain: pause once what is queued has been sent; "
                        "kick: close the connection, it is dialled again")
    parser.add_argument("name", nargs="?", help="the link's id, as the table shows it")
    parser.add_argument("--json", action="store_true", help="print the node's answer as JSON")
    add_options(parser, "console")
    parser.set_defaults(run=show_links)


def show_links(options: argparse.Namespace) -> int:
    if options.action is not None:
        return _act(options)
    answer = Client(options).json("/api/v1/links")
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return 0
    try:
        links = msgspec.convert(answer, LinksAnswer).links
    except msgspec.ValidationError as error:
        raise CommandError("the node's answer is not what this version expects") from error
    print(format_table(
        ["link", "dir", "state", "node", "site", "address", "tls", "rtt ms", "skew ms", "backlog", "behind", "out/s",
         "in/s"], [_row(link) for link in links]))
    for link in links:
        if link.last_error is not None and link.state != "up":
            print(f"{link.id}: {link.last_error}")
    return 0


def _row(link: LinkRow) -> list[object]:
    backlog = link.backlog
    waiting = backlog.bytes + backlog.unconfirmed_bytes
    behind = "-" if backlog.seconds is None else format_duration(backlog.seconds)
    return [
        link.id, link.direction, link.state, link.node, link.site, link.to or link.remote, link.tls, link.rtt_ms,
        link.skew_ms, format_size(waiting), behind, format_size(link.sent.bytes_s), format_size(link.received.bytes_s),
    ]


def _act(options: argparse.Namespace) -> int:
    if options.name is None:
        raise CommandError(f"which link? meshgate links {options.action} ID")
    answer = Client(options).json(f"/api/v1/links/{quote(options.name, safe='')}/{options.action}", "POST", b"{}")
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
    else:
        print(f"{options.action}: {options.name}")
    return 0
