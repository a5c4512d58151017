"""Recovery of a dead process's directory: read in order, and removed when everything is settled."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress

from salesmachine_async._log import RateLimitedLogger
from salesmachine_async._spool.cursor import CursorFile
from salesmachine_async._spool.damage import Damage
from salesmachine_async._spool.directory import Directory, Identity
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.pieces import LogPiece
from salesmachine_async._spool.reader import LogReader
from salesmachine_async._spool.root import Root
from salesmachine_async._spool.settled_ranges import SettledRanges

__all__ = ["Recovery"]


class Recovery:
    """
    Reads and settles the directory of a dead process. Only one thread may use it.

    A number that no record has was settled before it was written, or its record is damaged.

    Args:
        files: The operating system.
        root: The path.
        directory: The directory, locked by this process.
        identity: The identity of the directory.
        damage: Counts what is not readable.
        log: The log of warnings.

    Attributes:
        exhausted: Whether everything was read.
    """

    def __init__(
        self,
        files: Files,
        root: Root,
        directory: Directory,
        identity: Identity,
        *,
        damage: Damage,
        log: RateLimitedLogger,
    ) -> None:
        assert identity.destination is not None
        self._files = files
        self._root = root
        self._directory = directory
        self._log = log
        self._cursor: CursorFile | None = None
        try:
            self._cursor = directory.cursor(identity.destination)
        except OSError as exc:  # the disk is full: messages may be repeated, but none is lost
            log("spool cursor", logging.WARNING, "the cursor of spool directory %s: %s", directory.name, exc.strerror)
        self._settled = SettledRanges(self._cursor.saved if self._cursor else ())
        self._reader = LogReader(
            files,
            directory.fd,
            identity.segments,
            settled=self._settled.numbers(),
            note=lambda loaded: damage.note(directory, loaded),
            fail=self._left_out,
        )
        # By partition, the number behind the last message that was read.
        self._read: dict[int, int] = dict(enumerate(self._settled.numbers()))
        # Messages read and not settled at the last check: partition, number behind the last one, time of writing.
        self._waiting: deque[tuple[int, int, int]] = deque()
        self._pieces = iter(self._reader)
        self._held: LogPiece | None = None
        self.exhausted = False

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self._directory.name

    def read(self, n_bytes: int) -> list[LogPiece]:
        """Return the next messages, about *n_bytes* of them but at least one record; nothing at the end."""
        pieces: list[LogPiece] = []
        size = 0
        while (piece := self._next()) is not None:
            size += len(piece.lines)
            if pieces and size > n_bytes:
                self._held = piece
                break
            pieces.append(piece)
            self._waiting.append((piece.partition, piece.first + piece.messages, piece.written_ms))
        return pieces

    def oldest_ms(self) -> int | None:
        """Return when the oldest message was written that was read and has no outcome; None if there is none."""
        while self._waiting and self._settled.settled(self._waiting[0][0]) >= self._waiting[0][1]:
            self._waiting.popleft()
        return self._waiting[0][2] if self._waiting else None

    def _next(self) -> LogPiece | None:
        piece, self._held = self._held, None
        if piece is not None:
            return piece
        piece = next(self._pieces, None)
        if piece is None:
            self.exhausted = True
            return None
        read = self._read.get(piece.partition, 0)
        self._settled.settle(piece.partition, read, piece.first - read)
        self._read[piece.partition] = piece.first + piece.messages
        return piece

    def _left_out(self, number: int, exc: OSError) -> None:
        text = "segment %d of spool directory %s cannot be read and is left where it is: %s"
        self._log("spool segment", logging.ERROR, text, number, self.name, exc.strerror)

    def settle(self, piece: LogPiece) -> None:
        """Record that all messages of a piece have an outcome."""
        self._settled.settle(piece.partition, piece.first, piece.messages)

    @property
    def is_settled(self) -> bool:
        """Whether all messages were read and have an outcome."""
        return self.exhausted and all(self._settled.settled(which) >= end for which, end in self._read.items())

    def trim(self) -> None:
        """Write the settled positions to the cursor, and remove the segments that are no longer needed."""
        try:
            if self._cursor is not None:
                self._cursor.save(self._settled.numbers())
        finally:
            for number, ends in list(self._reader.passed):
                if all(self._settled.settled(which) >= end for which, end in ends.items()):
                    self._directory.drop_segment(number)
                    self._reader.passed.remove((number, ends))

    def sync_cursor(self) -> None:
        """Sync the cursor."""
        if self._cursor is not None:
            self._cursor.sync()

    def close(self) -> None:
        """Remove the directory if everything is settled; else release it for another process to adopt."""
        with suppress(OSError):
            self.trim()
            self.sync_cursor()
        if self._cursor is not None:
            self._cursor.close()
        reader = self._reader
        if self.is_settled and reader.finished and not reader.passed and not reader.skipped:
            with suppress(OSError), self._root.locked() as root:
                self._directory.discard(root)
                return
        self._directory.release()
