"""
The control endpoints, `/_sandbox/…`: look inside, reset, script faults.

A request means the workspace of its credentials. Without credentials it means the only workspace there is; when there
are several, `summary` and `requests` answer for all of them, `faults` mean the whole server, the rest answers 409.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from salesmachine_async.sandbox.answers import SUCCESS, ApiError, answer
from salesmachine_async.sandbox.auth import find_token, workspace_of
from salesmachine_async.sandbox.faults import Fault
from salesmachine_async.sandbox.inspection import AmbiguousError, Inspection
from salesmachine_async.sandbox.media import sends_json
from salesmachine_async.sandbox.messages import MessageError, is_array, is_object, parse_json
from salesmachine_async.sandbox.state import STATE
from salesmachine_async.sandbox.tracking import read_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

PREFIX = "/_sandbox"
DEFAULT_LIMIT = 100
MAX_LIMIT = 10_000
# What SQLite can compare; cursors are below it.
MAX_CURSOR = 2**63 - 1


def add_routes(router: web.UrlDispatcher) -> None:
    """Add the control endpoints."""
    router.add_get(f"{PREFIX}/health", _health)
    router.add_get(f"{PREFIX}/summary", _summary)
    router.add_get(f"{PREFIX}/contacts", _contacts)
    # The uid may hold slashes: it can be anything.
    router.add_get(PREFIX + "/contacts/{uid:.+}", _contact)
    router.add_get(f"{PREFIX}/accounts", _accounts)
    router.add_get(PREFIX + "/accounts/{uid:.+}", _account)
    router.add_get(f"{PREFIX}/events", _events)
    router.add_get(f"{PREFIX}/requests", _requests)
    router.add_post(f"{PREFIX}/reset", _reset)
    router.add_get(f"{PREFIX}/faults", _list_faults)
    router.add_put(f"{PREFIX}/faults", _put_faults)
    router.add_delete(f"{PREFIX}/faults", _delete_faults)


def is_control(request: web.Request) -> bool:
    """Whether *request* is for the sandbox, not for the API."""
    return request.path == PREFIX or request.path.startswith(f"{PREFIX}/")


async def _health(request: web.Request) -> web.Response:
    _query(request)
    return answer({"status": "ok"})


async def _summary(request: web.Request) -> web.Response:
    _query(request)
    return answer(_inspection(request).summary(_asked(request)))


async def _contacts(request: web.Request) -> web.Response:
    query = _query(request, "limit", "after")
    limit = _limit(query)
    rows = _inspection(request).contacts(_one(request), query.get("after", ""), limit)
    return answer({"contacts": rows, "next": rows[-1]["contact_uid"] if len(rows) == limit else None})


async def _contact(request: web.Request) -> web.Response:
    limit = _limit(_query(request, "limit"), MAX_LIMIT)
    found = _inspection(request).contact(_one(request), request.match_info["uid"], limit)
    if found is None:
        raise ApiError(404, "no such contact in this workspace")
    return answer(found)


async def _accounts(request: web.Request) -> web.Response:
    query = _query(request, "limit", "after")
    limit = _limit(query)
    rows = _inspection(request).accounts(_one(request), query.get("after", ""), limit)
    return answer({"accounts": rows, "next": rows[-1]["account_uid"] if len(rows) == limit else None})


async def _account(request: web.Request) -> web.Response:
    _query(request)
    found = _inspection(request).account(_one(request), request.match_info["uid"])
    if found is None:
        raise ApiError(404, "no such account in this workspace")
    return answer(found)


async def _events(request: web.Request) -> web.Response:
    query = _query(request, "contact_uid", "event_uid", "account_uid", "limit", "after")
    limit, after = _limit(query), _number(query, "after", 0, MAX_CURSOR, 0)
    filters = {name: query.get(name) for name in ("contact_uid", "event_uid", "account_uid")}
    rows = _inspection(request).events(_one(request), after=after, limit=limit, **filters)
    return answer({"events": rows, "next": rows[-1]["seq"] if len(rows) == limit else None})


async def _requests(request: web.Request) -> web.Response:
    query = _query(request, "limit", "after")
    limit, after = _limit(query), _number(query, "after", 0, MAX_CURSOR, 0)
    rows = request.app[STATE].journal.requests(_asked(request), after, limit)
    return answer({"requests": rows, "next": rows[-1]["id"] if len(rows) == limit else None})


async def _reset(request: web.Request) -> web.Response:
    _query(request)
    body = await _json_body(request)
    if body not in (None, {}):
        raise ApiError(400, "reset takes no body, or an empty object")
    _inspection(request).reset(_one(request))
    return answer(SUCCESS)


async def _list_faults(request: web.Request) -> web.Response:
    _query(request)
    return answer({"faults": [fault.to_json() for fault in request.app[STATE].faults.left(_asked(request))]})


async def _put_faults(request: web.Request) -> web.Response:
    _query(request)
    faults = _parse_faults(await _json_body(request))
    request.app[STATE].faults.put(faults, _asked(request))
    return answer({"faults": [fault.to_json() for fault in faults]})


async def _delete_faults(request: web.Request) -> web.Response:
    _query(request)
    await _json_body(request)
    request.app[STATE].faults.put((), _asked(request))
    return answer({"faults": []})


def _inspection(request: web.Request) -> Inspection:
    return Inspection(request.app[STATE])


def _asked(request: web.Request) -> str | None:
    """Name the workspace of the credentials, or None without credentials."""
    token = find_token(request)
    return None if token is None else workspace_of(token)


def _one(request: web.Request) -> str | None:
    """Name the one workspace a request means; None when there is none yet."""
    try:
        return _inspection(request).only(_asked(request))
    except AmbiguousError as error:
        raise ApiError(409, str(error)) from None


async def _json_body(request: web.Request) -> Any:
    """
    Read the body; None when there is none.

    It must be declared as JSON: a form of a web page can be sent across origins without asking, JSON cannot.
    """
    body = await read_body(request)
    if not body:
        return None
    if not sends_json(request):
        raise ApiError(406, "the Content-Type must be application/json")
    try:
        return parse_json(body)
    except MessageError as error:
        raise ApiError(400, str(error)) from None


def _parse_faults(data: Any) -> Sequence[Fault]:
    if is_object(data) and set(data) == {"faults"}:
        data = data["faults"]
    if not is_array(data):
        raise ApiError(400, 'the body must be an array of faults, or {"faults": [...]}')
    faults: list[Fault] = []
    for index, each in enumerate(data):
        try:
            faults.append(Fault.parse(each))
        except ValueError as error:
            raise ApiError(400, f"faults[{index}]: {error}") from None
    return faults


def _query(request: web.Request, *known: str) -> dict[str, str]:
    """Read the query, in which a misspelt filter is an error and not a filter forgotten."""
    for name in request.query:
        if name not in known and name != "api_token":
            raise ApiError(400, f"unknown query parameter; there are {', '.join((*known, 'api_token'))}")
    return dict(request.query)


def _limit(query: dict[str, str], default: int = DEFAULT_LIMIT) -> int:
    return _number(query, "limit", 1, MAX_LIMIT, default)


def _number(query: dict[str, str], name: str, least: int, most: int, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    # The length first: int() of a very long text is slow, and refused by Python.
    if len(text) <= len(str(most)) and text.isascii() and text.isdigit() and least <= int(text) <= most:
        return int(text)
    raise ApiError(400, f"{name} must be a number from {least} to {most}")
