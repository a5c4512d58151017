"""
The bytes on disk, and how to read them after damage. Pure: it knows no files.

::

    segment:  head | record | record | … | zeros, as far as the file was allocated
    head:     "SMSP" | version u16 | flags u16 | destination u64 | created_ms u64 | crc32
    record:   f5 "rec" | length u32 | crc32 u32 |
              partition u16 | kind u16 | first u64 | count u32 | written_ms u64 | lines
    cursor:   "SMCU" | version u16 | count u16 | generation u64 | destination u64 | count x settled u64 | crc32

All numbers are little-endian. The lines of a record are joined by newlines. The byte f5 occurs in no UTF-8 text, so
the mark of a record cannot occur in the lines of another one: after damage the next mark is the next record. The
checksum of a record covers everything behind itself, but not its length: a damaged length can be put right.

The head of a segment keeps its size and its checksum in all versions, so that an older program recognises a newer log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

__all__ = [
    "Cursor",
    "Gap",
    "LogRecord",
    "SegmentHead",
    "decode_cursor",
    "decode_head",
    "encode",
    "encode_cursor",
    "scan",
]

VERSION: Final = 1
MARK: Final = b"\xf5rec"
RECORD_HEAD_BYTES: Final = 36
SEGMENT_HEAD_BYTES: Final = 28

_RECORD: Final = Struct("<4sIIHHQIQ")
_MARKED: Final = Struct("<4sII")
_FIELDS: Final = Struct("<HHQIQ")
_HEAD: Final = Struct("<4sHHQQ")
_CURSOR: Final = Struct("<4sHHQQ")
_CRC: Final = Struct("<I")
# Where in a record the bytes begin that its checksum covers.
_CHECKED: Final = _MARKED.size
_RESTARTED: Final = 1
# No process lives to write as many; a cursor has no room for a larger number.
_MOST_MESSAGES: Final = 2**64 - 1


class LogRecord(NamedTuple):
    """A readable record; its lines are ``data[start:end]``."""

    partition: int
    kind: int
    first: int
    """The number of its first message within the partition."""
    messages: int
    written_ms: int
    start: int
    end: int


class Gap(NamedTuple):
    """A span that holds no readable record."""

    start: int
    end: int
    torn: bool
    """Whether it is the beginning of a last record, cut off by a crash; else something has changed it."""


class SegmentHead(NamedTuple):
    """The head of a segment."""

    version: int
    destination: int
    created_ms: int
    restarted: bool
    """Whether it was begun because the one before could not be written: it repeats what is not safe there."""


class Cursor(NamedTuple):
    """The settled position of each partition."""

    generation: int
    destination: int
    settled: tuple[int, ...]


def encode(
    parts: Sequence[bytes | memoryview], *, partition: int, kind: int, first: int, messages: int, written_ms: int
) -> bytes:
    """Return the head of the record whose lines are *parts*, one behind the other."""
    fields = _FIELDS.pack(partition, kind, first, messages, written_ms)
    checksum, length = crc32(fields), 0
    for part in parts:
        checksum = crc32(part, checksum)
        length += len(part)
    return _MARKED.pack(MARK, length, checksum) + fields


def scan(data: bytes, position: int = SEGMENT_HEAD_BYTES) -> Iterator[LogRecord | Gap]:
    """
    Yield the records of a segment from *position* on, and the gaps between them.

    It ends where only zeros follow: no record ends with a zero.
    """
    used = len(data.rstrip(b"\0"))
    view = memoryview(data)
    while position < used:
        record = _record_at(data, view, position, used)
        if record is not None:
            yield record
            position = record.end
            continue
        following = _next_record(data, view, position + 1, used)
        yield _gap(data, position, used) if following < 0 else Gap(position, following, torn=False)
        position = used if following < 0 else following


def _record_at(data: bytes, view: memoryview, position: int, used: int) -> LogRecord | None:
    start = position + RECORD_HEAD_BYTES
    if start >= used or not data.startswith(MARK, position):
        return None
    _, length, checksum, partition, kind, first, count, written_ms = _RECORD.unpack_from(data, position)
    if not length or not count or first + count > _MOST_MESSAGES:
        return None
    end = start + length
    if end > used or crc32(view[position + _CHECKED : end]) != checksum:
        # Perhaps only the length is damaged: then the record reaches to the next mark.
        end = _find(data, position + 1, used)
        if end <= start or crc32(view[position + _CHECKED : end]) != checksum:
            return None
    return LogRecord(partition, kind, first, count, written_ms, start, end)


def _find(data: bytes, position: int, used: int) -> int:
    found = data.find(MARK, position, used)
    return used if found < 0 else found


def _next_record(data: bytes, view: memoryview, position: int, used: int) -> int:
    """Return where the next readable record begins; -1 if there is none."""
    while (position := data.find(MARK, position, used)) >= 0:
        if _record_at(data, view, position, used) is not None:
            return position
        position += 1
    return -1


def _gap(data: bytes, start: int, used: int) -> Gap:
    """Return the last gap of a segment, without the zeros it begins with."""
    start = used - len(data[start:used].lstrip(b"\0"))
    fragment = data[start : min(start + RECORD_HEAD_BYTES, used)]
    marked = fragment.startswith(MARK) or MARK.startswith(fragment)
    cut = start + RECORD_HEAD_BYTES >= used or start + RECORD_HEAD_BYTES + _length(fragment) > used
    return Gap(start, used, torn=marked and cut)


def _length(fragment: bytes) -> int:
    return int.from_bytes(fragment[4:8], "little")


def encode_head(destination: int, created_ms: int, *, restarted: bool = False, version: int = VERSION) -> bytes:
    """Return the head of a segment."""
    fields = _HEAD.pack(b"SMSP", version, _RESTARTED * restarted, destination, created_ms)
    return fields + _CRC.pack(crc32(fields))


def decode_head(data: bytes) -> SegmentHead | None:
    """Read the head of a segment; None if it is damaged."""
    fields = data[: _HEAD.size]
    if not fields.startswith(b"SMSP") or data[_HEAD.size : SEGMENT_HEAD_BYTES] != _CRC.pack(crc32(fields)):
        return None
    _, version, flags, destination, created_ms = _HEAD.unpack(fields)
    return SegmentHead(version, destination, created_ms, bool(flags & _RESTARTED))


def encode_cursor(generation: int, destination: int, settled: Sequence[int]) -> bytes:
    """Return one slot of the cursor, without its padding."""
    fields = _CURSOR.pack(b"SMCU", VERSION, len(settled), generation, destination)
    fields += b"".join(number.to_bytes(8, "little") for number in settled)
    return fields + _CRC.pack(crc32(fields))


def decode_cursor(slot: bytes) -> Cursor | None:
    """Read one slot of the cursor; None if it is damaged, or of another version."""
    if len(slot) < _CURSOR.size or not slot.startswith(b"SMCU"):
        return None
    _, version, count, generation, destination = _CURSOR.unpack_from(slot)
    end = _CURSOR.size + 8 * count
    if version != VERSION or slot[end : end + _CRC.size] != _CRC.pack(crc32(slot[:end])):
        return None
    numbers = (int.from_bytes(slot[at : at + 8], "little") for at in range(_CURSOR.size, end, 8))
    return Cursor(generation, destination, tuple(numbers))
