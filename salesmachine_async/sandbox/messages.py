"""
Validation of messages.

Where the API documentation is silent the sandbox is strict, so that errors are found here: an invalid item rejects its
whole batch. Unknown top-level keys are ignored; `params` accepts any values.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeGuard

import orjson

MessageKind = Literal["contact", "account", "event", "alias"]

# Larger JSON numbers are rounded to a double, so that two uids could become equal.
EXACT = 2**53
# A larger epoch is in milliseconds: this number is a date in 1973 in milliseconds, and in 5138 in seconds.
MILLISECONDS_FROM = 100_000_000_000
# Times that ISO 8601 can express: from 0001-01-01T00:00:00.000Z to 9999-12-31T23:59:59.999Z.
INSTANTS = range(-62_135_596_800_000, 253_402_300_800_000)


# orjson reads 1024 levels of arrays and objects, and writes 254.
_WRITABLE_DEPTH = 254
# The limit of a value that is kept. It is lower, because responses wrap the value.
MAX_DEPTH = 200
# The limit of the params of a message, themselves included: what an agent can write, with the message around them.
MAX_PARAMS_DEPTH = 253


class MessageError(Exception):
    """An invalid message: the field (empty for the whole message) and the problem."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}".lstrip())
        self.field = field


class ParsedMessage(NamedTuple):
    """
    One valid message.

    Attributes:
        kind: The kind of message.
        contact_uid: Empty for an account.
        account_uid: The account itself, or the account to link; may be empty.
        name: The `event_uid` of an event, the second uid of an alias; otherwise empty.
        params: The params as sent.
        text: *params* as JSON.
        at: `created_at` in epoch milliseconds; None if it is missing or not a time.
        message_id: None if it is missing.
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
        MessageError: Names the position.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MessageError("", f"invalid JSON: {error}") from None


def encode_json(value: Any, limit: int = MAX_DEPTH) -> str:
    """
    Encode a value that was received, if it is not nested too deeply.

    Raises:
        MessageError: The value is nested more than *limit* levels deep.
    """
    around = _WRITABLE_DEPTH - limit
    wrapped = value
    for _ in range(around):
        wrapped = [wrapped]
    try:
        return orjson.dumps(wrapped)[around:-around].decode()
    except TypeError:
        raise MessageError("", f"is nested too deeply; the limit is {limit} levels") from None


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether *value* is a JSON object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Return whether *value* is a JSON array."""
    return isinstance(value, list)


def count_items(body: bytes) -> int:
    """Count the messages of a body that is not applied."""
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
        MessageError: Names the field.
    """
    params, text = _params(item.get("params"))
    contact_uid = account_uid = name = ""
    if kind == "account":
        account_uid = uid_of(item, "account_uid")
    else:
        contact_uid = uid_of(item, "contact_uid")
        # An alias has no params.
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
        return params, encode_json(params, MAX_PARAMS_DEPTH)
    except MessageError as error:
        raise MessageError("params", str(error)) from None


def uid_of(item: dict[str, Any], key: str, where: str = "") -> str:
    """
    Read a uid as text; *where* is the path of the object that contains *key*.

    Raises:
        MessageError: The uid is missing, empty, or neither a string nor a number.
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
    """Parse ISO 8601, or an epoch in seconds or milliseconds; None for anything else."""
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
    """Format epoch milliseconds as `2026-11-22T06:30:00.000Z`."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z".rjust(24, "0")
