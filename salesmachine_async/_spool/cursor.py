"""Cursor file with the settled positions of a directory: two slots, written alternately, one of them always valid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from salesmachine_async._spool.files import Files
from salesmachine_async._spool.record import Cursor, decode_cursor, encode_cursor

__all__ = ["CursorFile", "read_cursor"]

NAME: Final = "cursor"
_SLOT_BYTES: Final = 4096
# What a slot holds beside its numbers.
_FRAME_BYTES: Final = 28


class CursorFile:
    """
    The cursor of a directory that this process owns.

    A lost or outdated cursor costs repeated messages, never a lost one; writing it needs no room on the disk.

    Args:
        files: The operating system.
        directory: The open directory.
        destination: The destination of the messages.
        partitions: For how many partitions a new file has room.
    """

    __slots__ = ("_destination", "_fd", "_files", "_generation", "_saved", "_slot", "_sound", "_unsynced")

    def __init__(self, files: Files, directory: int, destination: int, partitions: int = 1) -> None:
        self._files = files
        self._destination = destination
        current = read_cursor(files, directory)
        self._generation = current.generation if current else 0
        self._saved = current.settled if current else ()
        self._unsynced = False
        self._sound = True
        self._fd = files.open(NAME, os.O_RDWR | os.O_CREAT, directory)
        try:
            self._slot = self._room(partitions) // 2
        except OSError:
            files.close(self._fd)
            raise

    def _room(self, partitions: int) -> int:
        """Return the size of the file, after enlarging one that is new or was truncated."""
        size = self._files.status_of(self._fd).st_size
        if size < 2 * _SLOT_BYTES or size % (2 * _SLOT_BYTES):
            size = 2 * _SLOT_BYTES * -(-(_FRAME_BYTES + 8 * partitions) // _SLOT_BYTES)
            self._files.allocate(self._fd, size)
        return size

    @property
    def saved(self) -> tuple[int, ...]:
        """The numbers that are in the file."""
        return self._saved

    def save(self, settled: Sequence[int]) -> None:
        """Write the numbers, unless the file already holds them."""
        numbers = tuple(settled[: (self._slot - _FRAME_BYTES) // 8])
        if numbers == self._saved:
            return
        self._generation += 1
        slot = encode_cursor(self._generation, self._destination, numbers)
        self._files.write(self._fd, [slot], self._slot * (self._generation % 2))
        self._saved = numbers
        self._unsynced = True

    def sync(self) -> None:
        """Sync the file, unless a sync has failed before: a second one would succeed and prove nothing."""
        if self._unsynced and self._sound:
            self._unsynced = self._sound = False
            self._files.sync(self._fd)
            self._sound = True

    def close(self) -> None:
        """Close the file."""
        self._files.close(self._fd)


def read_cursor(files: Files, directory: int) -> Cursor | None:
    """Return the newest readable slot; None if there is none."""
    try:
        fd = files.open(NAME, os.O_RDONLY, directory)
    except FileNotFoundError:
        return None
    try:
        data = files.read(fd, files.status_of(fd).st_size)
    finally:
        files.close(fd)
    slot = max(_SLOT_BYTES, len(data) // 2)
    cursors = [decode_cursor(data[:slot]), decode_cursor(data[slot:])]
    return max((cursor for cursor in cursors if cursor), default=None, key=lambda cursor: cursor.generation)
