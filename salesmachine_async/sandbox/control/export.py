"""Export of a workspace as NDJSON; `replay` restores the same state from it, see `storage.ndjson`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from salesmachine_async.sandbox.inspection import Inspection
from salesmachine_async.sandbox.messages import iso
from salesmachine_async.sandbox.pacing import at_once
from salesmachine_async.sandbox.storage.v2_objects import LINKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salesmachine_async.sandbox.state import SandboxState
    from salesmachine_async.sandbox.storage.v2_objects import ObjectKind
    from salesmachine_async.sandbox.storage.v2_store import ObjectRow
    from salesmachine_async.sandbox.views import AccountView, ContactView, EventView

# Rows per part, so that a large export neither fills the memory nor blocks other requests.
PART = 100


def export(state: SandboxState, name: str | None) -> Iterator[bytes]:
    """Yield the workspace *name* in chunks of lines; messages that arrive during the export may be missing."""
    inspection = Inspection(state, orjson.Fragment)
    yield from _things(state, name, "user")
    after = ""
    while accounts := at_once(inspection.accounts(name, after, PART)):
        archived = _archived(state, "account", name, [each["account_uid"] for each in accounts])
        yield _text(line for each in accounts for line in _account(each, archived))
        after = accounts[-1]["account_uid"]
    after = ""
    while contacts := at_once(inspection.contacts(name, after, PART)):
        archived = _archived(state, "contact", name, [each["contact_uid"] for each in contacts])
        yield _text(line for each in contacts for line in _contact(each, archived))
        after = contacts[-1]["contact_uid"]
    seq = 0
    while events := at_once(inspection.events(name, after=seq, limit=PART)):
        yield _text(map(_event, events))
        seq = events[-1]["seq"]
    for kind in ("note", "activity", "task"):
        yield from _things(state, name, kind)


def _text(lines: Iterator[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


def _account(account: AccountView, archived: set[str]) -> Iterator[dict[str, Any]]:
    uid = account["account_uid"]
    yield from _record({"method": "account", "account_uid": uid}, account, archived=uid in archived)


def _contact(contact: ContactView, archived: set[str]) -> Iterator[dict[str, Any]]:
    uid = contact["contact_uid"]
    head = {"method": "contact", "contact_uid": uid}
    for account in contact["accounts"]:
        # One message links a contact to one account.
        yield {**head, "params": {"account_uid": account}, "created_at": contact["created_at"]}
    for further in contact["uids"][1:]:
        yield {"method": "alias", "contact_uid": uid, "alias": further, "created_at": contact["created_at"]}
    yield from _record(head, contact, archived=uid in archived)


def _record(head: dict[str, Any], record: ContactView | AccountView, *, archived: bool) -> Iterator[dict[str, Any]]:
    if record["created_at"] != record["updated_at"]:
        yield {**head, "params": {}, "created_at": record["created_at"]}
    last = {**head, "params": record["params"], "created_at": record["updated_at"]}
    yield {**last, "archived": True} if archived else last


def _event(event: EventView) -> dict[str, Any]:
    line = {"method": "event", **event, "messageId": event["message_id"]}
    for name in ("seq", "received_at", "message_id", "problems"):
        line.pop(name, None)
    return line


def _things(state: SandboxState, name: str | None, kind: ObjectKind) -> Iterator[bytes]:
    with state.store.reading():
        workspace = Inspection(state).find(name)
        users = {row.id: row.data.get("email") for row in state.v2_store.objects("user", workspace)}
        rows = state.v2_store.objects(kind, workspace)
    if rows:
        yield _text(_thing(kind, row, users) for row in rows)


def _thing(kind: ObjectKind, row: ObjectRow, users: dict[int, Any]) -> dict[str, Any]:
    line = {"object": kind, "created_at": iso(row.created_at), **row.data}
    person = line.pop("user", None)
    if person in users:
        line[LINKS[kind].person] = users[person]
    return line


def _archived(state: SandboxState, table: Any, name: str | None, uids: list[str]) -> set[str]:
    return state.v2_store.archived(table, Inspection(state).find(name), uids)
