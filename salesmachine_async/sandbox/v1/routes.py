"""
The tracking endpoints, `/v1/…`.

Where the API documentation is silent: a batch is validated and applied as a whole or not at all; an empty batch is
rejected, and so is an alias in a batch ("only available using http calls"). A single call is answered 200, a batch 201,
both `{"status": "success"}`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from salesmachine_async.sandbox.http.content_type import require_json
from salesmachine_async.sandbox.http.responses import NOTHING, SUCCESS, ApiError, Handler, answer
from salesmachine_async.sandbox.messages import (
    MessageError,
    MessageKind,
    ParsedMessage,
    count_items,
    is_array,
    is_object,
    parse_batch_item,
    parse_json,
    parse_message,
)
from salesmachine_async.sandbox.pacing import paced, strides
from salesmachine_async.sandbox.requests import read_body
from salesmachine_async.sandbox.state import PARTIAL, RECORD, STATE
from salesmachine_async.sandbox.storage.apply import apply_steps
from salesmachine_async.sandbox.storage.request_log import MAX_EXCERPT, Refusal
from salesmachine_async.sandbox.v1 import legacy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import web

    from salesmachine_async.sandbox.pacing import Steps
    from salesmachine_async.sandbox.state import SandboxState
    from salesmachine_async.sandbox.storage.request_log import RequestRecord


# Statuses of a body of the wrong type or size.
UNREADABLE = (406, 413, 415)
# A message takes a tenth of a millisecond under a plan.
JUDGED_AT_ONCE = 20


def add_routes(router: web.UrlDispatcher) -> None:
    """Add the documented endpoints, and the paths of old clients."""
    handlers = {
        "/v1/ping": _ping,
        "/v1/contact": _single("contact"),
        "/v1/account": _single("account"),
        "/v1/track/event": _single("event"),
        "/v1/alias": _single("alias"),
        "/v1/batch": _batch,
        "/v1/bulk": _batch,
        **{path: _old(kind, name) for path, (kind, name) in legacy.PATHS.items()},
    }
    for path, handler in handlers.items():
        # Every method is routed, because old clients send by GET what others POST.
        router.add_route("*", path, handler)


async def _ping(request: web.Request) -> web.Response:
    state = request.app[STATE]
    await _admit(request)
    # The first ping of a token creates its workspace, as its first message does.
    state.open_workspace(state.tokens.identify(request))
    return answer(SUCCESS)


def _single(kind: MessageKind) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        body, old = await _admit(request)
        await _receive(request, body, lambda record: _parse_single(kind, body, record, old=old))
        return answer(SUCCESS)

    return handle


def _old(kind: MessageKind, name: str) -> Handler:
    """Create the handler of a path that exists only for requests of old clients."""

    async def handle(request: web.Request) -> web.Response:
        body, old = await _admit(request, only_old=True)
        await _receive(request, body, lambda record: _parse_single(kind, body, record, old=old, name=name))
        return answer(SUCCESS)

    return handle


async def _batch(request: web.Request) -> web.Response:
    body, _ = await _admit(request)
    most = request.app[STATE].limits.max_batch_messages
    await _receive(request, body, lambda record: _parse_batch(body, most, record), batches=1)
    return answer(SUCCESS, 201)


async def _admit(request: web.Request, *, only_old: bool = False) -> tuple[bytes, bool]:
    """Check credentials and media types, and read the body; also return whether it has the form of an old client."""
    if request.method != "POST" and not request.query_string:
        raise legacy.not_allowed()
    workspace = request.app[STATE].tokens.identify(request)
    try:
        body = await legacy.old_body(request)
        old = body is not None
        if only_old and not old:
            raise ApiError(404, NOTHING)
        require_json(request, body_too=not old)
        if body is None:
            body = await read_body(request)
    except ApiError as error:
        if error.status in UNREADABLE:
            await _reject_unread(request, workspace)
        raise
    request[RECORD].size = len(body)
    return body, old


async def _reject_unread(request: web.Request, workspace: str) -> None:
    """Count a request as rejected whose body has the wrong type or size."""
    state, record = request.app[STATE], request[RECORD]
    body = b""
    with suppress(ApiError):
        body = await read_body(request)
    record.size = len(body)
    record.items = max(1, count_items(body))
    record.refusal = Refusal(None, body[:MAX_EXCERPT].decode(errors="replace"))
    state.open_workspace(workspace)
    with state.store.writing():
        state.store.count(state.store.workspace(workspace), rejected=record.items)


async def _receive(
    request: web.Request, body: bytes, parse: Callable[[RequestRecord], Steps[list[ParsedMessage]]], *, batches: int = 0
) -> None:
    """Parse and apply the messages, or count them as rejected."""
    state, record = request.app[STATE], request[RECORD]
    workspace = state.tokens.identify(request)
    state.open_workspace(workspace)
    try:
        messages = await paced(parse(record))
    except ApiError:
        if record.refusal is None:
            record.refusal = Refusal(None, body[:MAX_EXCERPT].decode(errors="replace"))
        with state.store.writing():
            state.store.count(state.store.workspace(workspace), rejected=record.items)
        raise
    if PARTIAL in request:
        messages = messages[: request[PARTIAL]]
    async with state.turn(workspace):
        most = state.limits.max_events
        steps = apply_steps(state.store, workspace, messages, record.received, batches=batches, max_events=most)
        applied = await paced(steps)
        record.accepted, record.duplicates = applied.accepted, applied.duplicates
        record.first, record.first_seq = state.message_log.last + 1, applied.first_seq
        state.message_log.add(workspace, record.received, applied.messages)
        await paced(_judge(state, workspace, record.first, applied.messages))


def _judge(state: SandboxState, workspace: str, first: int, messages: Sequence[ParsedMessage]) -> Steps[None]:
    for part in strides(enumerate(messages, first), JUDGED_AT_ONCE):
        for number, message in part:
            state.plan_results.add(workspace, number, message)
        yield


def _parse_single(
    kind: MessageKind, body: bytes, record: RequestRecord, *, old: bool, name: str = ""
) -> Steps[list[ParsedMessage]]:
    try:
        item: Any = parse_json(body)
        yield
        if not is_object(item):
            raise ApiError(400, "the body must be an object")
        record.items = 1
        return [parse_message(kind, legacy.renamed(kind, item, name) if old else item)]
    except MessageError as error:
        raise ApiError(400, str(error)) from None


def _parse_batch(body: bytes, most: int | None, record: RequestRecord) -> Steps[list[ParsedMessage]]:
    try:
        items: Any = parse_json(body)
    except MessageError as error:
        raise ApiError(400, str(error)) from None
    if not is_array(items):
        raise ApiError(400, "the body must be an array")
    if not items:
        raise ApiError(400, "the batch is empty")
    record.items = len(items)
    if most is not None and len(items) > most:
        raise ApiError(413, f"the batch has {len(items)} messages; the limit is {most}")
    messages: list[ParsedMessage] = []
    for part in strides(enumerate(items)):
        messages += [_parse_item(index, item, record) for index, item in part]
        yield
    return messages


def _parse_item(index: int, item: Any, record: RequestRecord) -> ParsedMessage:
    try:
        return parse_batch_item(legacy.renamed_in_batch(item) if is_object(item) and "event_uid" not in item else item)
    except MessageError as error:
        record.refusal = Refusal(index, _excerpt(item))
        place = f"items[{index}].{error}" if error.field else f"items[{index}] {error}"
        raise ApiError(400, place) from None


def _excerpt(item: Any) -> str:
    try:
        return orjson.dumps(item)[:MAX_EXCERPT].decode(errors="replace")
    except TypeError:
        # Nested deeper than orjson writes.
        return "…"
