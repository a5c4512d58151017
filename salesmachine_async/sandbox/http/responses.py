"""Every answer of the sandbox is JSON, made here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# What the API answers to an unknown path.
NOTHING = "there is nothing at this path"
SUCCESS: dict[str, str] = {"status": "success"}


class ApiError(Exception):
    """
    A request that is answered with an error.

    Args:
        status: the HTTP status.
        problem: what is wrong, for the developer; never holds a credential or a value the client sent.
        headers: extra headers of the answer.
    """

    def __init__(self, status: int, problem: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.headers = headers


def answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer *data* as JSON."""
    response = web.Response(body=orjson.dumps(data), status=status, headers=headers)
    response.headers["Content-Type"] = "application/json"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def error(refused: ApiError) -> web.Response:
    """Answer with the documented error body, `{"error": …}`."""
    return answer({"error": refused.problem}, refused.status, refused.headers)
