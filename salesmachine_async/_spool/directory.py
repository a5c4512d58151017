"""A directory of the spool. Its lock alone decides whether its process is alive."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from salesmachine_async._spool.cursor import CursorFile, read_cursor
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.segment import is_newer, read_head, segment_name, segment_numbers
from salesmachine_async._version import __version__

__all__ = ["DAMAGED", "LOCK", "OWNER", "REJECTED", "Directory", "Identity", "identify"]

LOCK: Final = "lock"
OWNER: Final = "owner.json"
REJECTED: Final = "rejected.ndjson"
DAMAGED: Final = "damaged"


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Destination and age of a directory, as far as they can be read.

    Attributes:
        segments: The numbers of its segments, oldest first.
        destination: For whom; None if nothing readable says it.
        created_ms: When its oldest segment was made; 0 if that is not readable.
        newer: Whether a later version of this package wrote it.
    """

    segments: list[int]
    destination: int | None
    created_ms: int
    newer: bool


def identify(files: Files, directory: int) -> Identity:
    """Read the heads of a directory's segments, the first that is whole and that the disk gives; else its cursor."""
    numbers = segment_numbers(files, directory)
    for number in numbers:
        with suppress(OSError):
            head = read_head(files, directory, number)
            if head is not None:
                return Identity(numbers, head.destination, head.created_ms, is_newer(head))
    cursor = None
    with suppress(OSError):
        cursor = read_cursor(files, directory)
    return Identity(numbers, cursor.destination if cursor else None, 0, newer=False)


class Directory:
    """
    A directory that this process has locked.

    Attributes:
        name: The name below the path.
        fd: The open directory.
    """

    __slots__ = ("_files", "_lock", "fd", "name")

    def __init__(self, files: Files, name: str, fd: int, lock: int) -> None:
        self._files = files
        self.name = name
        self.fd = fd
        self._lock = lock

    @classmethod
    def create(cls, files: Files, root: int) -> Directory:
        """Create and lock a new directory; the caller holds the lock of the path."""
        name = secrets.token_hex(8)
        files.make_directory(name, root)
        fd = files.open_directory(name, root)
        lock = -1
        try:
            lock = files.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, fd)
            files.lock(lock)
            directory = cls(files, name, fd, lock)
            directory._describe_owner()
            files.sync_directory(root)
        except OSError:
            with suppress(OSError):
                for each in (OWNER, LOCK):
                    files.unlink(each, fd)
                files.remove_directory(name, root)
            files.close(lock)
            files.close(fd)
            raise
        return directory

    def _describe_owner(self) -> None:
        """Write owner.json, which only describes the process; no code depends on it."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            boot = None
        owner = {
            "pid": os.getpid(),
            "host": platform.node(),
            "boot_id": boot,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "version": __version__,
        }
        fd = self._files.open(OWNER, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self.fd)
        try:
            self._files.write(fd, [orjson.dumps(owner, option=orjson.OPT_APPEND_NEWLINE)], 0)
        finally:
            self._files.close(fd)

    @classmethod
    def attach(cls, files: Files, root: int, name: str) -> Directory | None:
        """Lock an existing directory if its process is dead; the caller holds the lock of the path."""
        fd = files.open_directory(name, root)
        try:
            lock = files.open(LOCK, os.O_RDWR | os.O_CREAT, fd)
            try:
                if files.lock(lock):
                    return cls(files, name, fd, lock)
            except OSError:
                files.close(lock)
                raise
            files.close(lock)
        except OSError:
            files.close(fd)
            raise
        files.close(fd)
        return None

    def has_vanished(self, path: str) -> bool:
        """Whether the directory was deleted or moved: its name below *path* no longer leads to it."""
        try:
            found = self._files.status(os.path.join(path, self.name, LOCK))
        except (FileNotFoundError, NotADirectoryError):
            return True
        mine = self._files.status_of(self._lock)
        return (found.st_ino, found.st_dev) != (mine.st_ino, mine.st_dev)

    def cursor(self, destination: int, partitions: int = 1) -> CursorFile:
        """Open the cursor, after creating a missing one."""
        return CursorFile(self._files, self.fd, destination, partitions)

    def drop_segment(self, number: int) -> None:
        """Remove a segment whose messages all have an outcome."""
        self._files.unlink(segment_name(number), self.fd)

    def keep_damaged(self, name: str, span: bytes) -> None:
        """Keep unreadable bytes in a file for an operator."""
        with suppress(FileExistsError):
            self._files.make_directory(DAMAGED, self.fd)
        damaged = self._files.open_directory(DAMAGED, self.fd)
        try:
            fd = self._files.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, damaged)
            try:
                self._files.write(fd, [span], 0)
            finally:
                self._files.close(fd)
        finally:
            self._files.close(damaged)

    def release(self) -> None:
        """Close the directory and release its lock, so that another process can adopt it."""
        self._files.close(self._lock)
        self._files.close(self.fd)

    def discard(self, root: int, keep: Collection[str] = (REJECTED, DAMAGED)) -> None:
        """Remove all but damaged spans and rejected messages; the caller holds the lock of the path."""
        try:
            names = self._files.names(self.fd)
            kept = {*keep} & {*names}
            for name in names:
                if name == DAMAGED and not kept:
                    self._remove_damaged()
                elif name not in kept and not (kept and name in {LOCK, OWNER}):
                    self._files.unlink(name, self.fd)
            if not kept:
                with suppress(FileNotFoundError):
                    self._files.remove_directory(self.name, root)
        finally:
            self.release()

    def _remove_damaged(self) -> None:
        damaged = self._files.open_directory(DAMAGED, self.fd)
        try:
            for name in self._files.names(damaged):
                self._files.unlink(name, damaged)
        finally:
            self._files.close(damaged)
        self._files.remove_directory(DAMAGED, self.fd)
