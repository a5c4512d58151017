"""
Lines of NDJSON, the format of exports, replays and seeds.

A line is a message as in a batch, `{"method": "contact", "contact_uid": …, "params": …}` (also `"alias"`, which is
invalid in a batch), or an object of v2 that the API cannot create:

    {"object": "user", "email": "ann@example.com", "name": "Ann", "role": "owner"}
    {"object": "task", "type": "call", "subject": "…", "contact_uid": "123456", "assignee": "ann@example.com"}

Notes, activities and tasks refer to contacts and accounts by `contact_uid` and `account_uid`, or to several by
`contact_uids` and `account_uids`, and to their author or assignee by email; all of them must be created by earlier
lines. Times are ISO 8601 or epochs. `"archived": true` archives a contact or an account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from salesmachine_async.sandbox.messages import (
    MessageError,
    ParsedMessage,
    encode_json,
    instant,
    is_array,
    is_object,
    parse_json,
    parse_message,
    uid_of,
)
from salesmachine_async.sandbox.storage.v2_objects import LINKS, ObjectKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

METHODS = ("account", "alias", "contact", "event")
# Source: the tables of attributes in the API documentation.
WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("activity", "type"): ("call", "meeting", "email"),
    ("task", "type"): ("todo", "call", "meeting", "email"),
    ("task", "status"): ("open", "close"),
}
TIMES = ("completed_at", "due_at")


class V2Object(NamedTuple):
    """
    An object of v2.

    Attributes:
        kind: The kind of object.
        created_at: Epoch milliseconds; None if it is new.
        data: The fields that are shown unchanged.
        contact_uids: Linked contacts.
        account_uids: Linked accounts.
        person: The email of its author or assignee; empty if there is none.
    """

    kind: ObjectKind
    created_at: int | None
    data: dict[str, Any]
    contact_uids: list[str]
    account_uids: list[str]
    person: str


class NdjsonLine(NamedTuple):
    """One line; *archived* archives the contact or account of a message."""

    content: ParsedMessage | V2Object
    archived: bool = False


def parse_lines(lines: Iterable[bytes | str]) -> Iterator[NdjsonLine]:
    """
    Parse lines of NDJSON; empty ones are skipped.

    Raises:
        ValueError: Names the line and the field.
    """
    for number, text in enumerate(lines, 1):
        line = text.encode(errors="replace") if isinstance(text, str) else text
        if line.strip():
            try:
                yield parse_line(parse_json(line))
            except MessageError as error:
                raise ValueError(f"line {number}: {error}") from None


def parse_line(data: Any) -> NdjsonLine:
    """
    Parse one line.

    Raises:
        MessageError: Names the field.
    """
    if not is_object(data):
        raise MessageError("", "must be an object")
    if "method" not in data and "object" in data:
        return NdjsonLine(_thing(data))
    method = data.get("method")
    if method not in METHODS:
        raise MessageError("method", f"must be one of {', '.join(METHODS)} (or object: {', '.join(LINKS)})")
    message = parse_message(method, data)
    if method == "event" and data.get("account_uid") is not None:
        # An export contains the account of an event also when it was inferred.
        message = message._replace(account_uid=uid_of(data, "account_uid"))
    return NdjsonLine(message, archived=data.get("archived") is True)


def _thing(data: dict[str, Any]) -> V2Object:
    kind = data["object"]
    if kind not in LINKS:
        raise MessageError("object", f"must be one of {', '.join(LINKS)}")
    fields = {name: value for name, value in data.items() if name not in ("object", "id", "created_at")}
    person = fields.pop(LINKS[kind].person, "")
    if not isinstance(person, str):
        raise MessageError(LINKS[kind].person, "must be the email of a user")
    contact_uids, account_uids = _uids(fields, "contact_uid"), _uids(fields, "account_uid")
    for name, value in fields.items():
        words = WORDS.get((kind, name))
        if words is not None and value not in words:
            raise MessageError(name, f"must be one of {', '.join(words)}")
        if name in TIMES and value is not None:
            fields[name] = _time(value, name) // 1000
    created_at = data.get("created_at")
    encode_json(fields)
    at = None if created_at is None else _time(created_at, "created_at")
    return V2Object(kind, at, fields, contact_uids, account_uids, person)


def _uids(fields: dict[str, Any], name: str) -> list[str]:
    """Remove one uid, or several, from *fields* and return them."""
    several: Any = fields.pop(f"{name}s", [])
    if not is_array(several):
        raise MessageError(f"{name}s", "must be an array")
    if fields.get(name) is not None:
        several = [fields[name], *several]
    fields.pop(name, None)
    return [uid_of({name: each}, name) for each in several]


def _time(value: Any, name: str) -> int:
    found = instant(value)
    if found is None:
        raise MessageError(name, "must be ISO 8601, or an epoch")
    return found
