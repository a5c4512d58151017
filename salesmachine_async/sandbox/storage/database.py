"""One SQLite connection, its lock and its transactions."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from salesmachine_async.sandbox.storage.schema import SCHEMA, VERSION

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    Values = Sequence[Any] | Mapping[str, Any]

# Bound variables of one statement; SQLite accepts 32,766.
CHUNK = 500


class Database:
    """
    The database.

    Every method is thread-safe: one lock guards the connection, so that a test can inspect a sandbox that runs in
    another thread.

    Args:
        path: The database file; None keeps the data in memory.

    Raises:
        ValueError: The file was written by another version, or is not a sandbox database; or it does not exist, and
            a file has the name of its log.
        sqlite3.Error: The file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.in_memory = path is None
        if path is not None:
            _check_beside(path)
        self._lock = threading.RLock()
        # Autocommit, because writing() begins and ends transactions explicitly.
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        if self.in_memory:
            # Rows fill large pages better. A file keeps the default, with which it was created.
            self._db.execute("PRAGMA page_size = 16384")
        # Checked before the journal mode, which is written to the file.
        (version,) = self.one("PRAGMA user_version")
        (tables,) = self.one("SELECT count(*) FROM sqlite_schema")
        if version != VERSION and (version, tables) != (0, 0):
            raise ValueError("the database was created by another version of the sandbox; use another file")
        # The WAL survives a crash of the process; only a power failure can lose the last writes.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        if tables == 0:
            self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Generator[None]:
        """Run the block in one transaction; a nested block joins the outer transaction."""
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
        """Exclude writes by other threads, so that all reads of the block see the same state."""
        with self._lock:
            yield

    def run(self, sql: str, values: Values) -> int:
        """Execute one statement and return the number of changed rows."""
        with self._lock:
            return self._db.execute(sql, values).rowcount

    def insert(self, sql: str, values: Values) -> int:
        """Execute one INSERT and return the id of the new row."""
        with self._lock:
            return self._db.execute(sql, values).lastrowid or 0

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute one statement for each of *rows*."""
        with self._lock:
            self._db.executemany(sql, rows)

    def all(self, sql: str, values: Values = ()) -> list[Any]:
        """Read all rows."""
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def one(self, sql: str, values: Values = ()) -> Any:
        """Read the first row, which must exist."""
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


def _check_beside(path: str | os.PathLike[str]) -> None:
    """Raise ValueError if SQLite would overwrite a file that it did not make, as the log of a new database."""
    if os.path.lexists(path):
        return
    for suffix in ("-wal", "-journal", "-shm"):
        if os.path.lexists(f"{os.fspath(path)}{suffix}"):
            raise ValueError(f"{os.fspath(path)}{suffix} exists without it; move it away, or use another file")
