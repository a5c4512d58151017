"""Read an input in a thread, because a read of a pipe or a disk may block."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from salesmachine_async.cli.importing.column_options import ColumnOptions
from salesmachine_async.cli.importing.mapping import NO_METHOD, BadRow, Converted, Mapper
from salesmachine_async.cli.importing.rows import SALT_BYTES, CsvRows, InputRow, NdjsonRows
from salesmachine_async.cli.importing.source import InputProblem, Source

# Pieces read ahead. With four instead of one the rate was half, because the thread and the event loop compete for the
# interpreter, and each switch takes 5 ms (sys.getswitchinterval).
AHEAD = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """
    One input of the import.

    Attributes:
        path: The file, or `STDIN`.
        csv: Whether it is CSV, else NDJSON.
        delimiter: The character between cells.
        guessed: Whether NDJSON is only the default.
    """

    path: Path
    csv: bool
    delimiter: str = ","
    guessed: bool = False

    @property
    def name(self) -> str:
        """The name of the input in messages."""
        return "stdin" if str(self.path) == "-" else str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    The options for reading all inputs.

    Attributes:
        columns: The options that convert rows to messages.
        piece: The largest number of rows passed on together.
        encoding: The encoding of the text; empty for UTF-8, which is then checked.
    """

    columns: ColumnOptions
    piece: int = 500
    encoding: str = ""

    def digest(self, what: Input) -> bytes:
        """Return a digest of the options on which the messages of a text depend."""
        options = self.columns
        parts: list[Any] = [options.kind, dict(options.names), dict(options.constants), dict(options.types)]
        parts += [what.csv and what.delimiter, options.sdk, self.encoding]
        return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=SALT_BYTES).digest()

    def salt(self, what: Input) -> bytes:
        """
        Return a digest of the options and the name of the file.

        The name distinguishes equal rows on the same line of two files, such as the logs of two days.
        """
        name = os.fsencode(Path(what.path).name.removesuffix(".gz"))
        return hashlib.blake2b(self.digest(what) + name, digest_size=SALT_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Piece:
    """
    Rows that were read together.

    Attributes:
        rows: The rows.
        calls: The conversion of each; empty for rows of an earlier run.
    """

    rows: list[InputRow]
    calls: list[Converted]


class Opened:
    """
    An open input.

    Args:
        what: The input.
        reading: The options.

    Attributes:
        source: The bytes of the input.

    Raises:
        InputProblem: If it cannot be opened, or its header does not fit.
        DamagedInput: If it breaks off within the header.
    """

    def __init__(self, what: Input, reading: Reading) -> None:
        self.source = Source(what.path, reading.encoding)
        try:
            salt = reading.salt(what)
            self._rows: CsvRows | NdjsonRows
            if what.csv:
                self._rows = CsvRows(self.source.chunks(), salt, what.delimiter, what.name)
            else:
                self._rows = NdjsonRows(self.source.chunks(), salt)
            self._mapper = Mapper(reading.columns, self._rows.header, what.name)
        except BaseException:
            self.source.close()
            raise
        self._what = what
        self._most = reading.piece

    def record(self, row: InputRow) -> dict[str, Any] | None:
        """Return the values of a row by name; None if it cannot be read."""
        try:
            return self._mapper.record(row)
        except BadRow:
            return None

    def pieces(self, skip_to: int = 0) -> Iterator[Piece]:
        """
        Yield the rows to the end.

        Args:
            skip_to: The offset up to which rows are not converted.

        Raises:
            InputProblem: If the input has another format.
            DamagedInput: If it breaks off.
        """
        first, convert = True, self._mapper.convert
        for rows in self._rows:
            if first:
                self._check_first(rows[0])
                first = False
            for begin in range(0, len(rows), self._most):
                some = rows[begin : begin + self._most]
                if some[-1].end <= skip_to:
                    yield Piece(some, [])
                    continue
                if some[0].end <= skip_to:
                    passed = sum(row.end <= skip_to for row in some)
                    yield Piece(some[:passed], [])
                    some = some[passed:]
                yield Piece(some, [convert(row) for row in some])

    def _check_first(self, row: InputRow) -> None:
        """Raise InputProblem for what is wrong with all rows, so that not each of them is rejected."""
        if row.cells is None and row.text.startswith(b"[") and not self._what.csv:
            raise InputProblem(
                f"{self._what.name} is a JSON array; convert it to one object per line: jq -c '.[]' {self._what.name}"
            )
        if self._what.guessed and not row.text.startswith(b"{"):
            raise InputProblem(
                f"{self._what.name}: its first row is not a JSON object, so this is not NDJSON; "
                "if it is CSV, add --format csv"
            )
        if self._mapper.convert(row) == NO_METHOD:
            raise InputProblem(f"{self._what.name}: its first row {NO_METHOD}")


def preview(what: Input, reading: Reading) -> None:
    """
    Check the beginning of a file.

    Raises:
        InputProblem: If it cannot be imported.
    """
    opened = Opened(what, reading)
    try:
        next(opened.pieces(), None)
    finally:
        opened.source.close()


class Reader:
    """
    Reads one input in a thread.

    Args:
        what: The input.
        reading: The options.

    Attributes:
        opened: The open input; None until it is open, because the opening of a named pipe may block.
    """

    def __init__(self, what: Input, reading: Reading) -> None:
        self.opened: Opened | None = None
        self._what = what
        self._reading = reading

    async def pieces(self, skip_to: int) -> AsyncGenerator[Piece]:
        """
        Yield pieces as `Opened.pieces` does, and close the input at the end.

        The thread is a daemon, so that a read of a silent pipe does not delay the exit of the process.
        """
        arrived: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue()
        room, over = threading.Semaphore(AHEAD), threading.Event()
        work = partial(self._work, skip_to, partial(_hand_over, asyncio.get_running_loop(), arrived), room, over)
        threading.Thread(target=work, name="salesmachine-import-reader", daemon=True).start()
        try:
            while (piece := await arrived.get()) is not None:
                room.release()
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            over.set()
            room.release()

    def _work(
        self,
        skip_to: int,
        hand_over: Callable[[Piece | BaseException | None], None],
        room: threading.Semaphore,
        over: threading.Event,
    ) -> None:
        try:
            self.opened = Opened(self._what, self._reading)
            for piece in self.opened.pieces(skip_to):
                room.acquire()
                if over.is_set():
                    return
                hand_over(piece)
            hand_over(None)
        except BaseException as error:  # noqa: BLE001 (raised again by pieces())
            hand_over(error)
        finally:
            if self.opened is not None:
                self.opened.source.close()


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    arrived: asyncio.Queue[Piece | BaseException | None],
    piece: Piece | BaseException | None,
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(arrived.put_nowait, piece)
