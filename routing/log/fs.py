"""The file-system seam: every system call of the log goes through here, so that tests can fail or lose any of them.

Used by the other files of routing/log only. RealFileSystem is the operating system; the tests bring a simulated
disk that forgets unsynced bytes, and a wrapper that fails the n-th call (tests/support/disk.py).

Errors are OSError as the operating system raises them; commit.py and recovery.py decide what they mean.
"""
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol

from routing.errors import StorageError

# The machine is short of something that others have and give back: no fault of the disk, so it is worth another try.
SHORTAGE = frozenset((errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EINTR))

_READ_CACHED = getattr(os, "RWF_NOWAIT", None)      # Linux; elsewhere a read waits for the disk
_WRITE_SYNCED = getattr(os, "RWF_DSYNC", None)      # Linux; elsewhere a write and a sync are two calls
_NOT_KNOWN = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)     # what a file system says that has no such flag
_datasync = getattr(os, "fdatasync", os.fsync)      # not on every Unix


class File(Protocol):
    """One open file. Positions are absolute: there is no file pointer to lose track of."""

    def pread(self, size: int, position: int) -> bytes: ...
    def pread_cached(self, size: int, position: int) -> bytes | None: ...      # None: the disk would be asked
    def pwrite(self, data: bytes, position: int) -> int: ...
    def pwrite_synced(self, data: bytes, position: int) -> int | None: ...     # None: not known here
    def datasync(self) -> None: ...
    def truncate(self, size: int) -> None: ...
    def allocate(self, position: int, size: int) -> None: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


class Lock(Protocol):
    def release(self) -> None: ...


class FileSystem(Protocol):
    """What the log asks of a file system. Directory changes last only after sync_directory."""

    def open(self, path: Path, *, create: bool = False, writable: bool = False) -> File: ...
    def names(self, directory: Path) -> list[str]: ...
    def exists(self, path: Path) -> bool: ...
    def make_directory(self, path: Path) -> None: ...
    def remove(self, path: Path) -> None: ...
    def remove_directory(self, path: Path) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def sync_directory(self, path: Path) -> None: ...
    def lock(self, path: Path) -> Lock: ...


class RealFile:
    __slots__ = ("_handle",)

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def pread(self, size: int, position: int) -> bytes:
        return os.pread(self._handle, size, position)

    def pread_cached(self, size: int, position: int) -> bytes | None:
        """Only what the page cache holds. Where the system cannot tell, the disk is asked."""
        if _READ_CACHED is None:
            return os.pread(self._handle, size, position)
        buffer = bytearray(size)
        try:
            count = os.preadv(self._handle, [buffer], position, _READ_CACHED)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _NOT_KNOWN:
                raise
            return os.pread(self._handle, size, position)
        if count < size and position + count < os.fstat(self._handle).st_size:
            return None
        return bytes(buffer) if count == size else bytes(memoryview(buffer)[:count])

    def pwrite(self, data: bytes, position: int) -> int:
        return os.pwrite(self._handle, data, position)

    def pwrite_synced(self, data: bytes, position: int) -> int | None:
        """Write and make that last by one call: a thread that comes back has to wait for the interpreter, and in two
        calls it does so twice. What else was written to the file is not synced with it.
        """
        if _WRITE_SYNCED is None:
            return None
        try:
            return os.pwritev(self._handle, [data], position, _WRITE_SYNCED)
        except OSError as error:
            if error.errno not in _NOT_KNOWN:
                raise
            return None

    def datasync(self) -> None:
        _datasync(self._handle)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._handle, size)

    def allocate(self, position: int, size: int) -> None:
        """Reserve blocks and fill them with zeros, so that a later sync need not record anything about them."""
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._handle, position, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):     # not on every file system
                    raise
        if os.pwrite(self._handle, bytes(size), position) != size:
            raise OSError(errno.ENOSPC, "short write")

    def size(self) -> int:
        return os.fstat(self._handle).st_size

    def close(self) -> None:
        if self._handle >= 0:
            handle, self._handle = self._handle, -1     # the number may be reused: never close it twice
            os.close(handle)


class RealLock:
    __slots__ = ("_handle",)

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def release(self) -> None:
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            os.close(handle)


class RealFileSystem:
    """The operating system's files.

    spares: descriptors kept open for nothing, and given up one by one when there is no other left. So the log can roll
    and save while somebody else has used up all that the process may have.
    """

    def __init__(self, spares: int = 0) -> None:
        self._spares_max = spares
        self._spares: list[int] = []
        self.keep_spares()

    def keep_spares(self) -> None:
        """Take back what was given up, as far as that is possible now. Called once a second."""
        try:
            while len(self._spares) < self._spares_max:
                self._spares.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if error.errno not in SHORTAGE:
                raise

    def _open(self, path: Path | str, flags: int, mode: int = 0) -> int:
        while True:
            try:
                return os.open(path, flags | os.O_CLOEXEC, mode)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                try:
                    spare = self._spares.pop()
                except IndexError:
                    raise error from None
                os.close(spare)

    def open(self, path: Path, *, create: bool = False, writable: bool = False) -> RealFile:
        flags = os.O_RDWR if create or writable else os.O_RDONLY
        if create:
            flags |= os.O_CREAT
        return RealFile(self._open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o640))

    def names(self, directory: Path) -> list[str]:
        return sorted(os.listdir(directory))

    def exists(self, path: Path) -> bool:
        return path.exists()

    def make_directory(self, path: Path) -> None:
        """Create path and what is missing above it, each made to last in its parent."""
        if path.is_dir():
            return
        self.make_directory(path.parent)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o750)
        self.sync_directory(path.parent)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_directory(self, path: Path) -> None:
        """An empty one; none is no error."""
        with contextlib.suppress(FileNotFoundError):
            path.rmdir()

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def sync_directory(self, path: Path) -> None:
        handle = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def lock(self, path: Path) -> RealLock:
        """Take the exclusive lock at path. The operating system releases it when the process ends, however it ends.

        The file names the process that holds it, for people only.
        """
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            os.close(handle)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise StorageError(f"{path.parent} is in use by {who} (lock {path}: {error.strerror}): "
                               "stop it, or choose another --data") from None
        with contextlib.suppress(OSError):              # a full disk must not keep a node from starting
            os.ftruncate(handle, 0)
            os.pwrite(handle, b"%d\n" % os.getpid(), 0)
        return RealLock(handle)


def read_whole(fs: FileSystem, path: Path, size: int | None = None) -> bytes:
    """The whole content of a small file, or its first size bytes. Raises OSError, FileNotFoundError among them."""
    file = fs.open(path)
    try:
        return file.pread(file.size() if size is None else size, 0)
    finally:
        file.close()


def replace_whole(fs: FileSystem, path: Path, data: bytes, *, durable: bool) -> None:
    """Make data the content of path, in one step: a crash leaves the old or the new content, never a mixture.

    durable=False leaves out the syncs, for files that can be made again: after a power loss the file may then be
    empty or torn, so it must carry its own checksum.
    """
    temporary = path.with_name(path.name + ".tmp")
    file = fs.open(temporary, create=True)
    try:
        file.truncate(0)
        if data and file.pwrite(data, 0) != len(data):
            raise OSError(errno.ENOSPC, "short write", str(temporary))
        if durable:
            file.datasync()
    finally:
        file.close()
    fs.rename(temporary, path)
    if durable:
        fs.sync_directory(path.parent)
