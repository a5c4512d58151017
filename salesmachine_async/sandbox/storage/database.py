"""One SQLite connection, its lock and its transactions."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from salesmachine_async.sandbox.storage.schema import SCHEMA, VERSION

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable, Sequence

# Bound variables of one statement; SQLite takes 32,766.
CHUNK = 500


_PLACEHOLDER: Final = re.compile(r"\?(\d*)")


class Database:
    """
    The database.

    Every method may be called from any thread: one lock guards the connection, so that tests which run a sandbox in a
    thread of its own can look inside.

    Args:
        path: a file, or None for memory.

    Raises:
        ValueError: the file was written by another version, or is not a sandbox's.
        sqlite3.Error: the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._lock = threading.RLock()
        # Autocommit: transactions are begun and ended by hand, in writing().
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        # The log survives a crash of this process; a power cut may lose the last moments, which suits a sandbox.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        (version,) = self.one("PRAGMA user_version")
        (tables,) = self.one("SELECT count(*) FROM sqlite_schema")
        if version != VERSION and (version, tables) != (0, 0):
            raise ValueError("the database is not one of this version of the sandbox")
        if tables == 0:
            self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Generator[None]:
        """Apply what is written in the block as a whole, or nothing of it; a block within another is part of that."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def reading(self) -> Generator[None]:
        """Keep other threads from writing between the reads of the block."""
        with self._lock:
            yield

    def run(self, sql: str, values: Sequence[Any]) -> int:
        """Execute one statement; returns how many rows it changed."""
        with self._lock:
            return self._db.execute(*positional(sql, values)).rowcount

    def insert(self, sql: str, values: Sequence[Any]) -> int:
        """Execute one INSERT; returns the id of the new row."""
        with self._lock:
            return self._db.execute(sql, values).lastrowid or 0

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute one statement for each of *rows*."""
        with self._lock:
            self._db.executemany(sql, rows)

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Read all rows."""
        with self._lock:
            return self._db.execute(*positional(sql, values)).fetchall()

    def one(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Read the first row, which must be there."""
        return self.all(sql, values)[0]

    def among(self, select: str, column: str, workspace: int, values: Iterable[str]) -> list[Any]:
        """Select the rows of *workspace* whose *column* is one of *values*."""
        wanted = list(values)
        rows: list[Any] = []
        for start in range(0, len(wanted), CHUNK):
            part = wanted[start : start + CHUNK]
            marks = ",".join("?" * len(part))
            rows += self.all(f"{select} WHERE workspace = ? AND {column} IN ({marks})", (workspace, *part))
        return rows


def positional(sql: str, values: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """
    Return the statement with plain ``?`` in place of ``?1``, and a value for each of them.

    Python 3.12 deprecates numbered placeholders with a sequence of values, and 3.14 refuses them. As in SQLite, a plain
    ``?`` takes the number behind the largest so far.
    """
    if "?1" not in sql:
        return sql, values
    expanded: list[Any] = []
    largest = 0
    for mark in _PLACEHOLDER.finditer(sql):
        number = int(mark[1]) if mark[1] else largest + 1
        largest = max(largest, number)
        expanded.append(values[number - 1])
    return _PLACEHOLDER.sub("?", sql), expanded
