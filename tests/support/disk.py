"""Disks for tests of the log: one that forgets what was not synced, and one whose n-th call fails.

SimulatedDisk keeps, beside what a program sees, what a power loss would leave: a write lasts for sure only after
datasync of its file, a change of names only after sync_directory. power_loss(random) keeps an arbitrary part of the
rest: each unsynced 512-byte sector or not, each directory's changes up to an arbitrary one.
"""
from __future__ import annotations

import errno
import os
import random
from collections import Counter
from pathlib import Path

from routing.errors import StorageError
from routing.log.fs import FileSystem

SECTOR = 512


class PowerLoss(BaseException):
    """The machine goes dark in the middle of an operation. No handler of the program may see it."""


class Inode:
    def __init__(self) -> None:
        self.content = bytearray()
        self.durable = bytearray()
        self.unsynced: list[tuple[str, int, bytes]] = []


class SimulatedFile:
    def __init__(self, disk: SimulatedDisk, inode: Inode) -> None:
        self._disk = disk
        self._inode = inode
        self.closed = False

    def pread(self, size: int, position: int) -> bytes:
        assert not self.closed
        return bytes(self._inode.content[position:position + size])

    def pread_cached(self, size: int, position: int) -> bytes | None:
        return self.pread(size, position)

    def pwrite(self, data: bytes, position: int) -> int:
        assert not self.closed
        self._disk.step()
        content = self._inode.content
        if len(content) < position:
            content.extend(bytes(position - len(content)))
        content[position:position + len(data)] = data
        self._inode.unsynced.append(("write", position, bytes(data)))
        self._disk.step()
        return len(data)

    def pwrite_synced(self, data: bytes, position: int) -> None:
        """In two steps, so that power can fail between them."""

    def datasync(self) -> None:
        assert not self.closed
        self._disk.step()
        self._inode.durable = bytearray(self._inode.content)
        self._inode.unsynced.clear()
        self._disk.step()

    def truncate(self, size: int) -> None:
        assert not self.closed
        self._disk.step()
        _resize(self._inode.content, size)
        self._inode.unsynced.append(("truncate", size, b""))

    def allocate(self, position: int, size: int) -> None:
        if len(self._inode.content) < position + size:
            self.truncate(position + size)

    def size(self) -> int:
        return len(self._inode.content)

    def close(self) -> None:
        self.closed = True


class SimulatedLock:
    def __init__(self, disk: SimulatedDisk, path: Path) -> None:
        self._disk, self._path = disk, path

    def release(self) -> None:
        self._disk.locks.discard(self._path)


class SimulatedDisk:
    """A FileSystem in memory. loss_at: the operation, counted from now, at which PowerLoss is raised."""

    def __init__(self) -> None:
        self.files: dict[Path, Inode] = {}
        self.durable_files: dict[Path, Inode] = {}
        self.directories: set[Path] = {Path("/")}
        self.changes: dict[Path, list[tuple[str, Path, Inode | None]]] = {}     # directory -> unsynced changes
        self.locks: set[Path] = set()
        self.loss_at: int | None = None

    def step(self) -> None:
        if self.loss_at is not None:
            self.loss_at -= 1
            if self.loss_at <= 0:
                raise PowerLoss

    def open(self, path: Path, *, create: bool = False, writable: bool = False) -> SimulatedFile:
        inode = self.files.get(path)
        if inode is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            self.step()
            inode = self.files[path] = Inode()
            self._change(path.parent, "link", path, inode)
        return SimulatedFile(self, inode)

    def names(self, directory: Path) -> list[str]:
        children = {path.name for path in self.files if path.parent == directory}
        children |= {path.name for path in self.directories if path.parent == directory and path != directory}
        return sorted(children)

    def exists(self, path: Path) -> bool:
        return path in self.files or path in self.directories

    def make_directory(self, path: Path) -> None:
        self.directories |= {path, *path.parents}       # RealFileSystem syncs each; tested there

    def remove(self, path: Path) -> None:
        self.step()
        if self.files.pop(path, None) is not None:
            self._change(path.parent, "unlink", path, None)

    def rename(self, source: Path, target: Path) -> None:
        self.step()
        inode = self.files.pop(source)
        self.files[target] = inode
        self._change(source.parent, "rename", source, None)
        self.changes[source.parent][-1] = ("rename " + target.name, source, inode)

    def remove_directory(self, path: Path) -> None:
        self.directories.discard(path)

    def sync_directory(self, path: Path) -> None:
        self.step()
        for change in self.changes.pop(path, []):
            self._apply(change)
        self.step()

    def lock(self, path: Path) -> SimulatedLock:
        if path in self.locks:
            raise StorageError(f"{path.parent} is in use by another process")
        self.locks.add(path)
        return SimulatedLock(self, path)

    def _change(self, directory: Path, what: str, path: Path, inode: Inode | None) -> None:
        self.changes.setdefault(directory, []).append((what, path, inode))

    def _apply(self, change: tuple[str, Path, Inode | None]) -> None:
        what, path, inode = change
        if what == "link":
            assert inode is not None
            self.durable_files[path] = inode
        elif what == "unlink":
            self.durable_files.pop(path, None)
        else:
            assert inode is not None
            self.durable_files.pop(path, None)
            self.durable_files[path.parent / what.removeprefix("rename ")] = inode

    def power_loss(self, rng: random.Random) -> None:
        """Become what the disk holds after the machine comes back."""
        self.loss_at = None
        for directory in sorted(self.changes):
            pending = self.changes[directory]
            for change in pending[:rng.randint(0, len(pending))]:
                self._apply(change)
        for inode in {id(inode): inode for inode in self.durable_files.values()}.values():
            self._keep_some(inode, rng)
        self.files = dict(self.durable_files)
        self.changes = {}
        self.locks = set()

    def _keep_some(self, inode: Inode, rng: random.Random) -> None:
        content = inode.durable
        share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for what, position, data in inode.unsynced:
            if what == "truncate":
                if rng.random() < share:
                    _resize(content, position)
                continue
            start = 0
            while start < len(data):
                end = min(len(data), start + SECTOR - (position + start) % SECTOR)
                if rng.random() < share:
                    at = position + start
                    if len(content) < at:
                        content.extend(bytes(at - len(content)))
                    content[at:at + end - start] = data[start:end]
                start = end
        inode.content = bytearray(content)
        inode.durable = bytearray(content)
        inode.unsynced.clear()


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


class Faults:
    """Which calls fail. fail("datasync", at=2) makes the second datasync from now raise EIO; count=-1: all from there.

    suffix limits it to files whose name ends so, stream to those of one stream. short: a pwrite writes only so many
    bytes and says so. one_call: a commit writes and syncs by "pwrite_synced", where it needs no "allocate" before.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.one_call = False
        self._rules: list[dict] = []

    def fail(self, call: str, *, at: int = 1, count: int = 1, code: int = errno.EIO, suffix: str = "",
             short: int | None = None, stream: str = "") -> None:
        self._rules.append({"call": call, "at": at, "count": count, "code": code, "suffix": suffix, "short": short,
                            "stream": stream})

    def clear(self) -> None:
        self._rules.clear()

    def check(self, call: str, path: Path) -> int | None:
        """Raise if this call is to fail; the number of bytes for a short write, else None."""
        self.calls[call] += 1
        for rule in self._rules:
            if rule["call"] != call or not path.name.endswith(rule["suffix"]) or (
                    rule["stream"] and rule["stream"] not in path.parts):
                continue
            rule["at"] -= 1
            if rule["at"] > 0 or rule["count"] == 0:
                continue
            rule["count"] -= 1
            if rule["short"] is not None:
                return rule["short"]
            raise OSError(rule["code"], os.strerror(rule["code"]), str(path))
        return None


class FaultyFile:
    def __init__(self, file, faults: Faults, path: Path) -> None:
        self._file, self._faults, self._path = file, faults, path

    def pread(self, size: int, position: int) -> bytes:
        self._faults.check("pread", self._path)
        return self._file.pread(size, position)

    def pread_cached(self, size: int, position: int) -> bytes | None:
        self._faults.check("pread", self._path)
        return self._file.pread_cached(size, position)

    def pwrite(self, data: bytes, position: int) -> int:
        short = self._faults.check("pwrite", self._path)
        return self._file.pwrite(data if short is None else data[:short], position)

    def pwrite_synced(self, data: bytes, position: int) -> int | None:
        if not self._faults.one_call:
            return None
        short = self._faults.check("pwrite_synced", self._path)
        return self._file.pwrite_synced(data if short is None else data[:short], position)

    def datasync(self) -> None:
        self._faults.check("datasync", self._path)
        self._file.datasync()

    def truncate(self, size: int) -> None:
        self._faults.check("truncate", self._path)
        self._file.truncate(size)

    def allocate(self, position: int, size: int) -> None:
        self._faults.check("allocate", self._path)
        self._file.allocate(position, size)

    def size(self) -> int:
        return self._file.size()

    def close(self) -> None:
        self._file.close()


class FaultyFileSystem:
    """Another file system, with faults."""

    def __init__(self, inner: FileSystem) -> None:
        self._inner = inner
        self.faults = Faults()

    def open(self, path: Path, *, create: bool = False, writable: bool = False) -> FaultyFile:
        self.faults.check("create" if create else "open", path)
        return FaultyFile(self._inner.open(path, create=create, writable=writable), self.faults, path)

    def names(self, directory: Path) -> list[str]:
        return self._inner.names(directory)

    def exists(self, path: Path) -> bool:
        return self._inner.exists(path)

    def make_directory(self, path: Path) -> None:
        self._inner.make_directory(path)

    def remove(self, path: Path) -> None:
        self.faults.check("remove", path)
        self._inner.remove(path)

    def remove_directory(self, path: Path) -> None:
        self.faults.check("remove", path)
        self._inner.remove_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self.faults.check("rename", target)
        self._inner.rename(source, target)

    def sync_directory(self, path: Path) -> None:
        self.faults.check("sync_directory", path)
        self._inner.sync_directory(path)

    def lock(self, path: Path):
        return self._inner.lock(path)


