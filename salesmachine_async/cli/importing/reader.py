"""Reads an input in a thread of its own, a piece at a time: a pipe may stay silent for hours, a disk for seconds."""

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
from salesmachine_async.cli.importing.mapping import NO_METHOD, BadRow, Mapper, OutOfScope, TrackingCall
from salesmachine_async.cli.importing.rows import SALT_BYTES, CsvRows, InputRow, NdjsonRows
from salesmachine_async.cli.importing.source import InputProblem, Source

# Pieces read ahead. One, because the thread and the event loop take the interpreter from each other: with four, each
# request waited several times for a turn (5 ms, sys.getswitchinterval), and the rate was half.
AHEAD = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """
    One input of the import.

    Attributes:
        path: The file, or `STDIN`.
        csv: Whether it is CSV, else NDJSON.
        delimiter: Between its cells.
        guessed: Whether nothing says that it is NDJSON.
    """

    path: Path
    csv: bool
    delimiter: str = ","
    guessed: bool = False

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return "stdin" if str(self.path) == "-" else str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    How inputs are read: what the user said about all of them.

    Attributes:
        shape: How rows become messages.
        piece: Rows at a time, at most.
    """

    shape: ColumnOptions
    piece: int = 500

    def digest(self, what: Input) -> bytes:
        """Digest the options that make the same text another message."""
        shape = self.shape
        told = [shape.kind, dict(shape.names), dict(shape.constants), dict(shape.types), what.csv and what.delimiter]
        return hashlib.blake2b(orjson.dumps(told, option=orjson.OPT_SORT_KEYS), digest_size=SALT_BYTES).digest()

    def salt(self, what: Input) -> bytes:
        """
        Digest all that makes the same text on the same line another message: the options, and the file's name.

        Without the name, the same visit on the first line of Monday's and of Tuesday's file would be one.
        """
        name = os.fsencode(Path(what.path).name.removesuffix(".gz"))
        return hashlib.blake2b(self.digest(what) + name, digest_size=SALT_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Piece:
    """
    Rows that were read together.

    Attributes:
        rows: They.
        calls: For each its call, why there is none, or None to skip it. Empty for rows of an earlier run.
    """

    rows: list[InputRow]
    calls: list[TrackingCall | str | None]


class Opened:
    """
    An input that is being read.

    Args:
        what: Which.
        reading: How.

    Attributes:
        source: Its bytes.

    Raises:
        InputProblem: It cannot be opened, or its header does not fit.
        DamagedInput: It breaks off in its header.
    """

    def __init__(self, what: Input, reading: Reading) -> None:
        self.source = Source(what.path)
        try:
            salt = reading.salt(what)
            self._rows: CsvRows | NdjsonRows
            if what.csv:
                self._rows = CsvRows(self.source.chunks(), salt, what.delimiter, what.name)
            else:
                self._rows = NdjsonRows(self.source.chunks(), salt)
            self._mapper = Mapper(reading.shape, self._rows.header, what.name)
        except BaseException:
            self.source.close()
            raise
        self._what = what
        self._most = reading.piece

    def record(self, row: InputRow) -> dict[str, Any] | None:
        """Read a row as named values; None when it cannot be read."""
        try:
            return self._mapper.record(row)
        except BadRow:
            return None

    def pieces(self, skip_to: int = 0) -> Iterator[Piece]:
        """
        Read on to the end.

        Args:
            skip_to: Rows that end there or before are passed over.

        Raises:
            InputProblem: It is not what it was said to be.
            DamagedInput: It breaks off.
        """
        first = True
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
                yield Piece(some, [self._call(row) for row in some])

    def _call(self, row: InputRow) -> TrackingCall | str | None:
        try:
            return self._mapper.call(row)
        except OutOfScope:
            return None
        except BadRow as error:
            return str(error)

    def _check_first(self, row: InputRow) -> None:
        """Refuse what is wrong with all rows, rather than to reject a million of them."""
        if row.cells is None and row.text.startswith(b"[") and not self._what.csv:
            raise InputProblem(
                f"{self._what.name} is a JSON array; make it one object a line: jq -c '.[]' {self._what.name}"
            )
        if self._what.guessed and not row.text.startswith(b"{"):
            raise InputProblem(
                f"{self._what.name}: its first row is not a JSON object, so this is not NDJSON; "
                "if it is CSV, add --format csv"
            )
        if self._call(row) == NO_METHOD:
            raise InputProblem(f"{self._what.name}: its first row {NO_METHOD}")


def preview(what: Input, reading: Reading) -> None:
    """
    Look at the beginning of a file.

    Raises:
        InputProblem: It cannot be imported.
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
        what: Which.
        reading: How.

    Attributes:
        opened: What is read; None until it is opened, for which a named pipe may have to wait.
    """

    def __init__(self, what: Input, reading: Reading) -> None:
        self.opened: Opened | None = None
        self._what = what
        self._reading = reading

    async def pieces(self, skip_to: int) -> AsyncGenerator[Piece]:
        """
        Give the pieces as the thread reads them; as `Opened.pieces`. Closes the input, however it ends.

        The thread is a daemon: one that waits for a silent pipe must not hold up the end of the process.
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
        except BaseException as error:  # noqa: BLE001 (raised again by who reads)
            hand_over(error)
        finally:
            if self.opened is not None:
                self.opened.source.close()


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    arrived: asyncio.Queue[Piece | BaseException | None],
    piece: Piece | BaseException | None,
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(arrived.put_nowait, piece)
