"""System calls of the spool: relative to open directories, following no symbolic link."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from salesmachine_async.errors import ConfigError

if sys.platform != "win32":
    import fcntl

__all__ = ["Files"]

# The number of buffers that every POSIX system accepts in one call.
_MOST_BUFFERS: Final = 1024
# Without O_NONBLOCK the open of a pipe in the place of a file would wait for ever.
_SAFE: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_DIRECTORY: Final = getattr(os, "O_DIRECTORY", 0)


class Files:
    """
    Opens, reads, writes and locks; remembers what is open.

    A child of a fork shares the open files, and with them the locks: it must `abandon` them, which closes them without
    unlocking, so that the locks stay with the parent.
    """

    def __init__(self) -> None:
        self._open: set[int] = set()

    def check(self) -> None:
        """Raise `ConfigError` where the platform lacks what a spool needs."""
        if sys.platform == "win32":
            raise ConfigError("a spool needs file locks (flock), which this platform does not have")

    def abandon(self) -> None:
        """Close everything and unlock nothing."""
        while self._open:
            with suppress(OSError):
                os.close(self._open.pop())

    def open(self, name: str, flags: int, at: int | None = None) -> int:
        """Open a file below the directory *at*; what it creates only its owner may read."""
        return self._kept(os.open(name, flags | _SAFE, 0o600, dir_fd=at))

    def open_directory(self, name: str, at: int | None = None) -> int:
        """Open a directory."""
        return self._kept(os.open(name, os.O_RDONLY | _DIRECTORY | _SAFE, dir_fd=at))

    def _kept(self, fd: int) -> int:
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        """Close a file or directory; a lock on it is released."""
        if fd in self._open:
            self._open.discard(fd)
            os.close(fd)

    def make_directory(self, name: str, at: int | None = None) -> None:
        """Create a directory that only its owner may enter."""
        os.mkdir(name, 0o700, dir_fd=at)

    def names(self, directory: int) -> list[str]:
        """Return the names in a directory, sorted."""
        return sorted(os.listdir(directory))

    def status(self, name: str, at: int | None = None) -> os.stat_result:
        """Return what the file system knows of a name; of a link, what it knows of the link."""
        return os.stat(name, dir_fd=at, follow_symlinks=False)

    def status_of(self, fd: int) -> os.stat_result:
        """Return what the file system knows of an open file."""
        return os.fstat(fd)

    def unlink(self, name: str, at: int) -> None:
        """Remove a file; it may be missing."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=at)

    def remove_directory(self, name: str, at: int) -> None:
        """Remove an empty directory."""
        os.rmdir(name, dir_fd=at)

    def allocate(self, fd: int, size: int) -> None:
        """Reserve the space of a file, so that no later write finds the disk full."""
        if hasattr(os, "posix_fallocate"):
            try:
                return os.posix_fallocate(fd, 0, size)
            except OSError as exc:
                if exc.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
                    raise
        return os.ftruncate(fd, size)  # a file system or platform that cannot: a full disk is found by writing

    def truncate(self, fd: int, size: int) -> None:
        """Truncate a file."""
        os.ftruncate(fd, size)

    def write(self, fd: int, parts: Sequence[bytes | memoryview], position: int) -> int:
        """Write all parts, one behind the other; returns how many bytes they were."""
        start = position
        for index in range(0, len(parts), _MOST_BUFFERS):
            some = parts[index : index + _MOST_BUFFERS]
            expected = sum(map(len, some))
            written = os.pwritev(fd, some, position)
            if written < expected:  # at a limit or a full disk the rest raises
                self._write_rest(fd, memoryview(b"".join(some))[written:], position + written)
            position += expected
        return position - start

    def _write_rest(self, fd: int, rest: memoryview, position: int) -> None:
        while rest:
            written = os.pwrite(fd, rest, position)
            rest, position = rest[written:], position + written

    def read(self, fd: int, size: int, position: int = 0) -> bytes:
        """Read up to *size* bytes."""
        parts: list[bytes] = []
        while size > 0 and (part := os.pread(fd, size, position)):
            parts.append(part)
            size -= len(part)
            position += len(part)
        return b"".join(parts)

    def sync(self, fd: int) -> None:
        """Wait until what was written to a file is on the disk."""
        getattr(os, "fdatasync", os.fsync)(fd)

    def sync_directory(self, fd: int) -> None:
        """Wait until the names in a directory are on the disk."""
        os.fsync(fd)

    def lock(self, fd: int) -> bool:
        """Lock an open file description, if no other one holds the lock."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self, fd: int) -> None:
        """Release a lock, also for processes that a fork has given the same open file."""
        fcntl.flock(fd, fcntl.LOCK_UN)


def blocks(status: os.stat_result) -> int:
    """Return the space of a file on disk, in bytes; data not written back yet counts by its size."""
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return max(status.st_blocks * 512, -(-size // 4096) * 4096)
