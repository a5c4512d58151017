"""
What the sandbox holds, in SQLite. All SQL is here, but for the tables in `schema.py`.

Rows name contacts and accounts by uid, so that a database file reads well with any SQLite tool. Statements are small
and in memory, or without an fsync: they run on the event loop's thread.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from salesmachine_async.sandbox.schema import COUNTERS, SCHEMA, TABLES, VERSION

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable, Sequence

# Bound variables of one statement; SQLite takes 32,766.
CHUNK = 500


class Row(NamedTuple):
    """A contact or an account: its uid, its params as JSON, its times in epoch milliseconds."""

    uid: str
    params: str
    created_at: int
    updated_at: int


class EventRow(NamedTuple):
    """An event: *contact* is the contact's own uid, *contact_uid* the one that was sent."""

    seq: int
    contact: str
    contact_uid: str
    event_uid: str
    account: str | None
    params: str
    created_at: int
    received_at: int
    message_id: str | None


class Store:
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
        (version,) = self._one("PRAGMA user_version")
        (tables,) = self._one("SELECT count(*) FROM sqlite_schema")
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
        """Apply what is written in the block as a whole, or nothing of it."""
        with self._lock:
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

    # Workspaces

    def workspace(self, name: str) -> int:
        """Find the workspace *name*, or create it."""
        found = self.find_workspace(name)
        if found is None:
            self._run("INSERT INTO workspace (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            (found,) = self._one("SELECT id FROM workspace WHERE name = ?", (name,))
        return found

    def find_workspace(self, name: str) -> int | None:
        """Find the workspace *name*."""
        rows = self._all("SELECT id FROM workspace WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def workspaces(self) -> list[str]:
        """Name all workspaces."""
        return [name for (name,) in self._all("SELECT name FROM workspace ORDER BY id")]

    def counts(self, workspace: int | None) -> dict[str, int]:
        """Read the counters of *workspace*, or the sums over all."""
        sums = ", ".join(f"coalesce(sum({counter}), 0)" for counter in COUNTERS)
        row = self._one(f"SELECT {sums} FROM workspace WHERE ?1 IS NULL OR id = ?1", (workspace,))  # noqa: S608
        return dict(zip(COUNTERS, row, strict=True))

    def count(self, workspace: int, **added: int) -> None:
        """Add to counters."""
        changes = ", ".join(f"{counter} = {counter} + ?" for counter in added)
        self._run(f"UPDATE workspace SET {changes} WHERE id = ?", (*added.values(), workspace))  # noqa: S608

    def last_seq(self, workspace: int) -> int:
        """Read the number of the latest message applied."""
        (seq,) = self._one("SELECT seq FROM workspace WHERE id = ?", (workspace,))
        return int(seq)

    def set_last_seq(self, workspace: int, seq: int) -> None:
        """Note the number of the latest message applied."""
        self._run("UPDATE workspace SET seq = ? WHERE id = ?", (seq, workspace))

    def delete_workspace(self, workspace: int) -> None:
        """Delete everything of *workspace*."""
        with self.writing():
            for table in TABLES:
                self._run(f"DELETE FROM {table} WHERE workspace = ?", (workspace,))  # noqa: S608
            self._run("DELETE FROM workspace WHERE id = ?", (workspace,))

    # Looking up what a batch touches

    def seen(self, workspace: int, message_ids: Iterable[str]) -> set[str]:
        """Tell which of *message_ids* were applied before."""
        return {row[0] for row in self._among("SELECT message_id FROM seen", "message_id", workspace, message_ids)}

    def aliases(self, workspace: int, uids: Iterable[str]) -> dict[str, str]:
        """Map those of *uids* that are further uids to their contact's own."""
        return dict(self._among("SELECT uid, contact FROM alias", "uid", workspace, uids))

    def contacts(self, workspace: int, uids: Iterable[str]) -> list[Row]:
        """Read the contacts whose own uids are given."""
        rows = self._among("SELECT uid, params, created_at, updated_at FROM contact", "uid", workspace, uids)
        return [Row(*row) for row in rows]

    def accounts(self, workspace: int, uids: Iterable[str]) -> list[Row]:
        """Read accounts."""
        rows = self._among("SELECT uid, params, created_at, updated_at FROM account", "uid", workspace, uids)
        return [Row(*row) for row in rows]

    def memberships(self, workspace: int, contacts: Iterable[str]) -> list[tuple[str, str]]:
        """Pair contacts with their accounts, in the order of joining."""
        rows = self._among("SELECT seq, contact, account FROM membership", "contact", workspace, contacts)
        return [(contact, account) for _, contact, account in sorted(rows)]

    # Writing what a batch changed

    def save_contacts(self, workspace: int, rows: Iterable[Row]) -> None:
        """Insert or replace contacts."""
        self._save("contact", workspace, rows)

    def save_accounts(self, workspace: int, rows: Iterable[Row]) -> None:
        """Insert or replace accounts."""
        self._save("account", workspace, rows)

    def add_memberships(self, workspace: int, rows: Iterable[tuple[str, str, int]]) -> None:
        """Link contacts to accounts: (contact, account, seq)."""
        sql = "INSERT INTO membership VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        self._many(sql, ((workspace, *row) for row in rows))

    def add_events(self, workspace: int, rows: Iterable[EventRow]) -> None:
        """Append events."""
        self._many("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", ((workspace, *row) for row in rows))

    def add_seen(self, workspace: int, message_ids: Iterable[str]) -> None:
        """Remember message ids."""
        self._many("INSERT INTO seen VALUES (?, ?)", ((workspace, each) for each in message_ids))

    def add_alias(self, workspace: int, uid: str, contact: str) -> None:
        """Make *uid* a further uid of *contact*."""
        self._run("INSERT INTO alias VALUES (?, ?, ?)", (workspace, uid, contact))

    def absorb(self, workspace: int, loser: str, winner: str) -> None:
        """Give all that points to the contact *loser* to *winner*, and delete *loser*."""
        move = (winner, workspace, loser)
        self._run("UPDATE event SET contact = ? WHERE workspace = ? AND contact = ?", move)
        self._run("UPDATE alias SET contact = ? WHERE workspace = ? AND contact = ?", move)
        # What is left behind are memberships that the winner has too.
        self._run("UPDATE OR IGNORE membership SET contact = ? WHERE workspace = ? AND contact = ?", move)
        self._run("DELETE FROM membership WHERE workspace = ? AND contact = ?", move[1:])
        self._run("DELETE FROM contact WHERE workspace = ? AND uid = ?", move[1:])

    def evict_events(self, workspace: int, count: int) -> None:
        """Delete the *count* oldest events."""
        oldest = "SELECT seq FROM event WHERE workspace = ?1 ORDER BY seq LIMIT ?2"
        self._run(f"DELETE FROM event WHERE workspace = ?1 AND seq IN ({oldest})", (workspace, count))  # noqa: S608

    # Looking inside

    def list_contacts(self, workspace: int, after: str, limit: int) -> list[Row]:
        """List contacts by uid."""
        return self._list("contact", workspace, after, limit)

    def list_accounts(self, workspace: int, after: str, limit: int) -> list[Row]:
        """List accounts by uid."""
        return self._list("account", workspace, after, limit)

    def further_uids(self, workspace: int, contacts: Iterable[str]) -> list[tuple[str, str]]:
        """Pair contacts with their further uids."""
        return self._among("SELECT contact, uid FROM alias", "contact", workspace, contacts)

    def members(self, workspace: int, accounts: Iterable[str]) -> list[tuple[str, str]]:
        """Pair accounts with their contacts, in the order of joining."""
        rows = self._among("SELECT seq, account, contact FROM membership", "account", workspace, accounts)
        return [(account, contact) for _, account, contact in sorted(rows)]

    def events(self, workspace: int, after: int, limit: int, **equal: str) -> list[EventRow]:
        """List events in the order of arrival; *equal* filters by contact, account or event_uid."""
        filters = "".join(f" AND {column} = ?" for column in equal)
        sql = f"SELECT * FROM event WHERE workspace = ? AND seq > ?{filters} ORDER BY seq LIMIT ?"  # noqa: S608
        return [EventRow(*row[1:]) for row in self._all(sql, (workspace, after, *equal.values(), limit))]

    # Statements

    def _run(self, sql: str, values: Sequence[Any]) -> None:
        with self._lock:
            self._db.execute(sql, values)

    def _many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._lock:
            self._db.executemany(sql, rows)

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _one(self, sql: str, values: Sequence[Any] = ()) -> Any:
        return self._all(sql, values)[0]

    def _among(self, select: str, column: str, workspace: int, values: Iterable[str]) -> list[Any]:
        """Select the rows of *workspace* whose *column* is one of *values*."""
        wanted = list(values)
        rows: list[Any] = []
        for start in range(0, len(wanted), CHUNK):
            part = wanted[start : start + CHUNK]
            marks = ",".join("?" * len(part))
            rows += self._all(f"{select} WHERE workspace = ? AND {column} IN ({marks})", (workspace, *part))
        return rows

    def _save(self, table: str, workspace: int, rows: Iterable[Row]) -> None:
        update = "params = excluded.params, created_at = excluded.created_at, updated_at = excluded.updated_at"
        sql = f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET {update}"  # noqa: S608
        self._many(sql, ((workspace, *row) for row in rows))

    def _list(self, table: str, workspace: int, after: str, limit: int) -> list[Row]:
        columns = "uid, params, created_at, updated_at"
        sql = f"SELECT {columns} FROM {table} WHERE workspace = ? AND uid > ? ORDER BY uid LIMIT ?"  # noqa: S608
        return [Row(*row) for row in self._all(sql, (workspace, after, limit))]
