"""Logins that were proven: a keyed hash of user, password and stored hash, so that coming back costs microseconds.

    <data>/logins.key   32 random bytes, mode 0600
    <data>/logins       records, mode 0600, added at the end:  │ good until: 8 bytes, wall clock ms │ keyed hash: 32 │

They outlive a restart, or 2,000 devices that come back together would wait a minute for argon2. A hash that changes
makes another keyed hash, so what was remembered of the former one fits nothing. Who has both files and the stored
hashes can try passwords faster than argon2 allows: they are as secret as the data; remember_s = 0 switches them off.

A file that is lost, torn or cannot be written costs time, never a login: records that fit nobody are passed over.
"""
from __future__ import annotations

import hashlib
import logging
import os
import secrets
import struct
import threading
from collections import OrderedDict
from pathlib import Path

logger = logging.getLogger(__name__)

KEY_BYTES = DIGEST_BYTES = 32
_RECORD = struct.Struct(f">q{DIGEST_BYTES}s")
SPREAD = 4              # each lasts 3/4 to 4/4 of the time, so that those of one morning do not end on one morning


class Remembered:
    """Loop thread only, but for store(), which is the worker's. Without a folder it lives in memory."""

    def __init__(self, folder: Path | None, entries_max: int, seconds: float) -> None:
        self._folder = folder if seconds > 0 else None
        self._entries_max = entries_max
        self._seconds = seconds
        self._until: OrderedDict[bytes, float] = OrderedDict()      # keyed hash → monotonic seconds
        self._key = secrets.token_bytes(KEY_BYTES)
        self._records = 0                                           # in the file
        self._lock = threading.Lock()                               # of the file
        self._failed = False

    def __len__(self) -> int:
        return len(self._until)

    def load(self, now_s: float, now_ms: int) -> None:
        """Read what was remembered before the restart. Never raises: then it begins afresh."""
        if self._folder is None:
            return
        try:
            key = self._folder / "logins.key"
            if key.exists() and len(found := key.read_bytes()) == KEY_BYTES:
                self._key = found
            else:
                _write(key, self._key)
                (self._folder / "logins").unlink(missing_ok=True)
            raw = b""
            if (self._folder / "logins").exists():
                raw = (self._folder / "logins").read_bytes()
            self._records = len(raw) // _RECORD.size
            for until_ms, digest in _RECORD.iter_unpack(raw[:self._records * _RECORD.size]):
                left_s = min((until_ms - now_ms) / 1000, self._seconds)
                self._until.pop(digest, None)
                if left_s > 0:
                    self._until[digest] = now_s + left_s
            self._trim()
            if self._records > len(self._until) or len(raw) % _RECORD.size:
                self._rewrite(now_s, now_ms)
        except OSError as error:
            self._give_up(error)

    def digest(self, user: str, password: bytes, stored: str) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=DIGEST_BYTES)
        for part in (user.encode("utf-8", "replace"), password, stored.encode()):
            digest.update(len(part).to_bytes(4, "big"))
            digest.update(part)
        return digest.digest()

    def has(self, digest: bytes, now_s: float) -> bool:
        until_s = self._until.get(digest)
        if until_s is None:
            return False
        if until_s <= now_s:
            del self._until[digest]
            return False
        self._until.move_to_end(digest)
        return True

    def add(self, digest: bytes, now_s: float) -> None:
        self._until[digest] = now_s + self._lasting_s(digest)
        self._until.move_to_end(digest)
        self._trim()

    def store(self, digest: bytes, now_ms: int) -> None:
        """Put it into the file as well. Blocks, and is called in a thread for that."""
        if self._folder is None or self._failed:
            return
        record = _RECORD.pack(now_ms + int(self._lasting_s(digest) * 1000), digest)
        with self._lock:
            try:
                if self._records >= 2 * self._entries_max:          # the oldest half goes; it was read at most once
                    raw = (self._folder / "logins").read_bytes()
                    kept = raw[-self._entries_max * _RECORD.size:]
                    _replace(self._folder / "logins", kept)
                    self._records = len(kept) // _RECORD.size
                with open(self._folder / "logins", "ab", opener=_private) as file:
                    file.write(record)
                self._records += 1
            except OSError as error:
                self._give_up(error)

    def _lasting_s(self, digest: bytes) -> float:
        return self._seconds * (1 - digest[0] / 256 / SPREAD) if self._seconds > 0 else IN_MEMORY_S

    def _trim(self) -> None:
        while len(self._until) > self._entries_max:
            self._until.popitem(last=False)

    def _rewrite(self, now_s: float, now_ms: int) -> None:
        assert self._folder is not None
        records = [_RECORD.pack(now_ms + int((until_s - now_s) * 1000), digest)
                   for digest, until_s in self._until.items()]
        _replace(self._folder / "logins", b"".join(records))
        self._records = len(records)

    def _give_up(self, error: OSError) -> None:
        self._failed = True
        logger.warning("logins are not remembered over a restart: %s", error)


IN_MEMORY_S = 3_600.0           # without a file


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb", opener=_private) as file:
        file.write(data)


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    _write(partial, data)
    partial.replace(path)
