"""
Routes of the page.

The files in `assets` are served unchanged: no build step, no external resources. The page shows data of programs under
test, so the Content-Security-Policy allows only these files: no inline script or style, and no conversion of text to
markup or code (Trusted Types).
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from salesmachine_async.sandbox.http.responses import NOTHING, ApiError

PREFIX = "/_sandbox/page"
ASSETS = Path(__file__).parent / "assets"
INDEX = "index.html"
ICON = "icon.svg"

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    # Revalidated each time, usually with 304, because another version may use the same port later.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Asset(NamedTuple):
    """One file of the page."""

    body: bytes
    media: str
    etag: str


def add_routes(router: web.UrlDispatcher) -> None:
    """Add the page, its icon and its files."""
    router.add_get("/", _index)
    router.add_get("/favicon.ico", _icon)
    router.add_get(PREFIX + "/{name}", _file)


@cache
def assets() -> dict[str, Asset]:
    """Read the files, once, at the first request of the page."""
    return {path.name: _asset(path) for path in sorted(ASSETS.iterdir()) if path.suffix in TYPES}


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    return Asset(body, TYPES[path.suffix], hashlib.blake2b(body, digest_size=8).hexdigest())


async def _index(request: web.Request) -> web.Response:
    return _serve(request, INDEX)


async def _icon(request: web.Request) -> web.Response:
    return _serve(request, ICON)


async def _file(request: web.Request) -> web.Response:
    return _serve(request, request.match_info["name"])


def _serve(request: web.Request, name: str) -> web.Response:
    asset = assets().get(name)
    if asset is None:
        raise ApiError(404, NOTHING)
    response = web.Response(headers=HEADERS)
    response.etag = asset.etag
    known = request.if_none_match or ()
    if any(each.value in (asset.etag, "*") for each in known):
        response.set_status(304)
    else:
        response.body = asset.body
        response.content_type = asset.media
        response.charset = "utf-8"
    return response
