"""`make demo` is the first thing that a newcomer runs."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_kills_a_node_and_finds_everything_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo")], cwd=tmp_path, capture_output=True, timeout=240, text=True,
        stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "acknowledged events are in the log, in order" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
