"""A dashboard in a real terminal: tmux, keys in, picture out."""
from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

from tests.conftest import require_peer
from tests.support.node import COMMAND, ROOT
from tests.support.wait import wait_until


class Tmux:
    """with Tmux(folder, "tui --url …", size=(80, 24)) as terminal: terminal.sees("● live")"""

    def __init__(self, folder: Path, arguments: str, *, size: tuple[int, int] = (120, 40),
                 term: str = "xterm-256color") -> None:
        require_peer(shutil.which("tmux"), "tmux")
        self._socket = folder / "tmux"
        self._arguments = arguments
        self._size = size
        self._term = term
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(folder), "LANG": "C.UTF-8"}
        for name in ("COLORTERM", "COLUMNS", "LINES"):      # the terminal's own size counts
            self._environment.pop(name, None)

    def __enter__(self) -> Tmux:
        width, height = self._size
        command = f"unset COLORTERM; TERM={self._term} {' '.join(COMMAND)} {self._arguments}; echo ended $?; sleep 60"
        subprocess.run(["tmux", "-S", str(self._socket), "-u", "-f", "/dev/null", "new-session", "-d", "-x", str(width),
                        "-y", str(height), command], check=True, env=self._environment, timeout=30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._ask("kill-server")

    def _ask(self, *arguments: str) -> str:
        return subprocess.run(["tmux", "-S", str(self._socket), *arguments], capture_output=True, text=True, check=True,
                              timeout=30).stdout

    def picture(self) -> str:
        """Two blanks at the end of each line."""
        return "\n".join(f"{line}  " for line in self._ask("capture-pane", "-p").splitlines())

    def colours(self) -> str:
        """The picture with its escape sequences."""
        return self._ask("capture-pane", "-p", "-e")

    def sees(self, *wanted: str, without: str = "\0", deadline_s: float = 30.0) -> None:
        def there() -> bool:
            picture = self.picture()
            return all(piece in picture for piece in wanted) and without not in picture
        wait_until(there, f"{wanted}", deadline_s=deadline_s, also=self.picture)

    def keys(self, *names: str) -> None:
        """Names of tmux ("Enter", "Escape"), or texts."""
        self._ask("send-keys", *names)

    def command(self, text: str) -> None:
        self.keys(f":{text}", "Enter")
