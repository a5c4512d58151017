"""Root of the spool, shared by processes: its checks, lock and size bound, and the adoption of orphans."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from typing import Final

from salesmachine_async._spool.directory import Directory, Identity, identify
from salesmachine_async._spool.files import Files, blocks
from salesmachine_async.errors import ConfigError

__all__ = ["Root"]

QUOTA_LOCK: Final = "quota.lock"
# Bytes that the file system takes for metadata when a file or a directory is created.
MARGIN_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_LOCK_SECONDS: Final = 5.0
_GROUP_OR_WORLD_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH


class Root:
    """
    The directory at `Spool.path`.

    Args:
        files: The operating system.
        path: The path of the spool.
        max_bytes: Size of everything below it, over all processes.

    Attributes:
        path: Absolute.
        skipped: Orphans that this process must not deliver, with the reason: "foreign", "newer" or "unreadable".
    """

    def __init__(self, files: Files, path: str | os.PathLike[str], max_bytes: int) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self.path: str = os.path.abspath(os.fspath(path))
        self.skipped: dict[str, str] = {}

    def check(self, *, create: bool = True) -> None:
        """
        Create it if it is missing, and try what a spool needs.

        Args:
            create: Whether to create it.

        Raises:
            ConfigError: If the path cannot be used; the message says why and what to do.
        """
        self._files.check()
        try:
            if create:
                self._create()
            self._check_status(self._files.status(self.path))
            with self.locked():
                pass
        except OSError as exc:
            if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
                return  # the first commit reports it, if it is still full
            raise ConfigError(f"Spool.path {self.path!r} cannot be used: {exc.strerror or exc}") from exc
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigError(f"Spool.path {self.path!r} cannot be used: this process may not write to it")

    def _create(self) -> None:
        missing: list[str] = []
        path = self.path
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for each in reversed(missing):
            with suppress(FileExistsError):  # another process created it first
                self._files.make_directory(each)
                self._sync_parent(each)

    def _sync_parent(self, path: str) -> None:
        with suppress(PermissionError):
            parent = self._files.open_directory(os.path.dirname(path))
            try:
                self._files.sync_directory(parent)
            finally:
                self._files.close(parent)

    def _check_status(self, status: os.stat_result) -> None:
        if stat.S_ISLNK(status.st_mode):
            raise ConfigError(f"Spool.path {self.path!r} is a symbolic link; name the directory it points to")
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"Spool.path {self.path!r} is not a directory")
        if status.st_mode & stat.S_ISVTX:
            return
        if status.st_mode & _GROUP_OR_WORLD_WRITABLE:
            raise ConfigError(f"Spool.path {self.path!r} is writable for other users; chmod it to 0700")
        if status.st_uid != os.geteuid():
            raise ConfigError(
                f"Spool.path {self.path!r} belongs to user {status.st_uid}, but this process runs as user "
                f"{os.geteuid()}; run it as the owner, or give each user a path of its own"
            )

    @contextmanager
    def locked(self) -> Generator[int]:
        """
        Hold the lock of the path, for a moment: no other process makes, adopts, grows or removes anything.

        Yields:
            The open directory.
        """
        root = self._files.open_directory(self.path)
        try:
            lock = self._files.open(QUOTA_LOCK, os.O_RDWR | os.O_CREAT, root)
            try:
                self._wait_for(lock)
                try:
                    yield root
                finally:
                    # Not by closing: a child of a fork may have the same open file.
                    self._files.unlock(lock)
            finally:
                self._files.close(lock)
        finally:
            self._files.close(root)

    def _wait_for(self, lock: int) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not self._files.lock(lock):
            if time.monotonic() > deadline:
                raise OSError(errno.EAGAIN, f"{QUOTA_LOCK} is held by another process")
            time.sleep(0.001)

    def restore(self) -> None:
        """Make the path again if it was deleted; raises `OSError` if it can no longer be trusted."""
        self._create()
        try:
            self._check_status(self._files.status(self.path))
        except ConfigError as exc:
            raise OSError(errno.EPERM, str(exc)) from exc

    def make_room(self, root: int, size: int) -> None:
        """Raise `OSError` unless *size* more bytes are within the bound; the caller holds the lock."""
        if self.usage(root) + size + MARGIN_BYTES > self._max_bytes:
            raise OSError(errno.ENOSPC, "Spool.max_bytes is reached")

    def usage(self, directory: int) -> int:
        """Return the space of all files in an open directory on disk, in bytes."""
        total = blocks(self._files.status_of(directory))
        for name in self._files.names(directory):
            try:
                status = self._files.status(name, directory)
                if stat.S_ISDIR(status.st_mode):
                    below = self._files.open_directory(name, directory)
                    try:
                        total += self.usage(below)
                    finally:
                        self._files.close(below)
                else:
                    total += blocks(status)
            except (FileNotFoundError, PermissionError):
                continue  # settled since, or of another user in a shared directory
        return total

    def size_of(self, root: int, file: str) -> int:
        """Return the size of the files of that name in all directories, in bytes."""
        total = 0
        for name in self.directories(root):
            with suppress(OSError):
                total += self._files.status(f"{name}/{file}", root).st_size
        return total

    def directories(self, root: int) -> list[str]:
        """Return the names of the processes' directories."""
        return [name for name in self._files.names(root) if _NAME.fullmatch(name)]

    def adopt(self, destinations: Collection[int]) -> tuple[Directory, Identity] | None:
        """Lock the oldest directory of a dead process that holds messages for one of the destinations."""
        with self.locked() as root:
            self.skipped.clear()
            for name in self.oldest_first(root):
                try:
                    directory = Directory.attach(self._files, root, name)
                except FileNotFoundError:
                    continue  # deleted by hand
                except OSError:
                    self.skipped[name] = "unreadable"
                    continue
                if directory is None:
                    continue
                try:
                    identity = identify(self._files, directory.fd)
                except OSError:
                    directory.release()
                    continue
                if not identity.segments:
                    directory.discard(root)
                    continue
                reason = _reason_to_skip(identity, destinations)
                if reason is None:
                    return directory, identity
                self.skipped[name] = reason
                directory.release()
        return None

    def oldest_first(self, root: int) -> list[str]:
        """Return the names of the directories of this user's processes, by their time of creation."""
        found: list[tuple[int, str]] = []
        for name in self.directories(root):
            try:
                fd = self._files.open_directory(name, root)
            except OSError:
                continue
            try:
                # Below a sticky path another user could leave messages to be delivered with this user's key.
                if self._files.status_of(fd).st_uid == os.geteuid():
                    found.append((identify(self._files, fd).created_ms, name))
            except OSError:
                continue
            finally:
                self._files.close(fd)
        return [name for _, name in sorted(found)]


def _reason_to_skip(identity: Identity, destinations: Collection[int]) -> str | None:
    if identity.newer:
        return "newer"
    if identity.destination is None:
        return "unreadable"
    return None if identity.destination in destinations else "foreign"
