"""The callables that an application gives an integration: `contact`, `account`, `anonymous_id`."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable
from inspect import iscoroutine
from typing import cast

from salesmachine_async._log import describe_exception
from salesmachine_async.integrations._agent_lifespan import guard_log

__all__ = ["Uid", "uid_from"]

Uid = str | int | None


def uid_from(what: str, function: Callable[[], Uid]) -> Uid:
    """Call the application's callable for a uid; None if it raises or returns no uid, which is logged."""
    try:
        uid = cast("object", function())
    except (Exception, CancelledError) as exc:  # noqa: BLE001 (the user's code; nothing is awaited here)
        guard_log(what, logging.ERROR, "the %s callable raised %s", what, describe_exception(exc), loud=True)
        return None
    if uid is None or isinstance(uid, str | int):
        return None if uid == "" else uid  # many a session has that for an anonymous visitor
    if iscoroutine(uid):
        uid.close()  # or it would warn that it was never awaited
    kind = type(uid).__name__
    guard_log(what, logging.ERROR, "the %s callable must return a str, an int or None, not %s", what, kind, loud=True)
    return None
