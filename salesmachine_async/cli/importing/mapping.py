"""Convert a row to calls of the agent, or to a reason for its rejection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from salesmachine_async.cli.importing import formats
from salesmachine_async.cli.importing.column_options import UIDS, ColumnOptions, check_header
from salesmachine_async.cli.importing.conversions import CONVERTERS, BadValue, moment
from salesmachine_async.cli.importing.rows import InputRow, not_utf8

if TYPE_CHECKING:
    from salesmachine_async import Agent

_IDS = ("messageId", "message_id")
_COMMON = frozenset({"method", "created_at", "archived", *_IDS})
# The keys of a message or of a line of the sandbox's export, by its method. An exported event has its account there.
_WIRE = {
    method: _COMMON | {*uids, *(() if method == "alias" else ("params",)), *(("account_uid",) * ("event_uid" in uids))}
    for method, uids in UIDS.items()
}
# Values of "object" in lines of the sandbox's export that have no method.
_V2_ONLY = ("user", "note", "activity", "task")
# The keys of a line of --rejects; the last one only if the row could be read.
REJECT_KEYS = ("file", "line", "reason", "text", "row")
_REJECTED = frozenset(REJECT_KEYS[:4])
NO_METHOD = 'has no "method"; name the kind of the rows with --type contact, account, event, pageview or alias'


class TrackingCall(NamedTuple):
    """
    One call of the agent.

    Attributes:
        method: contact, account, event or alias.
        uid: The uid that decides the partition.
        other: The `event_uid` of an event, the other uid of an alias; else empty.
        params: The params.
        created_at: The time; None for now.
        message_id: The id of the message; None for an alias without one.
    """

    method: str
    uid: str
    other: str
    params: dict[str, Any]
    created_at: datetime | None
    message_id: str | None

    def send(self, agent: Agent) -> bool:
        """
        Make the call; return False if the queue has no room.

        Raises:
            InvalidMessage: If the agent cannot send it.
        """
        method, uid, other, params, created_at, message_id = self
        if method == "event":
            return agent.track(uid, other, params, created_at=created_at, message_id=message_id)
        if method == "contact":
            return agent.contact(uid, params, created_at=created_at, message_id=message_id)
        if method == "account":
            return agent.account(uid, params, created_at=created_at, message_id=message_id)
        return agent.alias(uid, other, message_id=message_id)


class Skip(Enum):
    """Why a row is neither sent nor rejected."""

    OUT_OF_SCOPE = "an object of the v2 API, which the tracking API cannot create"
    HEADER = "the header again, as in joined files"


# The conversion of a row: its call or calls, the reason for its rejection, or why it is skipped.
Converted = TrackingCall | list[TrackingCall] | str | Skip


class BadRow(ValueError):
    """A row that is not a message."""


class OutOfScope(BadRow):
    """A row of an export that the tracking API cannot create."""


class Mapper:
    """
    Converts the rows of one input.

    Args:
        options: The options for columns.
        header: The columns of CSV; None for NDJSON.
        name: The name of the input, for errors.

    Raises:
        InputProblem: If the header does not fit the options.
    """

    def __init__(self, options: ColumnOptions, header: list[str] | None, name: str) -> None:
        self._kind = options.kind
        self._names = options.names
        self._constants = options.constants
        self._convert_record = formats.CONVERTERS[options.sdk] if options.sdk is not None else None
        self._header = header
        self._converters: dict[str, Callable[[str], Any]] = {
            column: CONVERTERS[kind] for column, kind in options.types.items()
        }
        self._others = self._converters.pop("*", None)
        self._convert_time = self._converters.get("created_at")
        if header:
            check_header(name, header, options)

    def record(self, row: InputRow) -> dict[str, Any]:
        """
        Return the values of a row by the names in the input.

        Raises:
            BadRow: If it cannot be read.
        """
        if row.problem:
            raise BadRow(row.problem)
        if row.cells is None:
            return _object(row.text)
        header = self._header or []
        if len(row.cells) != len(header):
            raise BadRow(f"has {len(row.cells)} cells, the header has {len(header)}")
        # An empty cell is no value, because CSV cannot express a missing one otherwise.
        return {name: cell for name, cell in zip(header, row.cells, strict=True) if cell}

    def convert(self, row: InputRow) -> Converted:
        """Convert one row."""
        try:
            if row.cells is not None and self._repeats_header(row):
                return Skip.HEADER
            if self._convert_record is not None:
                return self._from_sdk(self.record(row), row)
            return self.call(row)
        except OutOfScope:
            return Skip.OUT_OF_SCOPE
        except (BadRow, formats.NotMappable) as error:
            return str(error)

    def _repeats_header(self, row: InputRow) -> bool:
        cells, header = row.cells, self._header
        if not cells or not header:
            return False
        first = cells[0].removeprefix("\ufeff").strip()
        # The comparison of all cells is for the few rows whose first cell is that of the header.
        if first == header[0]:
            return [first, *(cell.strip() for cell in cells[1:])] == header
        return first[:4].lower() == "sep=" and row.is_separator

    def _from_sdk(self, record: dict[str, Any], row: InputRow) -> TrackingCall | list[TrackingCall]:
        assert self._convert_record is not None
        messages = self._convert_record(record)
        calls: list[TrackingCall] = []
        for number, message in enumerate(messages):
            # The messages of one row need different ids.
            if number and message["method"] != "alias":
                base = _message_id(messages[0]) or f"{row.digest.hex()}-{row.line}"
                message["messageId"] = f"{base}-{message['method']}"
            calls.append(self._wire(message, row))
        return calls[0] if len(calls) == 1 else calls

    def call(self, row: InputRow) -> TrackingCall:
        """
        Convert a row that is a message of this API.

        Raises:
            OutOfScope: If it is an object of the v2 API.
            BadRow: If it is not a message.
        """
        data = self.record(row)
        if self._names:
            data = self._renamed(data)
        if self._constants:
            data = {**self._constants, **data}
        if self._kind is None and self._header is None:
            return self._wire(data, row)
        return self._flat(data, row)

    def _renamed(self, data: dict[str, Any]) -> dict[str, Any]:
        names = self._names
        renamed: dict[str, Any] = {}
        for name, value in data.items():
            new = names.get(name, name)
            if new in renamed:
                raise BadRow(f'has two values for "{new}"')
            if new:
                renamed[new] = value
        return renamed

    def _wire(self, data: dict[str, Any], row: InputRow) -> TrackingCall:
        method = data.get("method")
        if not isinstance(method, str) or method not in UIDS:
            # Accounts and contacts without a method are rejected, because they could be sent with one.
            raise (OutOfScope if method is None and data.get("object") in _V2_ONLY else BadRow)(_no_method(data))
        if not data.keys() <= _WIRE[method]:
            unknown = min(data.keys() - _WIRE[method])
            raise BadRow(f'has "{unknown}" beside its params; put it into "params", or use --type for flat rows')
        found: Any = data.get("params")
        if found is not None and not isinstance(found, dict):
            raise BadRow("params must be an object")
        params = cast("dict[str, Any]", found or {})
        if data.get("archived"):
            raise BadRow("is archived, and the tracking API cannot archive")
        if self._converters or self._others:
            params = self._converted(params)
        if data.get("account_uid") is not None and method in ("event", "pageview"):
            params.setdefault("account_uid", data["account_uid"])
        return _call(method, self._with_time(data) if self._convert_time else data, params, row)

    def _flat(self, data: dict[str, Any], row: InputRow) -> TrackingCall:
        said = data.get("method")
        method = said if self._kind is None else self._kind
        if not isinstance(method, str) or method not in UIDS:
            raise BadRow(_no_method(data))
        params = dict(data)
        if said == method:
            del params["method"]
        elif isinstance(said, str) and said in UIDS:
            raise BadRow(f'has the method "{said}", but --type says {method}')
        nested: Any = params.get("params", "")
        if nested is None or isinstance(nested, dict):
            # Values beside "params" take precedence over those in it.
            del params["params"]
            params = {**cast("dict[str, Any]", nested or {}), **params}
        for name in (*UIDS[method], "created_at", *_IDS):
            params.pop(name, None)
        if method == "alias" and params:
            raise BadRow(f'is an alias, which has no "{min(params)}"; leave it out with --map {min(params)}=')
        return _call(method, self._with_time(data) if self._convert_time else data, self._converted(params), row)

    def _with_time(self, data: dict[str, Any]) -> dict[str, Any]:
        """Convert created_at if --types names it."""
        convert, value = self._convert_time, data.get("created_at")
        if convert is None or not isinstance(value, str) or not value:
            return data
        try:
            return {**data, "created_at": convert(value)}
        except BadValue as error:
            raise BadRow(f"created_at: {error}") from None

    def _converted(self, params: dict[str, Any]) -> dict[str, Any]:
        converters, others = self._converters, self._others
        if not converters and not others:
            return params
        converted = dict(params)
        for name, value in params.items():
            convert = converters.get(name, others)
            if convert is not None and isinstance(value, str):
                try:
                    converted[name] = convert(value)
                except BadValue as error:
                    raise BadRow(f"{name}: {error}") from None
        return converted


def _call(method: str, data: dict[str, Any], params: dict[str, Any], row: InputRow) -> TrackingCall:
    names = UIDS[method]
    uid = _uid(data, names[0])
    other = _uid(data, names[1]) if len(names) > 1 else ""
    message_id = _message_id(data)
    # An alias needs no id, because sending it again changes nothing, and its documented body has none.
    if message_id is None and method != "alias":
        message_id = f"{row.digest.hex()}-{row.line}"
    try:
        created_at = moment(data.get("created_at"))
    except BadValue as error:
        raise BadRow(f"created_at: {error}") from None
    if method == "pageview":
        return TrackingCall("event", uid, "pageview", params, created_at, message_id)
    return TrackingCall(method, uid, other, params, created_at, message_id)


def _uid(data: dict[str, Any], name: str) -> str:
    value = data.get(name)
    if isinstance(value, str) and value:
        return value
    if value is None or value == "":
        raise BadRow(f"{name} is {'missing' if value is None else 'empty'}")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise BadRow(f"{name} must be a text or a whole number")


def _message_id(data: dict[str, Any]) -> str | None:
    found: Any = data.get("messageId")
    if found is None:
        found = data.get("message_id")
    if found is None or (isinstance(found, str) and found):
        return found
    raise BadRow("messageId must be a text that is not empty")


def _object(text: bytes) -> dict[str, Any]:
    try:
        data: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            text.decode()
        except UnicodeDecodeError as undecodable:
            raise BadRow(not_utf8(text, undecodable)) from None
        raise BadRow(f"is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRow("is JSON, but not an object")
    found = cast("dict[str, Any]", data)
    if "reason" in found and _REJECTED <= found.keys() <= {*REJECT_KEYS} and type(found["line"]) is int:
        return _corrected(found)
    return found


def _corrected(rejected: dict[str, Any]) -> dict[str, Any]:
    """Return the row in a line of a file of rejected rows."""
    row: Any = rejected.get("row")
    if isinstance(row, dict):
        return cast("dict[str, Any]", row)
    try:
        row = orjson.loads(rejected["text"])
    except orjson.JSONDecodeError:
        row = None
    if isinstance(row, dict):
        return cast("dict[str, Any]", row)
    raise BadRow('was rejected before and has no "row": add one, an object with its columns')


def _no_method(data: dict[str, Any]) -> str:
    method = data.get("method")
    if method is not None:
        return f"method must be one of {', '.join(UIDS)}"
    if isinstance(data.get("object"), str):
        article = "an" if data["object"][:1] in "aeiou" else "a"
        return f"is {article} {data['object']} of the v2 API, which the tracking API cannot make"
    return NO_METHOD
