"""What the tests of the spool need: a queue to commit, files that fail, files that forget, and a way to read a path."""

from __future__ import annotations

import errno
import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from salesmachine_async._log import RateLimitedLogger
from salesmachine_async._spool.damage import Damage
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.log import Log, segment_bytes
from salesmachine_async._spool.pieces import LogPiece
from salesmachine_async._spool.recovery import Recovery
from salesmachine_async._spool.root import Root

DESTINATION: Final = 0x1122334455667788
MIB: Final = 2**20
QUIET: Final = RateLimitedLogger()


def message(partition: int, number: int, size: int = 0) -> bytes:
    """Return a message that says where it belongs, of at least *size* bytes."""
    bare = f'{{"p":{partition},"n":{number},"x":""}}'
    return f'{{"p":{partition},"n":{number},"x":"{"é" * (max(0, size - len(bare)) // 2)}"}}'.encode()


class Queue:
    """A source: what is accepted, in pieces of a few messages."""

    def __init__(self, partitions: int = 1, *, piece: int = 3, size: int = 0) -> None:
        self.lines: list[list[bytes]] = [[] for _ in range(partitions)]
        self.done = [0] * partitions
        self.piece = piece
        self.size = size
        self.forgotten = [0] * partitions

    def accept(self, count: int, partition: int = 0) -> None:
        """Accept some messages."""
        lines = self.lines[partition]
        lines += [message(partition, number, self.size) for number in range(len(lines), len(lines) + count)]

    def waiting(self, partition: int) -> list[range]:
        return [range(self.done[partition], sys.maxsize)]

    def unwritten(self, partition: int, written: int) -> list[LogPiece]:
        # Pieces lie where they lie, whatever was written of them: as sealed batches do.
        first = max(written, self.done[partition], self.forgotten[partition])
        lines = self.lines[partition]
        starts = range(first - first % self.piece, len(lines), self.piece)
        found = [(start, lines[start : start + self.piece]) for start in starts]
        return [LogPiece(partition, start, len(some), b"\n".join(some)) for start, some in found if some]

    def all_unwritten(self, log: Log) -> Iterator[LogPiece]:
        """Yield what a log has not written yet."""
        for partition in range(len(self.lines)):
            yield from self.unwritten(partition, log.durable[partition])


class FaultyFiles(Files):
    """Files whose calls fail as a test says; notes which were synced."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, OSError] = {}
        self.synced: list[int] = []
        # Bytes that may be written until the disk is full; None: any number.
        self.room: int | None = None

    def _fail(self, call: str) -> None:
        if call in self.faults:
            raise self.faults[call]

    def allocate(self, fd: int, size: int) -> None:
        self._fail("allocate")
        super().allocate(fd, size)

    def truncate(self, fd: int, size: int) -> None:
        self._fail("truncate")
        super().truncate(fd, size)

    def write(self, fd: int, parts: Sequence[bytes | memoryview], position: int) -> int:
        self._fail("write")
        data = b"".join(parts)
        if self.room is not None and len(data) > self.room:
            super().write(fd, [data[: self.room]], position)
            self.room = 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.room is not None:
            self.room -= len(data)
        return super().write(fd, parts, position)

    def read(self, fd: int, size: int, position: int = 0) -> bytes:
        self._fail("read")
        return super().read(fd, size, position)

    def sync(self, fd: int) -> None:
        self.synced.append(fd)
        self._fail("sync")
        super().sync(fd)

    def sync_directory(self, fd: int) -> None:
        self._fail("sync_directory")
        super().sync_directory(fd)

    def lock(self, fd: int) -> bool:
        self._fail("lock")
        return super().lock(fd)

    def unlink(self, name: str, at: int) -> None:
        self._fail("unlink")
        super().unlink(name, at)

    def make_directory(self, name: str, at: int | None = None) -> None:
        self._fail("make_directory")
        super().make_directory(name, at)


def full_disk() -> OSError:
    """Return what a full disk says."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def failing_disk() -> OSError:
    """Return what a failing disk says."""
    return OSError(errno.EIO, os.strerror(errno.EIO))


class Parts:
    """A path and the log of one process below it."""

    def __init__(
        self,
        path: Path,
        *,
        partitions: int = 1,
        files: Files | None = None,
        max_bytes: int = 64 * MIB,
        sync: bool = True,
        size: int | None = None,
        destination: int = DESTINATION,
        now_ms: Callable[[], int] = lambda: 1_000_000,
    ) -> None:
        self.files = files or Files()
        self.root = Root(self.files, path, max_bytes)
        self.root.check()
        self.damage = Damage(self.root, QUIET)
        self.log = Log(
            self.files,
            self.root,
            destination,
            partitions,
            size=size or segment_bytes(max_bytes),
            sync=sync,
            damage=self.damage,
            now_ms=now_ms,
        )
        self.queue = Queue(partitions)

    def commit(self) -> bool:
        """Commit what is unwritten."""
        self.log.settled[:] = self.queue.done
        return self.log.commit(self.queue.all_unwritten(self.log))

    def die(self) -> None:
        """Close all files as the end of a process does."""
        self.files.abandon()

    def adopt(self) -> Recovery | None:
        """Adopt the oldest orphan."""
        found = self.root.adopt({DESTINATION})
        return Recovery(self.files, self.root, *found, damage=self.damage, log=QUIET) if found else None


def recover(path: Path, *, settle: bool = True, n_bytes: int = 1 << 30) -> tuple[list[LogPiece], Parts]:
    """Read all orphans below a path, as another process does; returns what was there, and the reader."""
    parts = Parts(path)
    pieces: list[LogPiece] = []
    while (recovery := parts.adopt()) is not None:
        while some := recovery.read(n_bytes):
            pieces += some
            if settle:
                for piece in some:
                    recovery.settle(piece)
        recovery.close()
        if not settle:
            break
    return pieces, parts


def numbers(pieces: Sequence[LogPiece], partition: int = 0) -> list[int]:
    """Return the numbers of the messages of a partition, in order; checks that each is the one it says it is."""
    found: list[int] = []
    for piece in pieces:
        lines = bytes(piece.lines).split(b"\n")
        assert len(lines) == piece.messages
        for at, line in enumerate(lines):
            assert line.startswith(b'{"p":%d,"n":%d,' % (piece.partition, piece.first + at)), line
            assert line.endswith(b"}"), line
        if piece.partition == partition:
            found += range(piece.first, piece.first + piece.messages)
    return found


def segments(path: Path) -> list[Path]:
    """Return all segments below a path, while directories may disappear."""
    # Path.glob raises for a directory that goes between its listing and its reading; glob.glob passes over it.
    return sorted(path / name for name in glob.glob("*/*.seg", root_dir=path))


def disk_usage(path: Path) -> int:
    """Return what ``du`` says, in bytes."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in ("", *files):
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total
