"""The tracker of the current request, or of the current block outside of one."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar, Token
from datetime import datetime
from types import TracebackType
from typing import Any, Final, TypeVar

from salesmachine_async._log import describe_exception
from salesmachine_async.errors import AgentClosed
from salesmachine_async.integrations._agent_lifespan import AgentLifespan, guard_log
from salesmachine_async.integrations._anonymous import Visitor
from salesmachine_async.integrations._callables import Uid, uid_from
from salesmachine_async.integrations._environment import fallback_agent
from salesmachine_async.tracker import Calls, Tracker

__all__ = ["RequestTracker", "current_tracker", "enter", "entered", "identify", "leave", "tracking"]

T = TypeVar("T")

# Directives of answers that a cache may give to other visitors.
_SHARED: Final = frozenset({"public", "s-maxage"})

_current: Final[ContextVar[Tracker | None]] = ContextVar("salesmachine_tracker", default=None)


class RequestTracker(Tracker):
    """
    A request's tracker: one object that handlers, threads, streams and background tasks of the request share.

    It may outlive the application's lifespan (a stream that the server cuts off, say). Its calls then go to the agent
    of the process, and never raise because an agent is closed.

    Args:
        agent: The agent that carries the messages.
        contact: Called for the contact until it returns one or `identify` is called; None: only `identify` sets it.
        account: Called for the account, unless `identify` was called.
        lifespan: The holder of *agent*, where its life ends with the application.
        visitor: Has the uid of calls before a contact is identified; None: those are dropped.

    Attributes:
        route: The route's template, where an integration knows it better than the scope; else None.
        expects_pageview: Whether the request is to become a pageview, for which its contact must be known.
        visitor: The visitor as given.
    """

    __slots__ = ("_account", "_contact", "_lifespan", "expects_pageview", "route", "visitor")

    def __init__(
        self,
        agent: Calls,
        contact: Callable[[], Uid] | None,
        account: Callable[[], Uid] | None,
        lifespan: AgentLifespan | None = None,
        visitor: Visitor | None = None,
    ) -> None:
        super().__init__(agent)
        self._contact = contact
        self._account = account
        self._lifespan = lifespan
        self.visitor = visitor
        self.route: str | None = None
        self.expects_pageview = False

    def set_defaults(self, contact: Callable[[], Uid], account: Callable[[], Uid] | None) -> None:
        """Use these where the middleware was given no callables."""
        self._contact = self._contact or contact
        self._account = self._account or account

    @property
    def _carrier(self) -> Calls:
        """The agent that gets the next call; after the end of the lifespan the one of the process."""
        lifespan = self._lifespan
        return lifespan.agent if lifespan is not None and lifespan.has_ended(self._agent) else self._agent

    @property
    def contact_uid(self) -> str | int | None:
        """The contact that is tracked; None while none is identified."""
        if self._contact_uid is None and self._contact is not None:
            # Late and again: authentication runs deeper inside the application than the middleware.
            self._contact_uid = uid = uid_from("contact", self._contact)
            if uid is not None and self.visitor is not None:
                self.visitor.identified(self._carrier, uid)
        return self._contact_uid

    @property
    def anonymous_id(self) -> str | int | None:
        """The uid of calls while no contact is identified; None if there is none. Reading it sets the cookie."""
        return None if self.visitor is None else self.visitor.anonymous_id()

    @property
    def uid(self) -> str | int | None:
        """The uid of the next call: the contact's, or the visitor's anonymous one; None while there is neither."""
        uid = self.contact_uid
        return self.anonymous_id if uid is None else uid

    @property
    def account_uid(self) -> str | int | None:
        """The account that the messages are linked to, if any."""
        if self._account_uid is None and self._account is not None:
            self._account_uid = uid_from("account", self._account)
        return self._account_uid

    def identify(self, contact_uid: str | int | None, account_uid: str | int | None = None) -> None:
        """
        Set the contact, and the account, of this request. The callables are not called again.

        Args:
            contact_uid: The contact; None: none, and the anonymous id of the visitor is forgotten, as at a logout.
            account_uid: The account.
        """
        self._contact = self._account = None
        super().identify(contact_uid, account_uid)
        if self.visitor is not None:
            self.visitor.identified(self._carrier, contact_uid)

    def set_cookie(self, *, is_page: bool, cache_control: str = "") -> str | None:
        """
        Return the ``Set-Cookie`` header of the answer that begins now; None if it needs none. Never raises.

        Args:
            is_page: Whether the request will be a pageview if there is a contact or a visitor.
            cache_control: The answer's ``Cache-Control``.
        """
        if self.visitor is None:
            return None
        try:
            if is_page:
                _ = self.contact_uid
            is_shared = not _SHARED.isdisjoint(re.split("[ ,=]+", cache_control.lower()))
            return self.visitor.answer(is_page=is_page, is_shared=is_shared)
        except Exception as exc:  # noqa: BLE001 (the response comes first)
            guard_log("cookie", logging.ERROR, "the cookie of a visitor failed: %s", describe_exception(exc))
            return None

    def contact(
        self,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Create or update the contact; see `Tracker.contact`. Returns False also when the agent is closed."""
        try:
            return super().contact(params, created_at=created_at, message_id=message_id)
        except AgentClosed:
            return _closed()

    def track(
        self,
        event_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Record something the contact did; see `Tracker.track`. Returns False also when the agent is closed."""
        try:
            return super().track(event_uid, params, created_at=created_at, message_id=message_id)
        except AgentClosed:
            return _closed()

    def pageview(
        self,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Record a pageview; see `Tracker.pageview`. Returns False also when the agent is closed."""
        try:
            return super().pageview(params, created_at=created_at, message_id=message_id)
        except AgentClosed:
            return _closed()


class _NoTracker(Tracker):
    """The tracker outside of a request: it drops everything, and logs that."""

    __slots__ = ()

    def __init__(self) -> None:
        self._contact_uid = self._account_uid = None

    @property
    def agent(self) -> Calls:
        """The agent of the process."""
        return fallback_agent()

    def identify(
        self,
        contact_uid: str | int | None,  # noqa: ARG002
        account_uid: str | int | None = None,  # noqa: ARG002
    ) -> None:
        """Drop the contact: it would stay identified for whatever comes next."""
        _outside("identify()")

    def contact(self, *_: Any, **__: Any) -> bool:
        """Drop the call."""
        return _outside("a contact")

    def track(self, *_: Any, **__: Any) -> bool:
        """Drop the call."""
        return _outside("an event")

    def pageview(self, *_: Any, **__: Any) -> bool:
        """Drop the call."""
        return _outside("a pageview")


class tracking(AbstractContextManager[Tracker]):  # noqa: N801 (used as a function, like contextlib.suppress)
    """
    Make a tracker the current one, outside of a request: in a cron job, a management command, a worker's task.

    ::

        with tracking("123456", "78910") as tracker:
            ship(order)  # may call current_tracker().track(...)

    Each thread and each asyncio task that starts inside the block has the same tracker, if it copies the context, as
    tasks and `asyncio.to_thread` do.

    Args:
        contact_uid: The contact that the calls are about; None while unknown.
        account_uid: Sent as ``params["account_uid"]`` of every message.
        agent: The agent that carries the messages; default: the one of the process, from the environment.
    """

    def __init__(
        self, contact_uid: str | int | None, account_uid: str | int | None = None, *, agent: Calls | None = None
    ) -> None:
        self._tracker = RequestTracker(fallback_agent() if agent is None else agent, None, None)
        self._tracker.identify(contact_uid, account_uid)
        self._tokens: list[Token[Tracker | None]] = []

    def __enter__(self) -> Tracker:
        self._tokens.append(enter(self._tracker))
        return self._tracker

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        leave(self._tokens.pop())


def identify(contact_uid: str | int | None, account_uid: str | int | None = None) -> None:
    """
    Set the contact of the current request: its tracker, and its automatic pageview, are about that contact.

    May be called anywhere in the request: ``def`` handlers, streams, background tasks. Outside of one it does nothing,
    which is logged.
    """
    current_tracker().identify(contact_uid, account_uid)


def current_tracker() -> Tracker:
    """
    Return the tracker of the current request, or of the current `tracking` block.

    Never raises: outside of both it returns a tracker that drops everything, which is logged.
    """
    tracker = _current.get()
    return _NoTracker() if tracker is None else tracker


def enter(tracker: Tracker) -> Token[Tracker | None]:
    """Make *tracker* the current one."""
    return _current.set(tracker)


def leave(token: Token[Tracker | None]) -> None:
    """Undo `enter`."""
    # A coroutine thrown away is closed in a context that is not its own; there is nothing to undo there.
    with suppress(ValueError):
        _current.reset(token)


def entered(tracker: Tracker, parts: Iterator[T]) -> Iterator[T]:
    """Yield *parts*, which a WSGI server asks for after the request, with *tracker* as the current one."""
    while True:
        token = enter(tracker)
        try:
            part = next(parts)
        except StopIteration:
            return
        finally:
            leave(token)
        yield part


def _closed() -> bool:
    guard_log("closed", logging.WARNING, "a message was dropped: the agent of the application is closed", loud=True)
    return False


def _outside(what: str) -> bool:
    line = "%s was dropped outside of a request: add the middleware, or use `with tracking(contact_uid):`"
    guard_log("outside", logging.WARNING, line, what, loud=True)
    return False
