"""Benchmarks: the node and the real peers on the same work in the same run. See docs/benchmarks.md."""
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PEERS: Final = ROOT / ".peers"          # built by `make peers`, `make bench`
