"""Media types of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salesmachine_async.sandbox.http.responses import ApiError

if TYPE_CHECKING:
    from aiohttp import web

NOT_JSON = "the Content-Type must be application/json"


def require_json(request: web.Request, *, body_too: bool = True) -> None:
    """
    Reject a request that does not accept JSON, or (with *body_too*) sends another type.

    Raises:
        ApiError: 406, which the API documents for both ("You requested a format that isn't json").
    """
    if not _accepts_json(request.headers.get("Accept", "")):
        raise ApiError(406, "the Accept header excludes application/json")
    if body_too and request.can_read_body and not sends_json(request):
        raise ApiError(406, NOT_JSON)


def sends_json(request: web.Request) -> bool:
    """Return whether the Content-Type is JSON."""
    media = request.content_type
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


def _accepts_json(accept: str) -> bool:
    """
    Return whether the most specific range that covers JSON has a weight above zero.

    Source: RFC 9110 §12.5.1.
    """
    if not accept.strip():
        return True
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights[media] = _weight(parameters)
    for media in ("application/json", "application/*", "*/*"):
        if media in weights:
            return weights[media] > 0
    return False


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
