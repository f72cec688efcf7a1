"""A server process of a test: started with its output in a file, stopped for sure. Used by node.py and mosquitto.py."""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class ServerProcess:
    """One child process in its own process group. Its output is appended to log_path over all starts."""

    def __init__(self, command: Sequence[str], log_path: Path, cwd: Path,
                 environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self.log_path = log_path
        self.cwd = cwd
        self.environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert not self.running, "already running"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.cwd, env={**os.environ, **self.environment},
                                            start_new_session=True)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, deadline_s: float = 60.0) -> int:
        """The exit code (negative: killed by that signal)."""
        assert self.process is not None
        return self.process.wait(deadline_s)

    def kill9(self) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()

    def terminate(self, deadline_s: float = 60.0) -> int:
        """SIGTERM, then wait; the exit code. The process is killed, and the test fails, when it does not stop."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"no exit {deadline_s} s after SIGTERM\n{self.log_tail()}") from None

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def cpu_s(self) -> float:
        """Processor time that it has used, of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])
