"""The initial content of workspaces, and application of NDJSON lines."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from salesmachine_async.sandbox.messages import MessageError, ParsedMessage, now
from salesmachine_async.sandbox.storage.apply import Applied, apply
from salesmachine_async.sandbox.storage.ndjson import NdjsonLine, V2Object, parse_line
from salesmachine_async.sandbox.storage.store import Store
from salesmachine_async.sandbox.storage.v2_objects import LINKS
from salesmachine_async.sandbox.storage.v2_store import V2Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from salesmachine_async.sandbox.storage.v2_store import RecordKind

# The API cannot create users, activities and tasks, so every workspace starts with some, after the documented examples.
EXAMPLES: tuple[dict[str, Any], ...] = (
    {"object": "user", "created_at": 1629544561, "email": "john@example.com", "name": "John Doe", "role": "owner"}
    | {"enabled": True},
    {"object": "user", "created_at": 1629544562, "email": "jane@example.com", "name": "Jane Roe", "role": "member"}
    | {"enabled": True},
    {
        "object": "activity",
        "created_at": 1629548161,
        "completed_at": 1629548161,
        "type": "call",
        "subject": "First call",
    }
    | {"note": "Wants a demonstration.", "author": "john@example.com"},
    {"object": "activity", "created_at": 1629634561, "completed_at": 1629638161, "type": "meeting"}
    | {"subject": "Demonstration", "note": "Went well.", "author": "john@example.com"},
    {"object": "activity", "created_at": 1629720961, "completed_at": 1629720961, "type": "email", "subject": ""}
    | {"note": "Sent the offer.", "author": "jane@example.com"},
    {"object": "task", "created_at": 1629548162, "type": "meeting", "status": "close", "subject": "Demonstrate"}
    | {"body": "", "due_at": 1629634561, "completed_at": 1629638161, "assignee": "john@example.com"},
    {"object": "task", "created_at": 1629720962, "type": "call", "status": "open", "subject": "Ask about the offer"}
    | {"body": "Call back within a week.", "due_at": 1630325762, "assignee": "jane@example.com"},
)


# Messages applied in one batch.
PART = 500


def examples() -> list[NdjsonLine]:
    """Return the lines of the built-in examples."""
    return [parse_line(each) for each in EXAMPLES]


def check(lines: Sequence[NdjsonLine]) -> None:
    """
    Validate *lines* by applying them to a temporary store.

    Raises:
        ValueError: A line refers to an object that does not exist.
    """
    store = Store()
    try:
        load(store, V2Store(store), "trial", lines, now())
    except MessageError as error:
        raise ValueError(str(error)) from None
    finally:
        store.close()


def load(
    store: Store,
    v2_store: V2Store,
    name: str,
    lines: Iterable[NdjsonLine],
    received: int,
    *,
    max_events: int | None = None,
) -> Applied:
    """
    Apply *lines* to the workspace *name*, in order.

    Raises:
        MessageError: A line refers to an object that does not exist; the lines before it are applied.
    """
    accepted = duplicates = 0
    for kind, group in groupby(lines, _kind):
        if kind == "thing":
            _add_things(store, v2_store, store.workspace(name), [line.content for line in group], received)  # type: ignore[misc]
            continue
        batch = list(group)
        # An alias is applied separately, because it changes stored rows.
        size = 1 if kind == "alias" else PART
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            messages = [line.content for line in part if isinstance(line.content, ParsedMessage)]
            applied = apply(store, name, messages, received, max_events=max_events)
            accepted, duplicates = accepted + applied.accepted, duplicates + applied.duplicates
        _archive(store, v2_store, store.workspace(name), batch)
    return Applied(accepted, duplicates)


def _kind(line: NdjsonLine) -> str:
    if isinstance(line.content, V2Object):
        return "thing"
    # An archived record must be stored before a later line unarchives it.
    return f"archived {id(line)}" if line.archived else "alias" if line.content.kind == "alias" else "message"


def _archive(store: Store, v2_store: V2Store, workspace: int, lines: Iterable[NdjsonLine]) -> None:
    for line in lines:
        message = line.content
        if line.archived and isinstance(message, ParsedMessage):
            uid = message.contact_uid
            table: RecordKind = "contact" if message.kind == "contact" else "account"
            own_uid = store.aliases(workspace, [uid]).get(uid, uid) if uid else message.account_uid
            v2_store.archive_uid(table, workspace, own_uid)


def _add_things(store: Store, v2_store: V2Store, workspace: int, objects: Sequence[V2Object], received: int) -> None:
    people: dict[str, int] | None = None
    with store.writing():
        for thing in objects:
            if people is None and thing.person:
                people = {str(row.data.get("email")): row.id for row in v2_store.objects("user", workspace)}
            data = dict(thing.data)
            if thing.contact_uids:
                data["contact_uids"] = _contacts(store, v2_store, workspace, thing.contact_uids)
            if thing.account_uids:
                data["account_uids"] = _known(v2_store, "account", workspace, thing.account_uids)
            if thing.person:
                if people is None or thing.person not in people:
                    raise MessageError(LINKS[thing.kind].person, "is not the email of a user")
                data["user"] = people[thing.person]
            created_at = received if thing.created_at is None else thing.created_at
            number = v2_store.add_object(thing.kind, workspace, created_at, data)
            if people is not None and thing.kind == "user":
                people[str(data.get("email"))] = number


def _contacts(store: Store, v2_store: V2Store, workspace: int, uids: Sequence[str]) -> list[str]:
    own = store.aliases(workspace, uids)
    return _known(v2_store, "contact", workspace, [own.get(uid, uid) for uid in uids])


def _known(v2_store: V2Store, table: RecordKind, workspace: int, uids: Sequence[str]) -> list[str]:
    if len(v2_store.ids(table, workspace, uids)) < len(set(uids)):
        raise MessageError(f"{table}_uid", f"names no {table}")
    return list(dict.fromkeys(uids))
