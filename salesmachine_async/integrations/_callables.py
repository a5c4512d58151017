"""The callables that an application gives an integration: `contact`, `account`, `anonymous_id`."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable
from types import CoroutineType
from typing import Any, cast

from salesmachine_async._core.simplify import name_of
from salesmachine_async._log import describe_exception
from salesmachine_async.integrations._agent_lifespan import guard_log

__all__ = ["Uid", "uid_from"]

Uid = str | int | None


def uid_from(what: str, function: Callable[[], Uid]) -> Uid:
    """Call the application's callable for a uid; None if it raises or returns no uid, which is logged."""
    try:
        uid = cast("object", function())
        # By its type: a proxy may claim the class of another object, or raise.
        cls: Any = type(uid)  # pyright: ignore[reportUnknownVariableType]
        if issubclass(cls, str):
            # Many a session has the empty text for an anonymous visitor.
            return str.__str__(cast("str", uid)) or None
        if uid is None or issubclass(cls, int):
            return cast("Uid", uid)
        if cls is CoroutineType:
            cast("CoroutineType[Any, Any, Any]", uid).close()  # or it would warn that it was never awaited
    except (Exception, CancelledError) as exc:  # noqa: BLE001 (the user's code; nothing is awaited here)
        guard_log(what, logging.ERROR, "the %s callable raised %s", what, describe_exception(exc), loud=True)
        return None
    kind = name_of(uid)
    guard_log(what, logging.ERROR, "the %s callable must return a str, an int or None, not %s", what, kind, loud=True)
    return None
