"""The data directory: one node at a time, the first admin's password, and a note of where the node listens.

    <data>/lock            held (flock) while the node runs; the process id is in it for people
    <data>/admin.hash      argon2id hash of the generated admin password, mode 0600
    <data>/listening.json  {"pid", "name", "listeners": {"mqtt": ["127.0.0.1:1883"]}}; gone after a clean stop
    <data>/streams/        the log; owned by routing/log
"""
from __future__ import annotations

import errno
import fcntl
import os
import secrets
from pathlib import Path

import msgspec

from routing.errors import ConfigError

ADMIN = "admin"
PASSWORD_BYTES = 18         # 144 random bits, 24 characters


class DataDirectory:
    """Owns <data> for the life of the process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: int | None = None

    def lock(self) -> None:
        """Create the directory and take it. Raises ConfigError when another node has it or it cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o750)
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise ConfigError(f"node.data: {self.root}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise ConfigError(f"node.data: {self.root}: cannot be locked: {error.strerror}") from error
            raise ConfigError(f"node.data: {self.root} belongs to a running node (process {owner or '?'})") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def release(self) -> None:
        if self._lock is not None:
            (self.root / "listening.json").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def write_listening(self, name: str, listeners: dict[str, list[str]]) -> None:
        """Tell programs on this machine the real ports; matters when the configuration says port 0."""
        note = {"pid": os.getpid(), "name": name, "listeners": listeners}
        partial = self.root / "listening.json.partial"
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(note)) + b"\n")
        partial.replace(self.root / "listening.json")

    def admin_hash(self) -> str | None:
        """The stored hash of the generated admin password, None when there is none yet."""
        try:
            return (self.root / "admin.hash").read_text().strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.root / 'admin.hash'}: cannot be read: {error}") from error

    def store_admin_hash(self, password_hash: str) -> None:
        path = self.root / "admin.hash"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(password_hash + "\n")


def random_password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)
