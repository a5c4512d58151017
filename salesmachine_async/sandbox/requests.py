"""Parsing of requests: workspace, query parameters, body."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aiohttp import web

from salesmachine_async.sandbox.http.auth import find_token
from salesmachine_async.sandbox.http.content_type import NOT_JSON, sends_json
from salesmachine_async.sandbox.http.responses import ApiError
from salesmachine_async.sandbox.inspection import AmbiguousError, Inspection
from salesmachine_async.sandbox.messages import MessageError, encode_json, parse_json
from salesmachine_async.sandbox.pacing import Pace
from salesmachine_async.sandbox.state import STATE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEFAULT_LIMIT = 100
MAX_LIMIT = 10_000
# Limit of a JSON body for the control endpoints, which is processed in one step.
MAX_CONTROL_BYTES = 2**20
# The largest integer of SQLite; cursors are below it.
MAX_CURSOR = 2**63 - 1

# Stands for any parameter that begins with `params.`.
FIELDS = "params.…"
# Query parameters of every control endpoint.
COMMON = ("api_token", "workspace")
# Bytes read in one step.
CHUNK_BYTES = 2**15
# A client reads the response only after it has sent everything, so that much of a body that is too large is discarded.
DISCARDED_BYTES = 2**27
BODY = web.RequestKey("BODY", bytes)
WORKSPACE = re.compile("[0-9a-f]{16}")


def requested_workspace(request: web.Request) -> str | None:
    """
    Return the workspace selected by `?workspace=` (its public name) or by the credentials; None without both.

    Raises:
        ApiError: 400 or 401.
    """
    name = request.query.get("workspace")
    if name is not None:
        if not WORKSPACE.fullmatch(name):
            raise ApiError(400, "workspace must be a name listed by /_sandbox/workspaces")
        return name
    token = find_token(request, bearer=True)
    if token is None:
        return None
    state = request.app[STATE]
    workspace = state.tokens.workspace_of(token)
    if state.seeded:
        # The seeds must be visible before the first message.
        state.open_workspace(workspace)
    return workspace


def single_workspace(request: web.Request) -> str | None:
    """
    Return the selected workspace, or the only one; None if no workspace exists yet.

    Raises:
        ApiError: 409 if several workspaces exist and none is selected.
    """
    try:
        return Inspection(request.app[STATE]).only(requested_workspace(request))
    except AmbiguousError as error:
        raise ApiError(409, str(error)) from None


def read_query(request: web.Request, *known: str) -> dict[str, str]:
    """Read the query; an unknown parameter is an error, because a misspelt filter would otherwise be ignored."""
    for name in request.query:
        if name not in known and name not in COMMON and not (name.startswith("params.") and FIELDS in known):
            raise ApiError(400, f"unknown query parameter; expected one of {', '.join((*known, *COMMON))}")
    return dict(request.query)


def read_limit(given: dict[str, str], default: int = DEFAULT_LIMIT, most: int = MAX_LIMIT) -> int:
    """Read the maximum number of results."""
    return read_number(given, "limit", 1, most, default)


def read_number(given: dict[str, str], name: str, least: int, most: int, default: int) -> int:
    """Read an integer parameter."""
    text = given.get(name)
    if text is None:
        return default
    # The length is checked first, because int() of a very long text is slow and raises.
    if len(text) <= len(str(most)) and text.isascii() and text.isdigit() and least <= int(text) <= most:
        return int(text)
    raise ApiError(400, f"{name} must be a number from {least} to {most}")


def read_choice(given: dict[str, str], name: str, *choices: str) -> str | None:
    """Read a parameter with fixed choices; None if it is absent."""
    text = given.get(name)
    if text is not None and text not in choices:
        raise ApiError(400, f"{name} must be one of {', '.join(choices)}")
    return text


async def read_body(request: web.Request, most: int | None = None) -> bytes:
    """
    Read the whole body.

    `Request.read` would decompress all of a body in one run before it checks the size.

    Args:
        request: The request.
        most: A limit below that of all bodies.

    Raises:
        ApiError: 413 or 400.
    """
    limit = request.app[STATE].limits.max_body_bytes
    most = limit if most is None else min(limit, most)
    too_large = ApiError(413, f"the body is larger than the limit of {most} bytes")
    if (request.content_length or 0) > most:
        raise too_large
    if BODY not in request:
        request[BODY] = b"".join([chunk async for chunk in read_chunks(request, most, too_large)])
    return request[BODY]


async def read_chunks(request: web.Request, most: float, too_large: ApiError) -> AsyncIterator[bytes]:
    """
    Read the uncompressed body in small chunks, with turns for other tasks.

    Args:
        request: The request.
        most: Limit of all chunks together; the rest of a larger body is discarded.
        too_large: The error of a larger body.

    Raises:
        ApiError: *too_large*, or 400.
    """
    pace = Pace()
    size = 0
    try:
        async for chunk in request.content.iter_chunked(CHUNK_BYTES):
            size += len(chunk)
            if size <= most:
                yield chunk
            elif size > most + DISCARDED_BYTES:
                break
            await pace.turn()
    except web.RequestPayloadError:
        raise ApiError(400, "the body cannot be decoded") from None
    except ConnectionResetError:
        # The client does not receive this response; it is for the log of requests.
        raise ApiError(400, "the client disconnected before its body was read") from None
    if size > most:
        raise too_large


async def read_json(request: web.Request) -> Any:
    """
    Read a JSON body; None if it is empty.

    The Content-Type must be JSON, because browsers send forms across origins without a preflight request.
    """
    body = await read_body(request, MAX_CONTROL_BYTES)
    if not body:
        return None
    if not sends_json(request):
        raise ApiError(406, NOT_JSON)
    try:
        value = parse_json(body)
        encode_json(value)
    except MessageError as error:
        raise ApiError(400, f"the body {error}" if str(error).startswith("is ") else str(error)) from None
    return value
