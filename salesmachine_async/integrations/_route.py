"""
The template of the route that answered, read from the scope after routing.

Nothing is matched a second time and no list of routes is walked: what stands in such lists changes between releases
(FastAPI 0.137 put nodes without a path there, and every tool that walked it broke); what a router notes in the scope
is what it has just used.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

__all__ = ["route_template"]

# scope, receive, send
ASGI_ARGUMENTS: Final = 3


def route_template(scope: Mapping[str, Any]) -> str | None:
    """Return the template, with the prefix of mounts: ``/shop/orders/{order_id}``; None when no route has matched."""
    template = scope.get("path_template")  # Litestar
    if isinstance(template, str):
        return template or None
    template = _of_fastapi(scope) or _of_route(scope.get("route"))
    if template is None and _is_mount(scope.get("route")):
        return None  # the application behind it answered, which noted nothing
    return _from_path(scope) if template is None else _mounted_at(scope, template) + template


def _of_fastapi(scope: Mapping[str, Any]) -> str | None:
    """From 0.137 on, the route of an included router knows only its own part; the whole stands beside it."""
    notes: Any = scope.get("fastapi")
    context: Any = notes.get("effective_route_context") if hasattr(notes, "get") else None
    return _text(getattr(context, "path_format", None)) or _of_route(getattr(context, "starlette_route", None))


def _of_route(route: Any) -> str | None:
    """Return the template of a route object, which Starlette notes since 1.7, and FastAPI for its own routes."""
    if _is_mount(route):
        return None
    return _text(getattr(route, "path_format", None)) or _text(getattr(route, "path", None))


def _is_mount(route: Any) -> bool:
    return type(route).__name__ in ("Mount", "Host")


def _mounted_at(scope: Mapping[str, Any], template: str) -> str:
    """Return what mounts have added to the root path, as a template, without what a proxy in front has stripped off."""
    root, outer = scope.get("root_path"), scope.get("app_root_path")  # the latter is noted by mounts
    if not (isinstance(root, str) and isinstance(outer, str) and root.startswith(outer)):
        return ""
    prefix = root[len(outer) :]
    # The root path holds what the parameters of a mount matched: put their names in its place.
    names = [name for name in scope.get("path_params", ()) if f"{{{name}}}" not in template]
    for name in names:
        before, found, after = f"{prefix}/".rpartition(f"/{scope['path_params'][name]}/")
        if not found:
            # Changed by a converter. A prefix that is too short is better than personal data in it.
            return "".join(f"/{{{each}}}" for each in names)
        prefix = f"{before}/{{{name}}}/{after}".rstrip("/")
    return prefix


def _from_path(scope: Mapping[str, Any]) -> str | None:
    """
    Make the template from the path, where a router notes only the handler and what its parameters matched.

    A path without parameters is its own template. In another each parameter's value is replaced by its name; a value
    that is not found (a converter has changed it) leaves no template, because the path may hold personal data.
    """
    endpoint: Any = scope.get("endpoint")
    while isinstance(endpoint, partial):
        endpoint = endpoint.func  # pyright: ignore
    # An object is no handler but an application that was mounted, and that noted nothing: static files, or a 404.
    if not _text(getattr(endpoint, "__qualname__", None)):  # pyright: ignore
        return None
    # Neither is a function of three arguments, which is a whole application; handlers have the request alone.
    if getattr(getattr(endpoint, "__code__", None), "co_argcount", 0) == ASGI_ARGUMENTS:  # pyright: ignore
        return None
    path, outer = scope.get("path"), scope.get("app_root_path") or ""
    if not isinstance(path, str) or not isinstance(outer, str):
        return None
    template, rest = "", path.removeprefix(outer)
    matched: dict[str, object] = scope.get("path_params") or {}
    for name, value in reversed(matched.items()):
        before, found, after = f"{rest}/".rpartition(f"/{value}/")
        if not found:
            return None
        template, rest = f"/{{{name}}}" + (f"/{after}".removesuffix("/") if after else "") + template, before
    return rest + template


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
