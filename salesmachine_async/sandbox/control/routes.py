"""
The control endpoints, `/_sandbox/…`: inspection, waiting, reset, faults, export and replay.

A request selects a workspace by its credentials, or by `?workspace=` with the public name. Without both it selects the
only workspace; if there are several, `summary`, `requests`, `rejected`, `wait` and `stream` cover all of them, `faults`
cover the whole server, and the other endpoints answer 409.

Lists are paginated: `limit`, and `after` with the `next` of the last page; `order=desc` begins with the newest, `q`
selects entries that contain a text. One record is found by `?uid=`, which accepts any uid, or by the path, which some
clients normalise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from salesmachine_async.sandbox.control.filters import MAX_FIELDS, MAX_PATH, Filters
from salesmachine_async.sandbox.control.sse import stream
from salesmachine_async.sandbox.control.transfer import export_lines, replay_lines
from salesmachine_async.sandbox.control.wait import wait
from salesmachine_async.sandbox.faults.rate_limit import RateLimit
from salesmachine_async.sandbox.faults.script import Fault
from salesmachine_async.sandbox.http.auth import PREFIX
from salesmachine_async.sandbox.http.responses import NOTHING, SUCCESS, ApiError, answer
from salesmachine_async.sandbox.inspection import Inspection
from salesmachine_async.sandbox.messages import is_array, is_object
from salesmachine_async.sandbox.pacing import paced
from salesmachine_async.sandbox.requests import (
    FIELDS,
    MAX_CURSOR,
    MAX_LIMIT,
    read_choice,
    read_json,
    read_limit,
    read_number,
    read_query,
    requested_workspace,
    single_workspace,
)
from salesmachine_async.sandbox.state import STATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from salesmachine_async.sandbox.plan.schema import TrackingPlan

WAIT_SECONDS = 5.0
# Each request is compared with the faults in order.
MAX_FAULTS = 1000
MAX_COUNTED_SECONDS = 366 * 86_400
UIDS = ("contact_uid", "event_uid", "account_uid")


def add_routes(router: web.UrlDispatcher) -> None:
    """Add the control endpoints."""
    router.add_get(f"{PREFIX}/health", _health)
    router.add_get(f"{PREFIX}/workspaces", _workspaces)
    router.add_get(f"{PREFIX}/summary", _summary)
    router.add_get(f"{PREFIX}/contacts", _contacts)
    # A uid may contain slashes.
    router.add_get(PREFIX + "/contacts/{uid:.+}", _contact)
    router.add_get(f"{PREFIX}/accounts", _accounts)
    router.add_get(PREFIX + "/accounts/{uid:.+}", _account)
    router.add_get(f"{PREFIX}/events", _events)
    router.add_get(f"{PREFIX}/counts", _counts)
    router.add_get(f"{PREFIX}/changes", _changes)
    router.add_get(f"{PREFIX}/plan", _plan)
    router.add_get(f"{PREFIX}/requests", _requests)
    router.add_get(PREFIX + r"/requests/{id:\d{1,18}}", _request)
    router.add_get(f"{PREFIX}/rejected", _rejected)
    router.add_get(f"{PREFIX}/stream", stream)
    router.add_get(f"{PREFIX}/export", export_lines)
    router.add_post(f"{PREFIX}/replay", replay_lines)
    router.add_post(f"{PREFIX}/wait", _wait)
    router.add_post(f"{PREFIX}/reset", _reset)
    router.add_get(f"{PREFIX}/faults", _list_faults)
    router.add_put(f"{PREFIX}/faults", _put_faults)
    router.add_delete(f"{PREFIX}/faults", _delete_faults)
    router.add_get(f"{PREFIX}/rate-limit", _get_rate_limit)
    router.add_put(f"{PREFIX}/rate-limit", _put_rate_limit)
    router.add_delete(f"{PREFIX}/rate-limit", _delete_rate_limit)


def unknown_path(router: web.UrlDispatcher) -> str:
    """Return the error of an unknown path, with the names of the control endpoints."""
    names = dict.fromkeys(path.removeprefix(f"{PREFIX}/") for path in paths(router) if "{" not in path)
    return f"{NOTHING}; {PREFIX}/ has {', '.join(names)}"


def paths(router: web.UrlDispatcher) -> list[str]:
    """List the paths of the control endpoints, with the names of their variables in braces."""
    found = [resource.canonical for resource in router.resources()]
    return [path for path in found if path.startswith(f"{PREFIX}/") and not path.startswith(f"{PREFIX}/page")]


async def _health(request: web.Request) -> web.Response:
    read_query(request)
    return answer({"status": "ok"})


async def _workspaces(request: web.Request) -> web.Response:
    read_query(request)
    return answer({"workspaces": _inspection(request).workspaces()})


async def _summary(request: web.Request) -> web.Response:
    read_query(request)
    return answer(_inspection(request).summary(requested_workspace(request)))


async def _contacts(request: web.Request) -> web.Response:
    query = read_query(request, "uid", "limit", "after", "order", "q", FIELDS)
    if "uid" in query:
        found = _inspection(request).contact_alone(single_workspace(request), query["uid"])
        return answer({"contacts": [] if found is None else [found], "next": None})
    limit, newest_first = read_limit(query), _newest_first(query)
    steps = _inspection(request).contacts(
        single_workspace(request),
        query.get("after", ""),
        limit,
        accept=_filters(query).accept_record,
        newest_first=newest_first,
    )
    rows = await paced(steps)
    return answer({"contacts": rows, "next": rows[-1]["contact_uid"] if len(rows) == limit else None})


async def _contact(request: web.Request) -> web.Response:
    limit = read_limit(read_query(request, "limit"), MAX_LIMIT)
    found = await paced(_inspection(request).contact(single_workspace(request), request.match_info["uid"], limit))
    if found is None:
        raise ApiError(404, "no such contact in this workspace")
    return answer(found)


async def _accounts(request: web.Request) -> web.Response:
    query = read_query(request, "uid", "limit", "after", "order", "q", FIELDS)
    if "uid" in query:
        found = _inspection(request).account(single_workspace(request), query["uid"])
        return answer({"accounts": [] if found is None else [found], "next": None})
    limit, newest_first = read_limit(query), _newest_first(query)
    steps = _inspection(request).accounts(
        single_workspace(request),
        query.get("after", ""),
        limit,
        accept=_filters(query).accept_record,
        newest_first=newest_first,
    )
    rows = await paced(steps)
    return answer({"accounts": rows, "next": rows[-1]["account_uid"] if len(rows) == limit else None})


async def _account(request: web.Request) -> web.Response:
    read_query(request)
    found = _inspection(request).account(single_workspace(request), request.match_info["uid"])
    if found is None:
        raise ApiError(404, "no such account in this workspace")
    return answer(found)


async def _events(request: web.Request) -> web.Response:
    query = read_query(request, *UIDS, "limit", "after", "order", "q", "plan", FIELDS)
    limit, after, newest_first = _part(query)
    steps = _inspection(request).events(
        single_workspace(request),
        contact_uid=query.get("contact_uid"),
        event_uid=query.get("event_uid"),
        account_uid=query.get("account_uid"),
        accept=_filters(query, request.app[STATE].plan_results.plan).accept_event,
        after=after,
        limit=limit,
        newest_first=newest_first,
    )
    rows = await paced(steps)
    return answer({"events": rows, "next": rows[-1]["seq"] if len(rows) == limit else None})


async def _changes(request: web.Request) -> web.Response:
    query = read_query(request, "contact_uid", "account_uid", "limit")
    found = _inspection(request).changes(
        single_workspace(request),
        contact_uid=query.get("contact_uid"),
        account_uid=query.get("account_uid"),
        limit=read_limit(query),
    )
    return answer({"changes": found})


async def _counts(request: web.Request) -> web.Response:
    seconds = read_number(read_query(request, "seconds"), "seconds", 60, MAX_COUNTED_SECONDS, 3600)
    return answer(await paced(_inspection(request).event_counts(single_workspace(request), seconds)))


async def _plan(request: web.Request) -> web.Response:
    """Answer the counters of the tracking plan, and the latest bad messages with their problems."""
    limit = read_limit(read_query(request, "limit"))
    results, workspace = request.app[STATE].plan_results, requested_workspace(request)
    return answer({"plan": results.summary(workspace), "bad": results.bad(workspace)[-limit:]})


async def _request(request: web.Request) -> web.Response:
    read_query(request)
    found = await paced(_inspection(request).request(requested_workspace(request), int(request.match_info["id"])))
    if found is None:
        raise ApiError(404, "no such request in the log")
    return answer(found)


async def _requests(request: web.Request) -> web.Response:
    query = read_query(request, "limit", "after", "order", "q", "seq")
    limit, after, newest_first = _part(query)
    request_log = request.app[STATE].request_log
    if "seq" in query:
        workspace = single_workspace(request)
        found = request_log.containing(workspace or "", read_number(query, "seq", 1, MAX_CURSOR, 1))
        return answer({"requests": found, "next": None})
    rows = request_log.requests(
        requested_workspace(request), after, limit, newest_first=newest_first, text=query.get("q")
    )
    return answer({"requests": rows, "next": rows[-1]["id"] if len(rows) == limit else None})


async def _rejected(request: web.Request) -> web.Response:
    query = read_query(request, "limit", "after", "order", "q")
    limit, after, newest_first = _part(query)
    request_log = request.app[STATE].request_log
    rows = request_log.rejected(
        requested_workspace(request), after, limit, newest_first=newest_first, text=query.get("q")
    )
    return answer({"rejected": rows, "next": rows[-1]["id"] if len(rows) == limit else None})


async def _wait(request: web.Request) -> web.Response:
    """Answer 200 with the messages, or 408 with the nearest misses after the timeout."""
    read_query(request)
    workspace = requested_workspace(request)
    body = await read_json(request)
    if not is_object(body) or not is_object(body.get("match")):
        raise ApiError(400, 'the body must be {"match": {...}, "count": 1, "timeout": 5.0, "after": 0}')
    for name in body:
        if name not in ("match", "count", "timeout", "after"):
            raise ApiError(400, "unknown field; expected one of match, count, timeout, after")
    try:
        waited = await wait(
            request.app[STATE].message_log,
            workspace,
            body["match"],
            count=body.get("count", 1),
            timeout=body.get("timeout", WAIT_SECONDS),
            after=body.get("after", 0),
        )
    except ValueError as error:
        raise ApiError(400, str(error)) from None
    return answer(waited, 200 if waited["ok"] else 408)


async def _reset(request: web.Request) -> web.Response:
    read_query(request)
    body = await read_json(request)
    if body not in (None, {}):
        raise ApiError(400, "reset takes no body, or an empty object")
    _inspection(request).reset(single_workspace(request))
    return answer(SUCCESS)


async def _list_faults(request: web.Request) -> web.Response:
    read_query(request)
    return answer(
        {"faults": [fault.to_json() for fault in request.app[STATE].faults.left(requested_workspace(request))]}
    )


async def _put_faults(request: web.Request) -> web.Response:
    read_query(request)
    faults = _parse_faults(await read_json(request))
    request.app[STATE].faults.put(faults, requested_workspace(request))
    return answer({"faults": [fault.to_json() for fault in faults]})


async def _delete_faults(request: web.Request) -> web.Response:
    read_query(request)
    await read_json(request)
    request.app[STATE].faults.put((), requested_workspace(request))
    return answer({"faults": []})


async def _get_rate_limit(request: web.Request) -> web.Response:
    read_query(request)
    return _rate_limit(request)


async def _put_rate_limit(request: web.Request) -> web.Response:
    read_query(request)
    body = await read_json(request)
    if not is_object(body) or not {"requests"} <= body.keys() <= {"requests", "per"}:
        raise ApiError(400, 'the body must be {"requests": 50, "per": 1.0}')
    try:
        request.app[STATE].rate_limiter.limit = RateLimit(**body)
    except ValueError as error:
        raise ApiError(400, str(error)) from None
    return _rate_limit(request)


async def _delete_rate_limit(request: web.Request) -> web.Response:
    read_query(request)
    await read_json(request)
    request.app[STATE].rate_limiter.limit = None
    return _rate_limit(request)


def _rate_limit(request: web.Request) -> web.Response:
    limit = request.app[STATE].rate_limiter.limit
    return answer({"rate_limit": None if limit is None else {"requests": limit.requests, "per": limit.per}})


def _inspection(request: web.Request) -> Inspection:
    return Inspection(request.app[STATE], orjson.Fragment)


def _filters(query: dict[str, str], plan: TrackingPlan | None = None) -> Filters:
    """Read `q`, the fields such as `params.plan`, and `plan=good` or `plan=bad`."""
    fields = {name: value for name, value in query.items() if name.startswith("params.")}
    if len(fields) > MAX_FIELDS or any(len(name) > MAX_PATH for name in fields):
        raise ApiError(400, f"expected at most {MAX_FIELDS} filters of params, each of at most {MAX_PATH} characters")
    wanted = read_choice(query, "plan", "good", "bad")
    if wanted is None:
        return Filters(query.get("q") or None, fields)
    if plan is None:
        raise ApiError(400, "the sandbox has no tracking plan; start it with --plan")

    def verdict(kind: str, name: str, params: Any) -> bool:
        return (not plan.judge(kind, name, params)) == (wanted == "good")

    return Filters(query.get("q") or None, fields, verdict)


def _part(query: dict[str, str]) -> tuple[int, int, bool]:
    """Read the parameters of a paginated list: limit, after, order."""
    after = read_number(query, "after", 0, MAX_CURSOR, 0)
    return read_limit(query), after, _newest_first(query)


def _newest_first(query: dict[str, str]) -> bool:
    return read_choice(query, "order", "asc", "desc") == "desc"


def _parse_faults(data: Any) -> Sequence[Fault]:
    if is_object(data) and set(data) == {"faults"}:
        data = data["faults"]
    if not is_array(data):
        raise ApiError(400, 'the body must be an array of faults, or {"faults": [...]}')
    if len(data) > MAX_FAULTS:
        raise ApiError(400, f"a script has at most {MAX_FAULTS} faults")
    faults: list[Fault] = []
    for index, each in enumerate(data):
        try:
            faults.append(Fault.parse(each))
        except ValueError as error:
            raise ApiError(400, f"faults[{index}]: {error}") from None
    return faults
