"""The web application: its routes and middlewares (errors, access checks, faults, log of requests)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web

from salesmachine_async.sandbox.control import routes as control
from salesmachine_async.sandbox.faults.inject import DISCONNECT, SLOW, disconnect, inject, trickle
from salesmachine_async.sandbox.http.auth import find_token, is_control, require_local, token_hint, workspace_of
from salesmachine_async.sandbox.http.responses import NOTHING, ApiError, answer, error
from salesmachine_async.sandbox.messages import count_items, now
from salesmachine_async.sandbox.page import routes as page
from salesmachine_async.sandbox.requests import read_body
from salesmachine_async.sandbox.state import PARTIAL, RECORD, STATE
from salesmachine_async.sandbox.storage.request_log import RequestRecord, head_lines
from salesmachine_async.sandbox.v1 import routes as v1
from salesmachine_async.sandbox.v2 import routes as v2

if TYPE_CHECKING:
    from collections.abc import Callable

    from salesmachine_async.sandbox.http.responses import Handler
    from salesmachine_async.sandbox.state import SandboxState
    from salesmachine_async.sandbox.views import RequestView

logger: logging.Logger = logging.getLogger("salesmachine_async.sandbox")

# Texts that replace those of aiohttp, so that every error is JSON with a useful sentence.
MAX_HINTS = 10_000
PROBLEMS = {
    404: NOTHING,
    405: "method not allowed",
}


def build(state: SandboxState) -> web.Application:
    """Build the application for *state*."""
    middlewares = [_observe, _errors_as_json, _local_only, _faults, _errors_as_json]
    app = web.Application(middlewares=middlewares, client_max_size=state.limits.max_body_bytes)
    app[STATE] = state
    v1.add_routes(app.router)
    v2.add_routes(app.router)
    control.add_routes(app.router)
    page.add_routes(app.router)
    return app


@web.middleware
async def _observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log each request to the API when its response is ready, before the response is sent."""
    if is_control(request):
        return await handler(request)
    state = request.app[STATE]
    head = head_lines(request.raw_headers)
    record = request[RECORD] = RequestRecord(request.method, request.path, now(), headers=head)
    with suppress(ApiError):
        record.workspace = state.tokens.identify(request)
        _remember(request, record.workspace, record.received)
    response: web.StreamResponse | None = None
    try:
        response = await handler(request)
        record.status = response[DISCONNECT].status if DISCONNECT in response else response.status
    finally:
        # Without a response the server is stopping, or the client has disconnected.
        view = state.request_log.add(record)
        if state.on_request is not None:
            _report(state.on_request, view)
        state.message_log.notify()
    if DISCONNECT in response:
        disconnect(request, response[DISCONNECT].sent)
    if SLOW in response:
        return await trickle(request, response, state.closing)
    return response


def _remember(request: web.Request, workspace: str, received: int) -> None:
    """Keep what identifies the token of *workspace* on the page."""
    state = request.app[STATE]
    token = find_token(request, bearer=True)
    # A token for v2 only opens the workspace of another token.
    if token is None or workspace_of(token) != workspace:
        return
    hints = state.hints
    hints.pop(workspace, None)
    hints[workspace] = token_hint(token, received, request.headers.get("User-Agent", ""))
    if len(hints) > MAX_HINTS:
        del hints[next(iter(hints))]


def _report(on_request: Callable[[RequestView], None], view: RequestView) -> None:
    try:
        on_request(view)
    except Exception:
        logger.exception("on_request raised an exception")


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert every error to JSON, around the handler (so that faults see its response) and around the rest."""
    try:
        return await handler(request)
    except ApiError as refused:
        problem = refused
    except web.HTTPException as http:
        kept = {"Allow": http.headers["Allow"]} if "Allow" in http.headers else None
        text = PROBLEMS.get(http.status, http.reason)
        if http.status == 404 and is_control(request):
            text = control.unknown_path(request.app.router)
        problem = ApiError(http.status, text, kept)
    except Exception:
        # A traceback contains source lines but no request data.
        logger.exception("unhandled error in the handler of a %s request", request.method)
        problem = ApiError(500, "internal error; see the sandbox's log")
    if RECORD in request:
        request[RECORD].error = problem.problem
    return error(problem)


@web.middleware
async def _local_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    require_local(request, request.app[STATE].hosts)
    return await handler(request)


@web.middleware
async def _faults(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Apply the rate limit and the scripted faults."""
    if is_control(request):
        return await handler(request)
    state, record = request.app[STATE], request[RECORD]
    state.rate_limiter.admit(record.workspace)
    fault = state.faults.take(request.path, record.workspace)
    if fault is None:
        return await handler(request)
    record.fault = {**fault.to_json(), "times": 1}
    if fault.latency:
        with suppress(TimeoutError):
            await asyncio.wait_for(state.closing.wait(), fault.latency)
    if fault.partial is not None:
        request[PARTIAL] = fault.partial
    if fault.applies:
        response = await handler(request)
    else:
        # The body is read first, so that the connection is dropped while the client awaits the response.
        with suppress(ApiError):
            body = await read_body(request)
            record.size, record.items = len(body), count_items(body)
        response = answer({})
    return inject(fault, response)
