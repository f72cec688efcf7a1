"""The data directory beside the log: the first admin's password, and a note of where the node listens.

    <data>/admin.hash      argon2id hash of the generated admin password, mode 0600
    <data>/listening.json  {"pid", "name", "listeners": {"mqtt": ["127.0.0.1:1883"]}}; gone after a clean stop
    <data>/logins, logins.key      what is remembered of logins, mode 0600; see mesh/identity/remembered.py
    <data>/node.key, node.pub      the node's own key; see mesh/identity/node_key.py
    <data>/lock, epoch, streams/    the log; owned by routing/log/store.py, which keeps a second node out
"""
from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import msgspec

from mesh.system.files.private import write_private
from routing.errors import ConfigError

ADMIN = "admin"
PASSWORD_BYTES = 18         # 144 random bits, 24 characters


class DataDirectory:
    """Written only while this process has the log open."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self) -> None:
        """Create the directory. Raises ConfigError when it cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o750)
        except OSError as error:
            raise ConfigError(f"node.data: {self.root}: {error.strerror}") from error
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise ConfigError(f"node.data: {self.root}: this user may not write there")

    def free_bytes(self) -> int | None:
        """Free on the disk that the log is on, for users like us; None when it cannot be asked."""
        try:
            return shutil.disk_usage(self.root).free
        except OSError:
            return None

    def forget_listening(self) -> None:
        (self.root / "listening.json").unlink(missing_ok=True)

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
        write_private(self.root / "admin.hash", f"{password_hash}\n".encode())


def random_password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)
