"""`meshgate clock [confirm]`: does a running node trust the wall clock; and an operator's word that it is right."""
from __future__ import annotations

import argparse

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client, add_options
from mesh.values.units import format_duration


class ClockAnswer(msgspec.Struct):
    """What the node says; see Node.clock_status."""

    trusted: bool
    now: str
    wall_ahead_s: float
    jumps_taken: int
    taken_in_s: float | None = None
    confirmed: bool | None = None


def add_clock(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("confirm",), help="confirm: the wall clock is right; take it")
    parser.add_argument("--json", action="store_true", help="print the node's answer as JSON")
    add_options(parser, "console")
    parser.set_defaults(run=run_clock)


def run_clock(options: argparse.Namespace) -> int:
    client = Client(options)
    confirm = options.action == "confirm"
    answer = client.json("/api/v1/clock/confirm", method="POST") if confirm else client.json("/api/v1/clock")
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return 0
    try:
        found = msgspec.convert(answer, ClockAnswer)
    except msgspec.ValidationError as error:
        raise CommandError("the node's answer is not what this version expects") from error
    if confirm:
        print("the wall clock is taken as right" if found.confirmed else "there was no jump to confirm")
    side = "ahead of" if found.wall_ahead_s >= 0 else "behind"
    print(f"the node's time is {found.now}; the wall clock is {format_duration(abs(found.wall_ahead_s))} {side} it")
    if not found.trusted:
        print("the wall clock jumped and is not trusted: nothing is deleted or expires because of it")
        print(f"it is taken as right in {format_duration(found.taken_in_s)} if it keeps to its time, or at once by "
              "`meshgate clock confirm`" if found.taken_in_s is not None else
              "its time lies before 2026, so it is taken only by `meshgate clock confirm`")
    return 0
