"""A client program in another language, which runs one scenario after the other: started once per file.

It reads lines from its standard input, "SCENARIO ARGUMENT…", and answers each with "ok SCENARIO …" or, after whatever
else it has to say, "failed SCENARIO".
"""
from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from queue import Empty, Queue


class PeerProcess:
    """One program. Not for several threads."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True, env=environment)
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("failed: the program has ended")

    def begin(self, scenario: str, *arguments: str) -> None:
        """Have it run a scenario; wait() tells how it ends."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join((scenario, *arguments)) + "\n")
        self._process.stdin.flush()

    def wait(self, deadline_s: float = 60.0, until: str = "ok ") -> str:
        """What it says after "ok", or after another word that it says in between; fails with all it has said."""
        said: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=deadline_s)
            except Empty:
                raise AssertionError("no answer in time; it has said:\n" + "\n".join(said[-60:])) from None
            if line.startswith(until):
                return line.removeprefix(until)
            said.append(line)
            assert not line.startswith("failed"), "\n".join(said[-60:])

    def run(self, scenario: str, *arguments: str, deadline_s: float = 60.0) -> str:
        self.begin(scenario, *arguments)
        return self.wait(deadline_s)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
