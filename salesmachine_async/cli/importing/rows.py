"""Rows of an input: one line of NDJSON, or one record of CSV, which may span several lines."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain

from salesmachine_async.cli.importing.lines import MAX_ROW_BYTES, Overlong, cut
from salesmachine_async.cli.importing.source import InputProblem

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# The line in which Excel names the delimiter.
_SEPARATOR = re.compile(rb'"?sep=([\x20-\x7e\t])"?\r?\n?', re.IGNORECASE)
DIGEST_BYTES = 12
SALT_BYTES = 16
TOO_LONG = f"is longer than {MAX_ROW_BYTES:,} bytes"


class InputRow:
    """
    One row of an input.

    Attributes:
        line: The number of its first line, from 1.
        end: The offset of its end in the uncompressed input, without a byte order mark.
        text: The text without the newline; only the beginning of a row that is too long.
        digest: A digest of the text and the salt.
        cells: The cells of CSV; None for NDJSON.
        problem: Why the row is unusable; empty if it is usable.
    """

    __slots__ = ("cells", "digest", "end", "line", "problem", "text")

    def __init__(  # noqa: PLR0917 (keywords would slow half a million calls a second)
        self, line: int, end: int, text: bytes, digest: bytes, cells: list[str] | None = None, problem: str = ""
    ) -> None:
        self.line = line
        self.end = end
        self.text = text
        self.digest = digest
        self.cells = cells
        self.problem = problem

    @property
    def is_separator(self) -> bool:
        """Whether this is a line such as ``sep=;``, in the middle of files that were joined."""
        return _SEPARATOR.fullmatch(self.text) is not None


class NdjsonRows:
    """
    Rows of NDJSON, one per line; blank lines are skipped. It can be iterated once.

    Args:
        chunks: The uncompressed bytes.
        salt: The salt of the digests.

    Attributes:
        header: None, because these rows name their columns.
    """

    header = None

    def __init__(self, chunks: Iterator[bytes], salt: bytes) -> None:
        self._batches = cut(_plain(chunks))
        self._salt = salt

    def __iter__(self) -> Iterator[list[InputRow]]:
        """Yield lists of rows that were read together."""
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
    Rows of CSV according to RFC 4180. It can be iterated once.

    An error costs one row: after a quotation mark that is never closed, reading continues with the next line.

    Args:
        chunks: The uncompressed bytes.
        salt: The salt of the digests, to which the header is added.
        delimiter: The character between cells; a line such as ``sep=;`` before the header takes precedence.
        name: The name of the input, for errors.

    Attributes:
        header: The names of the columns; empty for an empty input.

    Raises:
        InputProblem: If the first line is not a header.
    """

    def __init__(self, chunks: Iterator[bytes], salt: bytes, delimiter: str, name: str) -> None:
        # The limit belongs to the process and may have been raised by other code.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
        self._feed = _Feed(cut(_plain(chunks)))
        self._delimiter = delimiter
        if (separator := _SEPARATOR.fullmatch(self._feed.first_line())) is not None:
            self._delimiter = separator[1].decode()
            self._feed.drop_first_line()
        self._salt = b"\0" * SALT_BYTES
        self._reader = self._new_reader()
        first = self._next()
        if first is not None and first.problem:
            raise InputProblem(f"{name}: its header, line {first.line}, {first.problem}")
        self.header = [] if first is None else [cell.strip() for cell in first.cells or ()]
        text = b"" if first is None else first.text
        self._salt = hashlib.blake2b(salt + text, digest_size=SALT_BYTES).digest()

    def __iter__(self) -> Iterator[list[InputRow]]:
        """Yield lists of rows that were read together."""
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
            # Spreadsheets write lines of delimiters below a table; they are treated as blank lines.
            if any(cells):
                text = b"".join(feed.taken).rstrip(b"\r\n")
                return InputRow(feed.line, feed.end, text, self._digest(text), cells, feed.problem)

    def _recover(self, problem: str) -> InputRow:
        """Return the first line of an unreadable record as a row, and continue after it."""
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
    """Describe an error of csv."""
    if "expected after" in problem:
        return "has text after a closing quotation mark, or a quotation mark too many"
    if problem == "unexpected end of data":
        return "has a quotation mark that is never closed"
    return f"is not CSV: {problem}"


class _Unusable(Exception):
    """A line that csv cannot read; it ends the record."""


class _Feed:
    """
    An iterator of lines for csv, which records the lines of the current record.

    Attributes:
        taken: The lines of the record.
        line: The number of its first line.
        end: The offset of its end.
        problem: Why its text is unusable; empty if it is usable.
        drained: Whether the next line has not been read yet.
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

    def first_line(self) -> bytes:
        """Return the first line without taking it; empty if there is none."""
        while not self._waiting and (lines := next(self._batches, None)) is not None:
            self._waiting.extend(lines)
        return self._waiting[0] if self._waiting else b""

    def drop_first_line(self) -> None:
        self.begin()
        next(self)

    def begin(self) -> None:
        self.line += len(self.taken)
        self.taken = []
        self._taken_bytes = 0
        self.problem = ""

    def keep_first(self) -> bytes:
        """Return the first line, and put the others back."""
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
            # Reading continues, so that the whole record is rejected and not its first half.
            return line.decode(errors="replace")


def not_utf8(line: bytes, error: UnicodeDecodeError) -> str:
    """Describe the first byte that is not UTF-8."""
    return f"is not valid UTF-8 (byte {error.start + 1} is 0x{line[error.start]:02x})"


def _length(line: bytes) -> int:
    return line.length if isinstance(line, Overlong) else len(line)


def _overlong_row(number: int, end: int, line: Overlong, salt: bytes) -> InputRow:
    digest = hashlib.blake2b(line.fingerprint, digest_size=DIGEST_BYTES, salt=salt).digest()
    return InputRow(number, end, line, digest, None, TOO_LONG)


def _plain(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Remove a byte order mark; raise InputProblem for UTF-16."""
    head = b""
    while len(head) < len(_BOM) and (more := next(chunks, b"")):
        head += more
    if head.startswith(_UTF16):
        raise InputProblem("it is UTF-16; use --encoding utf-16")
    head = head.removeprefix(_BOM)
    return chain([head], chunks) if head else iter(())
