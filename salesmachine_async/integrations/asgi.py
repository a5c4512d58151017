"""
Middleware for any ASGI application: FastAPI, Starlette, Litestar, Django, Quart, or none of them.

::

    from salesmachine_async.integrations.asgi import SalesmachineMiddleware, current_tracker, identify

    app.add_middleware(SalesmachineMiddleware)  # or: app = SalesmachineMiddleware(app)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any, Final

from salesmachine_async._log import describe_exception
from salesmachine_async.agent import Agent
from salesmachine_async.integrations._agent_lifespan import AgentLifespan, get_agent, guard_log, register
from salesmachine_async.integrations._anonymous import AnonymousCookie, AnonymousId, AnonymousVisitors
from salesmachine_async.integrations._callables import Uid
from salesmachine_async.integrations._context import (
    RequestTracker,
    current_tracker,
    enter,
    identify,
    leave,
    tracking,
)
from salesmachine_async.integrations._environment import AgentOptions
from salesmachine_async.integrations._lifespan import ASGIApp, Message, Receive, Scope, Send, run_lifespan
from salesmachine_async.integrations._pageviews import METHODS, Pageviews
from salesmachine_async.integrations._route import route_template
from salesmachine_async.policy import Invalid

__all__ = ["AnonymousCookie", "SalesmachineMiddleware", "current_tracker", "get_agent", "identify", "tracking"]

# In the scope: the request's tracker. An inner middleware that finds it leaves the request to the outer one.
KEY: Final = "salesmachine"
# Messages that begin an answer and have its headers.
FIRST: Final = ("http.response.start", "websocket.accept", "websocket.http.response.start")
# Messages that end an answer, unless `more_body` is true.
LAST: Final = ("http.response.body", "http.response.pathsend", "http.response.zerocopysend")


class SalesmachineMiddleware:
    """
    Gives every request a tracker, and the application an agent.

    Messages pass at once and unchanged (but for the cookie of *anonymous_id*), and so do exceptions; no failure of the
    middleware reaches the application.

    Args:
        app: The application.
        agent: A given agent is started, flushed at the application's end, never closed. None: one of its own, from the
            environment, which starts and ends with the application; where no lifespan runs, and after its end, one
            `ThreadedAgent` for the process, which starts with its first message and ends with the interpreter.
        pageviews: Whether every answered request of an identified contact is a pageview.
        contact: Returns the contact's uid for a scope, for requests in which `identify` is not called. Called late, so
            that it sees what the application's own middleware has put there.
        account: Returns the account's uid likewise.
        anonymous_id: The uid of visitors before `identify`, and an alias of the contact from then on: an
            `AnonymousCookie`, or a callable that returns it like *contact*. None: they are not tracked.
        exclude: Routes or paths that are no pageviews, where ``*`` is anything: ``("/health", "/static/*")``.
        methods: The HTTP methods that are pageviews.
        client_ip: Whether pageviews carry the client's address (as ``visit_ip``).
        user_agent: Whether pageviews carry its User-Agent (as ``visit_agent``).
        on_invalid: Policy of the agent made here for arguments that cannot be sent. By default calls report
            them and never raise, because what a visitor types in must not become an error of the request.
        params: Sent with every message of the agent made here.
        enabled: Whether the agent made here sends anything; None: as ``SALESMACHINE_ENABLED`` says.
        debug: Whether the agent made here logs messages and answers; None: as ``SALESMACHINE_DEBUG`` says.

    Raises:
        ConfigError: An argument is unusable: a single text as *exclude*, a text as *enabled*, say.
    """

    def __init__(
        self,
        app: ASGIApp,
        agent: Agent | AgentLifespan | None = None,
        *,
        pageviews: bool = False,
        contact: Callable[[Any], Uid] | None = None,
        account: Callable[[Any], Uid] | None = None,
        anonymous_id: AnonymousId | AnonymousVisitors | None = None,
        exclude: Collection[str] = (),
        methods: Collection[str] = METHODS,
        client_ip: bool = False,
        user_agent: bool = False,
        on_invalid: Invalid = Invalid.REPORT,
        params: Mapping[str, Any] | None = None,
        enabled: bool | None = None,
        debug: bool | None = None,
    ) -> None:
        self.app = app
        options = AgentOptions(on_invalid=on_invalid, params=params, enabled=enabled, debug=debug)
        self._lifespan = agent if isinstance(agent, AgentLifespan) else AgentLifespan(agent, options)
        register(self, self._lifespan)
        register(app, self._lifespan)
        self._framework: object = None
        self._contact = contact
        self._account = account
        self._anonymous = AnonymousVisitors.of(anonymous_id)
        self._pageviews = Pageviews.of(
            enabled=pageviews, exclude=exclude, methods=methods, client_ip=client_ip, user_agent=user_agent
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on."""
        kind = scope["type"]
        if KEY in scope or kind not in ("http", "websocket", "lifespan"):
            await self.app(scope, receive, send)
        elif kind == "lifespan":
            scope[KEY] = self._lifespan
            self._register_framework(scope)
            await run_lifespan(self.app, self._lifespan, scope, receive, send)
        else:
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        agent = await self._lifespan.serve()
        self._register_framework(scope)
        tracker = RequestTracker(
            agent,
            self._contact and partial(self._contact, scope),
            self._account and partial(self._account, scope),
            self._lifespan,
            self._anonymous
            and self._anonymous.visitor(scope, _cookies(scope), https=scope.get("scheme") in ("https", "wss")),
        )
        if self._anonymous is not None:
            send = _CookieSetter(self._pageviews, tracker, scope, send).send
        # Not in a copy: routers write what they found into this very scope, where outer middleware reads it, too.
        scope[KEY] = tracker
        token = enter(tracker)
        try:
            if scope["type"] == "http" and self._pageviews.wanted(scope.get("method", "")):
                tracker.expects_pageview = True
                visit = _Visit(self._pageviews, tracker, scope, receive, send)
                await visit.run(self.app)
            else:
                await self.app(scope, receive, send)
        finally:
            leave(token)
            # The tracker refers to the scope: together they would wait for the garbage collector.
            scope.pop(KEY, None)

    def _register_framework(self, scope: Scope) -> None:
        """Let `get_agent` find the agent by the framework's own application object, which the framework puts there."""
        app = scope.get("app")
        if app is not self._framework:
            self._framework = app
            register(app, self._lifespan)


class _Visit:
    """One request that is to become a pageview."""

    __slots__ = (
        "_failed",
        "_fetch",
        "_forward",
        "_gone",
        "_over",
        "_pageviews",
        "_scope",
        "_started",
        "_status",
        "_tracker",
    )

    def __init__(
        self, pageviews: Pageviews, tracker: RequestTracker, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._pageviews = pageviews
        self._tracker = tracker
        self._scope = scope
        self._fetch = receive
        self._forward = send
        self._started = perf_counter()
        self._status: int | None = None
        self._failed = False
        self._gone = False
        self._over = False

    async def run(self, app: ASGIApp) -> None:
        """Run the application."""
        try:
            await app(self._scope, self._receive, self._send)
        except Exception:
            # When the visitor has left, that is the reason: frameworks raise for it (ClientDisconnect, say).
            self._failed = not self._gone
            raise
        else:
            # Without an answer: the server makes it an error.
            self._failed = self._status is None and not self._gone
        finally:
            # Else it was over with the last piece of the answer, which background tasks may outlive.
            if not self._over:
                self._end(aborted=not self._failed or self._status is not None)

    async def _receive(self) -> Message:
        message = await self._fetch()
        with suppress(Exception):
            self._gone = self._gone or message["type"] == "http.disconnect"
        return message

    async def _send(self, message: Message) -> None:
        try:
            await self._forward(message)
        except OSError:  # how servers say that the connection is closed
            self._gone = True
            raise
        with suppress(Exception):  # a message that breaks the protocol is for the server to judge
            if message["type"] == "http.response.start":
                if not self._gone:  # else it is not received: frameworks answer 500 or 400 to a broken-off upload
                    self._status = int(message["status"])
            elif message["type"] in LAST and not message.get("more_body") and not self._over:
                self._end(aborted=self._gone)  # some middleware ends a broken-off answer as if it were whole

    def _end(self, *, aborted: bool) -> None:
        """Track the pageview, if the request is one. Failures are logged."""
        self._over = True
        self._tracker.set_cookie(is_page=False)  # too late for one, if the answer has not begun
        seconds = perf_counter() - self._started
        try:
            self._track(seconds, aborted=aborted)
        except Exception as exc:  # noqa: BLE001 (the response comes first)
            guard_log("pageview", logging.ERROR, "an automatic pageview failed: %s", describe_exception(exc))

    def _track(self, seconds: float, *, aborted: bool) -> None:
        scope, tracker, rules = self._scope, self._tracker, self._pageviews
        route = _page(rules, tracker, scope)
        if route is None or tracker.uid is None:
            return
        status = 500 if self._failed and self._status is None else self._status
        params = rules.params(
            route=route,
            method=scope["method"],
            status=status,
            seconds=seconds,
            aborted=aborted,
            client_ip=_client_ip(scope),
            user_agent=_user_agent(scope) if rules.user_agent else None,
        )
        tracker.pageview(params)


class _CookieSetter:
    """Adds the cookie of an anonymous visitor to the beginning of the answer."""

    __slots__ = ("_forward", "_rules", "_scope", "_tracker")

    def __init__(self, rules: Pageviews, tracker: RequestTracker, scope: Scope, send: Send) -> None:
        self._rules = rules
        self._tracker = tracker
        self._scope = scope
        self._forward = send

    async def send(self, message: Message) -> None:
        """Send a message of the application."""
        await self._forward(self._with_cookie(message) if message.get("type") in FIRST else message)

    def _with_cookie(self, message: Message) -> Message:
        tracker = self._tracker
        try:
            headers = [*message.get("headers", ())]
            cache_control = _header(headers, b"cache-control")
            is_page = tracker.expects_pageview and _page(self._rules, tracker, self._scope) is not None
            cookie = tracker.set_cookie(is_page=is_page, cache_control=cache_control)
            return message if cookie is None else {**message, "headers": [*headers, (b"set-cookie", cookie.encode())]}
        except Exception as exc:  # noqa: BLE001 (a message that breaks the protocol is for the server to judge)
            guard_log("cookie", logging.ERROR, "the cookie of a visitor failed: %s", describe_exception(exc))
            return message


def _page(rules: Pageviews, tracker: RequestTracker, scope: Scope) -> str | None:
    """Return the template of the route, if a request to it counts; a request without a route is a scanner's."""
    route = tracker.route or route_template(scope)
    return None if route is None or rules.excludes(route, scope.get("path", "")) else route


def _cookies(scope: Scope) -> str:
    """Return the ``Cookie`` header; HTTP/2 may split it into several."""
    return _header(scope.get("headers", ()), b"cookie", "; ")


def _header(headers: Any, wanted: bytes, separator: str = ", ") -> str:
    """Return a header; the empty text where it is absent or cannot be read."""
    with suppress(Exception):
        return separator.join(
            bytes(value).decode("latin-1") for name, value in headers if bytes(name).lower() == wanted
        )
    return ""


def _client_ip(scope: Scope) -> str | None:
    """Return the peer's address, which servers have put right for the proxies they trust; none on a unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else None


def _user_agent(scope: Scope) -> str | None:
    for name, value in scope.get("headers", ()):
        if name == b"user-agent":
            return bytes(value).decode("latin-1")
    return None
