"""
What the sandbox holds, in SQLite. All SQL is here, but for the tables in `schema.py` and what v2 needs in `v2_store.py`.

Rows name contacts and accounts by uid, so that a database file reads well with any SQLite tool. Statements are small
and in memory, or without an fsync: they run on the event loop's thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from salesmachine_async.sandbox.storage.database import Database
from salesmachine_async.sandbox.storage.schema import COUNTERS, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable


class StoredRow(NamedTuple):
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


class Store(Database):
    """What the tracking endpoints keep, and the control endpoints show."""

    # Workspaces

    def workspace(self, name: str) -> int:
        """Find the workspace *name*, or create it."""
        found = self.find_workspace(name)
        if found is None:
            self.run("INSERT INTO workspace (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            (found,) = self.one("SELECT id FROM workspace WHERE name = ?", (name,))
        return found

    def find_workspace(self, name: str) -> int | None:
        """Find the workspace *name*."""
        rows = self.all("SELECT id FROM workspace WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def workspaces(self) -> list[str]:
        """Name all workspaces."""
        return [name for (name,) in self.all("SELECT name FROM workspace ORDER BY id")]

    def counts(self, workspace: int | None) -> dict[str, int]:
        """Read the counters of *workspace*, or the sums over all."""
        sums = ", ".join(f"coalesce(sum({counter}), 0)" for counter in COUNTERS)
        row = self.one(f"SELECT {sums} FROM workspace WHERE ?1 IS NULL OR id = ?1", (workspace,))  # noqa: S608
        return dict(zip(COUNTERS, row, strict=True))

    def count(self, workspace: int, **added: int) -> None:
        """Add to counters."""
        changes = ", ".join(f"{counter} = {counter} + ?" for counter in added)
        self.run(f"UPDATE workspace SET {changes} WHERE id = ?", (*added.values(), workspace))  # noqa: S608

    def last_seq(self, workspace: int) -> int:
        """Read the number of the latest message applied."""
        (seq,) = self.one("SELECT seq FROM workspace WHERE id = ?", (workspace,))
        return int(seq)

    def set_last_seq(self, workspace: int, seq: int) -> None:
        """Note the number of the latest message applied."""
        self.run("UPDATE workspace SET seq = ? WHERE id = ?", (seq, workspace))

    def delete_workspace(self, workspace: int) -> None:
        """Delete everything of *workspace*."""
        with self.writing():
            for table in TABLES:
                self.run(f"DELETE FROM {table} WHERE workspace = ?", (workspace,))  # noqa: S608
            self.run("DELETE FROM workspace WHERE id = ?", (workspace,))

    # Lookups: what a batch touches

    def seen(self, workspace: int, message_ids: Iterable[str]) -> set[str]:
        """Tell which of *message_ids* were applied before."""
        return {row[0] for row in self.among("SELECT message_id FROM seen", "message_id", workspace, message_ids)}

    def aliases(self, workspace: int, uids: Iterable[str]) -> dict[str, str]:
        """Map those of *uids* that are further uids to their contact's own."""
        return dict(self.among("SELECT uid, contact FROM alias", "uid", workspace, uids))

    def contacts(self, workspace: int, uids: Iterable[str]) -> list[StoredRow]:
        """Read the contacts whose own uids are given."""
        rows = self.among("SELECT uid, params, created_at, updated_at FROM contact", "uid", workspace, uids)
        return [StoredRow(*row) for row in rows]

    def accounts(self, workspace: int, uids: Iterable[str]) -> list[StoredRow]:
        """Read accounts."""
        rows = self.among("SELECT uid, params, created_at, updated_at FROM account", "uid", workspace, uids)
        return [StoredRow(*row) for row in rows]

    def memberships(self, workspace: int, contacts: Iterable[str]) -> list[tuple[str, str]]:
        """Pair contacts with their accounts, in the order of joining."""
        rows = self.among("SELECT seq, contact, account FROM membership", "contact", workspace, contacts)
        return [(contact, account) for _, contact, account in sorted(rows)]

    # Writing what a batch changed

    def save_contacts(self, workspace: int, rows: Iterable[StoredRow], received: int) -> None:
        """Insert or replace contacts, heard of at *received*. What is written is not archived any more."""
        self._save("contact", workspace, rows, received)

    def save_accounts(self, workspace: int, rows: Iterable[StoredRow], received: int) -> None:
        """Insert or replace accounts, heard of at *received*. What is written is not archived any more."""
        self._save("account", workspace, rows, received)

    def add_memberships(self, workspace: int, rows: Iterable[tuple[str, str, int]]) -> None:
        """Link contacts to accounts: (contact, account, seq)."""
        sql = "INSERT INTO membership VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        self.many(sql, ((workspace, *row) for row in rows))

    def add_events(self, workspace: int, rows: Iterable[EventRow]) -> None:
        """Append events."""
        self.many("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", ((workspace, *row) for row in rows))

    def add_seen(self, workspace: int, message_ids: Iterable[str]) -> None:
        """Remember message ids."""
        self.many("INSERT INTO seen VALUES (?, ?)", ((workspace, each) for each in message_ids))

    def add_alias(self, workspace: int, uid: str, contact: str) -> None:
        """Make *uid* a further uid of *contact*."""
        self.run("INSERT INTO alias VALUES (?, ?, ?)", (workspace, uid, contact))

    def absorb(self, workspace: int, loser: str, winner: str) -> None:
        """Give all that points to the contact *loser* to *winner*, and delete *loser*."""
        move = (winner, workspace, loser)
        self.run("UPDATE event SET contact = ? WHERE workspace = ? AND contact = ?", move)
        self.run("UPDATE alias SET contact = ? WHERE workspace = ? AND contact = ?", move)
        # What is left behind are memberships that the winner has too.
        self.run("UPDATE OR IGNORE membership SET contact = ? WHERE workspace = ? AND contact = ?", move)
        self.run("DELETE FROM membership WHERE workspace = ? AND contact = ?", move[1:])
        self.run("DELETE FROM contact WHERE workspace = ? AND uid = ?", move[1:])

    def evict_events(self, workspace: int, count: int) -> None:
        """Delete the *count* oldest events."""
        oldest = "SELECT seq FROM event WHERE workspace = ?1 ORDER BY seq LIMIT ?2"
        self.run(f"DELETE FROM event WHERE workspace = ?1 AND seq IN ({oldest})", (workspace, count))  # noqa: S608

    # Inspection

    def list_contacts(
        self, workspace: int, after: str, limit: int, text: str | None = None, *, newest_first: bool = False
    ) -> list[StoredRow]:
        """
        List contacts by uid; only those that hold *text*, in whichever case.

        Newest first, they are listed by when they were first heard of, and *after* is the uid they come before.
        """
        return self._list("contact", workspace, after, limit, text, newest_first=newest_first)

    def list_accounts(
        self, workspace: int, after: str, limit: int, text: str | None = None, *, newest_first: bool = False
    ) -> list[StoredRow]:
        """List accounts as `list_contacts` does."""
        return self._list("account", workspace, after, limit, text, newest_first=newest_first)

    def further_uids(self, workspace: int, contacts: Iterable[str]) -> list[tuple[str, str]]:
        """Pair contacts with their further uids."""
        return self.among("SELECT contact, uid FROM alias", "contact", workspace, contacts)

    def members(self, workspace: int, accounts: Iterable[str]) -> list[tuple[str, str]]:
        """Pair accounts with their contacts, in the order of joining."""
        rows = self.among("SELECT seq, account, contact FROM membership", "account", workspace, accounts)
        return [(account, contact) for _, account, contact in sorted(rows)]

    def events(
        self,
        workspace: int,
        after: int,
        limit: int,
        *,
        text: str | None = None,
        newest_first: bool = False,
        **equal: str,
    ) -> list[EventRow]:
        """
        List events in the order of arrival; *equal* filters by contact, account or event_uid.

        Newest first, *after* is the number they come before; 0 means the end.
        """
        filters = "".join(f" AND {column} = ?" for column in equal)
        values: list[str] = list(equal.values())
        if text is not None:
            filters += " AND instr(lower(contact_uid || ' ' || event_uid || ' ' || params), lower(?))"
            values.append(text)
        bound, order = ("(?2 = 0 OR seq < ?2)", "DESC") if newest_first else ("seq > ?2", "ASC")
        sql = f"SELECT * FROM event WHERE workspace = ?1 AND {bound}{filters} ORDER BY seq {order} LIMIT ?"  # noqa: S608
        return [EventRow(*row[1:]) for row in self.all(sql, (workspace, after, *values, limit))]

    # Statements

    def _save(self, table: str, workspace: int, rows: Iterable[StoredRow], received: int) -> None:
        columns = "workspace, uid, params, created_at, updated_at, added_at"
        update = (
            "params = excluded.params, created_at = excluded.created_at, updated_at = excluded.updated_at, archived = 0"
        )
        sql = f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET {update}"  # noqa: S608
        self.many(sql, ((workspace, *row, received) for row in rows))

    def _list(
        self, table: str, workspace: int, after: str, limit: int, text: str | None, *, newest_first: bool
    ) -> list[StoredRow]:
        columns = "uid, params, created_at, updated_at"
        holds = "(?3 IS NULL OR instr(lower(uid || ' ' || params), lower(?3)))"
        if newest_first:
            # The plus keeps SQLite from the index, which would make it sort all rows for each page.
            before = f"(?2 = '' OR id < (SELECT id FROM {table} WHERE workspace = ?1 AND uid = ?2))"  # noqa: S608
            where, order = f"+workspace = ?1 AND {before} AND {holds}", "id DESC"
        else:
            where, order = f"workspace = ?1 AND uid > ?2 AND {holds}", "uid"
        sql = f"SELECT {columns} FROM {table} WHERE {where} ORDER BY {order} LIMIT ?4"  # noqa: S608
        return [StoredRow(*row) for row in self.all(sql, (workspace, after, text, limit))]
