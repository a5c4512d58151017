"""A row becomes a call of the agent, or a reason why it cannot."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, cast

import orjson

from salesmachine_async.cli.importing.column_options import UIDS, ColumnOptions
from salesmachine_async.cli.importing.conversions import CONVERTERS, BadValue, moment
from salesmachine_async.cli.importing.header import check_header
from salesmachine_async.cli.importing.rows import InputRow, not_utf8

_IDS = ("messageId", "message_id")
_COMMON = frozenset({"method", "created_at", "archived", *_IDS})
# What a line of the wire, or of the sandbox's export, may hold at its top, by its method. An exported event says there
# which account it was linked to.
_WIRE = {
    method: _COMMON | {*uids, *(() if method == "alias" else ("params",)), *(("account_uid",) * ("event_uid" in uids))}
    for method, uids in UIDS.items()
}
# What a line of the sandbox's export may say that it is, instead of a method.
_V2_ONLY = ("user", "note", "activity", "task")
# The keys of a line of --rejects; the last only where the row could be read.
REJECT_KEYS = ("file", "line", "reason", "text", "row")
_REJECTED = frozenset(REJECT_KEYS[:4])
NO_METHOD = 'has no "method"; say what the rows are with --type contact, account, event, pageview or alias'


class TrackingCall(NamedTuple):
    """
    One call of the agent.

    Attributes:
        method: contact, account, event or alias.
        uid: Whom it is about: decides the partition.
        other: The `event_uid` of an event, the other uid of an alias; else empty.
        params: For the call.
        created_at: For the call.
        message_id: For the call; None: an alias that brought none.
    """

    method: str
    uid: str
    other: str
    params: dict[str, Any]
    created_at: datetime | None
    message_id: str | None


class BadRow(ValueError):
    """A row is no message; says why."""


class OutOfScope(BadRow):
    """A row is of no kind that the tracking API has, as some lines of an export are: nobody's mistake."""


class Mapper:
    """
    Makes calls of the rows of one input.

    Args:
        shape: What the user said.
        header: The columns of CSV; None for NDJSON.
        name: Of the input, for what is wrong with its header.

    Raises:
        InputProblem: The header and what the user said do not fit.
    """

    def __init__(self, shape: ColumnOptions, header: list[str] | None, name: str) -> None:
        self._kind = shape.kind
        self._names = shape.names
        self._constants = shape.constants
        self._header = header
        self._converters: dict[str, Callable[[str], Any]] = {
            column: CONVERTERS[kind] for column, kind in shape.types.items()
        }
        self._others = self._converters.pop("*", None)
        if header:
            check_header(name, header, shape)

    def record(self, row: InputRow) -> dict[str, Any]:
        """
        Read a row as named values, which are its own names.

        Raises:
            BadRow: It cannot be read.
        """
        if row.problem:
            raise BadRow(row.problem)
        if row.cells is None:
            return _object(row.text)
        header = self._header or []
        if len(row.cells) != len(header):
            raise BadRow(f"has {len(row.cells)} cells, the header has {len(header)}")
        # An empty cell says nothing: in CSV there is no other way to have no value.
        return {name: cell for name, cell in zip(header, row.cells, strict=True) if cell}

    def call(self, row: InputRow) -> TrackingCall:
        """
        Make the call of one row.

        Raises:
            OutOfScope: There is none to make, and none was to be expected.
            BadRow: There is none to make.
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
            ours = names.get(name, name)
            if ours in renamed:
                raise BadRow(f'has two values for "{ours}"')
            if ours:
                renamed[ours] = value
        return renamed

    def _wire(self, data: dict[str, Any], row: InputRow) -> TrackingCall:
        method = data.get("method")
        if not isinstance(method, str) or method not in UIDS:
            # Not accounts and contacts: these could be sent, had they a method.
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
        return _call(method, data, params, row)

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
            # Half of the wire's form: what stands beside the params wins over what stands in them.
            del params["params"]
            params = {**cast("dict[str, Any]", nested or {}), **params}
        for name in (*UIDS[method], "created_at", *_IDS):
            params.pop(name, None)
        if method == "alias" and params:
            raise BadRow(f'is an alias, which has no "{min(params)}"; leave it out with --map {min(params)}=')
        return _call(method, data, self._converted(params), row)

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
    uids = [_uid(data, name) for name in UIDS[method]]
    message_id = _message_id(data)
    # An alias comes to the same however often it is sent, and its documented body has no id.
    if message_id is None and method != "alias":
        message_id = f"{row.digest.hex()}-{row.line}"
    try:
        created_at = moment(data.get("created_at"))
    except BadValue as error:
        raise BadRow(f"created_at: {error}") from None
    if method == "pageview":
        return TrackingCall("event", uids[0], "pageview", params, created_at, message_id)
    return TrackingCall(method, uids[0], uids[1] if len(uids) > 1 else "", params, created_at, message_id)


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
        return _mended(found)
    return found


def _mended(rejected: dict[str, Any]) -> dict[str, Any]:
    """Take the row out of a line that an import has rejected, which somebody has mended since."""
    row: Any = rejected.get("row")
    if isinstance(row, dict):
        return cast("dict[str, Any]", row)
    try:
        row = orjson.loads(rejected["text"])
    except orjson.JSONDecodeError:
        row = None
    if isinstance(row, dict):
        return cast("dict[str, Any]", row)
    raise BadRow('was rejected before and has not been mended: give it a "row", an object with its columns')


def _no_method(data: dict[str, Any]) -> str:
    method = data.get("method")
    if method is not None:
        return f"method must be one of {', '.join(UIDS)}"
    if isinstance(data.get("object"), str):
        article = "an" if data["object"][:1] in "aeiou" else "a"
        return f"is {article} {data['object']} of the v2 API, which the tracking API cannot make"
    return NO_METHOD
