"""Runs of encoded messages, on their way to the log and back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = ["ALIAS", "BATCH", "LogPiece", "clip", "joined"]

BATCH: Final = 0
ALIAS: Final = 1
# Pieces are joined up to this size: a damaged record is lost as a whole.
_RECORD_BYTES: Final = 256 * 1024


class LogPiece(NamedTuple):
    """Consecutive messages of one partition."""

    partition: int
    first: int
    """The number of the first message within the partition."""
    messages: int
    """Count of messages."""
    lines: bytes | memoryview
    """The messages as encoded, joined by newlines."""
    kind: int = BATCH
    """Kind of request, `BATCH` or `ALIAS`; pieces of different kinds are not joined."""
    written_ms: int = 0
    """Time of writing, in milliseconds of the wall clock; 0 before that."""


def clip(piece: LogPiece, first: int, end: int | None = None) -> LogPiece | None:
    """Return what a piece has of the numbers from *first* to before *end*; None if it has none of them."""
    stop = piece.first + piece.messages if end is None else min(end, piece.first + piece.messages)
    start = max(first, piece.first)
    if start >= stop:
        return None
    if stop - start == piece.messages:
        return piece
    lines = bytes(piece.lines).split(b"\n")[start - piece.first : stop - piece.first]
    return piece._replace(first=start, messages=stop - start, lines=b"\n".join(lines))


def joined(pieces: Iterable[LogPiece]) -> Iterator[tuple[LogPiece, list[bytes | memoryview]]]:
    """Yield pieces made of consecutive ones, and their lines in parts."""
    whole: LogPiece | None = None
    parts: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        if whole is not None and size + len(piece.lines) <= _RECORD_BYTES and _continues(whole, piece):
            whole = whole._replace(messages=whole.messages + piece.messages)
            parts += [b"\n", piece.lines]
        else:
            if whole is not None:
                yield whole, parts
            whole, parts, size = piece, [piece.lines], 0
        size += len(piece.lines) + 1
    if whole is not None:
        yield whole, parts


def _continues(whole: LogPiece, piece: LogPiece) -> bool:
    return (whole.partition, whole.kind, whole.first + whole.messages) == (piece.partition, piece.kind, piece.first)
