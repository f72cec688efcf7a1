"""`meshgate log verify|dump|restored|new-epoch`: read a log on disk, also beside a running node (see
routing/log/inspect.py and restored.py).

Exit code of verify: 0 when there is no damage, 1 when there is.
"""
from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import msgspec


def add_log(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = actions.add_parser("verify", help="check every batch, tell what is damaged")
    verify.add_argument("--all", action="store_true", help="also tell about segments that are well")
    verify.add_argument("--json", action="store_true", help="one JSON object per finding")
    verify.set_defaults(run=run_verify)
    dump = actions.add_parser("dump", help="print the records")
    dump.add_argument("--offset", type=int, default=0, metavar="N", help="begin at this offset")
    dump.add_argument("--count", type=int, metavar="N", help="stop after N records")
    dump.add_argument("--no-headers", action="store_true", help="leave the headers out")
    dump.set_defaults(run=run_dump)
    new_epoch = actions.add_parser("new-epoch", help="give a log whose name is lost a new one; the node must be down")
    new_epoch.add_argument("path", type=Path, metavar="DIR", help="a data directory")
    new_epoch.set_defaults(run=run_new_epoch)
    restored = actions.add_parser(
        "restored", help="say that a data directory was put back from an older copy; before the node starts")
    restored.add_argument("path", type=Path, metavar="DIR", help="a data directory")
    restored.set_defaults(run=run_restored)
    for action in (verify, dump):
        action.add_argument(
            "path", type=Path, metavar="DIR", help="a data directory, a stream's directory in it, or one .log file")


def run_verify(options: argparse.Namespace) -> int:
    from routing.log.inspect import verify

    found: Counter[str] = Counter()
    for finding in verify(options.path):
        found[finding.level] += 1
        if options.json:
            print(msgspec.json.encode(finding).decode(), flush=True)
        elif finding.level != "ok" or options.all:
            print(finding, flush=True)
    if not options.json:
        print(f"{found['ok']} segments are well, {found['damage']} damaged places, {found['note']} notes")
    return 1 if found["damage"] else 0


def run_new_epoch(options: argparse.Namespace) -> int:
    from routing.log.catalog import give_epoch

    epoch = give_epoch(options.path)
    print(f"the log is {epoch} from now on; other nodes that had its events copy what they want again")
    return 0


def run_restored(options: argparse.Namespace) -> int:
    from routing.log.restored import SKIPPED, leave_out

    count = sum(1 for _ in leave_out(options.path))
    print(f"{count} partitions go on {SKIPPED:,} offsets further: what was stored after the copy had those")
    return 0


def run_dump(options: argparse.Namespace) -> int:
    from routing.log.inspect import dump

    for line in dump(options.path, offset=options.offset, count=options.count, headers=not options.no_headers):
        print(line)
    return 0
