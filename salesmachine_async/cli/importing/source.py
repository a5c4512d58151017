"""The bytes of an input: a file, a pipe or stdin, uncompressed and converted to UTF-8."""

from __future__ import annotations

import codecs
import gzip
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

STDIN = Path("-")

# Bytes read at once. Larger reads gain nothing measurable and hold more memory.
CHUNK_BYTES = 256 * 1024
# The part of an input whose encoding is checked before any of it is sent.
CHECKED_BYTES = 2**20
_GZIP = b"\x1f\x8b"


class InputProblem(Exception):
    """An input that cannot be used at all."""


class DamagedInput(Exception):
    """An input that broke off while it was read; the rows before that are valid."""


class Source:
    """
    An open input.

    Args:
        path: The file, or `STDIN`.
        encoding: The encoding of the text; empty for UTF-8, which is then checked at the beginning of the input.

    Attributes:
        position: Bytes of the file read so far, compressed ones for gzip. Other threads read it.
        size: The size of the file when it was opened; None for a pipe.
        changed: Whether the file was modified while it was read.

    Raises:
        InputProblem: If it cannot be opened.
    """

    def __init__(self, path: Path, encoding: str = "") -> None:
        self._path = path
        self._encoding = encoding
        self.position = 0
        self.changed = False
        try:
            self._fd = sys.stdin.fileno() if path == STDIN else os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            found = os.fstat(self._fd)
        except OSError as error:
            raise InputProblem(f"cannot read {path}: {error.strerror}") from None
        self._stamp = _stamp(found)
        self.size = found.st_size if stat.S_ISREG(found.st_mode) else None
        # Bytes that were read and not passed on, from the offset `_at`. GzipFile reads a few bytes at a time.
        self._head = b""
        self._at = 0

    def chunks(self) -> Iterator[bytes]:
        """
        Yield the text to its end, as UTF-8.

        Raises:
            InputProblem: If its beginning is not UTF-8 and no encoding was given.
            DamagedInput: If it cannot be read to its end.
        """
        head = self.read(CHUNK_BYTES)
        while 0 < len(head) < len(_GZIP) and (more := self.read(CHUNK_BYTES)):
            head += more
        self._head, self._at = head, 0
        chunks = self._uncompressed() if head.startswith(_GZIP) else iter(lambda: self.read(CHUNK_BYTES), b"")
        if not self._encoding:
            yield from self._checked(chunks)
        elif codecs.lookup(self._encoding).name == "utf-8":
            yield from chunks
        else:
            yield from self._decoded(chunks)
        self.changed = self.size is not None and _stamp(os.fstat(self._fd)) != self._stamp

    def close(self) -> None:
        """Close the file; stdin stays open."""
        if self._path != STDIN:
            os.close(self._fd)

    def read(self, size: int) -> bytes:
        """
        Read bytes of the file; `gzip.GzipFile` calls it too.

        Raises:
            DamagedInput: If the system cannot read on.
        """
        if not self._head:
            try:
                self._head = os.read(self._fd, CHUNK_BYTES)
            except OSError as error:
                raise DamagedInput(f"cannot read on in {self._path}: {error.strerror}") from None
            self.position += len(self._head)
            self._at = 0
        chunk = self._head[self._at : self._at + size]
        self._at += len(chunk)
        if self._at == len(self._head):
            self._head = b""
        return chunk

    def _uncompressed(self) -> Iterator[bytes]:
        """Yield the content of all gzip members; short ones are joined, because each chunk costs a hand-over."""
        with gzip.GzipFile(fileobj=self, mode="rb") as file:  # type: ignore[call-overload]
            parts: list[bytes] = []
            size, problem = 0, ""
            while True:
                try:
                    part: bytes = file.read1(CHUNK_BYTES)
                except EOFError:
                    problem, part = f"{self._path} breaks off in the middle of its gzip data", b""
                except (gzip.BadGzipFile, zlib.error):
                    problem, part = f"{self._path} holds damaged gzip data", b""
                parts.append(part)
                size += len(part)
                # The next read of a pipe may wait, so that the content of all bytes read so far is passed on before.
                waits = self.size is None and not self._head
                if size and (size >= CHUNK_BYTES or waits or not part):
                    yield b"".join(parts)
                    parts, size = [], 0
                if problem:
                    raise DamagedInput(problem)
                if not part:
                    return

    def _checked(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the chunks once the first megabyte, or all of a shorter text, is known to be UTF-8."""
        check = _Utf8Check(self._path)
        held: list[bytes] = []
        try:
            for chunk in chunks:
                check.feed(chunk)
                held.append(chunk)
                if check.done:
                    break
            else:
                check.finish()
        except DamagedInput:
            yield from held
            raise
        yield from held
        held.clear()
        yield from chunks

    def _decoded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Convert from the given encoding. A byte that it lacks stays, so that only its row is rejected."""
        decoder = codecs.getincrementaldecoder(self._encoding)("surrogateescape")
        try:
            for chunk in chunks:
                yield decoder.decode(chunk).encode("utf-8", "surrogateescape")
            yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")
        except UnicodeError as error:
            raise DamagedInput(f"{self._path} is not valid {self._encoding}: {error}") from None


class _Utf8Check:
    """A check of the first megabyte of a text."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._bytes = 0
        self._lines = 0
        self.done = False

    def feed(self, chunk: bytes) -> None:
        """
        Check the next chunk.

        Raises:
            InputProblem: If it is not UTF-8.
        """
        # UTF-16 has an error text of its own, see `rows`.
        if self.done or (not self._bytes and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))):
            self.done = True
            return
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(chunk)
        except UnicodeDecodeError as error:
            line = self._lines + chunk.count(b"\n", 0, max(0, error.start - pending)) + 1
            raise self._problem(line, error.object[error.start]) from None
        self._lines += chunk.count(b"\n")
        self._bytes += len(chunk)
        self.done = self._bytes >= CHECKED_BYTES

    def finish(self) -> None:
        """
        Check that the text does not end within a character.

        Raises:
            InputProblem: If it does.
        """
        if rest := self._decoder.getstate()[0]:
            raise self._problem(self._lines + 1, rest[0])

    def _problem(self, line: int, byte: int) -> InputProblem:
        return InputProblem(
            f"{self._path} is not valid UTF-8: line {line} holds the byte 0x{byte:02x}. Name its encoding, such as "
            "--encoding cp1252 or latin-1; with --encoding utf-8 only such rows are rejected"
        )


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns
