"""`meshgate doctor`: is this node well, and if not, what is wrong and what to do. Exit code 1 when somebody must look.

    the configuration file (--config) ▸ the node ▸ what it says of itself and of the mesh ▸ its machine, from here
"""
from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client
from mesh.commands.client.managed import add_common, get, print_json, rows_of
from mesh.process.logs import one_line
from mesh.values.units import format_size
from mesh.version import meshgate_version
from routing.errors import MeshgateError

OPEN_FILES_MIN = 8_192          # each connection is one, and the log keeps 1,000 back
FREE_BYTES_MIN = 1024**3
BACKLOG_MIN = 1_024             # waiting connections; listeners ask for 4,096

Finding = tuple[str, str, str]      # how bad: ok, notice, warning, broken · what · what to do


def add_doctor(parser: argparse.ArgumentParser) -> None:
    add_common(parser, act=False)
    parser.set_defaults(run=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    found = [*_file(options.config), *_node(options)]
    if options.json:
        print_json([{"state": state, "what": what, "do": do} for state, what, do in found])
    else:
        for state, what, do in found:
            print(f"{state:<9} {one_line(what)}" + (f"\n          → {one_line(do)}" if do else ""))
    return int(any(state in ("warning", "broken") for state, _, _ in found))


def _file(file: Path | None) -> Iterator[Finding]:
    if file is None:
        return
    from mesh.configuration.config import load_config  # late: it knows every setting of every protocol
    from mesh.configuration.effective import warnings_of
    from mesh.configuration.outside import resolve_links, resolve_outside

    try:
        config = load_config(file)
        resolve_outside(config)
        resolve_links(config)
    except MeshgateError as error:
        yield "broken", str(error), f"mend {file}, then meshgate check {file}"
        return
    yield "ok", f"{file} is a configuration that a node would take", ""
    for warning in warnings_of(config):
        yield "notice", warning, ""


def _node(options: argparse.Namespace) -> Iterator[Finding]:
    try:
        client = Client(options)
        status = get(client, "status")
        overview = get(client, "overview")
    except CommandError as error:
        yield "broken", str(error), ""
        return
    ours, its = meshgate_version(), status.get("version")
    if ours == its:
        yield "ok", f"node {status.get('name')} answers, version {its}", ""
    else:
        yield "notice", f"node {status.get('name')} answers, version {its}; this command is {ours}", ""
    items = rows_of(overview, "attention")
    if not items:
        yield "ok", str(overview.get("verdict")), ""
    for item in items:
        yield str(item["severity"]), f"{item['what']} (affects {item['affects']})", str(item["do"])
    yield from _machine(Path(str(status.get("data"))))


def _machine(data: Path) -> Iterator[Finding]:
    """When the node is on this one, and we may look into its data directory."""
    try:
        process = msgspec.json.decode((data / "listening.json").read_bytes(), type=dict[str, object])["pid"]
        files = re.search(r"^Max open files +(\d+)", Path(f"/proc/{process}/limits").read_text(), re.MULTILINE)
        backlog = int(Path("/proc/sys/net/core/somaxconn").read_text())
        free = shutil.disk_usage(data).free
    except (OSError, ValueError, KeyError, msgspec.MsgspecError):
        return
    few = free < FREE_BYTES_MIN
    yield ("warning" if few else "ok", f"{data}: {format_size(free)} free",
           "make room, or shorten the retention of streams" if few else "")
    if files is not None:
        few = int(files[1]) < OPEN_FILES_MIN
        yield ("notice" if few else "ok", f"the node may have {int(files[1]):,} open files",
               "LimitNOFILE=65536 in the unit, or ulimit -n before it starts" if few else "")
    if backlog < BACKLOG_MIN:
        yield "notice", f"{backlog:,} connections may wait to be accepted", "sysctl net.core.somaxconn=4096"
