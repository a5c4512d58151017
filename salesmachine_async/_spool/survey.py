"""Inspection of a spool from outside. Only `purge` changes anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from salesmachine_async._spool.cursor import read_cursor
from salesmachine_async._spool.directory import DAMAGED, OWNER, REJECTED, Directory, identify
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.pieces import LogPiece
from salesmachine_async._spool.reader import LogReader
from salesmachine_async._spool.root import Root
from salesmachine_async._spool.segment import Loaded, segment_name, segment_numbers

__all__ = ["Found", "Survey"]


@dataclass(slots=True)
class Found:
    """
    One directory.

    Attributes:
        name: The name below the path.
        live: Whether its process runs, or another one delivers what is in it.
        newer: Whether a newer version wrote it.
        destination: For whom its messages are; None if that is not readable.
        owner: The description of its process; empty if it is unreadable.
        disk_bytes: The space that it takes on disk.
        rejected_bytes: Size of what is kept of rejected messages.
        kept_bytes: Size of the spans in ``damaged/``.
        modified_ms: When a message or a span was written last; 0 if there is none.
        problem: Why the directory cannot be read at all; empty if it can.
        messages: Messages that wait; with `bytes`, `oldest_ms`, `damaged_bytes` and `torn_bytes` only when read.
        bytes: The size of the messages as encoded for the wire.
        oldest_ms: When the oldest of them was written; None if there is none.
        damaged_bytes: Bytes that something has changed.
        torn_bytes: Bytes of records that a crash cut off.
        unreadable: Segments that the disk does not give.
    """

    name: str
    live: bool = False
    newer: bool = False
    destination: int | None = None
    owner: dict[str, Any] = field(default_factory=dict[str, Any])
    disk_bytes: int = 0
    rejected_bytes: int = 0
    kept_bytes: int = 0
    modified_ms: int = 0
    problem: str = ""
    messages: int = 0
    bytes: int = 0
    oldest_ms: int | None = None
    damaged_bytes: int = 0
    torn_bytes: int = 0
    unreadable: list[int] = field(default_factory=list[int])


class Survey:
    """
    Looks at the directories below a path.

    Args:
        path: Of the spool.

    Attributes:
        path: The same, absolute.

    Raises:
        ConfigError: The path cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._files = Files()
        self._root = Root(self._files, path, 0)
        self._root.check(create=False)
        self.path = self._root.path

    def directories(self) -> list[Found]:
        """Return the directories, oldest first, without reading their messages."""
        with self._root.locked() as root:
            return [self._look(root, name) for name in self._root.oldest_first(root)]

    def _look(self, root: int, name: str) -> Found:
        try:
            return self._describe(root, name)
        except OSError as exc:
            return Found(name, problem=exc.strerror or type(exc).__name__)

    def _describe(self, root: int, name: str) -> Found:
        directory = Directory.attach(self._files, root, name)
        if directory is not None:
            directory.release()
        with self._opened(name, root) as fd:
            identity = identify(self._files, fd)
            return Found(
                name=name,
                live=directory is None,
                newer=identity.newer,
                destination=identity.destination,
                owner=self._owner(fd),
                disk_bytes=self._root.usage(fd),
                rejected_bytes=self._size(REJECTED, fd),
                kept_bytes=self._size_of_damaged(fd),
                modified_ms=self._modified_ms(fd),
            )

    @contextmanager
    def _opened(self, name: str, root: int | None = None) -> Generator[int]:
        fd = self._files.open_directory(name if root is not None else os.path.join(self._root.path, name), root)
        try:
            yield fd
        finally:
            self._files.close(fd)

    def _owner(self, directory: int) -> dict[str, Any]:
        try:
            fd = self._files.open(OWNER, os.O_RDONLY, directory)
        except OSError:
            return {}
        try:
            owner: Any = orjson.loads(self._files.read(fd, 65536))
        except (OSError, ValueError):
            return {}
        finally:
            self._files.close(fd)
        return cast("dict[str, Any]", owner) if isinstance(owner, dict) else {}

    def _modified_ms(self, directory: int) -> int:
        names = [segment_name(number) for number in segment_numbers(self._files, directory)]
        modified = 0
        for name in (*names, REJECTED, DAMAGED):
            with suppress(FileNotFoundError):
                modified = max(modified, self._files.status(name, directory).st_mtime_ns // 1_000_000)
        return modified

    def _size(self, name: str, directory: int) -> int:
        try:
            return self._files.status(name, directory).st_size
        except FileNotFoundError:
            return 0

    def _size_of_damaged(self, directory: int) -> int:
        try:
            damaged = self._files.open_directory(DAMAGED, directory)
        except FileNotFoundError:
            return 0
        try:
            return sum(self._size(name, damaged) for name in self._files.names(damaged))
        finally:
            self._files.close(damaged)

    def read(self, found: Found, progress: Callable[[int], None] | None = None) -> Iterator[LogPiece]:
        """
        Yield the messages of a directory that wait, and add them up in *found*.

        The messages of a live process may change during the reading.

        Args:
            found: The directory.
            progress: Called with the size of each segment that was read.
        """
        with self._opened(found.name) as fd:
            cursor = read_cursor(self._files, fd)
            numbers = segment_numbers(self._files, fd)

            def note(loaded: Loaded) -> None:
                if progress is not None:
                    progress(len(loaded.data))
                # A live process may be writing the end of its log, which is no damage.
                last = found.live and loaded.number == numbers[-1]
                for gap in loaded.gaps:
                    if last and gap is loaded.gaps[-1] and gap.end == len(loaded.data.rstrip(b"\0")):
                        continue
                    if gap.torn:
                        found.torn_bytes += gap.end - gap.start
                    else:
                        found.damaged_bytes += gap.end - gap.start

            def fail(number: int, _: OSError) -> None:
                found.unreadable.append(number)

            settled = cursor.settled if cursor else ()
            for piece in LogReader(self._files, fd, numbers, settled=settled, note=note, fail=fail):
                found.messages += piece.messages
                found.bytes += len(piece.lines)
                if found.oldest_ms is None or piece.written_ms < found.oldest_ms:
                    found.oldest_ms = piece.written_ms
                yield piece

    def rejected(self, found: Found) -> Iterator[bytes]:
        """Yield the lines about messages that the server rejected, as `Spool.keep_rejected` has kept them."""
        with self._opened(found.name) as directory:
            try:
                fd = self._files.open(REJECTED, os.O_RDONLY, directory)
            except FileNotFoundError:
                return
            try:
                with os.fdopen(fd, "rb", closefd=False) as file:
                    yield from file
            finally:
                self._files.close(fd)

    def purge(self, names: Collection[str], *, rejected_only: bool = False) -> list[str]:
        """
        Remove directories of dead processes with all that is in them.

        Args:
            names: Which.
            rejected_only: Remove only what is kept of rejected messages.

        Returns:
            The names of those that were purged; a process that lives keeps its own.
        """
        purged: list[str] = []
        with self._root.locked() as root:
            for name in names:
                directory = Directory.attach(self._files, root, name)
                if directory is None:
                    continue
                if rejected_only:
                    self._files.unlink(REJECTED, directory.fd)
                    directory.release()
                else:
                    directory.discard(root, keep=())
                purged.append(name)
        return purged
