"""
The state of the sandbox in SQLite: all statements except the tables (`schema.py`) and those of v2 (`v2_store.py`).

Rows refer to contacts and accounts by uid, so that a database file is readable with any SQLite tool. Statements are
small and run in memory or without an fsync, therefore they run on the event loop's thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from salesmachine_async.sandbox.storage.database import Database
from salesmachine_async.sandbox.storage.large_params import MIN_CHARACTERS, LargeParams
from salesmachine_async.sandbox.storage.schema import COUNTERS, TABLES

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from salesmachine_async.sandbox.storage.v2_store import RecordKind


class StoredRow(NamedTuple):
    """One contact or account; *params* is JSON, the times are epoch milliseconds."""

    uid: str
    params: str
    created_at: int
    updated_at: int


class EventRow(NamedTuple):
    """One event; *contact* is the primary uid of the contact, *contact_uid* the uid that was sent."""

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
    """Storage of the tracking endpoints, read by the control endpoints."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        super().__init__(path)
        self._deletions = 0
        self._large_params = LargeParams()

    # Workspaces

    def workspace(self, name: str) -> int:
        """Return the id of the workspace *name*, creating it if needed."""
        found = self.find_workspace(name)
        if found is None:
            self.run("INSERT INTO workspace (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            (found,) = self.one("SELECT id FROM workspace WHERE name = ?", (name,))
        return found

    def find_workspace(self, name: str) -> int | None:
        """Return the id of the workspace *name*, or None."""
        rows = self.all("SELECT id FROM workspace WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def workspaces(self) -> list[str]:
        """List the names of all workspaces, oldest first."""
        return [name for (name,) in self.all("SELECT name FROM workspace ORDER BY id")]

    def counts(self, workspace: int | None) -> dict[str, int]:
        """Read the counters of *workspace*, or the sums over all."""
        sums = ", ".join(f"coalesce(sum({counter}), 0)" for counter in COUNTERS)
        row = self.one(f"SELECT {sums} FROM workspace WHERE :id IS NULL OR id = :id", {"id": workspace})  # noqa: S608
        return dict(zip(COUNTERS, row, strict=True))

    def all_counts(self) -> list[tuple[str, dict[str, int]]]:
        """List all workspaces with their counters, oldest first."""
        rows = self.all(f"SELECT name, {', '.join(COUNTERS)} FROM workspace ORDER BY id")  # noqa: S608
        return [(name, dict(zip(COUNTERS, counts, strict=True))) for name, *counts in rows]

    def count(self, workspace: int, **added: int) -> None:
        """Increment counters."""
        changes = ", ".join(f"{counter} = {counter} + ?" for counter in added)
        self.run(f"UPDATE workspace SET {changes} WHERE id = ?", (*added.values(), workspace))  # noqa: S608

    def version(self, workspace: int) -> tuple[int, int]:
        """Return a value that changes with each message applied to *workspace*, and with each deletion."""
        return self._deletions, self.last_seq(workspace)

    def last_seq(self, workspace: int) -> int:
        """Read the number of the latest message applied."""
        rows = self.all("SELECT seq FROM workspace WHERE id = ?", (workspace,))
        return int(rows[0][0]) if rows else 0

    def set_last_seq(self, workspace: int, seq: int) -> None:
        """Store the number of the latest message applied."""
        self.run("UPDATE workspace SET seq = ? WHERE id = ?", (seq, workspace))

    def delete_workspace(self, workspace: int) -> None:
        """Delete everything of *workspace*."""
        with self.writing():
            for table in TABLES:
                self.run(f"DELETE FROM {table} WHERE workspace = ?", (workspace,))  # noqa: S608
            self.run("DELETE FROM workspace WHERE id = ?", (workspace,))
            self._large_params.delete_workspace(workspace)
            self._deletions += 1

    # Lookups for a batch

    def seen(self, workspace: int, message_ids: Iterable[str]) -> set[str]:
        """Return those of *message_ids* that were applied before."""
        return {row[0] for row in self.among("SELECT message_id FROM seen", "message_id", workspace, message_ids)}

    def aliases(self, workspace: int, uids: Iterable[str]) -> dict[str, str]:
        """Map those of *uids* that are aliases to the primary uid of their contact."""
        return dict(self.among("SELECT uid, contact FROM alias", "uid", workspace, uids))

    def contacts(self, workspace: int, uids: Iterable[str]) -> list[StoredRow]:
        """Read contacts by their primary uids."""
        rows = self.among("SELECT uid, params, created_at, updated_at FROM contact", "uid", workspace, uids)
        return [StoredRow(*row) for row in rows]

    def accounts(self, workspace: int, uids: Iterable[str]) -> list[StoredRow]:
        """Read accounts by their uids."""
        rows = self.among("SELECT uid, params, created_at, updated_at FROM account", "uid", workspace, uids)
        return [StoredRow(*row) for row in rows]

    def memberships(self, workspace: int, contacts: Iterable[str]) -> list[tuple[str, str]]:
        """List pairs of a contact and one of its accounts, in the order of joining."""
        rows = self.among("SELECT seq, contact, account FROM membership", "contact", workspace, contacts)
        return [(contact, account) for _, contact, account in sorted(rows)]

    # Writes of a batch

    def save_contacts(self, workspace: int, rows: Iterable[StoredRow], received: int) -> None:
        """Insert or replace contacts first seen at *received*; a write also unarchives a contact."""
        self._save("contact", workspace, rows, received)

    def save_accounts(self, workspace: int, rows: Iterable[StoredRow], received: int) -> None:
        """Insert or replace accounts first seen at *received*; a write also unarchives an account."""
        self._save("account", workspace, rows, received)

    def add_memberships(self, workspace: int, rows: Iterable[tuple[str, str, int]]) -> None:
        """Link contacts to accounts: (contact, account, seq)."""
        sql = "INSERT INTO membership VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        self.many(sql, ((workspace, *row) for row in rows))

    def add_events(self, workspace: int, rows: Iterable[EventRow]) -> None:
        """Append events."""
        sql = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self.many(sql, ((workspace, *self._without_large_params(workspace, row)) for row in rows))

    def add_seen(self, workspace: int, message_ids: Iterable[str]) -> None:
        """Remember message ids."""
        self.many("INSERT INTO seen VALUES (?, ?)", ((workspace, each) for each in message_ids))

    def add_alias(self, workspace: int, uid: str, contact: str) -> None:
        """Make *uid* a further uid of *contact*."""
        self.run("INSERT INTO alias VALUES (?, ?, ?)", (workspace, uid, contact))

    def absorb(self, workspace: int, loser: str, winner: str) -> None:
        """Move all references from the contact *loser* to *winner*, and delete *loser*."""
        move = (winner, workspace, loser)
        self.run("UPDATE event SET contact = ? WHERE workspace = ? AND contact = ?", move)
        self.run("UPDATE alias SET contact = ? WHERE workspace = ? AND contact = ?", move)
        # OR IGNORE leaves the memberships that the winner already has.
        self.run("UPDATE OR IGNORE membership SET contact = ? WHERE workspace = ? AND contact = ?", move)
        self.run("DELETE FROM membership WHERE workspace = ? AND contact = ?", move[1:])
        self.run("DELETE FROM contact WHERE workspace = ? AND uid = ?", move[1:])

    def evict_events(self, workspace: int, count: int) -> None:
        """Delete the *count* oldest events."""
        oldest = "SELECT seq FROM event WHERE workspace = :workspace ORDER BY seq LIMIT :count"
        self.run(
            f"DELETE FROM event WHERE workspace = :workspace AND seq IN ({oldest})",  # noqa: S608
            {"workspace": workspace, "count": count},
        )
        self._large_params.delete_before(workspace, self.event_range(workspace)[0])

    # Inspection

    def records(
        self, kind: RecordKind, workspace: int, after: str, limit: int, *, newest_first: bool
    ) -> list[StoredRow]:
        """
        List contacts or accounts by uid, after the uid *after*.

        With *newest_first* the order is that of creation, latest first, and *after* is the last uid already listed.
        """
        if newest_first:
            # The plus disables the index, with which SQLite would sort all rows for each page.
            before = f"(:after = '' OR id < (SELECT id FROM {kind} WHERE workspace = :workspace AND uid = :after))"  # noqa: S608
            where, order = f"+workspace = :workspace AND {before}", "id DESC"
        else:
            where, order = "workspace = :workspace AND uid > :after", "uid"
        sql = f"SELECT uid, params, created_at, updated_at FROM {kind} WHERE {where} ORDER BY {order} LIMIT :limit"  # noqa: S608
        values = {"workspace": workspace, "after": after, "limit": limit}
        return [StoredRow(*row) for row in self.all(sql, values)]

    def further_uids(self, workspace: int, contacts: Iterable[str]) -> list[tuple[str, str]]:
        """List pairs of a contact and one of its aliases."""
        return self.among("SELECT contact, uid FROM alias", "contact", workspace, contacts)

    def members(self, workspace: int, accounts: Iterable[str]) -> list[tuple[str, str]]:
        """List pairs of an account and one of its contacts, in the order of joining."""
        rows = self.among("SELECT seq, account, contact FROM membership", "account", workspace, accounts)
        return [(account, contact) for _, account, contact in sorted(rows)]

    def event_range(self, workspace: int) -> tuple[int, int]:
        """Return the first and the last `seq` of the events kept; an empty range if there are none."""
        # Two statements, because SQLite reads the index for a single min or max only.
        (first,) = self.one("SELECT min(seq) FROM event WHERE workspace = ?", (workspace,))
        (last,) = self.one("SELECT max(seq) FROM event WHERE workspace = ?", (workspace,))
        return (1, 0) if first is None else (first, last)

    def events(
        self, workspace: int, start: int, end: int, *, limit: int, newest_first: bool, equal: Mapping[str, str]
    ) -> list[EventRow]:
        """List events with a `seq` from *start* to *end*; *equal* filters by contact, account or event_uid."""
        filters = "".join(f" AND {column} = :{column}" for column in equal)
        order = "DESC" if newest_first else "ASC"
        where = f"workspace = :workspace AND seq BETWEEN :start AND :end{filters}"
        sql = f"SELECT * FROM event WHERE {where} ORDER BY seq {order} LIMIT :limit"  # noqa: S608
        values = {**equal, "workspace": workspace, "start": start, "end": end, "limit": limit}
        return [self._with_large_params(workspace, EventRow(*row[1:])) for row in self.all(sql, values)]

    def event_times(self, workspace: int, start: int, end: int) -> list[tuple[str, int]]:
        """List the name and the time of arrival of events with a `seq` from *start* to *end*, newest first."""
        sql = "SELECT event_uid, received_at FROM event WHERE workspace = ? AND seq BETWEEN ? AND ? ORDER BY seq DESC"
        return self.all(sql, (workspace, start, end))

    # Shared helpers

    def _without_large_params(self, workspace: int, row: EventRow) -> EventRow:
        if not self.in_memory or len(row.params) < MIN_CHARACTERS:
            return row
        self._large_params.add(workspace, row.seq, row.params)
        return row._replace(params="")

    def _with_large_params(self, workspace: int, row: EventRow) -> EventRow:
        return row if row.params else row._replace(params=self._large_params.get(workspace, row.seq))

    def _save(self, table: str, workspace: int, rows: Iterable[StoredRow], received: int) -> None:
        columns = "workspace, uid, params, created_at, updated_at, added_at"
        update = (
            "params = excluded.params, created_at = excluded.created_at, updated_at = excluded.updated_at, archived = 0"
        )
        sql = f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET {update}"  # noqa: S608
        self.many(sql, ((workspace, *row, received) for row in rows))
