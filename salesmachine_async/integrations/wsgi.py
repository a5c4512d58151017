"""
Middleware for any WSGI application: Flask, Bottle, Pyramid, Django, or none of them.

::

    from salesmachine_async.integrations.wsgi import SalesmachineMiddleware, current_tracker, identify

    application = SalesmachineMiddleware(application)
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from time import perf_counter
from typing import Any, Final

from salesmachine_async._log import describe_exception
from salesmachine_async.integrations._agent_lifespan import guard_log
from salesmachine_async.integrations._anonymous import AnonymousCookie, AnonymousId, AnonymousVisitors
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
from salesmachine_async.policy import Invalid
from salesmachine_async.tracker import Calls

__all__ = ["AnonymousCookie", "SalesmachineMiddleware", "current_tracker", "get_agent", "identify", "tracking"]

# In the environ: the request's tracker. An inner middleware that finds it leaves the request to the outer one.
KEY: Final = "salesmachine"
# Bytes: an answer up to this length is in the hands of the system with its last part, and nothing shows who reads it.
SMALL: Final = 64 * 1024

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]


class SalesmachineMiddleware:
    """
    Gives every request a tracker, and the application an agent.

    WSGI knows no routes. A request is a pageview only where a framework's integration, or *route*, knows its template.

    Args:
        app: The application.
        agent: The agent that carries the messages; its owner closes it. None: one `ThreadedAgent` for the process, from
            the environment, which starts with its first message and ends with the interpreter.
        pageviews: Whether every answered request of an identified contact is a pageview.
        contact: Returns the contact's uid for an environ, for requests in which `identify` is not called. Called late,
            so that it sees what the application's own middleware has put there.
        account: Returns the account's uid likewise.
        anonymous_id: The uid of visitors before `identify`, and an alias of the contact from then on: an
            `AnonymousCookie`, or a callable that returns it like *contact*. None: they are not tracked.
        route: Returns the route's template for an environ, such as ``/orders/<int:order_id>``; None: no pageview.
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
        app: WSGIApp,
        agent: Calls | None = None,
        *,
        pageviews: bool = False,
        contact: Callable[[Any], Uid] | None = None,
        account: Callable[[Any], Uid] | None = None,
        anonymous_id: AnonymousId | None = None,
        route: Callable[[Any], str | None] | None = None,
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
        self._agent = agent
        self._options = AgentOptions(on_invalid=on_invalid, params=params, enabled=enabled, debug=debug)
        self._contact = contact
        self._account = account
        self._anonymous = AnonymousVisitors.of(anonymous_id)
        self._route = route
        self._pageviews = Pageviews.of(
            enabled=pageviews, exclude=exclude, methods=methods, client_ip=client_ip, user_agent=user_agent
        )

    @property
    def agent(self) -> Calls:
        """The agent that carries the messages."""
        return self._agent or fallback_agent(self._options)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on."""
        if KEY in environ:
            return self.app(environ, start_response)
        tracker = RequestTracker(
            self.agent,
            self._contact and partial(self._contact, environ),
            self._account and partial(self._account, environ),
            visitor=self._anonymous
            and self._anonymous.visitor(
                environ, environ.get("HTTP_COOKIE", ""), https=environ.get("wsgi.url_scheme") == "https"
            ),
        )
        environ[KEY] = tracker
        tracker.expects_pageview = self._pageviews.wanted(environ.get("REQUEST_METHOD"))
        visit = _Visit(self._pageviews, self._route, tracker, environ, start_response)
        return visit.run(self.app)


def get_agent(app: object) -> Calls:
    """
    Return the agent of a wrapped application, for what is not about a request: metrics, ``flush``, signals.

    Raises:
        LookupError: *app* is no `SalesmachineMiddleware`.
    """
    if not isinstance(app, SalesmachineMiddleware):
        raise LookupError("no agent for this application: pass the SalesmachineMiddleware")
    return app.agent


class _Visit:
    """One request, over with the last part of its answer, or when the server closes the answer."""

    __slots__ = ("_body", "_environ", "_forward", "_route", "_rules", "_started", "_status", "_tracker", "length")

    def __init__(
        self,
        rules: Pageviews,
        route: Callable[[Any], str | None] | None,
        tracker: RequestTracker,
        environ: Environ,
        start_response: StartResponse,
    ) -> None:
        self._rules = rules
        self._route = route
        self._tracker = tracker
        self._environ = environ
        self._forward = start_response
        self._started = perf_counter()
        self._status: int | None = None
        # Bytes of the answer, where its headers say so.
        self.length: int | None = None
        self._body: RequestBody | None = None
        body = environ.get("wsgi.input")
        if body is not None and tracker.expects_pageview:
            environ["wsgi.input"] = self._body = RequestBody(body, content_length(environ))

    def run(self, app: WSGIApp) -> Iterable[bytes]:
        """Run the application; its answer has the tracker while it is made."""
        token = enter(self._tracker)
        try:
            parts = app(self._environ, self._start)
        except Exception:
            self.end(aborted=self._gone, failed=not self._gone)
            raise
        finally:
            leave(token)
        return _Answer(parts, self._tracker, self)

    @property
    def _gone(self) -> bool:
        """Whether the visitor has left in the middle of the upload."""
        return self._body is not None and self._body.is_broken_off

    def _start(self, status: str, headers: Any, *exc_info: Any) -> Any:
        try:
            self._status = int(status[:3])
        except (TypeError, ValueError):  # for the server to judge
            self._status = None
        self.length = _length(headers)
        return self._forward(status, self._with_cookie(headers), *exc_info)

    def _with_cookie(self, headers: Any) -> Any:
        """Add the cookie of an anonymous visitor; headers that break the protocol are for the server to judge."""
        if self._tracker.visitor is None:
            return headers
        try:
            cache_control = ",".join(value for name, value in headers if name.lower() == "cache-control")
            is_page = self._tracker.expects_pageview and self._page() is not None
            cookie = self._tracker.set_cookie(is_page=is_page, cache_control=cache_control)
        except Exception as exc:  # noqa: BLE001 (the response comes first)
            guard_log("cookie", logging.ERROR, "the cookie of a visitor failed: %s", describe_exception(exc))
            return headers
        return headers if cookie is None else [*headers, ("Set-Cookie", cookie)]

    def _page(self) -> str | None:
        """Return the template of the route, if a request to it counts; a request without a route is a scanner's."""
        environ = self._environ
        route = self._tracker.route or (self._route(environ) if self._route else None)
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        return None if not route or self._rules.excludes(route, path) else route

    def end(self, *, aborted: bool, failed: bool = False) -> None:
        """Track the pageview, if the request is one. Failures are logged."""
        self._environ.pop(KEY, None)
        self._tracker.set_cookie(is_page=False)  # too late for one, if the answer has not begun
        try:
            self._track(aborted=aborted or self._gone, failed=failed)
        except Exception as exc:  # noqa: BLE001 (the response comes first)
            guard_log("pageview", logging.ERROR, "an automatic pageview failed: %s", describe_exception(exc))

    def _track(self, *, aborted: bool, failed: bool) -> None:
        tracker, rules, environ = self._tracker, self._rules, self._environ
        if not tracker.expects_pageview:
            return
        route = self._page()
        if route is None or tracker.uid is None:
            return
        params = rules.params(
            route=route,
            method=environ["REQUEST_METHOD"],
            status=500 if failed else None if self._gone else self._status,
            seconds=perf_counter() - self._started,
            aborted=aborted,
            client_ip=environ.get("REMOTE_ADDR"),
            user_agent=environ.get("HTTP_USER_AGENT"),
        )
        tracker.pageview(params)


class _Answer:
    """The answer, with the tracker as the current one while each part is made, and an end."""

    def __init__(self, parts: Iterable[bytes], tracker: RequestTracker, visit: _Visit) -> None:
        self._parts: Any = parts  # which may break the protocol
        self._tracker = tracker
        self._visit = visit
        self._is_whole = False
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        given = 0
        for part in entered(self._tracker, iter(self._parts)):
            given += len(part) if isinstance(part, bytes) else 0
            length = self._visit.length
            if length and given >= length:
                # A test client does not ask for what comes behind it.
                self._is_whole = True
                if length <= SMALL:
                    self._finish(aborted=False)
            yield part
        self._finish(aborted=False)

    def __getattr__(self, name: str) -> Any:
        # A server may look for more, such as the file of its own file wrapper.
        return getattr(self._parts, name)

    def close(self) -> None:
        """Close the application's answer, whose request is over now."""
        # An error under way is the server's: the last part was not written.
        aborted = not self._is_whole or sys.exc_info()[1] is not None
        token = enter(self._tracker)
        try:
            if hasattr(self._parts, "close"):
                self._parts.close()
        finally:
            leave(token)
            self._finish(aborted=aborted)

    def _finish(self, *, aborted: bool) -> None:
        if not self._over:
            self._over = True
            self._visit.end(aborted=aborted)


def _length(headers: Any) -> int | None:
    """Return the length of the answer; None if no usable header has it."""
    try:
        return next((int(value) for name, value in headers if name.lower() == "content-length"), None)
    except Exception:  # noqa: BLE001 (headers that break the protocol are for the server to judge)
        return None
