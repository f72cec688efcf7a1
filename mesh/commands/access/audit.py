"""`meshgate audit show|head|verify`: who did what on a node; and the proof that nothing of it was changed.

Exit code of verify: 0 when the chain holds, 1 when it breaks.
"""
from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client, add_options
from mesh.commands.client.table import format_table
from mesh.process.logs import one_line
from protocols.formats.event_json import rfc3339

Rows = list[dict[str, object]]


def add_audit(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print the newest records of a running node")
    show.add_argument("--filter", default="", metavar="TERMS", help="such as user=ana or act~consumer")
    show.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (50)")
    show.add_argument("--json", action="store_true", help="print the node's answer as JSON")
    add_options(show, "console")
    show.set_defaults(run=run_show)
    head = actions.add_parser("head", help="print the signed head of a running node, to be kept elsewhere")
    add_options(head, "console")
    head.set_defaults(run=run_head)
    verify = actions.add_parser("verify", help="prove the chain of a data directory, or of a copy of one")
    verify.add_argument("path", type=Path, metavar="DIR", help="a data directory")
    verify.add_argument("--head", type=Path, metavar="FILE",
                        help="a head that was kept elsewhere (meshgate audit head)")
    verify.add_argument("--key", default="", metavar="HEX", help="the node's public key, as <data>/node.pub has it")
    verify.set_defaults(run=run_verify)


def run_show(options: argparse.Namespace) -> int:
    from urllib.parse import urlencode

    query = urlencode({"filter": options.filter, "limit": options.limit})
    answer = Client(options).json(f"/api/v1/audit?{query}")
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return 0
    try:
        records = msgspec.convert(answer, dict[str, object]).get("audit")
        rows = msgspec.convert(records, Rows)
    except msgspec.ValidationError as error:
        raise CommandError("the node's answer is not what this version expects") from error
    print(format_table(
        ["id", "time", "user", "from", "act", "target", "outcome", "reason"],
        [[row["id"], rfc3339(int(str(row["time_ms"]))), row["user"], row["address"], row["act"],
          one_line(str(row["target"])), row["outcome"], one_line(str(row["reason"]))] for row in rows]))
    return 0


def run_head(options: argparse.Namespace) -> int:
    """Canonical JSON on one line, as it was signed."""
    answer = Client(options).json("/api/v1/audit/head")
    print(msgspec.json.encode(answer, order="sorted").decode())
    return 0


def run_verify(options: argparse.Namespace) -> int:
    from mesh.management.acts.chain import Broken, digest, verify
    from mesh.management.acts.heads import head_of, heads_problem
    from routing.log.inspect import payloads

    path = options.path
    stream, heads = path / "streams" / "%24audit", path / "streams" / "%24audit-heads"
    digests: dict[int, str] = {}

    def noted() -> Iterator[tuple[int, bytes]]:
        for offset, payload in payloads(stream if stream.is_dir() else path):
            digests[offset] = digest(payload)
            yield offset, payload
    count, broken = verify(noted())
    end = max(digests, default=-1) + 1
    signed, key = 0, options.key
    if broken is None and options.head is not None:
        kept = head_of(_read(options.head))
        if kept is None:
            raise CommandError(f"{options.head}: this is no signed head")
        key = key or kept.key
        signed, broken = heads_problem([_read(options.head)], digests.get, end, key)
    if broken is None and stream.is_dir() and digests:
        found = [payload for _, payload in payloads(heads)] if heads.is_dir() else []
        more, broken = heads_problem(found, digests.get, end, key)
        signed += more
        if broken is None and not found:
            broken = Broken(end, "no head is signed: nobody can say whether the tail was cut")
    if broken is not None:
        print(f"{count} records hold; broken at record {broken.offset}: {broken.what}")
        return 1
    print(f"{count} records hold: none was changed, dropped, swapped or added in between; {signed} signed heads fit")
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from error
