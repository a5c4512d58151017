"""
The template of the route that answered, read from the scope after routing.

Nothing is matched a second time and no list of routes is walked: what stands in such lists changes between releases
(FastAPI 0.137 put nodes without a path there, and every tool that walked it broke); what a router notes in the scope
is what it has just used.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

__all__ = ["route_template"]


def route_template(scope: Mapping[str, Any]) -> str | None:
    """Return the template, with the prefix of mounts: ``/shop/orders/{order_id}``; None when no route has matched."""
    template = scope.get("path_template")  # Litestar
    if isinstance(template, str):
        return template or None
    template = _of_fastapi(scope) or _of_route(scope.get("route"))
    if template is None:
        return _name_of(scope.get("endpoint"))
    return _mounted_at(scope, template) + template


def _of_fastapi(scope: Mapping[str, Any]) -> str | None:
    """From 0.137 on, the route of an included router knows only its own part; the whole stands beside it."""
    notes: Any = scope.get("fastapi")
    context: Any = notes.get("effective_route_context") if hasattr(notes, "get") else None
    return _text(getattr(context, "path_format", None)) or _of_route(getattr(context, "starlette_route", None))


def _of_route(route: Any) -> str | None:
    """Starlette notes the route since 1.7, FastAPI since long before."""
    if type(route).__name__ in ("Mount", "Host"):
        return None  # an application behind it answered, which noted nothing
    return _text(getattr(route, "path_format", None)) or _text(getattr(route, "path", None))


def _mounted_at(scope: Mapping[str, Any], template: str) -> str:
    """What mounts have added to the root path, as a template. What a proxy in front stripped off is no part of it."""
    root, outer = scope.get("root_path"), scope.get("app_root_path")  # the latter is noted by mounts
    if not (isinstance(root, str) and isinstance(outer, str) and root.startswith(outer)):
        return ""
    prefix = root[len(outer) :]
    # The root path holds what the parameters of a mount matched: put their names in its place.
    names = [name for name in scope.get("path_params", ()) if f"{{{name}}}" not in template]
    for name in names:
        before, found, after = f"{prefix}/".rpartition(f"/{scope['path_params'][name]}/")
        if not found:
            # Converted beyond recognition. Better a prefix too short than somebody's data in it.
            return "".join(f"/{{{each}}}" for each in names)
        prefix = f"{before}/{{{name}}}/{after}".rstrip("/")
    return prefix


def _name_of(endpoint: Any) -> str | None:
    """Return the handler's name, for routers that note nothing else. Better than the path, which may hold anything."""
    while isinstance(endpoint, partial):
        endpoint = endpoint.func  # pyright: ignore
    # An object is no handler but an application that was mounted, and that noted nothing: static files, or a 404.
    name = _text(getattr(endpoint, "__qualname__", None))  # pyright: ignore
    return name and f"{endpoint.__module__}.{name}"  # pyright: ignore


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
