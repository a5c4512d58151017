"""
The tracking endpoints, `/v1/…`, as the API documents them.

Decided here, where the documents are silent: a batch is checked as a whole and applied as a whole or not at all; an
empty batch is refused; so is an alias in a batch ("only available using http calls"). A single call is answered 200, a
batch 201, both `{"status": "success"}`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from salesmachine_async.sandbox.answers import SUCCESS, ApiError, answer
from salesmachine_async.sandbox.apply import apply
from salesmachine_async.sandbox.auth import CHALLENGE, find_token, workspace_of
from salesmachine_async.sandbox.media import require_json
from salesmachine_async.sandbox.messages import (
    Kind,
    Message,
    MessageError,
    is_array,
    is_object,
    parse_batch_item,
    parse_json,
    parse_message,
)
from salesmachine_async.sandbox.state import STATE, VISIT

if TYPE_CHECKING:
    from salesmachine_async.sandbox.journal import Visit
    from salesmachine_async.sandbox.state import State

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_routes(router: web.UrlDispatcher) -> None:
    """Add the documented endpoints."""
    router.add_post("/v1/ping", _ping)
    router.add_post("/v1/contact", _single("contact"))
    router.add_post("/v1/account", _single("account"))
    router.add_post("/v1/track/event", _single("event"))
    router.add_post("/v1/alias", _single("alias"))
    router.add_post("/v1/batch", _batch)


def identify(request: web.Request, state: State) -> str:
    """
    Name the workspace whose token *request* carries.

    Raises:
        ApiError: 401.
    """
    token = find_token(request)
    if token is None:
        raise ApiError(401, "credentials are missing: use HTTP Basic with the API token as the user", CHALLENGE)
    workspace = workspace_of(token)
    if state.tokens is not None and workspace not in state.tokens:
        raise ApiError(401, "the API token is wrong", CHALLENGE)
    return workspace


async def read_body(request: web.Request) -> bytes:
    """
    Read the whole body.

    Raises:
        ApiError: 413 or 400.
    """
    limit = request.app[STATE].limits.max_body_bytes
    too_large = ApiError(413, f"the body is larger than the {limit} bytes this sandbox takes")
    if (request.content_length or 0) > limit:
        raise too_large
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    except web.RequestPayloadError:
        raise ApiError(400, "the body cannot be decoded") from None


async def _ping(request: web.Request) -> web.Response:
    state = request.app[STATE]
    await _admit(request)
    # A token's first ping makes its workspace, as its first message does.
    state.store.workspace(identify(request, state))
    return answer(SUCCESS)


def _single(kind: Kind) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        body = await _admit(request)
        _receive(request, lambda visit: _parse_single(kind, body, visit))
        return answer(SUCCESS)

    return handle


async def _batch(request: web.Request) -> web.Response:
    body = await _admit(request)
    most = request.app[STATE].limits.max_batch_messages
    _receive(request, lambda visit: _parse_batch(body, most, visit), batches=1)
    return answer(SUCCESS, 201)


async def _admit(request: web.Request) -> bytes:
    """Check credentials and media types, then read the body."""
    identify(request, request.app[STATE])
    require_json(request)
    body = await read_body(request)
    request[VISIT].size = len(body)
    return body


def _receive(request: web.Request, parse: Callable[[Visit], list[Message]], *, batches: int = 0) -> None:
    """Parse and apply, or count what is refused."""
    state, visit = request.app[STATE], request[VISIT]
    workspace = identify(request, state)
    try:
        messages = parse(visit)
    except ApiError:
        with state.store.writing():
            state.store.count(state.store.workspace(workspace), rejected=visit.items)
        raise
    applied = apply(
        state.store, workspace, messages, visit.received, batches=batches, max_events=state.limits.max_events
    )
    visit.accepted, visit.duplicates = applied


def _parse_single(kind: Kind, body: bytes, visit: Visit) -> list[Message]:
    try:
        item: Any = parse_json(body)
        if not is_object(item):
            raise ApiError(400, "the body must be an object")
        visit.items = 1
        return [parse_message(kind, item)]
    except MessageError as error:
        raise ApiError(400, str(error)) from None


def _parse_batch(body: bytes, most: int | None, visit: Visit) -> list[Message]:
    try:
        items: Any = parse_json(body)
    except MessageError as error:
        raise ApiError(400, str(error)) from None
    if not is_array(items):
        raise ApiError(400, "the body must be an array")
    if not items:
        raise ApiError(400, "the batch is empty")
    visit.items = len(items)
    if most is not None and len(items) > most:
        raise ApiError(413, f"the batch holds {len(items)} messages; this sandbox takes {most}")
    return [_parse_item(index, item) for index, item in enumerate(items)]


def _parse_item(index: int, item: Any) -> Message:
    try:
        return parse_batch_item(item)
    except MessageError as error:
        place = f"items[{index}].{error}" if error.field else f"items[{index}] {error}"
        raise ApiError(400, place) from None
