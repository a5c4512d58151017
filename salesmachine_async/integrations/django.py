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
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from functools import partial
from time import perf_counter
from typing import Any, TypedDict, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from salesmachine_async._log import describe_exception
from salesmachine_async.integrations import _agent_lifespan
from salesmachine_async.integrations._agent_lifespan import guard_log
from salesmachine_async.integrations._anonymous import AnonymousCookie, AnonymousVisitors
from salesmachine_async.integrations._callables import Uid
from salesmachine_async.integrations._context import (
    RequestTracker,
    current_tracker,
    enter,
    entered,
    identify,
    leave,
    tracking,
)
from salesmachine_async.integrations._environment import AgentOptions, fallback_agent
from salesmachine_async.integrations._pageviews import METHODS, Pageviews
from salesmachine_async.integrations._request_body import RequestBody, content_length
from salesmachine_async.integrations.asgi import KEY
from salesmachine_async.policy import Invalid
from salesmachine_async.tracker import Calls

__all__ = [
    "AnonymousCookie",
    "DjangoOptions",
    "SalesmachineMiddleware",
    "current_tracker",
    "get_agent",
    "identify",
    "tracking",
]


class DjangoOptions(TypedDict, total=False):
    """
    The setting ``SALESMACHINE``.

    Attributes:
        agent: Where there is no ASGI wrapper: the agent that carries the messages. Default: one `ThreadedAgent` for the
            process, from the environment, with *on_invalid*, *params*, *enabled* and *debug* as of the wrapper.
        pageviews: Where there is no ASGI wrapper: whether every answered request of an identified contact is a
            pageview; *exclude*, *methods*, *client_ip* and *user_agent* are as of the wrapper.
        contact: Returns the contact's uid for a request; default: the primary key of ``request.user``.
        account: Returns the account's uid likewise.
        anonymous_id: Where there is no ASGI wrapper: the uid of visitors before they log in, and an alias of the
            contact from then on: an `AnonymousCookie`, or a callable that returns it for a request.
    """

    agent: Calls
    pageviews: bool
    exclude: Collection[str]
    methods: Collection[str]
    client_ip: bool
    user_agent: bool
    on_invalid: Invalid
    params: Mapping[str, Any]
    enabled: bool
    debug: bool
    contact: Callable[[HttpRequest], Uid]
    account: Callable[[HttpRequest], Uid]
    anonymous_id: AnonymousCookie | Callable[[HttpRequest], Uid]


class SalesmachineMiddleware:
    """
    Gives every request a tracker that knows ``request.user`` and the route. Put it behind the authentication.

    Raises:
        ConfigError: An entry of the setting is unusable: a single text as ``exclude``, a text as ``enabled``, say.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self._get_response = get_response
        # Not the function of `inspect`: before Python 3.12 it does not know asgiref's marks.
        self._is_async = iscoroutinefunction(get_response)  # pyright: ignore[reportDeprecated]
        if self._is_async:
            markcoroutinefunction(self)
        options = cast("DjangoOptions", getattr(settings, "SALESMACHINE", {}))
        self._agent = options.get("agent")
        self._agent_options = _agent_options(options)
        self._contact = options.get("contact", _user_of)
        self._account = options.get("account")
        self._anonymous = AnonymousVisitors.of(options.get("anonymous_id"))
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
        visit = _Visit(self._tracker(request), request, self._pageviews)
        try:
            return visit.answered(cast("HttpResponseBase", self._get_response(request)))
        except Exception:
            visit.status, visit.aborted = 500, False
            raise
        finally:
            # Here, where a database query is allowed; the wrapper ends the pageview where none is.
            visit.leave()

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        visit = _Visit(self._tracker(request), request, self._pageviews)
        try:
            response = await cast("Awaitable[HttpResponseBase]", self._get_response(request))
            if visit.tracker.expects_pageview and visit.tracker.contact_uid is None and self._contact is _user_of:
                user = await _loaded_user(request)
                if user is not None:
                    visit.tracker.identify(user, visit.tracker.account_uid)
            return visit.answered(response)
        except Exception:
            visit.status, visit.aborted = 500, False
            raise
        finally:
            visit.leave()

    def _tracker(self, request: HttpRequest) -> RequestTracker:
        contact = partial(self._contact, request)
        account = self._account and partial(self._account, request)
        scope: dict[str, Any] = getattr(request, "scope", {})
        tracker = scope.get(KEY)
        if isinstance(tracker, RequestTracker):
            tracker.set_defaults(contact, account)
            return tracker
        cookies = request.META.get("HTTP_COOKIE", "")
        visitor = self._anonymous and self._anonymous.visitor(request, cookies, https=request.is_secure())
        tracker = RequestTracker(self._agent or fallback_agent(self._agent_options), contact, account, visitor=visitor)
        tracker.expects_pageview = self._pageviews.wanted(request.method or "")
        return tracker


class _Visit:
    """One request on its way through the middleware, with its tracker as the current one."""

    __slots__ = (
        "_body",
        "_request",
        "_rules",
        "_started",
        "_streams",
        "_token",
        "_wrapped",
        "aborted",
        "status",
        "tracker",
    )

    def __init__(self, tracker: RequestTracker, request: HttpRequest, rules: Pageviews) -> None:
        self.tracker = tracker
        self.status: int | None = None
        self.aborted = True  # until there is an answer: a request whose visitor leaves is cancelled
        self._request = request
        self._rules = rules
        self._wrapped = KEY in getattr(request, "scope", ())
        self._started = perf_counter()
        self._streams = False
        self._token = enter(tracker)
        self._body: RequestBody | None = None
        # Where it is missing, Django has read the body already (ASGI), or the request is of a test.
        body = vars(request).get("_stream")
        if body is not None and tracker.expects_pageview and not self._wrapped:
            self._body = RequestBody(body, content_length(request.META))
            vars(request)["_stream"] = self._body

    def answered(self, response: HttpResponseBase) -> HttpResponseBase:
        """Note the answer. What streams is over with its last part, and has the tracker until then."""
        self.aborted = self._body is not None and self._body.is_broken_off
        self.status = None if self.aborted else response.status_code
        if self.tracker.visitor is not None and not self._wrapped:
            self._set_cookie(response)
        if isinstance(response, StreamingHttpResponse) and getattr(response, "file_to_stream", None) is None:
            content: Any = response.streaming_content
            self._streams = not self._wrapped
            # Django's stubs know the attribute as what it returns.
            response.streaming_content = self._streamed_async(content) if response.is_async else self._streamed(content)
        return response

    def leave(self) -> None:
        """End the middleware's part of the request, and the pageview with it unless the answer streams."""
        leave(self._token)
        if not self._streams:
            self._end()

    def _set_cookie(self, response: HttpResponseBase) -> None:
        """Add the cookie of an anonymous visitor."""
        is_page = self.tracker.expects_pageview and self._page() is not None
        cookie = self.tracker.set_cookie(is_page=is_page, cache_control=response.headers.get("Cache-Control", ""))
        if cookie is not None:
            response.cookies.load(cookie)

    def _page(self) -> str | None:
        """Return the template of the route, if a request to it counts; a request without a route is a scanner's."""
        match = self._request.resolver_match
        if match is None:
            return None
        route = f"/{match.route}"
        return None if self._rules.excludes(route, self._request.path) else route

    def _streamed(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        self.aborted = True
        try:
            yield from entered(self.tracker, parts)
            self.aborted = False
        finally:
            self._end_stream()

    async def _streamed_async(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.aborted = True
        token = enter(self.tracker)
        try:
            async for part in parts:
                yield part
            self.aborted = False
        finally:
            leave(token)
            self._end_stream()

    def _end_stream(self) -> None:
        if self._streams:
            self._end()

    def _end(self) -> None:
        """Pass the route and the contact to the wrapper, or track the pageview where there is no wrapper."""
        try:
            if self._wrapped:
                self._prepare()
            else:
                self.tracker.set_cookie(is_page=False)  # too late for one, if there was no answer
                self._track()
        except Exception as exc:  # noqa: BLE001 (the response comes first)
            guard_log("pageview", logging.ERROR, "an automatic pageview failed: %s", describe_exception(exc))

    def _prepare(self) -> None:
        """Leave what the wrapper needs for a pageview in the tracker."""
        match = self._request.resolver_match
        if match is not None and self.tracker.expects_pageview:
            self.tracker.route = f"/{match.route}"
            _ = self.tracker.contact_uid

    def _track(self) -> None:
        request, tracker, rules = self._request, self.tracker, self._rules
        route = self._page()
        if route is None or not tracker.expects_pageview or tracker.uid is None:
            return
        params = rules.params(
            route=route,
            method=request.method or "",
            status=self.status,
            seconds=perf_counter() - self._started,
            aborted=self.aborted,
            client_ip=request.META.get("REMOTE_ADDR"),
            user_agent=request.META.get("HTTP_USER_AGENT"),
        )
        tracker.pageview(params)


def get_agent(app: object = None) -> Calls:
    """
    Return the agent of the project, for what is not about a request: metrics, ``flush``, signals.

    Args:
        app: The application that the ASGI wrapper returned; None: the agent of the middleware alone.
    """
    if app is not None:
        return _agent_lifespan.get_agent(app)
    options = cast("DjangoOptions", getattr(settings, "SALESMACHINE", {}))
    return options.get("agent") or fallback_agent(_agent_options(options))


def _agent_options(options: DjangoOptions) -> AgentOptions:
    return AgentOptions(
        on_invalid=options.get("on_invalid", Invalid.REPORT),
        params=options.get("params"),
        enabled=options.get("enabled"),
        debug=options.get("debug"),
    )


def _user_of(request: HttpRequest) -> Uid:
    """Return the primary key of the logged-in user; on an event loop only of one that is loaded already."""
    if not _on_event_loop():
        return _uid_of(getattr(request, "user", None))
    return _uid_of(getattr(request, "_acached_user", None) or getattr(request, "_cached_user", None))


async def _loaded_user(request: HttpRequest) -> Uid:
    """Return the primary key of the logged-in user, loaded asynchronously."""
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
