"""`make demo` is the first thing that a newcomer runs: in a terminal, to its end, and what it leaves to look at."""
from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.node import http
from tests.support.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
STORY_MAX_S = 240.0
END_MAX_S = 30.0


class Demo:
    """The demo in a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self.process, self._terminal = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            signal.signal(signal.SIGINT, signal.SIG_DFL)        # a run in the background of a script ignores it
            for name in ("DISPLAY", "WAYLAND_DISPLAY"):
                os.environ.pop(name, None)          # no browser
            os.execv(sys.executable, [sys.executable, str(ROOT / "examples" / "demo")])
        self.text = ""

    def read(self, wanted: str, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while wanted not in self.text:
            assert time.monotonic() < end_s, self.text
            if select.select([self._terminal], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self._terminal, 65_536).decode(errors="replace")
                except OSError:
                    raise AssertionError(self.text) from None

    def interrupt(self) -> int:
        os.write(self._terminal, b"\x03")
        end_s = time.monotonic() + END_MAX_S
        while not (ended := os.waitpid(self.process, os.WNOHANG))[0]:
            assert time.monotonic() < end_s, self.text
            if select.select([self._terminal], [], [], 0.2)[0]:
                with contextlib.suppress(OSError):              # its other end is closed
                    self.text += os.read(self._terminal, 65_536).decode(errors="replace")
        return os.waitstatus_to_exitcode(ended[1])


def test_the_demo_finds_everything_again_and_stays_with_traffic_a_lag_and_a_link_to_cut(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    try:
        demo.read("up --config", STORY_MAX_S)
        assert "acknowledged events are in the log, in order" in demo.text
        assert "all 2000 reached the control room in Lyon" in demo.text
        if find_spec("proton") is not None:         # a client of AMQP 1.0 is here
            assert "replace the tool   accepted" in demo.text
        where = demo.text.partition("The console: ")[2].partition("\n")[0]
        cloud, graz, lyon = re.findall(r"http://[^/]+", where)

        def ask(node: str, path: str, method: str = "GET") -> Any:
            return http(method, f"{node}/api/v1/{path}", b"{}" if method == "POST" else None).json

        for node in (graz, lyon):
            wait_until(lambda node=node: ask(node, "overview")["figures"]["events_in_s"] > 5, "there is traffic")
        wait_until(lambda: any(row["lag_events"] > 0 for row in ask(cloud, "consumers?id=ledger")["consumers"]),
                   "there is a lag to watch")
        command = next(line for line in demo.text.splitlines() if "faststream_app.py" in line).split("FastStream's")[0]
        said = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, timeout=90, check=True)
        assert "5 judged by the Kafka group, 2 alarms over AMQP" in said.stdout
        link = ask(graz, "links")["links"][0]["id"]
        assert link == "to-cloud", "as the demo names it"
        ask(graz, f"links/{link}/pause", "POST")
        wait_until(lambda: "plant-graz" in (now := ask(cloud, "overview"))["verdict"] and not now["healthy"],
                   "the console says what is cut off")
        ask(graz, f"links/{link}/resume", "POST")
        wait_until(lambda: ask(cloud, "overview")["healthy"], "and that it is well again")
        assert demo.interrupt() == 0
        assert "Traceback" not in demo.text
    except BaseException:
        os.kill(demo.process, signal.SIGTERM)
        raise
