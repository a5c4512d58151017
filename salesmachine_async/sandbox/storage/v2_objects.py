"""The JSON objects of v2 (the Access API)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from salesmachine_async.sandbox.storage.store import Store
    from salesmachine_async.sandbox.storage.v2_store import ObjectRow, RecordKind, RecordRow, V2Store

ObjectKind = Literal["note", "activity", "task", "user"]

ID = re.compile("[0-9a-f]{24}")
# An id has 24 hex digits. As in the documented examples (and in MongoDB) the first 8 are the second of its creation.
# Here the next two are the kind of object, so that ids of different kinds differ, and the rest is the row id.
MARKS = {"contact": 0xC0, "account": 0xAC, "note": 0x0E, "activity": 0xA7, "task": 0x7A, "user": 0x05, "stage": 0x57}

STAGES = {"trial": "Trial", "paying": "Paying", "churned": "Churned", "not_converted": "Not converted"}


class Links(NamedTuple):
    """
    The links of a kind of object.

    Attributes:
        plural: Whether it shows arrays of contacts and accounts instead of one of each.
        person: The name of its link to a user; empty if it has none.
    """

    plural: bool
    person: str


LINKS: dict[ObjectKind, Links] = {
    "note": Links(plural=False, person="author"),
    "activity": Links(plural=True, person="author"),
    "task": Links(plural=False, person="assignee"),
    "user": Links(plural=False, person=""),
}


def public_id(kind: str, number: int, milliseconds: int) -> str:
    """Return the public id of a row."""
    return f"{milliseconds // 1000 & 0xFFFFFFFF:08x}{MARKS[kind]:02x}{number:014x}"


def row_number(kind: str, shown: str) -> int | None:
    """Return the row id in the public id *shown*; None if it is not an id of this kind."""
    if not ID.fullmatch(shown) or int(shown[8:10], 16) != MARKS[kind]:
        return None
    return int(shown[10:], 16)


class V2Presenter:
    """
    Converts rows of one workspace to the objects of v2.

    Args:
        store: Used to look up links.
        v2_store: Used to look up links.
        workspace: The row id of the workspace.
    """

    def __init__(self, store: Store, v2_store: V2Store, workspace: int) -> None:
        self._store = store
        self._v2_store = v2_store
        self._workspace = workspace

    def records(self, kind: RecordKind, rows: Sequence[RecordRow]) -> list[dict[str, Any]]:
        """Convert contacts with the ids of their accounts, or accounts with the ids of their contacts."""
        uids = [row.uid for row in rows]
        other: RecordKind = "account" if kind == "contact" else "contact"
        links = self._store.memberships if kind == "contact" else self._store.members
        pairs = links(self._workspace, uids)
        ids = self._ids(other, (linked for _, linked in pairs))
        of: dict[str, list[dict[str, str]]] = {uid: [] for uid in uids}
        for uid, linked in pairs:
            of[uid].append({"id": ids[linked]})
        return [
            {
                "object": kind,
                "id": public_id(kind, row.id, row.added_at),
                "unique_id": row.uid,
                "created_at": row.added_at // 1000,
                "archived": row.archived,
                "data": orjson.Fragment(row.params),
                # Metrics of the service, which the sandbox does not compute.
                "salesmachine": {},
                "stage": {"name": STAGES[row.status], "id": public_id("stage", list(STAGES).index(row.status), 0)},
                f"{other}s": {"object": f"{other}.list", "data": of[row.uid]},
            }
            for row in rows
        ]

    def objects(self, kind: ObjectKind, rows: Sequence[ObjectRow]) -> list[dict[str, Any]]:
        """Convert notes, activities, tasks or users, with the ids of linked objects."""
        # A contact may have been merged into another since.
        contact_uids: set[str] = {uid for row in rows for uid in row.data.get("contact_uids", ())}
        own = self._store.aliases(self._workspace, contact_uids)
        ids = self._ids("contact", (own.get(uid, uid) for uid in contact_uids))
        contacts = {uid: ids[own.get(uid, uid)] for uid in contact_uids}
        accounts = self._ids("account", (uid for row in rows for uid in row.data.get("account_uids", ())))
        return [
            self._object(
                kind,
                row,
                [contacts[uid] for uid in row.data.get("contact_uids", ())],
                [accounts[uid] for uid in row.data.get("account_uids", ())],
            )
            for row in rows
        ]

    def _object(self, kind: ObjectKind, row: ObjectRow, contacts: list[str], accounts: list[str]) -> dict[str, Any]:
        fields = {
            name: value for name, value in row.data.items() if name not in ("contact_uids", "account_uids", "user")
        }
        shown: dict[str, Any] = {
            **fields,
            "object": kind,
            "id": public_id(kind, row.id, row.created_at),
            "created_at": row.created_at // 1000,
        }
        links = LINKS[kind]
        for name, ids in (("contact", contacts), ("account", accounts)):
            each = [{"object": name, "id": found} for found in ids]
            if links.plural:
                shown[f"{name}s"] = each
            elif each:
                # A missing link is omitted, as in the documented examples.
                shown[name] = each[0]
        user = row.data.get("user")
        if user is not None and (found := self._v2_store.object("user", self._workspace, user)) is not None:
            shown[links.person] = {"object": "user", "id": public_id("user", found.id, found.created_at)}
        return shown

    def _ids(self, table: RecordKind, uids: Iterable[str]) -> dict[str, str]:
        ids = self._v2_store.ids(table, self._workspace, uids)
        return {uid: public_id(table, *found) for uid, found in ids.items()}
