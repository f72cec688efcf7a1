"""A child process that holds connections open: 10,000 sockets at either end would pass the limit of open files of one.

    with held("bench.rows.sse", port, count, timeout_s=240.0):      # python -m bench.rows.sse PORT COUNT
        …                                                           # all are open
"""
from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from socket import socket

from bench import ROOT
from bench.load.clients import BenchError


@contextmanager
def held(module: str, port: int, count: int, timeout_s: float) -> Iterator[None]:
    """Raises BenchError when the child does not say within timeout_s that all its connections are open."""
    child = subprocess.Popen([sys.executable, "-m", module, str(port), str(count)],
                             cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    try:
        ready = select.select([child.stdout], (), (), timeout_s)[0]
        if not ready or child.stdout.readline() != b"ready\n":
            raise BenchError(f"the {count} clients of {module} did not all connect")
        yield
    finally:
        child.stdin.close()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def hold(sockets: Iterable[socket]) -> None:
    """In the child: say that all are open, and hold them until standard input ends."""
    print("ready", flush=True)
    sys.stdin.read()
    for sock in sockets:
        sock.close()
