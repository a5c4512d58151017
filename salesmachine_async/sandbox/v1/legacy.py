"""
Requests of old clients, which are undocumented and known only from the code of the clients.

* `GET /v1/…?api_token=…&encode=base64&_method=post&data=…`, with the body in `data` (salesmachine-node).
* A POST of a form with the fields `api_token`, `encode` (`none` or `base64`) and `data`, next to HTTP Basic (the Ruby
  and PHP libraries of 2014). Ruby put the base64 text between double quotes.
* The paths and names of 2014, only in these forms: `/v1/user` and `/v1/customer` (contacts), `/v1/element` and
  `/v1/product` (accounts), `/v1/email`, `/v1/pageview` and `/v1/track/pageview` (events); `unique_id` for the uid,
  `event` for `event_uid`, `account_id` for `account_uid`.
* In a batch, `event` for `event_uid` and the method `email`, an event of that name (salesmachine-ruby 1.0);
  `/v1/bulk` for `/v1/batch`.

It is unknown how the service treated elements and products; the sandbox stores them as accounts, so that nothing is
lost.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import BodyPartReader, web

from salesmachine_async.sandbox.http.content_type import NOT_JSON
from salesmachine_async.sandbox.http.responses import ApiError
from salesmachine_async.sandbox.messages import MessageKind, is_object
from salesmachine_async.sandbox.requests import read_body
from salesmachine_async.sandbox.state import STATE

if TYPE_CHECKING:
    from collections.abc import Mapping

# Old clients send three fields.
MAX_FIELDS = 20
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

# By path, the kind of message and the name of the event.
PATHS: dict[str, tuple[MessageKind, str]] = {
    "/v1/user": ("contact", ""),
    "/v1/customer": ("contact", ""),
    "/v1/element": ("account", ""),
    "/v1/product": ("account", ""),
    "/v1/email": ("event", "email"),
    "/v1/pageview": ("event", "pageview"),
    "/v1/track/pageview": ("event", "pageview"),
}
UID_NAMES: dict[MessageKind, tuple[str, ...]] = {
    "contact": ("contact_uid", "unique_id"),
    "account": ("account_uid", "unique_id"),
    "event": ("contact_uid", "unique_id", "email_uid"),
    "alias": ("contact_uid", "unique_id"),
}


def not_allowed() -> ApiError:
    """Return the error of a tracking endpoint for any method except POST."""
    return ApiError(405, "method not allowed", {"Allow": "POST"})


async def old_body(request: web.Request) -> bytes | None:
    """
    Read the JSON of a request of an old client; None for other requests.

    Raises:
        ApiError: 400, 405 or 413.
    """
    if request.method == "GET" and ("data" in request.query or "_method" in request.query):
        # A ping has `_method=get` and no data.
        return _decode(request.query)
    if request.method != "POST":
        raise not_allowed()
    if request.content_type not in FORMS:
        return None
    fields = await _form(request)
    if "data" not in fields:
        # Old clients always send `data`.
        raise ApiError(406, NOT_JSON)
    return _decode(fields)


async def _form(request: web.Request) -> dict[str, str]:
    """
    Read a form with few fields; `Request.post` would accept millions of fields, in one run.

    Raises:
        ApiError: 400, 413 or 415.
    """
    if "Content-Encoding" in request.headers:
        raise ApiError(415, "a form must not be compressed")
    try:
        if request.content_type == FORMS[0]:
            text = (await read_body(request)).decode(request.charset or "utf-8")
            return dict(reversed(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)))
        return await _multipart(request)
    except (ValueError, LookupError, web.RequestPayloadError):
        raise ApiError(400, "the form cannot be decoded") from None


async def _multipart(request: web.Request) -> dict[str, str]:
    most = request.app[STATE].limits.max_body_bytes
    fields: dict[str, str] = {}
    count = size = 0
    async for part in await request.multipart():
        count += 1
        if count > MAX_FIELDS or not isinstance(part, BodyPartReader):
            raise ValueError
        if part.filename is not None:
            raise ApiError(400, f"{part.name or 'a field'} must be text, not a file")
        content = bytearray()
        while chunk := await part.read_chunk():
            size += len(chunk)
            if size > most:
                raise ApiError(413, f"the form is larger than the limit of {most} bytes")
            content += chunk
        if part.name is not None:
            fields.setdefault(part.name, content.decode(part.get_charset("utf-8")))
    return fields


def _decode(fields: Mapping[str, str]) -> bytes:
    data = fields.get("data", "")
    if fields.get("encode", "none") != "base64":
        return data.encode(errors="replace")
    try:
        # The Ruby library sent a JSON string literal; form decoding turns a plus into a space.
        text = orjson.loads(data) if data.startswith('"') else data.replace(" ", "+")
        return base64.b64decode("".join(text.split()), validate=True)
    except (orjson.JSONDecodeError, binascii.Error, ValueError):
        raise ApiError(400, "data is not base64") from None


def renamed(kind: MessageKind, item: dict[str, Any], name: str = "") -> dict[str, Any]:
    """
    Return a message of an old client with the current field names.

    Args:
        kind: The kind of message.
        item: The message; not changed.
        name: The name of the event, if the path determines it.
    """
    uid_names = UID_NAMES[kind]
    uid = next((item[each] for each in uid_names if item.get(each) is not None), None)
    item = {**item, uid_names[0]: uid}
    if kind == "event":
        event_uid = item.get("event_uid")
        item["event_uid"] = name or (item.get("event") if event_uid is None else event_uid)
    params: Any = item.get("params")
    if is_object(params):
        if "account_uid" not in params and params.get("account_id") is not None:
            params = {**params, "account_uid": params["account_id"]}
        if name == "email" and item.get("email_name") is not None:
            params = {**params, "title": item["email_name"]}
        item["params"] = params
    return item


def renamed_in_batch(item: dict[str, Any]) -> dict[str, Any]:
    """Return a batch item of salesmachine-ruby 1.0 with the current field names."""
    if item.get("method") == "email":
        params: Any = {} if item.get("params") is None else item["params"]
        titled = {**params, "title": item.get("email")} if is_object(params) else params
        return {**item, "method": "event", "event_uid": "email", "params": titled}
    if item.get("method") == "event" and "event" in item and "event_uid" not in item:
        return {**item, "event_uid": item["event"]}
    return item
