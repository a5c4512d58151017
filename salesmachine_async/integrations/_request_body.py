"""Notices that a visitor leaves in the middle of an upload, under servers that only return less data."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any


def content_length(environ: Any) -> int | None:
    """Return the number of bytes that the visitor announced; None if that is unknown."""
    try:
        return int(environ.get("CONTENT_LENGTH") or "")
    except ValueError:
        return None


class RequestBody:
    """
    The body of a WSGI request, read through this object.

    When the connection is closed before the announced end of the body, some servers (uWSGI, gevent) raise OSError;
    others (gunicorn, wsgiref) return fewer bytes than requested, as at the end of a file.

    Attributes:
        is_broken_off: Whether the last read failed or met an end before the announced one.
    """

    def __init__(self, body: Any, length: int | None) -> None:
        self._body = body
        self._missing = length
        self.is_broken_off = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._body, name)
        # Not every server's body has it, and frameworks look whether it is there.
        return partial(self._readinto, found) if name == "readinto" else found

    def read(self, size: int | None = None) -> bytes:
        """Read as the body's own ``read``."""
        limit = _limit(size)
        data: bytes = self._watched(self._body.read, *limit)
        self._note(len(data), limit)
        return data

    def readline(self, size: int | None = None) -> bytes:
        """Read as the body's own ``readline``."""
        limit = _limit(size)
        line: bytes = self._watched(self._body.readline, *limit)
        self._note(len(line), (0,) if line.endswith(b"\n") else limit)
        return line

    def readlines(self, hint: int | None = None) -> list[bytes]:
        """Read as the body's own ``readlines``."""
        limit = _limit(hint)
        lines: list[bytes] = self._watched(self._body.readlines, *limit)
        self._note(sum(map(len, lines)), limit)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the lines."""
        while line := self.readline():
            yield line

    def _readinto(self, readinto: Callable[[Any], int], buffer: Any) -> int:
        count: int = self._watched(readinto, buffer)
        self._note(count, (len(buffer),))
        return count

    def _watched(self, read: Callable[..., Any], *args: Any) -> Any:
        try:
            return read(*args)
        except OSError:
            self.is_broken_off = True
            self._missing = None  # known by now, whatever a further read returns
            raise

    def _note(self, count: int, limit: tuple[int, ...]) -> None:
        """Note what was read; less than the limit, or any amount without one, means that the server has met an end."""
        if self._missing is not None:
            self._missing -= count
            self.is_broken_off = self._missing > 0 and (not limit or count < limit[0])


def _limit(size: int | None) -> tuple[int, ...]:
    """Return the arguments of a read: none for all that there is, which not every server takes as -1."""
    return () if size is None or size < 0 else (size,)
