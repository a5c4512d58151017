"""Age of the oldest message on disk, from a bounded number of samples. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

__all__ = ["Ages"]

_MOST_NOTES: Final = 1000


class Ages:
    """
    Samples of when the log reached which message numbers.

    When there are too many samples every other one is dropped, and new ones are taken half as often: the error stays
    below one part in five hundred of the age.
    """

    __slots__ = ("_notes", "_spacing_ms")

    def __init__(self) -> None:
        self._notes: deque[tuple[int, Sequence[int]]] = deque()
        self._spacing_ms = 1000

    def note(self, now_ms: int, ends: Sequence[int]) -> None:
        """Add a sample: all messages below *ends*, by partition, are written by now."""
        if self._notes and 0 <= now_ms - self._notes[-1][0] < self._spacing_ms:
            now_ms, _ = self._notes.pop()
        self._notes.append((now_ms, ends))
        if len(self._notes) > _MOST_NOTES:
            # Of two neighbours the time of the older one, and the numbers of the newer one.
            notes = list(self._notes)
            if len(notes) % 2:
                notes.append(notes[-1])
            self._notes = deque((notes[at][0], notes[at + 1][1]) for at in range(0, len(notes), 2))
            self._spacing_ms *= 2

    def oldest_ms(self, settled: Sequence[int]) -> int | None:
        """Return when the oldest message was written that is not settled; None if all are."""
        while self._notes and all(end <= done for end, done in zip(self._notes[0][1], settled, strict=True)):
            self._notes.popleft()
        if not self._notes:
            self._spacing_ms = 1000
            return None
        return self._notes[0][0]

    def clear(self) -> None:
        """Discard all samples."""
        self._notes.clear()
