"""The bytes of one input: a file, a pipe or stdin; gzip is recognised and undone."""

from __future__ import annotations

import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

STDIN = Path("-")

# Bytes taken at once, compressed or not. Larger reads gain nothing measurable and hold more.
CHUNK_BYTES = 256 * 1024
_GZIP = b"\x1f\x8b"
# What zlib calls "gzip, with its header and checksum".
_GZIP_WINDOW = 31


class InputProblem(Exception):
    """An input cannot be used at all; says which and why."""


class DamagedInput(Exception):
    """An input broke off while it was read; what came before is good."""


class Source:
    """
    One opened input.

    Args:
        path: The file, or `STDIN`.

    Attributes:
        position: Bytes read so far, as they lie in the file: behind what has been unzipped. Read by other threads.
        size: Of the file when it was opened; None for what has none.
        changed: Whether the file was another at its end than when it was opened.

    Raises:
        InputProblem: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.position = 0
        self.changed = False
        try:
            self._fd = sys.stdin.fileno() if path == STDIN else os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            found = os.fstat(self._fd)
        except OSError as error:
            raise InputProblem(f"cannot read {path}: {error.strerror}") from None
        self._stamp = _stamp(found)
        self.size = found.st_size if stat.S_ISREG(found.st_mode) else None

    def chunks(self) -> Iterator[bytes]:
        """
        Read on to the end.

        Raises:
            DamagedInput: The system cannot read on, or the gzip data are broken or cut off.
        """
        head = self._read()
        while 0 < len(head) < len(_GZIP) and (more := self._read()):
            head += more
        if head.startswith(_GZIP):
            yield from _gunzip(head, self._read, str(self._path))
        elif head:
            yield head
            yield from iter(self._read, b"")
        self.changed = self.size is not None and _stamp(os.fstat(self._fd)) != self._stamp

    def close(self) -> None:
        """Give the file back; stdin stays open, it is not ours."""
        if self._path != STDIN:
            os.close(self._fd)

    def _read(self) -> bytes:
        try:
            chunk = os.read(self._fd, CHUNK_BYTES)
        except OSError as error:
            raise DamagedInput(f"cannot read on in {self._path}: {error.strerror}") from None
        self.position += len(chunk)
        return chunk


def _gunzip(data: bytes, read: Callable[[], bytes], name: str) -> Iterator[bytes]:
    """Undo gzip, member by member, never more than a chunk at once, however well it was packed."""
    try:
        while data:
            member = zlib.decompressobj(_GZIP_WINDOW)
            while True:
                unzipped = member.decompress(data, CHUNK_BYTES)
                data = member.unconsumed_tail
                if unzipped:
                    yield unzipped
                if member.eof:
                    break
                # A full chunk may have more behind it that needs no further input.
                if not data and len(unzipped) < CHUNK_BYTES and not (data := read()):
                    raise DamagedInput(f"{name} breaks off in the middle of its gzip data")
            # Zeros may stand behind a member (RFC 1952 does not say so, gzip and Python's module allow it).
            data = member.unused_data.lstrip(b"\0")
            while not data and (more := read()):
                data = more.lstrip(b"\0")
    except zlib.error:
        raise DamagedInput(f"{name} holds damaged gzip data") from None


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns
