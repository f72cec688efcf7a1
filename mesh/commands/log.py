"""`meshgate log verify|dump`: read a log on disk, beside the node. The work is done by routing/log/inspect.py."""
from __future__ import annotations

import argparse
from pathlib import Path


def add_log(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = actions.add_parser("verify", help="check every batch, print what is damaged")
    dump = actions.add_parser("dump", help="print the records")
    for action in (verify, dump):
        action.add_argument("folder", type=Path, metavar="DIR", help="a data directory")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    raise NotImplementedError(options.action)
