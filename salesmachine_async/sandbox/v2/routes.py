"""
The Access API, `/v2/…`, over the same state as the tracking endpoints.

Where the API documentation is silent:

* Only `/v2/Contacts` is documented, so paths are accepted in lower and upper case.
* A list is `{"object": "contact.list", "data": […], "pagination": {"next": URL}}`; the URL is absolute and contains the
  filters but no credentials. A `limit` above 100 and unknown parameters are rejected, so that errors are found.
* Contacts and accounts are listed in the order of creation. DELETE archives one: lists show it only with
  `archived=true`, it can still be read by its id, and any call that writes its fields unarchives it. A repeated DELETE
  changes nothing. Its events remain.
* `status`: see `storage.v2_store`.
* A note is created with a `body`, an optional `subject` and optional links `contact`, `account` and `author`:
  `{"id": …}` or the id. DELETE is permanent.
* Activities, tasks and users come only from the seeds; the lists accept `offset`, `limit`, `order` and `sort`.
* The token is the user of HTTP Basic, a bearer token or `?api_token=`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from salesmachine_async.sandbox.http.content_type import require_json
from salesmachine_async.sandbox.http.responses import SUCCESS, ApiError, Handler, answer
from salesmachine_async.sandbox.messages import MessageError, is_object, now, parse_json
from salesmachine_async.sandbox.requests import read_body, read_choice, read_limit, read_number
from salesmachine_async.sandbox.state import RECORD, STATE, SandboxState
from salesmachine_async.sandbox.storage.v2_objects import ObjectKind, V2Presenter, row_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from salesmachine_async.sandbox.storage.v2_store import RecordKind

DEFAULT_LIMIT = 25
MAX_LIMIT = 100
MAX_OFFSET = 2**53
STATUSES = ("trial", "paying", "churned", "not_converted")
FILTERS = ("offset", "limit", "order", "sort")
NOTE_FIELDS = frozenset({"body", "note", "subject", "contact", "account", "author"})

RECORDS: dict[RecordKind, str] = {"contact": "contacts", "account": "accounts"}
OBJECTS: dict[ObjectKind, str] = {"note": "notes", "activity": "activities", "task": "tasks", "user": "users"}


def add_routes(router: web.UrlDispatcher) -> None:
    """Add the endpoints of v2."""
    for record, name in RECORDS.items():
        router.add_get(_path(name), _list_records(record))
        router.add_get(_path(name) + "/{id}", _get_record(record))
        router.add_delete(_path(name) + "/{id}", _delete_record(record))
    for thing, name in OBJECTS.items():
        router.add_get(_path(name), _list_objects(thing))
        router.add_get(_path(name) + "/{id}", _get_object(thing))
    router.add_post(_path("notes"), _create_note)
    router.add_delete(_path("notes") + "/{id}", _delete_note)


def _path(name: str) -> str:
    return f"/v2/{{resource:(?i:{name})}}"


class _V2Request(NamedTuple):
    """An authenticated request: the state, the workspace and its presenter."""

    state: SandboxState
    workspace: int
    presenter: V2Presenter


def _admit(request: web.Request) -> _V2Request:
    state = request.app[STATE]
    name = state.tokens.identify(request)
    require_json(request)
    state.open_workspace(name)
    workspace = state.store.workspace(name)
    return _V2Request(state, workspace, V2Presenter(state.store, state.v2_store, workspace))


class _PageQuery(NamedTuple):
    """The documented query parameters of a list."""

    offset: int
    limit: int
    descending: bool


def _page(query: Mapping[str, str], *further: str) -> _PageQuery:
    for name in query:
        if name not in FILTERS and name not in further and name != "api_token":
            raise ApiError(400, f"unknown query parameter; expected one of {', '.join((*FILTERS, *further))}")
    given = dict(query)
    read_choice(given, "sort", "created_at")
    return _PageQuery(
        read_number(given, "offset", 0, MAX_OFFSET, 0),
        read_limit(given, DEFAULT_LIMIT, MAX_LIMIT),
        read_choice(given, "order", "asc", "desc") != "asc",
    )


def _listed(request: web.Request, kind: str, page: _PageQuery, found: Sequence[dict[str, Any]]) -> web.Response:
    """Create the response of a page; *found* has one item more than the page if a next page exists."""
    pagination: dict[str, str] = {}
    if len(found) > page.limit:
        url = request.url.without_query_params("api_token")
        pagination["next"] = str(url.update_query(offset=page.offset + page.limit, limit=page.limit))
    return answer({"object": f"{kind}.list", "data": found[: page.limit], "pagination": pagination})


def _list_records(kind: RecordKind) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        state, workspace, presenter = _admit(request)
        page = _page(request.query, "status", "archived")
        given = dict(request.query)
        rows = state.v2_store.records(
            kind,
            workspace,
            archived=read_choice(given, "archived", "true", "false") == "true",
            status=read_choice(given, "status", *STATUSES),
            descending=page.descending,
            offset=page.offset,
            limit=page.limit + 1,
        )
        return _listed(request, kind, page, presenter.records(kind, rows))

    return handle


def _list_objects(kind: ObjectKind) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        state, workspace, presenter = _admit(request)
        page = _page(request.query)
        rows = state.v2_store.objects(
            kind, workspace, descending=page.descending, offset=page.offset, limit=page.limit + 1
        )
        return _listed(request, kind, page, presenter.objects(kind, rows))

    return handle


def _get_record(kind: RecordKind) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        context = _admit(request)
        return answer(_record(context, kind, request.match_info["id"]))

    return handle


def _delete_record(kind: RecordKind) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        context = _admit(request)
        found = _record(context, kind, request.match_info["id"])
        context.state.v2_store.archive(kind, context.workspace, row_number(kind, found["id"]) or 0)
        return answer(SUCCESS)

    return handle


def _get_object(kind: ObjectKind) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        context = _admit(request)
        return answer(_object(context, kind, request.match_info["id"]))

    return handle


async def _delete_note(request: web.Request) -> web.Response:
    context = _admit(request)
    found = _object(context, "note", request.match_info["id"])
    context.state.v2_store.delete_object(context.workspace, row_number("note", found["id"]) or 0)
    return answer(SUCCESS)


async def _create_note(request: web.Request) -> web.Response:
    context = _admit(request)
    body = await read_body(request)
    request[RECORD].size = len(body)
    try:
        data: Any = parse_json(body)
    except MessageError as error:
        raise ApiError(400, str(error)) from None
    note = context.state.v2_store.add_object("note", context.workspace, now(), _note(context, data))
    row = context.state.v2_store.object("note", context.workspace, note)
    assert row is not None
    return answer(context.presenter.objects("note", [row])[0], 201)


def _note(context: _V2Request, data: Any) -> dict[str, Any]:
    """Validate a new note and return the data to store."""
    if not is_object(data):
        raise ApiError(400, "the body must be an object")
    for name in data:
        if name not in NOTE_FIELDS:
            raise ApiError(400, f"unknown field; expected one of {', '.join(sorted(NOTE_FIELDS))}")
    # `note` is the deprecated name of `body`.
    body: Any = data.get("body", data.get("note"))
    if not isinstance(body, str) or not body:
        raise ApiError(400, "body is missing" if body is None else "body must be a non-empty string")
    note: dict[str, Any] = {"body": body}
    subject: Any = data.get("subject")
    if subject is not None:
        if not isinstance(subject, str):
            raise ApiError(400, "subject must be a string")
        note["subject"] = subject
    for kind in RECORDS:
        if data.get(kind) is not None:
            note[f"{kind}_uids"] = [_record(context, kind, _linked(data[kind], kind), 400)["unique_id"]]
    if data.get("author") is not None:
        user = _object(context, "user", _linked(data["author"], "author"), 400)
        note["user"] = row_number("user", user["id"])
    return note


def _linked(value: Any, name: str) -> str:
    """Read a link: an id, or an object with an id."""
    shown: Any = value.get("id") if is_object(value) else value
    if not isinstance(shown, str):
        raise ApiError(400, f'{name} must be an id, or {{"id": …}}')
    return shown


def _record(context: _V2Request, kind: RecordKind, shown: str, status: int = 404) -> dict[str, Any]:
    found = row_number(kind, shown)
    row = None if found is None else context.state.v2_store.record(kind, context.workspace, found)
    # The time in the id must match too, so that each object has exactly one id.
    if row is not None and (view := context.presenter.records(kind, [row])[0])["id"] == shown:
        return view
    raise ApiError(status, f"no {kind} with this id; expected the id of v2, not the {kind}_uid")


def _object(context: _V2Request, kind: ObjectKind, shown: str, status: int = 404) -> dict[str, Any]:
    found = row_number(kind, shown)
    row = None if found is None else context.state.v2_store.object(kind, context.workspace, found)
    if row is not None and (view := context.presenter.objects(kind, [row])[0])["id"] == shown:
        return view
    raise ApiError(status, f"no {kind} with this id")
