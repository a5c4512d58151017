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
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web

from salesmachine_async._log import describe_exception
from salesmachine_async.agent import Agent
from salesmachine_async.integrations._agent_lifespan import AgentLifespan, get_agent, guard_log, register
from salesmachine_async.integrations._context import (
    RequestTracker,
    Uid,
    current_tracker,
    enter,
    identify,
    leave,
    tracking,
)
from salesmachine_async.integrations._environment import AgentOptions
from salesmachine_async.integrations._pageviews import METHODS, Pageviews
from salesmachine_async.policy import Invalid
from salesmachine_async.tracker import Tracker

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

__all__ = ["AGENT", "current_tracker", "get_agent", "identify", "setup", "tracker", "tracking"]

AGENT = web.AppKey("salesmachine", Agent)
"""The application's agent, while the application runs; sub-applications find it in ``request.config_dict``."""

SWITCHING: Final = 101
_TRACKER: Final = web.RequestKey("salesmachine_tracker", RequestTracker)
_STATUS: Final = web.RequestKey("salesmachine_status", int)


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
    on_invalid: Invalid = Invalid.REPORT,
    params: Mapping[str, Any] | None = None,
    enabled: bool | None = None,
    debug: bool | None = None,
) -> None:
    """
    Give every request of *app*, and of its sub-applications, a tracker, and the application an agent.

    Args:
        app: The application.
        agent: A given agent is started, flushed at the end, never closed. None: one of its own, from the environment,
            which starts and ends with the application.
        pageviews: Whether every answered request of an identified contact is a pageview. ``duration`` is the handler's.
        contact: Returns the contact's uid for a request in which `identify` is not called.
        account: Returns the account's uid likewise.
        exclude: Routes or paths that are no pageviews, where ``*`` is anything: ``("/health", "/static/*")``.
        methods: The HTTP methods that are pageviews.
        client_ip: Whether pageviews carry the client's address (``request.remote``).
        user_agent: Whether pageviews carry its User-Agent.
        on_invalid: What calls of the agent made here do with arguments that cannot be sent. By default they report
            them and never raise, because what a visitor types in must not become an error of the request.
        params: Sent with every message of the agent made here.
        enabled: Whether the agent made here sends anything; None: as ``SALESMACHINE_ENABLED`` says.
        debug: Whether the agent made here logs messages and answers; None: as ``SALESMACHINE_DEBUG`` says.

    Raises:
        ConfigError: *exclude* or *methods* is a single text.
    """
    lifespan = AgentLifespan(agent, AgentOptions(on_invalid=on_invalid, params=params, enabled=enabled, debug=debug))
    register(app, lifespan)
    rules = Pageviews.of(
        enabled=pageviews, exclude=exclude, methods=methods, client_ip=client_ip, user_agent=user_agent
    )

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        app[AGENT] = await lifespan.begin()
        yield
        await lifespan.end()

    # First, so that the agent starts before everything else and ends after it; the middleware is outermost.
    app.cleanup_ctx.insert(0, lifetime)
    app.on_response_prepare.append(_note_status)
    app.middlewares.insert(0, _middleware(lifespan, rules, contact, account))


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
    lifespan: AgentLifespan,
    rules: Pageviews,
    contact: Callable[[web.Request], Uid] | None,
    account: Callable[[web.Request], Uid] | None,
) -> Middleware:
    @web.middleware
    async def salesmachine(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _TRACKER in request:  # set up twice
            return await handler(request)
        request_tracker = RequestTracker(
            await lifespan.serve(),
            contact and partial(contact, request),
            account and partial(account, request),
            lifespan,
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
    aborted = True  # unless the handler ends: it is cancelled when the client has left
    try:
        response = await handler(request)
        status, aborted = response.status, _is_gone(request) and response.prepared
    except web.HTTPException as exc:
        status, aborted = exc.status, False
        raise
    except Exception:
        # When the client has left, that is the reason; an answer that had begun was cut off in any case.
        aborted = _is_gone(request) or _STATUS in request
        if not aborted:
            status = 500
        raise
    else:
        return response
    finally:
        try:
            if status is None:
                status = request.get(_STATUS)
            _track(rules, request_tracker, request, status, perf_counter() - started, aborted=aborted)
        except Exception as exc:  # noqa: BLE001 (the response comes first)
            guard_log("pageview", logging.ERROR, "an automatic pageview failed: %s", describe_exception(exc))


async def _note_status(request: web.Request, response: web.StreamResponse) -> None:
    """Note the status that is sent, for answers that are cut off later."""
    request[_STATUS] = response.status


def _is_gone(request: web.Request) -> bool:
    """Return whether the client has closed the connection."""
    return request.transport is None or request.transport.is_closing()


def _track(
    rules: Pageviews,
    request_tracker: RequestTracker,
    request: web.Request,
    status: int | None,
    seconds: float,
    *,
    aborted: bool,
) -> None:
    resource = request.match_info.route.resource
    # A request without a route is a scanner's, and a WebSocket (101) is no page.
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
        aborted=aborted,
        client_ip=request.remote,
        user_agent=request.headers.get(hdrs.USER_AGENT),
    )
    request_tracker.pageview(params)
