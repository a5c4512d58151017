"""Statements of v2 (the Access API)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salesmachine_async.sandbox.storage.database import Database

RecordKind = Literal["contact", "account"]

# The stage of a contact or account. The API documents the four words but not the rule. The sandbox takes
# `params.status` if it is one of them; otherwise churned with a `churn_date`, paying with a numeric `mrr` above 0, else
# trial.
STATUS = """
CASE
    WHEN json_extract(params, '$.status') IN ('trial', 'paying', 'churned', 'not_converted')
        THEN json_extract(params, '$.status')
    WHEN coalesce(json_type(params, '$.churn_date'), 'null') <> 'null' THEN 'churned'
    WHEN json_type(params, '$.mrr') IN ('integer', 'real') AND json_extract(params, '$.mrr') > 0 THEN 'paying'
    ELSE 'trial'
END
"""
COLUMNS = f"id, uid, params, added_at, archived, {STATUS}"


class RecordRow(NamedTuple):
    """A contact or an account; *added_at* is in epoch milliseconds."""

    id: int
    uid: str
    params: str
    added_at: int
    archived: bool
    status: str


class ObjectRow(NamedTuple):
    """A note, an activity, a task or a user; *created_at* is in epoch milliseconds."""

    id: int
    created_at: int
    data: dict[str, Any]


class V2Store:
    """
    Storage of the fields and objects that only v2 uses.

    Args:
        database: The database to use.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def records(
        self,
        table: RecordKind,
        workspace: int,
        *,
        archived: bool,
        status: str | None,
        descending: bool,
        offset: int,
        limit: int,
    ) -> list[RecordRow]:
        """List contacts or accounts in the order of creation."""
        order = "DESC" if descending else "ASC"
        # The plus disables the index, with which SQLite would sort all rows for each page.
        sql = (
            f"SELECT {COLUMNS} FROM {table} WHERE +workspace = :workspace AND archived = :archived"  # noqa: S608
            f" AND (:status IS NULL OR :status = {STATUS}) ORDER BY id {order} LIMIT :limit OFFSET :offset"
        )
        values = {"workspace": workspace, "archived": archived, "status": status, "limit": limit, "offset": offset}
        return [_record(row) for row in self._db.all(sql, values)]

    def record(self, table: RecordKind, workspace: int, number: int) -> RecordRow | None:
        """Read one contact or account."""
        sql = f"SELECT {COLUMNS} FROM {table} WHERE id = ? AND workspace = ?"  # noqa: S608
        rows = self._db.all(sql, (number, workspace))
        return _record(rows[0]) if rows else None

    def archive(self, table: RecordKind, workspace: int, number: int) -> None:
        """Archive one contact or account."""
        self._db.run(f"UPDATE {table} SET archived = 1 WHERE id = ? AND workspace = ?", (number, workspace))  # noqa: S608

    def archive_uid(self, table: RecordKind, workspace: int, uid: str) -> None:
        """Archive the contact or account with the primary uid *uid*."""
        self._db.run(f"UPDATE {table} SET archived = 1 WHERE uid = ? AND workspace = ?", (uid, workspace))  # noqa: S608

    def archived(self, table: RecordKind, workspace: int, uids: Iterable[str]) -> set[str]:
        """Return those of *uids* that are archived."""
        rows = self._db.among(f"SELECT uid, archived FROM {table}", "uid", workspace, uids)  # noqa: S608
        return {uid for uid, archived in rows if archived}

    def ids(self, table: RecordKind, workspace: int, uids: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Map uids to the row id and the creation time of their record."""
        rows = self._db.among(f"SELECT uid, id, added_at FROM {table}", "uid", workspace, set(uids))  # noqa: S608
        return {uid: (number, added_at) for uid, number, added_at in rows}

    def objects(
        self, kind: str, workspace: int, *, descending: bool = False, offset: int = 0, limit: int = -1
    ) -> list[ObjectRow]:
        """List notes, activities, tasks or users in the order of creation."""
        order = "DESC" if descending else "ASC"
        sql = (
            "SELECT id, created_at, data FROM object WHERE workspace = ? AND kind = ?"  # noqa: S608
            f" ORDER BY created_at {order}, id {order} LIMIT ? OFFSET ?"
        )
        return [_object(row) for row in self._db.all(sql, (workspace, kind, limit, offset))]

    def object(self, kind: str, workspace: int, number: int) -> ObjectRow | None:
        """Read one object."""
        sql = "SELECT id, created_at, data FROM object WHERE id = ? AND workspace = ? AND kind = ?"
        rows = self._db.all(sql, (number, workspace, kind))
        return _object(rows[0]) if rows else None

    def add_object(self, kind: str, workspace: int, created_at: int, data: dict[str, Any]) -> int:
        """Insert one object and return its row id."""
        sql = "INSERT INTO object (workspace, kind, created_at, data) VALUES (?, ?, ?, ?)"
        return self._db.insert(sql, (workspace, kind, created_at, orjson.dumps(data).decode()))

    def delete_object(self, workspace: int, number: int) -> None:
        """Delete one object."""
        self._db.run("DELETE FROM object WHERE id = ? AND workspace = ?", (number, workspace))


def _record(row: tuple[int, str, str, int, int, str]) -> RecordRow:
    number, uid, params, added_at, archived, status = row
    return RecordRow(number, uid, params, added_at, bool(archived), status)


def _object(row: tuple[int, int, str]) -> ObjectRow:
    number, created_at, data = row
    return ObjectRow(number, created_at, orjson.loads(data))
