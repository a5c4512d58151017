"""
From the JSON of a request to validated messages.

Where the API's documents are silent, the sandbox is strict, so that mistakes are found here: a bad item refuses its
whole batch. Unknown top-level keys are ignored, `params` takes anything.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeGuard

import orjson

MessageKind = Literal["contact", "account", "event", "alias"]

# Beyond it a JSON number has been rounded to a double: two uids could become one.
EXACT = 2**53
# In milliseconds it is 1973, in seconds the year 5138: an epoch above it is in milliseconds.
MILLISECONDS_FROM = 100_000_000_000
# What can be shown: from 0001-01-01T00:00:00.000Z to 9999-12-31T23:59:59.999Z.
INSTANTS = range(-62_135_596_800_000, 253_402_300_800_000)


class MessageError(Exception):
    """A message that cannot be accepted: which field (empty for the whole), and what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}".lstrip())
        self.field = field


class ParsedMessage(NamedTuple):
    """
    One message.

    Attributes:
        kind: what it is.
        contact_uid: empty for an account.
        account_uid: the account it is about, or linked to; may be empty.
        name: the `event_uid` of an event, the other uid of an alias; else empty.
        params: as sent.
        text: *params* as JSON.
        at: `created_at` in epoch milliseconds, None when missing or not understood.
        message_id: None when missing.
    """

    kind: MessageKind
    contact_uid: str
    account_uid: str
    name: str
    params: dict[str, Any]
    text: str
    at: int | None
    message_id: str | None


def parse_json(body: bytes) -> Any:
    """
    Parse strictly: no NaN or Infinity, no lone surrogates, valid UTF-8.

    Raises:
        MessageError: names the place.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MessageError("", f"invalid JSON: {error}") from None


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether *value* is a JSON object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Whether *value* is a JSON array."""
    return isinstance(value, list)


def count_items(body: bytes) -> int:
    """Count the messages of a body that is not going to be parsed in earnest."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return 0
    return len(data) if is_array(data) else int(is_object(data))


def parse_batch_item(item: Any) -> ParsedMessage:
    """Validate one item of a batch, whose `method` must be contact, account or event."""
    if not is_object(item):
        raise MessageError("", "must be an object")
    method = item.get("method")
    if method is None:
        raise MessageError("method", "is missing")
    if method not in ("contact", "account", "event"):
        raise MessageError("method", "must be one of contact, account, event")
    return parse_message(method, item)


def parse_message(kind: MessageKind, item: dict[str, Any]) -> ParsedMessage:
    """
    Validate one message.

    Raises:
        MessageError: names the field.
    """
    params, text = _params(item.get("params"))
    contact_uid = account_uid = name = ""
    if kind == "account":
        account_uid = uid_of(item, "account_uid")
    else:
        contact_uid = uid_of(item, "contact_uid")
        # An alias has no parameters.
        if kind != "alias" and params.get("account_uid") is not None:
            account_uid = uid_of(params, "account_uid", "params.")
    if kind == "event":
        name = uid_of(item, "event_uid")
    elif kind == "alias":
        name = uid_of(item, "alias")
    return ParsedMessage(kind, contact_uid, account_uid, name, params, text, instant(item.get("created_at")), _id(item))


def _params(params: Any) -> tuple[dict[str, Any], str]:
    if params is None:
        return {}, "{}"
    if not is_object(params):
        raise MessageError("params", "must be an object")
    try:
        return params, orjson.dumps(params).decode()
    except TypeError:
        # orjson reads 1024 levels but writes 254.
        raise MessageError("params", "is nested too deeply") from None


def uid_of(item: dict[str, Any], key: str, where: str = "") -> str:
    """
    Read a uid, as text; *where* is what its key stands under.

    Raises:
        MessageError: it is missing, empty or not a text or a number.
    """
    value = item.get(key)
    if isinstance(value, str):
        if value:
            return value
        raise MessageError(where + key, "is empty")
    if value is None:
        raise MessageError(where + key, "is missing")
    if not _is_number(value):
        raise MessageError(where + key, "must be a string")
    if isinstance(value, float):
        if abs(value) >= EXACT:
            raise MessageError(where + key, "is a number too large to be exact; send a string")
        value = int(value) if value.is_integer() else value
    return str(value)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _id(item: dict[str, Any]) -> str | None:
    value = item.get("messageId")
    if value is None or (isinstance(value, str) and value):
        return value
    raise MessageError("messageId", "must be a non-empty string")


def instant(value: Any) -> int | None:
    """Read an ISO 8601 text or an epoch in seconds or milliseconds; what is not understood is ignored."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
        instant = round(seconds * 1000)
    elif _is_number(value):
        instant = round(value if abs(value) >= MILLISECONDS_FROM else value * 1000)
    else:
        return None
    return instant if instant in INSTANTS else None


def now() -> int:
    """Read the clock, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def iso(milliseconds: int) -> str:
    """Show an instant: `2026-11-22T06:30:00.000Z`."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z".rjust(24, "0")
