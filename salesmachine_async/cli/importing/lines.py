"""Split bytes into lines of bounded length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain

# A message must fit into a batch of 512,000 bytes; a row twice as long has no chance.
MAX_ROW_BYTES = 2**20
# The beginning of a longer row, kept for messages.
SHOWN_BYTES = 1000


class Overlong(bytes):
    """
    The beginning of a line that exceeds the bound.

    Attributes:
        length: The length of the line, with its newline.
        fingerprint: A digest of the line.
    """

    length: int
    fingerprint: bytes


def cut(chunks: Iterator[bytes], limit: int = MAX_ROW_BYTES) -> Iterator[list[bytes]]:
    """
    Split chunks into lines: yield for each chunk the lines it completes, with their newlines.

    The last line may lack its newline. A line longer than *limit* is an `Overlong`.
    """
    rest = b""
    while chunk := next(chunks, b""):
        text = rest + chunk
        end = text.rfind(b"\n") + 1
        lines, rest = _split(text[:end]), text[end:]
        # Lines after the first lie within one chunk, so that only the first can be too long.
        if lines and len(lines[0]) > limit:
            lines[0] = _overlong(lines[0], hashlib.blake2b(lines[0]), len(lines[0]))
        if lines:
            yield lines
        if len(rest) > limit:
            line, after = _skip(rest, chunks)
            yield [line]
            rest, chunks = b"", chain([after], chunks) if after else chunks
    if rest:
        yield [rest]


def _split(text: bytes) -> list[bytes]:
    if b"\r" not in text:
        return text.splitlines(keepends=True)
    # splitlines() would also split at a carriage return within a cell.
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines.pop()
    return lines


def _skip(head: bytes, chunks: Iterator[bytes]) -> tuple[Overlong, bytes]:
    """Read to the end of a line without keeping it; return it and the bytes after it."""
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
