"""`meshgate top`: verdict, figures, what needs attention, who is furthest behind. Plain lines, drawn again and again.

No keys and no colours without a terminal, so it also serves `watch`, a log and a screen reader.
"""
from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from typing import Any

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client
from tui import show
from tui.text import clean, cut, wrap

CONSUMERS_SHOWN = 10
ROLES = {"broken": "\x1b[1;31m", "warning": "\x1b[33m", "notice": "\x1b[36m", None: "\x1b[32m"}
MARKS = {"broken": "⊠", "warning": "△", "notice": "‖", None: "○"}
HOME, CLEAR_LINE, CLEAR_BELOW, PLAIN = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[0m"


def run(options: argparse.Namespace) -> int:
    client = Client(options)
    again = sys.stdout.isatty() and not options.once
    colours = again and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    while True:
        size = shutil.get_terminal_size((100, 1_000))
        width, height = size if again else (size.columns, 1_000)
        try:
            lines = screen(client, width, height, colours=colours)
        except CommandError as error:
            if not again:
                raise
            lines = [f"⊠ {cut(clean(str(error)), width - 2)}", "", "It is tried again."]
        if not again:
            print("\n".join(lines))
            return 0
        body = "".join(f"{line}{CLEAR_LINE}\r\n" for line in lines[:height - 1])
        sys.stdout.write(HOME + body + CLEAR_BELOW)
        sys.stdout.flush()
        time.sleep(options.every)


def screen(client: Client, width: int, height: int, *, colours: bool) -> list[str]:
    """Lines of at most width cells. Raises CommandError."""
    overview = _object(client.json("/api/v1/overview"))
    consumers = _object(client.json(f"/api/v1/consumers?sort=-lag_events&limit={CONSUMERS_SHOWN}"
                                    "&fields=name,state,lag_events,lag_seconds,trend,forecast"))

    def coloured(text: str, severity: str | None) -> str:
        return f"{ROLES[severity]}{text}{PLAIN}" if colours else text

    worst = overview["worst"] if overview["worst"] in ("broken", "warning") else None
    lines = [cut(f"meshgate · {clean(overview['node'])} ({clean(overview['site'])}) · "
                 f"{show.time_of(overview['time_ms'])} UTC", width), ""]
    lines += [coloured(f"{MARKS[worst] if not index else ' '} {line}", worst)
              for index, line in enumerate(wrap(clean(overview["verdict"]), width - 2))]
    lines.append("")
    figures = overview["figures"]
    lines += wrap("   ".join((
        f"events in {show.number(figures.get('events_in_s'))}/s", f"behind {show.number(figures.get('lag_events'))}",
        f"denied {show.number(figures.get('denied_s'))}/s", f"dropped {show.number(figures.get('dropped_s'))}/s",
        f"connections {show.number(figures.get('connections'))}", f"memory {show.size(figures.get('memory_bytes'))}",
    )), width)
    for item in overview["attention"][:max(height // 3, 3)]:
        severity = item["severity"]
        lines += ["", coloured(cut(f"{MARKS.get(severity, '‖')} {clean(item['what'])}", width), severity),
                  cut(f"  {clean(item['affects'])} · {clean(item['do'])}", width)]
    lines.append("")
    for row in consumers["consumers"]:
        state = f"{clean(row['name'])}: {row['state']}, {show.number(row['lag_events'])} events"
        lines.append(cut(f"{state}, {show.duration(row['lag_seconds'])} behind"
                         f"{', ' + row['forecast'] if row['forecast'] else ''}", width))
    return lines


def _object(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise CommandError("the node's answer is not what this version expects")
    return answer
