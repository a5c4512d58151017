"""
Read the head of an HTTP answer: strictly enough to find its end, leniently in everything else.

The status line decides what becomes of a batch, whatever follows it. An HTTP client that meets a malformed header
reports an error and no status; then the head is read here from the bytes that arrived.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_HEAD_BYTES", "Head", "HeadReader"]

# A final head beyond this is not waited for; its beginning is enough to decide.
MAX_HEAD_BYTES: Final = 64 * 1024

_STATUS: Final = re.compile(rb"HTTP/(?:0\.9|1\.\d|2\.0) ([1-9]\d\d)(?=[ \r\n])")
# The length of a status line up to the byte that ends the status.
_STATUS_BYTES: Final = len(b"HTTP/1.1 200 ")
_END: Final = re.compile(rb"\n\r?\n")
# What the meaning of an answer depends on, by lower-case name.
_WANTED: Final = {name.lower().encode(): name for name in ("Retry-After", "Date", "Location")}


@dataclass(frozen=True, slots=True)
class Head:
    """
    The readable part of an answer's head.

    Attributes:
        status: The final status.
        headers: ``Retry-After``, ``Date`` and ``Location``, as far as they arrived.
    """

    status: int
    headers: Mapping[str, str]


class HeadReader:
    """
    Collects the head of one answer, in whatever pieces it arrives.

    Interim answers (1xx except 101) are skipped, however many there are.

    Args:
        divides: Whether the head is always returned separately from the bytes after it.

    Attributes:
        whole: Whether the head has ended.
        failed: Whether it never will: the answer is not HTTP, or `MAX_HEAD_BYTES` arrived without an end.
    """

    __slots__ = ("_divides", "_raw", "failed", "whole")

    def __init__(self, *, divides: bool = True) -> None:
        self._divides = divides
        self._raw: bytes | bytearray = b""
        self.whole = False
        self.failed = False

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """
        Add bytes from the network.

        Returns:
            The head and what follows it, or None while there is no whole head. Where the body of a success is not
            needed, one that arrives in one piece is not divided: all of it is the first part.
        """
        if (
            not self._divides
            and not self._raw
            and data[9:10] == b"2"
            and _STATUS.match(data)
            and (end := _END.search(data))
        ):
            self._raw, self.whole = data[: end.end()], True
            return data, b""
        return self._feed_piece(data)

    def read(self) -> Head | None:
        """Return what the bytes so far say, or None if they hold no final status line."""
        found = _STATUS.match(self._raw)
        if found is None or _is_interim(found):
            return None
        headers: dict[str, str] = {}
        # Without the last line: it is empty, or has not ended yet and its value may be cut.
        for line in bytes(self._raw).split(b"\n")[1:-1]:
            name, _, value = line.partition(b":")
            wanted = _WANTED.get(name.strip().lower())
            if wanted is not None:
                headers.setdefault(wanted, value.strip().decode("latin-1"))
        return Head(int(found[1]), headers)

    def _feed_piece(self, data: bytes) -> tuple[bytes, bytes] | None:
        raw = self._raw if isinstance(self._raw, bytearray) else bytearray()
        # The end may have begun up to two bytes ago.
        unsearched = max(0, len(raw) - 2)
        # Line ends before a status line are tolerated, as RFC 9112 §2.2 advises.
        raw += data if raw else data.lstrip(b"\r\n")
        self._raw = raw
        while len(raw) >= _STATUS_BYTES or not b"HTTP/".startswith(raw[:5]):
            found = _STATUS.match(raw)
            if found is None:
                self.failed = True
                break
            interim = _is_interim(found)
            end = _END.search(raw, unsearched)
            if end is None:
                self._limit(raw, interim=interim)
                break
            if not interim:
                self._raw, self.whole = bytes(raw[: end.end()]), True
                return self._raw, bytes(raw[end.end() :])
            raw = self._raw = raw[end.end() :].lstrip(b"\r\n")
            unsearched = 0
        return None

    def _limit(self, raw: bytearray, *, interim: bool) -> None:
        """Keep an unfinished head from taking more memory."""
        if len(raw) <= MAX_HEAD_BYTES:
            return
        if interim:
            # Only its end is of interest.
            raw[_STATUS_BYTES:-3] = b" "
        else:
            self.failed = True


def _is_interim(found: re.Match[bytes]) -> bool:
    # 101 was not offered: it ends the exchange.
    return found[1].startswith(b"1") and found[1] != b"101"
