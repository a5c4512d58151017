"""The directory of a dead process: read in order, a segment at a time, and removed when everything is settled."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from salesmachine_async._log import RateLimitedLogger
from salesmachine_async._spool.cursor import CursorFile
from salesmachine_async._spool.damage import Damage
from salesmachine_async._spool.directory import Directory, Identity
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.ledger import Ledger
from salesmachine_async._spool.pieces import Piece, clip
from salesmachine_async._spool.root import Root
from salesmachine_async._spool.segment import Loaded, is_newer, load, read_head

__all__ = ["Recovery"]


class Recovery:
    """
    Reads what a dead process left. Only one thread may use it.

    Numbers of messages grow within a partition, except where a failed write was repeated in another segment:
    see `_limits`.
    A number that no record has was settled before it was written, or its record is damaged.

    Args:
        files: The operating system.
        root: The path.
        directory: The directory, locked by this process.
        identity: What is known of it.
        damage: Counts what is not readable.
        log: For what people should know.

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
        self._damage = damage
        self._log = log
        self._cursor: CursorFile | None = None
        try:
            self._cursor = directory.cursor(identity.destination)
        except OSError as exc:  # the disk is full: messages may be repeated, but none is lost
            log("spool cursor", logging.WARNING, "the cursor of spool directory %s: %s", directory.name, exc.strerror)
        self._ledger = Ledger(self._cursor.saved if self._cursor else ())
        # By partition, the number behind the last message that was read.
        self._read: dict[int, int] = dict(enumerate(self._ledger.numbers()))
        self._numbers = deque(identity.segments)
        self._ahead: deque[Loaded] = deque()
        # Segments that were read, with the numbers behind their last messages.
        self._passed: list[tuple[int, dict[int, int]]] = []
        self._unreadable = False
        # What was read and had no outcome when it was last looked at: partition, number behind it, when written.
        self._waiting: deque[tuple[int, int, int]] = deque()
        self._pieces = self._all_pieces()
        self._held: Piece | None = None
        self.exhausted = False

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self._directory.name

    def read(self, n_bytes: int) -> list[Piece]:
        """Return the next messages, about *n_bytes* of them but at least one record; nothing at the end."""
        pieces: list[Piece] = []
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
        while self._waiting and self._ledger.settled(self._waiting[0][0]) >= self._waiting[0][1]:
            self._waiting.popleft()
        return self._waiting[0][2] if self._waiting else None

    def _next(self) -> Piece | None:
        piece, self._held = self._held, None
        if piece is None:
            piece = next(self._pieces, None)
            self.exhausted = piece is None
        return piece

    def _all_pieces(self) -> Iterator[Piece]:
        while (loaded := self._next_segment()) is not None:
            limits = self._limits()
            for record in loaded.records:
                read = self._read.get(record.partition, 0)
                piece = clip(loaded.piece(record), read, limits.get(record.partition))
                if piece is None:
                    continue
                self._ledger.settle(piece.partition, read, piece.first - read)
                self._read[piece.partition] = piece.first + piece.messages
                yield piece
            self._passed.append((loaded.number, loaded.ends))

    def _next_segment(self) -> Loaded | None:
        if self._ahead:
            return self._ahead.popleft()
        while self._numbers:
            loaded = self._load(self._numbers.popleft())
            if loaded is not None:
                return loaded
        return None

    def _load(self, number: int) -> Loaded | None:
        try:
            loaded = load(self._files, self._directory.fd, number)
        except OSError as exc:
            self._unreadable = True
            text = "segment %d of spool directory %s cannot be read and is left where it is: %s"
            self._log("spool segment", logging.ERROR, text, number, self.name, exc.strerror)
            return None
        if loaded is None:
            return None
        if is_newer(loaded.head):
            self._unreadable = True
            return None
        self._damage.note(self._directory, loaded)
        return loaded

    def _limits(self) -> dict[int, int]:
        """
        Return, by partition, the number from which on the following segments repeat the one at hand.

        A segment that could not be synced may have lost any part of its end; its readable rest must not hide what is
        whole in the repetition.
        """
        while self._numbers and self._is_restarted(self._numbers[0]):
            loaded = self._load(self._numbers.popleft())
            if loaded is not None:
                self._ahead.append(loaded)
        limits: dict[int, int] = {}
        for loaded in self._ahead:
            for record in loaded.records:
                limits[record.partition] = min(record.first, limits.get(record.partition, record.first))
        return limits

    def _is_restarted(self, number: int) -> bool:
        try:
            head = read_head(self._files, self._directory.fd, number)
        except OSError:
            return True
        return head is None or head.restarted

    def settle(self, piece: Piece) -> None:
        """Record that all messages of a piece have an outcome."""
        self._ledger.settle(piece.partition, piece.first, piece.messages)

    @property
    def is_settled(self) -> bool:
        """Whether everything was read and has an outcome."""
        return self.exhausted and all(self._ledger.settled(which) >= end for which, end in self._read.items())

    def trim(self) -> None:
        """Note in the cursor how far everything is settled, and remove the segments that are no longer needed."""
        try:
            if self._cursor is not None:
                self._cursor.save(self._ledger.numbers())
        finally:
            for number, ends in list(self._passed):
                if all(self._ledger.settled(which) >= end for which, end in ends.items()):
                    self._directory.drop_segment(number)
                    self._passed.remove((number, ends))

    def sync_cursor(self) -> None:
        """Bring the cursor to the disk."""
        if self._cursor is not None:
            self._cursor.sync()

    def close(self) -> None:
        """Remove the directory if everything is settled; else leave it to any process that comes."""
        with suppress(OSError):
            self.trim()
            self.sync_cursor()
        if self._cursor is not None:
            self._cursor.close()
        if self.is_settled and not self._passed and not self._unreadable:
            with suppress(OSError), self._root.locked() as root:
                self._directory.discard(root)
                return
        self._directory.release()
