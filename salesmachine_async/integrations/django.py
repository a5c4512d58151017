"""
Django.

::

    MIDDLEWARE = [
        ...,
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "salesmachine_async.integrations.django.SalesmachineMiddleware",
    ]
    SALESMACHINE = {"pageviews": True, "exclude": ["/admin/*"]}

Under ASGI, wrap the application as well, so that the agent lives on its event loop and ends with the server::

    application = salesmachine_async.integrations.asgi.SalesmachineMiddleware(get_asgi_application(), pageviews=True)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from time import perf_counter
from typing import Any, TypedDict, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from salesmachine_async._log import describe_exception
from salesmachine_async.integrations._context import RequestTracker, Uid, current_tracker, enter, identify, leave
from salesmachine_async.integrations._environment import fallback_agent
from salesmachine_async.integrations._life import guard_log
from salesmachine_async.integrations._pageviews import METHODS, Pageviews
from salesmachine_async.integrations.asgi import KEY
from salesmachine_async.tracker import Calls

__all__ = ["Options", "SalesmachineMiddleware", "current_tracker", "identify"]


class Options(TypedDict, total=False):
    """
    The setting ``SALESMACHINE``.

    Attributes:
        agent: Where there is no ASGI wrapper: what carries the messages. Default: one `ThreadedAgent` for the process,
            from the environment.
        pageviews: Where there is no ASGI wrapper: whether every answered request of an identified contact is a
            pageview; *exclude*, *methods*, *client_ip* and *user_agent* are as of the wrapper.
        contact: Tells from the request who it is; default: the primary key of ``request.user``.
        account: Tells the account likewise.
    """

    agent: Calls
    pageviews: bool
    exclude: Collection[str]
    methods: Collection[str]
    client_ip: bool
    user_agent: bool
    contact: Callable[[HttpRequest], Uid]
    account: Callable[[HttpRequest], Uid]


class SalesmachineMiddleware:
    """
    Gives every request a tracker that knows ``request.user`` and the route. Put it behind the authentication.

    Raises:
        ConfigError: ``exclude`` or ``methods`` in the setting is a single text.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self._get_response = get_response
        # Not the function of `inspect`: before Python 3.12 it does not know asgiref's marks.
        self._is_async = iscoroutinefunction(get_response)  # pyright: ignore[reportDeprecated]
        if self._is_async:
            markcoroutinefunction(self)
        options = cast("Options", getattr(settings, "SALESMACHINE", {}))
        self._agent = options.get("agent")
        self._contact = options.get("contact", _user_of)
        self._account = options.get("account")
        self._pageviews = Pageviews.of(
            enabled=options.get("pageviews", False),
            exclude=options.get("exclude", ()),
            methods=options.get("methods", METHODS),
            client_ip=options.get("client_ip", False),
            user_agent=options.get("user_agent", False),
        )

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Pass a request on."""
        return self._answer_async(request) if self._is_async else self._answer(request)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        visit = _Visit(self._tracker(request), request)
        try:
            response = cast("HttpResponseBase", self._get_response(request))
            visit.status = response.status_code
            return response
        finally:
            # Asked here, where a database may be asked; the wrapper ends the pageview where it must not be.
            visit.end(self._pageviews)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        visit = _Visit(self._tracker(request), request)
        try:
            response = await cast("Awaitable[HttpResponseBase]", self._get_response(request))
            visit.status = response.status_code
            if visit.tracker.expects_pageview and visit.tracker.contact_uid is None and self._contact is _user_of:
                visit.tracker.identify(await _loaded_user(request), visit.tracker.account_uid)
            return response
        finally:
            visit.end(self._pageviews)

    def _tracker(self, request: HttpRequest) -> RequestTracker:
        contact = partial(self._contact, request)
        account = self._account and partial(self._account, request)
        scope: dict[str, Any] = getattr(request, "scope", {})
        tracker = scope.get(KEY)
        if isinstance(tracker, RequestTracker):
            tracker.ask_by_default(contact, account)
            return tracker
        tracker = RequestTracker(self._agent or fallback_agent(), contact, account)
        tracker.expects_pageview = self._pageviews.wanted(request.method or "")
        return tracker


class _Visit:
    """One request on its way through the middleware; its tracker is the current one meanwhile."""

    __slots__ = ("_request", "_started", "_token", "_wrapped", "status", "tracker")

    def __init__(self, tracker: RequestTracker, request: HttpRequest) -> None:
        self.tracker = tracker
        self.status = 500
        self._request = request
        self._wrapped = KEY in getattr(request, "scope", ())
        self._started = perf_counter()
        self._token = enter(tracker)

    def end(self, rules: Pageviews) -> None:
        """Tell the wrapper the route and the contact, or without one track the pageview."""
        leave(self._token)
        try:
            self._end(rules)
        except Exception as exc:  # noqa: BLE001 (the response comes first)
            guard_log("pageview", logging.ERROR, "an automatic pageview failed: %s", describe_exception(exc))

    def _end(self, rules: Pageviews) -> None:
        request, tracker = self._request, self.tracker
        match = request.resolver_match
        # Without a route nobody visited anything; it was a scanner.
        if match is None or not tracker.expects_pageview:
            return
        tracker.route = route = f"/{match.route}"
        if tracker.contact_uid is None or self._wrapped or rules.excludes(route, request.path):
            return
        params = rules.params(
            route=route,
            method=request.method or "",
            status=self.status,
            seconds=perf_counter() - self._started,
            aborted=False,
            client_ip=request.META.get("REMOTE_ADDR"),
            user_agent=request.META.get("HTTP_USER_AGENT"),
        )
        tracker.pageview(params)


def _user_of(request: HttpRequest) -> Uid:
    """Return the primary key of who is logged in; on an event loop only of a user that is loaded already."""
    if not _on_event_loop():
        return _uid_of(getattr(request, "user", None))
    return _uid_of(getattr(request, "_acached_user", None) or getattr(request, "_cached_user", None))


async def _loaded_user(request: HttpRequest) -> Uid:
    """Return the primary key of who is logged in, loaded the asynchronous way."""
    load = getattr(request, "auser", None)  # not without AuthenticationMiddleware
    try:
        return None if load is None else _uid_of(await load())
    except Exception as exc:  # noqa: BLE001 (the response comes first)
        guard_log("user", logging.ERROR, "request.auser() raised %s", describe_exception(exc))
        return None


def _uid_of(user: Any) -> Uid:
    if user is None or not user.is_authenticated:
        return None
    return user.pk if isinstance(user.pk, int) else str(user.pk)


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
