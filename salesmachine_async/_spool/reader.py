"""Reader of a finished log: in order, one segment at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from salesmachine_async._spool.files import Files
from salesmachine_async._spool.pieces import LogPiece, clip
from salesmachine_async._spool.segment import Loaded, is_newer, load, read_head

__all__ = ["LogReader"]


class LogReader:
    """
    Yields unsettled messages, each once and in the order of its partition.

    Numbers grow within a partition, except where a failed write was repeated in another segment: see `_limits`.

    Args:
        files: The operating system.
        directory: The open directory.
        numbers: The segments, oldest first.
        settled: By partition, from which number on messages wait.
        note: Called with each segment that was read.
        fail: Called with the number of a segment that cannot be read, and why.

    Attributes:
        passed: Segments whose records were all yielded, with the numbers behind their last messages.
        skipped: Whether a segment was left out: it cannot be read, or a newer version wrote it.
        finished: Whether there is nothing more to read.
    """

    def __init__(
        self,
        files: Files,
        directory: int,
        numbers: Sequence[int],
        *,
        settled: Sequence[int],
        note: Callable[[Loaded], None],
        fail: Callable[[int, OSError], None],
    ) -> None:
        self._files = files
        self._directory = directory
        self._numbers = deque(numbers)
        self._ahead: deque[Loaded] = deque()
        # Pieces that the segments ahead repeat.
        self._repeated: list[LogPiece] = []
        # By partition, the number behind the last message that was yielded.
        self._read = dict(enumerate(settled))
        self._note = note
        self._fail = fail
        self.passed: list[tuple[int, dict[int, int]]] = []
        self.skipped = self.finished = False

    def __iter__(self) -> Iterator[LogPiece]:
        while (loaded := self._next_segment()) is not None:
            limits = self._limits()
            for piece in map(loaded.piece, loaded.records):
                limit = limits.get(piece.partition)
                if limit is not None and piece.first + piece.messages > limit:
                    self._repeated.append(piece)
                if limit is None or piece.first < limit:
                    yield from self._not_repeated(piece.partition, piece.first)
                    yield from self._unread(piece, limit)
            if not self._ahead:
                # The process died before it had repeated these.
                for partition in {each.partition for each in self._repeated}:
                    yield from self._not_repeated(partition, None)
                self._repeated.clear()
            self.passed.append((loaded.number, loaded.ends))
        self.finished = True

    def _not_repeated(self, partition: int, end: int | None) -> Iterator[LogPiece]:
        """
        Yield what earlier segments have of the numbers below *end*, and the later ones do not repeat.

        Without `Spool.sync` a message may leave the memory before it is on stable storage, and is not repeated then.
        """
        for piece in sorted(self._repeated, key=_first):
            if piece.partition == partition:
                yield from self._unread(piece, end)

    def _unread(self, piece: LogPiece, limit: int | None) -> Iterator[LogPiece]:
        rest = clip(piece, self._read.get(piece.partition, 0), limit)
        if rest is not None:
            self._read[rest.partition] = rest.first + rest.messages
            yield rest

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
            loaded = load(self._files, self._directory, number)
        except OSError as exc:
            self.skipped = True
            self._fail(number, exc)
            return None
        if loaded is None:
            return None
        if is_newer(loaded.head):
            self.skipped = True
            return None
        self._note(loaded)
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
            head = read_head(self._files, self._directory, number)
        except OSError:
            return True
        return head is None or head.restarted


def _first(piece: LogPiece) -> int:
    return piece.first
