"""`meshgate tui` and `meshgate top`: the mesh in this terminal. The dashboard is tui/, loaded when it is wanted."""
from __future__ import annotations

import argparse
import os
import sys

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import add_options
from mesh.commands.client.target import target_of

THEMES = ("dark", "light")


def add_tui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("screen", nargs="*", help="what to show first, as in its command bar: links state!=up")
    parser.add_argument("--readonly", action="store_true", help="look, and change nothing")
    parser.add_argument("--slow", action="store_true", help="ask every 5 seconds, for thin lines")
    parser.add_argument("--theme", choices=THEMES, default=os.environ.get("MESHGATE_THEME", "dark"))
    add_options(parser, "console")
    parser.set_defaults(run=run_tui)


def add_top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print it once; the default without a terminal")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="how often (default: 2)")
    add_options(parser, "console")
    parser.set_defaults(run=run_top)


def run_tui(options: argparse.Namespace) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError("the dashboard needs a terminal; for scripts there are `meshgate get` and `meshgate top`")
    if options.theme not in THEMES:
        raise CommandError(f"$MESHGATE_THEME is one of {', '.join(THEMES)}")
    target = target_of(options)
    from tui.run import run

    return run(target, readonly=options.readonly, slow=options.slow, theme=options.theme,
               first=" ".join(options.screen) or "pulse")


def run_top(options: argparse.Namespace) -> int:
    if not options.every >= 0.5:
        raise CommandError("--every is at least 0.5 seconds")
    from mesh.commands.status.top import run

    return run(options)
