"""The tracker of the current request."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from inspect import iscoroutine
from typing import Final, cast

from salesmachine_async._log import describe_exception
from salesmachine_async.integrations._life import guard_log
from salesmachine_async.tracker import Calls, Tracker

__all__ = ["RequestTracker", "Uid", "current_tracker", "enter", "identify", "leave"]

Uid = str | int | None

_current: Final[ContextVar[Tracker | None]] = ContextVar("salesmachine_tracker", default=None)


class RequestTracker(Tracker):
    """
    A request's tracker: one object that handlers, threads, streams and background tasks of the request share.

    Args:
        agent: What carries the messages.
        contact: Asked who it is until it knows, or `identify` has told; None: nobody is asked.
        account: Asked to which account the contact belongs, as long as `identify` has not told.

    Attributes:
        route: The route's template, where an integration knows it better than the scope; else None.
        expects_pageview: Whether the request is to become a pageview, for which its contact must be known.
    """

    __slots__ = ("_account", "_contact", "expects_pageview", "route")

    def __init__(self, agent: Calls, contact: Callable[[], Uid] | None, account: Callable[[], Uid] | None) -> None:
        super().__init__(agent)
        self._contact = contact
        self._account = account
        self.route: str | None = None
        self.expects_pageview = False

    def ask_by_default(self, contact: Callable[[], Uid], account: Callable[[], Uid] | None) -> None:
        """Take these where the middleware was given no callables."""
        self._contact = self._contact or contact
        self._account = self._account or account

    @property
    def contact_uid(self) -> str | int | None:
        """Who is tracked; None while nobody is identified."""
        if self._contact_uid is None and self._contact is not None:
            # Asked late and again: authentication runs deeper inside the application than the middleware.
            self._contact_uid = _asked("contact", self._contact)
        return self._contact_uid

    @property
    def account_uid(self) -> str | int | None:
        """To which account the messages are linked; None: to none."""
        if self._account_uid is None and self._account is not None:
            self._account_uid = _asked("account", self._account)
        return self._account_uid

    def identify(self, contact_uid: str | int | None, account_uid: str | int | None = None) -> None:
        """Say who is tracked from now on in this request; None: nobody. Nobody else is asked any more."""
        self._contact = self._account = None
        super().identify(contact_uid, account_uid)


def identify(contact_uid: str | int | None, account_uid: str | int | None = None) -> None:
    """
    Say who makes the current request: whom its tracker, and its automatic pageview, are about.

    May be called anywhere in the request: ``def`` handlers, streams, background tasks. Outside of one it does nothing,
    and a log line says so.
    """
    tracker = _current.get()
    if tracker is None:
        guard_log("identify", logging.WARNING, "identify() was called outside of a request with the middleware")
    else:
        tracker.identify(contact_uid, account_uid)


def current_tracker() -> Tracker:
    """
    Return the tracker of the current request.

    Raises:
        LookupError: There is no request, or its application lacks the middleware.
    """
    tracker = _current.get()
    if tracker is None:
        raise LookupError("no request is being tracked: add SalesmachineMiddleware to the application")
    return tracker


def enter(tracker: Tracker) -> Token[Tracker | None]:
    """Make *tracker* the current one."""
    return _current.set(tracker)


def leave(token: Token[Tracker | None]) -> None:
    """Undo `enter`."""
    # A coroutine thrown away is closed in a context that is not its own; there is nothing to undo there.
    with suppress(ValueError):
        _current.reset(token)


def _asked(what: str, ask: Callable[[], Uid]) -> Uid:
    try:
        uid = cast("object", ask())
    except (Exception, CancelledError) as exc:  # noqa: BLE001 (the user's code; nothing is awaited here)
        guard_log(what, logging.ERROR, "the %s callable raised %s", what, describe_exception(exc), loud=True)
        return None
    if uid is None or isinstance(uid, str | int):
        return None if uid == "" else uid  # many a session has that for nobody
    if iscoroutine(uid):
        uid.close()  # or it would warn that nobody awaited it
    kind = type(uid).__name__
    guard_log(what, logging.ERROR, "the %s callable must return a str, an int or None, not %s", what, kind, loud=True)
    return None
