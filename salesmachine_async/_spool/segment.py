"""A file of the log, written by its process and read as a whole."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from salesmachine_async._spool.files import Files
from salesmachine_async._spool.pieces import LogPiece
from salesmachine_async._spool.record import (
    SEGMENT_HEAD_BYTES,
    VERSION,
    Gap,
    LogRecord,
    SegmentHead,
    decode_head,
    encode_head,
    scan,
)

__all__ = ["Loaded", "Segment", "load", "read_head", "segment_name", "segment_numbers"]

# A file that is larger is not one of the spool's: reading it whole could take all memory.
_MOST_BYTES: Final = 2**30
_NAME: Final = re.compile(r"(\d{8,})\.seg", re.ASCII)


def segment_name(number: int) -> str:
    """Return the name of a segment's file."""
    return f"{number:08d}.seg"


def segment_numbers(files: Files, directory: int) -> list[int]:
    """Return the numbers of a directory's segments, oldest first."""
    return sorted(int(found[1]) for name in files.names(directory) if (found := _NAME.fullmatch(name)))


class Segment:
    """
    A segment that is being written. Its room is taken when it is made.

    Args:
        files: The operating system.
        directory: The open directory.
        number: Segments are read in the order of their numbers.
        size: Room for the head and the records, in bytes.
        destination: The destination of the messages.
        created_ms: The time.
        restarted: Whether it is begun because the one before could not be written.

    Attributes:
        number: The number of the segment.
        end: The offset of the next record.
        safe: The end of the bytes that need not be written again.
    """

    __slots__ = ("_fd", "_files", "_size", "_synced", "end", "number", "safe")

    def __init__(
        self,
        files: Files,
        directory: int,
        number: int,
        *,
        size: int,
        destination: int,
        created_ms: int,
        restarted: bool = False,
    ) -> None:
        self._files = files
        self._size = size
        self.number = number
        self.end = SEGMENT_HEAD_BYTES
        self._fd = files.open(segment_name(number), os.O_RDWR | os.O_CREAT | os.O_EXCL, directory)
        try:
            files.allocate(self._fd, size)
            files.write(self._fd, [encode_head(destination, created_ms, restarted=restarted)], 0)
            files.sync(self._fd)
            files.sync_directory(directory)
        except OSError:
            files.close(self._fd)
            with suppress(OSError):
                files.unlink(segment_name(number), directory)
            raise
        self.safe = self._synced = self.end

    def has_room(self, size: int) -> bool:
        """Whether records of *size* bytes fit."""
        return self.end + size <= self._size

    def append(self, parts: Sequence[bytes | memoryview]) -> None:
        """Write records; after an error the segment must be retired."""
        self.end += self._files.write(self._fd, parts, self.end)

    def sync(self) -> None:
        """Wait until all records are on the disk; after an error the segment must be retired."""
        if self._synced < self.end:
            self._files.sync(self._fd)
            self.safe = self._synced = self.end

    def trust(self) -> None:
        """Count what is written as safe without waiting for the disk."""
        self.safe = self.end

    def retire(self) -> None:
        """Truncate the segment behind what is safe, if the disk allows, and close it."""
        with suppress(OSError):
            self._files.truncate(self._fd, self.safe)
        self._files.close(self._fd)


class Loaded(NamedTuple):
    """
    A segment as read.

    Attributes:
        number: The number of the segment.
        head: The head; None if it is damaged.
        data: The bytes of the file.
        records: The readable records.
        gaps: The spans between them.
    """

    number: int
    head: SegmentHead | None
    data: bytes
    records: list[LogRecord]
    gaps: list[Gap]

    @property
    def ends(self) -> dict[int, int]:
        """By partition, the number behind the last message of its readable records."""
        ends: dict[int, int] = {}
        for record in self.records:
            ends[record.partition] = max(ends.get(record.partition, 0), record.first + record.messages)
        return ends

    def piece(self, record: LogRecord) -> LogPiece:
        """Return the messages of a record."""
        lines = self.data[record.start : record.end]
        return LogPiece(record.partition, record.first, record.messages, lines, record.kind, record.written_ms)


def read_head(files: Files, directory: int, number: int) -> SegmentHead | None:
    """Read the head of a segment; None if it is damaged or missing."""
    try:
        fd = files.open(segment_name(number), os.O_RDONLY, directory)
    except FileNotFoundError:
        return None
    try:
        return decode_head(files.read(fd, SEGMENT_HEAD_BYTES))
    finally:
        files.close(fd)


def load(files: Files, directory: int, number: int, end: int | None = None) -> Loaded | None:
    """Read a segment, or its bytes before *end*; None if it was settled and removed."""
    try:
        fd = files.open(segment_name(number), os.O_RDONLY, directory)
    except FileNotFoundError:
        return None
    try:
        size = files.status_of(fd).st_size if end is None else end
        if size > _MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        data = files.read(fd, size)
    finally:
        files.close(fd)
    records: list[LogRecord] = []
    gaps: list[Gap] = []
    head = decode_head(data)
    if head is None and data:
        # A head that is cut off belongs to a segment that never held a record.
        gaps.append(Gap(0, min(len(data), SEGMENT_HEAD_BYTES), torn=len(data) < SEGMENT_HEAD_BYTES or not any(data)))
    for item in scan(data):
        if isinstance(item, LogRecord):
            records.append(item)
        else:
            gaps.append(item)
    return Loaded(number, head, data, records, gaps)


def is_newer(head: SegmentHead | None) -> bool:
    """Whether a later version of this package wrote the segment."""
    return head is not None and head.version > VERSION
