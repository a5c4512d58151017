"""Construction of JSON responses."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The error of an unknown path.
NOTHING = "no such path"
SUCCESS: dict[str, str] = {"status": "success"}


class ApiError(Exception):
    """
    An error response.

    Args:
        status: The HTTP status.
        problem: The problem, for developers; contains no credentials and no values that the client sent.
        headers: Extra headers of the response.
    """

    def __init__(self, status: int, problem: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.headers = headers


def encode(data: Any) -> bytes:
    """Encode *data* as JSON in one line, with the params of messages as deep in it as they may be."""
    try:
        return orjson.dumps(data)
    except TypeError:  # params and what is around them have more than 254 levels
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Create a response with *data* as JSON."""
    response = web.Response(body=encode(data), status=status, headers=headers)
    response.headers["Content-Type"] = "application/json"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def error(refused: ApiError) -> web.Response:
    """Create a response with the documented error body, `{"error": …}`."""
    return answer({"error": refused.problem}, refused.status, refused.headers)
