"""
aiohttp.web.

::

    from salesmachine_async.integrations import aiohttp as salesmachine

    app = web.Application()
    salesmachine.setup(app)

    async def order(request: web.Request) -> web.Response:
        sm = salesmachine.tracker(request)
        sm.identify("123456")
        sm.track("order_created", {"order": request.match_info["order_id"]})
        return web.Response()
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from salesmachine_async._log import describe_exception
from salesmachine_async.agent import Agent
from salesmachine_async.integrations._context import RequestTracker, Uid, current_tracker, enter, identify, leave
from salesmachine_async.integrations._life import Life, guard_log
from salesmachine_async.integrations._pageviews import METHODS, Pageviews
from salesmachine_async.tracker import Tracker

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

__all__ = ["AGENT", "current_tracker", "identify", "setup", "tracker"]

AGENT = web.AppKey("salesmachine", Agent)
"""The application's agent, while the application runs; sub-applications find it in ``request.config_dict``."""

SWITCHING: Final = 101
_TRACKER: Final = web.RequestKey("salesmachine_tracker", RequestTracker)


def setup(
    app: web.Application,
    agent: Agent | None = None,
    *,
    pageviews: bool = False,
    contact: Callable[[web.Request], Uid] | None = None,
    account: Callable[[web.Request], Uid] | None = None,
    exclude: Collection[str] = (),
    methods: Collection[str] = METHODS,
    client_ip: bool = False,
    user_agent: bool = False,
) -> None:
    """
    Give every request of *app*, and of its sub-applications, a tracker, and the application an agent.

    Args:
        app: The application.
        agent: Used as it is: started, flushed at the end, never closed. None: one of its own, from the environment,
            which starts and ends with the application.
        pageviews: Whether every answered request of an identified contact is a pageview. ``duration`` is the handler's.
        contact: Tells who makes a request in which nobody calls `identify`.
        account: Tells the account likewise.
        exclude: Routes or paths that are no pageviews, where ``*`` is anything: ``("/health", "/static/*")``.
        methods: The HTTP methods that are pageviews.
        client_ip: Whether pageviews carry the client's address (``request.remote``).
        user_agent: Whether pageviews carry its User-Agent.

    Raises:
        ConfigError: *exclude* or *methods* is a single text.
    """
    life = Life(agent)
    rules = Pageviews.of(
        enabled=pageviews, exclude=exclude, methods=methods, client_ip=client_ip, user_agent=user_agent
    )

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        app[AGENT] = await life.begin()
        yield
        await life.end()

    # First, so that the agent starts before everything else and ends after it; the middleware is outermost.
    app.cleanup_ctx.insert(0, lifetime)
    app.middlewares.insert(0, _middleware(life, rules, contact, account))


def tracker(request: web.BaseRequest) -> Tracker:
    """
    Return the tracker of a request.

    Raises:
        LookupError: `setup` was not called for its application.
    """
    found: RequestTracker | None = request.get(_TRACKER)
    if found is None:
        raise LookupError("no tracker in this request: call setup(app)")
    return found


def _middleware(
    life: Life,
    rules: Pageviews,
    contact: Callable[[web.Request], Uid] | None,
    account: Callable[[web.Request], Uid] | None,
) -> Middleware:
    @web.middleware
    async def salesmachine(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _TRACKER in request:  # set up twice
            return await handler(request)
        request_tracker = RequestTracker(
            await life.serve(), contact and partial(contact, request), account and partial(account, request)
        )
        request[_TRACKER] = request_tracker
        token = enter(request_tracker)
        try:
            if not rules.wanted(request.method):
                return await handler(request)
            return await _visited(rules, request_tracker, request, handler)
        finally:
            leave(token)

    return salesmachine


async def _visited(
    rules: Pageviews, request_tracker: RequestTracker, request: web.Request, handler: Handler
) -> web.StreamResponse:
    started = perf_counter()
    status: int | None = None
    try:
        response = await handler(request)
        status = response.status
    except web.HTTPException as exc:
        status = exc.status
        raise
    except Exception:
        status = 500
        raise
    else:
        return response
    finally:
        # Without a status the handler was cancelled: the client has gone.
        try:
            _track(rules, request_tracker, request, status, perf_counter() - started)
        except Exception as exc:  # noqa: BLE001 (the response comes first)
            guard_log("pageview", logging.ERROR, "an automatic pageview failed: %s", describe_exception(exc))


def _track(
    rules: Pageviews, request_tracker: RequestTracker, request: web.Request, status: int | None, seconds: float
) -> None:
    resource = request.match_info.route.resource
    # Without a route nobody visited anything, it was a scanner; and a WebSocket (101) is no page.
    if (
        resource is None
        or status == SWITCHING
        or rules.excludes(resource.canonical, request.path)
        or request_tracker.contact_uid is None
    ):
        return
    params = rules.params(
        route=resource.canonical,
        method=request.method,
        status=status,
        seconds=seconds,
        aborted=status is None,
        client_ip=request.remote,
        user_agent=request.headers.get(hdrs.USER_AGENT),
    )
    request_tracker.pageview(params)
