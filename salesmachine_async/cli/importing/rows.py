"""Lines become rows: one line of NDJSON, or one record of CSV, which may go over several lines."""

from __future__ import annotations

import csv
import hashlib
from collections import deque
from collections.abc import Iterator
from itertools import chain

from salesmachine_async.cli.importing.lines import MAX_ROW_BYTES, Overlong, cut
from salesmachine_async.cli.importing.source import InputProblem

_BOM = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")
DIGEST_BYTES = 12
SALT_BYTES = 16
TOO_LONG = f"is longer than {MAX_ROW_BYTES:,} bytes"


class InputRow:
    """
    One row as it stands in the input.

    Attributes:
        line: The number of its (first) line, from 1.
        end: Where it ends: bytes from the beginning of the unzipped input, a byte order mark not counted.
        text: It, without its newline; only its beginning when it was too long to be held.
        digest: Of the text, and of all else that makes the row what it is (the salt).
        cells: Of CSV; None for NDJSON.
        problem: Why it cannot be used; empty when it can.
    """

    __slots__ = ("cells", "digest", "end", "line", "problem", "text")

    def __init__(  # noqa: PLR0917 (half a million a second)
        self, line: int, end: int, text: bytes, digest: bytes, cells: list[str] | None = None, problem: str = ""
    ) -> None:
        self.line = line
        self.end = end
        self.text = text
        self.digest = digest
        self.cells = cells
        self.problem = problem


class NdjsonRows:
    """
    Rows of NDJSON: a line each; blank ones are skipped. Iterate it once: rows in order, as they come in together.

    Args:
        chunks: The unzipped bytes.
        salt: Of the digests.

    Attributes:
        header: None: these rows name their own columns.
    """

    header = None

    def __init__(self, chunks: Iterator[bytes], salt: bytes) -> None:
        self._batches = cut(_plain(chunks))
        self._salt = salt

    def __iter__(self) -> Iterator[list[InputRow]]:
        """Give them."""
        number = end = 0
        salt, blake2b = self._salt, hashlib.blake2b
        for lines in self._batches:
            rows: list[InputRow] = []
            for line in lines:
                number += 1
                if isinstance(line, Overlong):
                    end += line.length
                    rows.append(_overlong_row(number, end, line, salt))
                    continue
                end += len(line)
                text = line.strip()
                if text:
                    digest = blake2b(text, digest_size=DIGEST_BYTES, salt=salt).digest()
                    rows.append(InputRow(number, end, text, digest))
            if rows:
                yield rows


class CsvRows:
    """
    Rows of CSV, as RFC 4180 has it. Iterate it once: rows in order, as they come in together.

    What is wrong costs one row: after a quotation mark that nothing closes, reading goes on with the next line.

    Args:
        chunks: The unzipped bytes.
        salt: Of the digests, to which the header is added.
        delimiter: Between cells.
        name: Of the input, for what is wrong with it.

    Attributes:
        header: The names of the columns; empty when the input is.

    Raises:
        InputProblem: The first line is no header.
    """

    def __init__(self, chunks: Iterator[bytes], salt: bytes, delimiter: str, name: str) -> None:
        # The limit is the process's; ours only ever raises it.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
        self._feed = _Feed(cut(_plain(chunks)))
        self._delimiter = delimiter
        self._salt = b"\0" * SALT_BYTES
        self._reader = self._new_reader()
        first = self._next()
        if first is not None and first.problem:
            raise InputProblem(f"{name}: its header, line {first.line}, {first.problem}")
        self.header = [] if first is None else [cell.strip() for cell in first.cells or ()]
        text = b"" if first is None else first.text
        self._salt = hashlib.blake2b(salt + text, digest_size=SALT_BYTES).digest()

    def __iter__(self) -> Iterator[list[InputRow]]:
        """Give them."""
        rows: list[InputRow] = []
        while (row := self._next()) is not None:
            rows.append(row)
            if self._feed.drained:
                yield rows
                rows = []
        if rows:
            yield rows

    def _next(self) -> InputRow | None:
        feed = self._feed
        while True:
            feed.begin()
            try:
                cells = next(self._reader)
            except StopIteration:
                return None
            except (csv.Error, _Unusable) as error:
                return self._recover(str(error))
            # Nothing but delimiters is what spreadsheets write below a table: as good as a blank line.
            if any(cells):
                text = b"".join(feed.taken).rstrip(b"\r\n")
                return InputRow(feed.line, feed.end, text, self._digest(text), cells, feed.problem)

    def _recover(self, problem: str) -> InputRow:
        """Give up the first line of a record that cannot be read, and read on behind it."""
        feed = self._feed
        line = feed.keep_first()
        self._reader = self._new_reader()
        if isinstance(line, Overlong):
            return _overlong_row(feed.line, feed.end, line, self._salt)
        text = line.rstrip(b"\r\n")
        return InputRow(feed.line, feed.end, text, self._digest(text), None, feed.problem or _explain(problem))

    def _digest(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, digest_size=DIGEST_BYTES, salt=self._salt).digest()

    def _new_reader(self) -> Iterator[list[str]]:
        return csv.reader(self._feed, delimiter=self._delimiter, strict=True)


def _explain(problem: str) -> str:
    """Tell what csv means, where people meet it."""
    if "expected after" in problem:
        return "has something behind a closing quotation mark, or a quotation mark too many"
    if problem == "unexpected end of data":
        return "has a quotation mark that nothing closes"
    return f"is not CSV: {problem}"


class _Unusable(Exception):
    """A line that csv must not see; ends the record it would be part of."""


class _Feed:
    """
    Hands csv one line after the other, and remembers which it took for the record it is at.

    Attributes:
        taken: The lines of the record.
        line: The number of its first.
        end: Where its last ends.
        problem: What is wrong with its text; empty when nothing is.
        drained: Whether the next line has yet to be read.
    """

    def __init__(self, batches: Iterator[list[bytes]]) -> None:
        self._batches = batches
        self._waiting: deque[bytes] = deque()
        self.taken: list[bytes] = []
        self.line = 1
        self.end = 0
        self.problem = ""
        self._taken_bytes = 0

    @property
    def drained(self) -> bool:
        return not self._waiting

    def begin(self) -> None:
        self.line += len(self.taken)
        self.taken = []
        self._taken_bytes = 0
        self.problem = ""

    def keep_first(self) -> bytes:
        """Give back all that was taken but the first line, which is returned."""
        first, *others = self.taken
        self._waiting.extendleft(reversed(others))
        self.end -= sum(map(_length, others))
        self.taken = [first]
        return first

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        while not self._waiting:
            self._waiting.extend(next(self._batches))
        line = self._waiting.popleft()
        self.taken.append(line)
        length = _length(line)
        self.end += length
        self._taken_bytes += length
        if isinstance(line, Overlong):
            raise _Unusable(TOO_LONG)
        if self._taken_bytes > MAX_ROW_BYTES:
            raise _Unusable("unexpected end of data")
        if b"\0" in line:
            self.problem = "holds a NUL byte"
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.problem = not_utf8(line, error)
            # Read on, so that the whole record is given up and not the half of it.
            return line.decode(errors="replace")


def not_utf8(line: bytes, error: UnicodeDecodeError) -> str:
    """Say where a text stops to be UTF-8."""
    return f"is not UTF-8 (byte {error.start + 1} is 0x{line[error.start]:02x})"


def _length(line: bytes) -> int:
    return line.length if isinstance(line, Overlong) else len(line)


def _overlong_row(number: int, end: int, line: Overlong, salt: bytes) -> InputRow:
    digest = hashlib.blake2b(line.fingerprint, digest_size=DIGEST_BYTES, salt=salt).digest()
    return InputRow(number, end, line, digest, None, TOO_LONG)


def _plain(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Take a byte order mark off; refuse what is not of single bytes."""
    head = b""
    while len(head) < len(_BOM) and (more := next(chunks, b"")):
        head += more
    if head.startswith(_WIDE):
        raise InputProblem("it is UTF-16; write it as UTF-8 first: iconv -f UTF-16 -t UTF-8")
    head = head.removeprefix(_BOM)
    return chain([head], chunks) if head else iter(())
