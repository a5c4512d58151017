"""Bytes become lines; none is held beyond a bound."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain

# A message must fit into a batch of 512,000 bytes; a row twice as long has no chance.
MAX_ROW_BYTES = 2**20
# What is kept of a longer one, to show.
SHOWN_BYTES = 1000


class Overlong(bytes):
    """
    The beginning of a line too long to be held.

    Attributes:
        length: Of the whole line with its newline.
        fingerprint: A digest of all of it.
    """

    length: int
    fingerprint: bytes


def cut(chunks: Iterator[bytes], limit: int = MAX_ROW_BYTES) -> Iterator[list[bytes]]:
    """
    Cut chunks into lines: for each chunk those that it completes, with their newlines.

    The last line may lack its newline. One longer than *limit* is an `Overlong`.
    """
    rest = b""
    while chunk := next(chunks, b""):
        text = rest + chunk
        end = text.rfind(b"\n") + 1
        lines, rest = _split(text[:end]), text[end:]
        # Only the first can be too long: the others lie within one chunk.
        if lines and len(lines[0]) > limit:
            lines[0] = _overlong(lines[0], hashlib.blake2b(lines[0]), len(lines[0]))
        if lines:
            yield lines
        if len(rest) > limit:
            line, behind = _skip(rest, chunks)
            yield [line]
            rest, chunks = b"", chain([behind], chunks) if behind else chunks
    if rest:
        yield [rest]


def _split(text: bytes) -> list[bytes]:
    if b"\r" not in text:
        return text.splitlines(keepends=True)
    # Which would also split at a carriage return in the middle of a cell.
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines.pop()
    return lines


def _skip(head: bytes, chunks: Iterator[bytes]) -> tuple[Overlong, bytes]:
    """Read to the end of a line without keeping it; returns it and what is behind."""
    digest, length = hashlib.blake2b(head), len(head)
    for chunk in chunks:
        end = chunk.find(b"\n") + 1
        digest.update(chunk[: end or len(chunk)])
        length += end or len(chunk)
        if end:
            return _overlong(head, digest, length), chunk[end:]
    return _overlong(head, digest, length), b""


def _overlong(head: bytes, digest: hashlib.blake2b, length: int) -> Overlong:
    line = Overlong(head[:SHOWN_BYTES])
    line.length, line.fingerprint = length, digest.digest()
    return line
