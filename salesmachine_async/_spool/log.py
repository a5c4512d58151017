"""Log of this process: commits accepted messages, drops settled segments, reads back messages that left the memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from salesmachine_async._spool.ages import Ages
from salesmachine_async._spool.cursor import CursorFile
from salesmachine_async._spool.damage import Damage
from salesmachine_async._spool.directory import REJECTED, Directory
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.pieces import LogPiece, clip, joined
from salesmachine_async._spool.record import SEGMENT_HEAD_BYTES, encode
from salesmachine_async._spool.root import Root
from salesmachine_async._spool.segment import Loaded, Segment, load

__all__ = ["Chunk", "Log", "segment_bytes"]

_LARGEST_SEGMENT: Final = 8 * 2**20
_SMALLEST_SEGMENT: Final = 64 * 1024
# Bytes of a new directory besides its segments.
_DIRECTORY_BYTES: Final = 64 * 1024


class Chunk(NamedTuple):
    """Result of reading a range back: its pieces in order, the number *end* it reaches, and how many are missing."""

    pieces: list[LogPiece]
    end: int
    missing: int


@dataclass(slots=True)
class _Written:
    """A segment; by partition, its first number, and that behind its last one; where it ends, once it is closed."""

    number: int
    firsts: dict[int, int] = field(default_factory=dict[int, int])
    ends: dict[int, int] = field(default_factory=dict[int, int])
    size: int | None = None


def segment_bytes(max_bytes: int) -> int:
    """Return the size of a segment: small enough for several processes to share the bound."""
    return max(_SMALLEST_SEGMENT, min(_LARGEST_SEGMENT, max_bytes // 16))


class Log:
    """
    The log that this process writes. Only one thread may use it.

    Args:
        files: The operating system.
        root: The path.
        destination: The destination of the messages.
        partitions: The number of partitions.
        size: Of a segment, in bytes.
        sync: Whether a commit waits for the disk.
        damage: Counts what cannot be read back.
        now_ms: The wall clock.

    Attributes:
        durable: By partition, the number behind the last message that need not be written again.
        settled: By partition, the number of the oldest message without an outcome.
        waiting: By partition, the numbers of the messages without an outcome.
        vanished: How many times the directory was deleted.
    """

    def __init__(
        self,
        files: Files,
        root: Root,
        destination: int,
        partitions: int,
        *,
        size: int,
        sync: bool,
        damage: Damage,
        now_ms: Callable[[], int],
    ) -> None:
        self._files = files
        self._root = root
        self._destination = destination
        self._size = size
        self._sync = sync
        self._damage = damage
        self._now_ms = now_ms
        self.durable = [0] * partitions
        self.settled = [0] * partitions
        self.waiting = [[range(sys.maxsize)] for _ in range(partitions)]
        self.vanished = 0
        # The durable numbers of the last sync; without `Spool.sync` these may be lower than `durable`.
        self._stable = [0] * partitions
        self._ages = Ages()
        self._directory: Directory | None = None
        self._cursor: CursorFile | None = None
        self._segment: Segment | None = None
        self._written: list[_Written] = []
        self._cache: Loaded | None = None
        # What the cache has by partition, if its segment was still being written.
        self._cached_ends: dict[int, int] | None = None
        self._number = 0
        self._restarted = False

    def commit(self, pieces: Iterable[LogPiece]) -> bool:
        """
        Write what is not written yet, and wait for the disk unless the policy says otherwise.

        Returns:
            Whether there was anything to write.

        Raises:
            OSError: If the write failed: what was written to full segments is durable, the rest counts as unwritten,
                and the next commit writes it to another segment.
        """
        ends = list(self.durable)
        now_ms = self._now_ms()
        batch: list[bytes | memoryview] = []
        size = 0
        try:
            for head, parts, length, piece in self._records(pieces, now_ms):
                if self._segment is None or not self._segment.has_room(size + length):
                    self._append(batch)
                    batch, size = [], 0
                    self.sync()
                    self._count(ends, now_ms, stable=True)  # also if there is no room for the rest
                    self._roll(length)
                batch.append(head)
                batch += parts
                size += length
                self._written[-1].firsts.setdefault(piece.partition, piece.first)
                ends[piece.partition] = self._written[-1].ends[piece.partition] = piece.first + piece.messages
            if not batch:
                return False
            self._append(batch)
            if self._segment is not None:
                self._segment.sync() if self._sync else self._segment.trust()
        except OSError:
            self._give_up()
            raise
        self._restarted = False
        self._count(ends, now_ms, stable=self._sync)
        return True

    def _count(self, ends: Sequence[int], now_ms: int, *, stable: bool) -> None:
        self._ages.note(now_ms, tuple(ends))
        self.durable[:] = ends
        if stable:
            self._stable = list(ends)

    def _records(
        self, pieces: Iterable[LogPiece], now_ms: int
    ) -> Iterator[tuple[bytes, list[bytes | memoryview], int, LogPiece]]:
        for piece, parts in joined(self._unwritten(pieces)):
            head = encode(
                parts,
                partition=piece.partition,
                kind=piece.kind,
                first=piece.first,
                messages=piece.messages,
                written_ms=now_ms,
            )
            yield head, parts, len(head) + sum(map(len, parts)), piece

    def _unwritten(self, pieces: Iterable[LogPiece]) -> Iterator[LogPiece]:
        for piece in pieces:
            rest = clip(piece, max(self.durable[piece.partition], self.settled[piece.partition]))
            if rest is not None:
                yield rest

    def _append(self, parts: Sequence[bytes | memoryview]) -> None:
        if parts and self._segment is not None:
            self._segment.append(parts)

    def sync(self) -> None:
        """
        Wait until everything written is on the disk.

        Raises:
            OSError: If the sync failed; the next commit writes again what is still in memory.
        """
        try:
            if self._segment is not None:
                self._segment.sync()
        except OSError:
            self._give_up()
            raise
        self._stable = list(self.durable)

    def _give_up(self) -> None:
        """Retire the segment: everything written since the last sync goes to another one."""
        self._retire()
        self._restarted = True
        self.durable[:] = self._stable

    def _roll(self, length: int) -> None:
        """Begin a segment with room for at least one record of *length* bytes; the one at hand is synced."""
        self._retire()
        self.trim()
        size = max(self._size, SEGMENT_HEAD_BYTES + length)
        self._root.restore()
        with self._root.locked() as root:
            if self._directory is None:
                self._root.make_room(root, size + _DIRECTORY_BYTES)
                self._create(root)
            else:
                self._root.make_room(root, size)
            assert self._directory is not None
            self._number += 1
            self._segment = Segment(
                self._files,
                self._directory.fd,
                self._number,
                size=size,
                destination=self._destination,
                created_ms=self._now_ms(),
                restarted=self._restarted,
            )
        self._written.append(_Written(self._number))

    def _create(self, root: int) -> None:
        directory = Directory.create(self._files, root)
        try:
            self._cursor = directory.cursor(self._destination, len(self.settled))
        except OSError:
            directory.discard(root)
            raise
        self._directory = directory

    def _retire(self) -> None:
        if self._segment is not None:
            self._written[-1].size = self._segment.safe
            self._segment.retire()
            self._segment = None

    def trim(self) -> None:
        """Write the settled positions to the cursor, and remove the segments that are no longer needed."""
        if self._directory is None or self._cursor is None:
            return
        try:
            self._cursor.save(self.settled)
        finally:  # without the cursor messages are repeated, but room is made
            for each in [each for each in self._written if each.size is not None and self._is_settled(each)]:
                self._directory.drop_segment(each.number)
                self._written.remove(each)

    def _is_settled(self, written: _Written) -> bool:
        return all(
            end <= self.settled[partition] or not self._waits(partition, written.firsts[partition], end)
            for partition, end in written.ends.items()
        )

    def _waits(self, partition: int, first: int, end: int) -> bool:
        return any(numbers.start < end and first < numbers.stop for numbers in self.waiting[partition])

    def sync_cursor(self) -> None:
        """Sync the cursor, so that fewer messages are repeated after a power loss."""
        if self._cursor is not None:
            self._cursor.sync()

    def oldest_ms(self) -> int | None:
        """Return when the oldest message on disk without an outcome was written; None if there is none."""
        return self._ages.oldest_ms(self.settled)

    def has_vanished(self) -> bool:
        """
        Check whether the directory was deleted under this process; if so, drop it.

        What is in memory is then written again to a new one by the next commit.
        """
        if self._directory is None or not self._directory.has_vanished(self._root.path):
            return False
        self._leave()
        self.durable[:] = self._stable = list(self.settled)
        # Last: another thread that reads the new number first reads no old number of `durable` after it.
        self.vanished += 1
        return True

    def _leave(self) -> None:
        self._retire()
        if self._cursor is not None:
            self._cursor.close()
        if self._directory is not None:
            self._directory.release()
        self._directory = self._cursor = self._cache = None
        self._written.clear()
        self._ages.clear()

    def read(self, partition: int, first: int, end: int, n_bytes: int) -> Chunk:
        """
        Read messages of a partition again, from number *first* to before *end*.

        Args:
            partition: Which.
            first: The first number.
            end: The number behind the last; everything before it must be durable.
            n_bytes: About how much; at least one record is read.

        Raises:
            OSError: The disk does not give them now.
        """
        pieces: list[LogPiece] = []
        position, size = first, 0
        for piece in self._pieces(partition, first, end):
            part = clip(piece, position, end)
            if part is None:
                continue
            if size and size + len(part.lines) > n_bytes:
                return _chunk(pieces, first, position)
            pieces.append(part)
            position = part.first + part.messages
            size += len(part.lines)
        return _chunk(pieces, first, end)

    def _pieces(self, partition: int, first: int, end: int) -> Iterator[LogPiece]:
        for written in self._written:
            if written.ends.get(partition, 0) <= first or written.firsts[partition] >= end:
                continue
            loaded = self._load(written, partition, end)
            if loaded is None:
                continue
            for record in loaded.records:
                if record.partition == partition and record.first < end and record.first + record.messages > first:
                    yield loaded.piece(record)

    def _load(self, written: _Written, partition: int, needed: int) -> Loaded | None:
        """Read a segment, at least up to the number *needed* of a partition if it goes so far."""
        assert self._directory is not None
        if self._cache is not None and self._cache.number == written.number:
            # The segment that is being written has often grown, but not by what is needed now.
            ends = written.ends if self._cached_ends is None else self._cached_ends
            if ends.get(partition, 0) >= min(needed, written.ends.get(partition, 0)):
                return self._cache
        end = written.size
        if end is None and self._segment is not None:
            end = self._segment.end
        loaded = load(self._files, self._directory.fd, written.number, end)
        if loaded is not None:
            self._damage.note(self._directory, loaded)
            self._cache = loaded
            self._cached_ends = loaded.ends if written.size is None else None
        return loaded

    def reject(self, lines: Sequence[bytes], limit: int) -> int:
        """
        Keep rejected messages for an operator.

        Args:
            lines: The lines to append to the file.
            limit: Bytes that all such files below the path may have.

        Returns:
            How many lines were kept.
        """
        data = b"".join(lines)
        self._root.restore()
        with self._root.locked() as root:
            if self._root.size_of(root, REJECTED) + len(data) > limit:
                return 0
            self._root.make_room(root, len(data) + (0 if self._directory else _DIRECTORY_BYTES))
            if self._directory is None:
                self._create(root)
            assert self._directory is not None
            fd = self._files.open(REJECTED, os.O_WRONLY | os.O_CREAT, self._directory.fd)
            try:
                end = self._files.status_of(fd).st_size
                try:
                    self._files.write(fd, [data], end)
                except OSError:
                    with suppress(OSError):  # a line is whole or absent
                        self._files.truncate(fd, end)
                    raise
            finally:
                self._files.close(fd)
        return len(lines)

    def leave(self) -> None:
        """
        Close the directory: what it holds is any process's to deliver; without messages it is removed.

        The next commit begins another directory.
        """
        if self._directory is None or self._cursor is None:
            return
        if self._segment is not None:
            with suppress(OSError):
                self._segment.sync()
            self._retire()
        with suppress(OSError):
            self.trim()
            self._cursor.sync()
        if not self._written:
            with suppress(OSError), self._root.locked() as root:
                self._cursor.close()
                self._cursor = None
                directory, self._directory = self._directory, None
                directory.discard(root)
        self._leave()


def _chunk(pieces: list[LogPiece], first: int, end: int) -> Chunk:
    return Chunk(pieces, end, end - first - sum(piece.messages for piece in pieces))
