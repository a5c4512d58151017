"""Files that forget, at a power loss, any part of what was not synced; as POSIX allows, not as one file system does."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from salesmachine_async._spool.files import Files

SECTOR = 512
# Says of each thing that was not synced whether it survives.
Choice = Callable[[], bool]


@dataclass(eq=False)
class File:
    """A file: what is on the disk for certain, and what was done to it since."""

    durable: bytearray = field(default_factory=bytearray)
    # Each a position and bytes to write, or a size and None.
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        for position, data in self.pending:
            change(self.durable, position, data)
        self.pending.clear()

    def fail_to_sync(self, choice: Choice) -> None:
        """Forget some of it for good, as Linux does; a later sync succeeds without it."""
        self.pending = [each for each in sectors(self.pending) if choice()]

    def after_power_loss(self, choice: Choice) -> bytes:
        data = bytearray(self.durable)
        for position, some in sectors(self.pending):
            if choice():
                change(data, position, some)
        return bytes(data)


@dataclass(eq=False)
class Folder:
    """A directory: the names in it that are on the disk for certain, and what was done since."""

    durable: dict[str, File | Folder] = field(default_factory=dict)
    names: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[tuple[str, File | Folder | None]] = field(default_factory=list)

    def put(self, name: str, entry: File | Folder | None) -> None:
        self.pending.append((name, entry))
        rename(self.names, name, entry)

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.pending.clear()

    def write_to(self, path: Path, choice: Choice) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        names = dict(self.durable)
        for name, entry in self.pending:
            if choice():
                rename(names, name, entry)
        for name, entry in names.items():
            if isinstance(entry, Folder):
                entry.write_to(path / name, choice)
            else:
                (path / name).write_bytes(entry.after_power_loss(choice))


def change(data: bytearray, position: int, some: bytes | None) -> None:
    """Write bytes, or (None) set the size."""
    end = position + len(some or b"")
    if len(data) < end:
        data += bytes(end - len(data))
    if some is None:
        del data[position:]
    else:
        data[position:end] = some


def sectors(pending: list[tuple[int, bytes | None]]) -> list[tuple[int, bytes | None]]:
    """Cut writes where a disk may cut them."""
    parts: list[tuple[int, bytes | None]] = []
    for position, data in pending:
        if data is None:
            parts.append((position, None))
            continue
        at = 0
        while at < len(data):
            size = SECTOR - (position + at) % SECTOR
            parts.append((position + at, data[at : at + size]))
            at += size
    return parts


def rename(names: dict[str, File | Folder], name: str, entry: File | Folder | None) -> None:
    """Put an entry under a name, or (None) remove it."""
    if entry is None:
        names.pop(name, None)
    else:
        names[name] = entry


class ForgetfulFiles(Files):
    """Works on real files below a path, and remembers what a power loss could do to them."""

    def __init__(self, path: Path, choice: Choice) -> None:
        super().__init__()
        self._choice = choice
        self._path = str(path)
        self.top = Folder()
        self._nodes: dict[int, File | Folder] = {}
        self.sync_fails = False
        self.full = False

    def power_loss(self, path: Path) -> None:
        """Write to *path* what the disk has after it."""
        self.top.write_to(path, self._choice)

    def _folder(self, at: int | None) -> Folder:
        node = self._nodes[at] if at is not None else self.top
        assert isinstance(node, Folder)
        return node

    def _file(self, fd: int) -> File:
        node = self._nodes[fd]
        assert isinstance(node, File)
        return node

    def open(self, name: str, flags: int, at: int | None = None) -> int:
        fd = super().open(name, flags, at)
        folder = self._folder(at)
        if name not in folder.names:
            folder.put(name, File())
        self._nodes[fd] = folder.names[name]
        if flags & os.O_TRUNC:
            self._file(fd).pending.append((0, None))
        return fd

    def open_directory(self, name: str, at: int | None = None) -> int:
        fd = super().open_directory(name, at)
        if os.path.isabs(name):
            self._nodes[fd] = self.top if name == self._path else Folder()
        else:
            self._nodes[fd] = self._folder(at).names[name]
        return fd

    def close(self, fd: int) -> None:
        super().close(fd)
        self._nodes.pop(fd, None)

    def make_directory(self, name: str, at: int | None = None) -> None:
        super().make_directory(name, at)
        if name != self._path:
            self._folder(at).put(name, Folder())

    def unlink(self, name: str, at: int) -> None:
        super().unlink(name, at)
        self._folder(at).put(name, None)

    def remove_directory(self, name: str, at: int) -> None:
        super().remove_directory(name, at)
        self._folder(at).put(name, None)

    def allocate(self, fd: int, size: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().allocate(fd, size)
        file = self._file(fd)
        file.pending.append((size, None))

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        self._file(fd).pending.append((size, None))

    def write(self, fd: int, parts: Sequence[bytes | memoryview], position: int) -> int:
        self._file(fd).pending.append((position, b"".join(parts)))
        return super().write(fd, parts, position)

    def sync(self, fd: int) -> None:
        if self.sync_fails:
            self._file(fd).fail_to_sync(self._choice)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._file(fd).sync()

    def sync_directory(self, fd: int) -> None:
        if self.sync_fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._folder(fd).sync()
