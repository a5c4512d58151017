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

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web

from salesmachine_async._log import describe_exception
from salesmachine_async.agent import Agent
from salesmachine_async.integrations._agent_lifespan import AgentLifespan, get_agent, guard_log, register
from salesmachine_async.integrations._anonymous import AnonymousCookie, AnonymousVisitors
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
from salesmachine_async.integrations._pageviews import METHODS, Pageviews
from salesmachine_async.policy import Invalid
from salesmachine_async.tracker import Tracker

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

__all__ = ["AGENT", "AnonymousCookie", "current_tracker", "get_agent", "identify", "setup", "tracker", "tracking"]

AGENT = web.AppKey("salesmachine", Agent)
"""The application's agent, while the application runs; sub-applications find it in ``request.config_dict``."""

SWITCHING: Final = 101
_TRACKER: Final = web.RequestKey("salesmachine_tracker", RequestTracker)
_STATUS: Final = web.RequestKey("salesmachine_status", int)
# Bytes: a body up to this length is in the hands of the system at once, and nothing shows who reads it.
SMALL: Final = 64 * 1024


def setup(
    app: web.Application,
    agent: Agent | None = None,
    *,
    pageviews: bool = False,
    contact: Callable[[web.Request], Uid] | None = None,
    account: Callable[[web.Request], Uid] | None = None,
    anonymous_id: AnonymousCookie | Callable[[web.Request], Uid] | None = None,
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
        anonymous_id: The uid of visitors before `identify`, and an alias of the contact from then on: an
            `AnonymousCookie`, or a callable that returns it like *contact*. None: they are not tracked.
        exclude: Routes or paths that are no pageviews, where ``*`` is anything: ``("/health", "/static/*")``.
        methods: The HTTP methods that are pageviews.
        client_ip: Whether pageviews carry the client's address (``request.remote``).
        user_agent: Whether pageviews carry its User-Agent.
        on_invalid: Policy of the agent made here for arguments that cannot be sent. By default calls report
            them and never raise, because what a visitor types in must not become an error of the request.
        params: Sent with every message of the agent made here.
        enabled: Whether the agent made here sends anything; None: as ``SALESMACHINE_ENABLED`` says.
        debug: Whether the agent made here logs messages and answers; None: as ``SALESMACHINE_DEBUG`` says.

    Raises:
        ConfigError: An argument is unusable: a single text as *exclude*, a text as *enabled*, say.
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
    app.on_response_prepare.append(partial(_prepare, rules))
    app.middlewares.insert(0, _middleware(lifespan, rules, contact, account, AnonymousVisitors.of(anonymous_id)))


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
    anonymous: AnonymousVisitors | None,
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
            anonymous
            and anonymous.visitor(request, "; ".join(request.headers.getall(hdrs.COOKIE, ())), https=request.secure),
        )
        request[_TRACKER] = request_tracker
        token = enter(request_tracker)
        try:
            request_tracker.expects_pageview = rules.wanted(request.method)
            if not request_tracker.expects_pageview:
                return await handler(request)
            return await _visited(rules, request_tracker, request, handler)
        finally:
            leave(token)

    return salesmachine


async def _visited(
    rules: Pageviews, request_tracker: RequestTracker, request: web.Request, handler: Handler
) -> web.StreamResponse:
    started = perf_counter()
    response: web.StreamResponse | None = None
    status: int | None = None
    aborted = True  # unless the handler ends: it is cancelled when the client has left
    try:
        response = await handler(request)
        status, aborted = response.status, False
    except web.HTTPException as exc:
        response, status, aborted = exc, exc.status, False
        raise
    except Exception:
        aborted = _STATUS in request  # an answer that had begun was cut off
        status = 500
        raise
    else:
        return response
    finally:
        with _guarded():
            if aborted or _is_gone(request):
                status, aborted = request.get(_STATUS), True  # only a status that was sent counts
            # Before the pageview, which needs to know whether the visitor has a cookie.
            _set_cookie(rules, request, response)
            end = partial(_track, rules, request_tracker, request, started)
            task = asyncio.current_task()
            if aborted or task is None or response is None or not _is_sent_later(response):
                end(status, aborted=aborted)
            else:
                task.add_done_callback(partial(_sent, end, request, response))


def _is_sent_later(response: web.StreamResponse) -> bool:
    """
    Return whether the end of a response is still to come, and worth waiting for.

    aiohttp sends it after the middleware. It looks for a file only then: its status may become 404, 304 or 206.
    """
    if response.prepared:
        return False
    return isinstance(response, web.FileResponse) or (response.content_length or 0) > SMALL


def _sent(
    end: Callable[..., None], request: web.Request, response: web.StreamResponse, task: asyncio.Task[object]
) -> None:
    """Track the pageview of a response that was sent by *task*, or not to its end."""
    failed = task.cancelled() or task.exception() is not None
    # The task of aiohttp returns the response, and whether the connection was reset.
    result = None if failed else task.result()
    aborted = failed or (isinstance(result, tuple) and result[1:] == (True,))  # pyright: ignore
    status = request.get(_STATUS)
    if status is None and not aborted:
        status = response.status
    with _guarded():
        end(status, aborted=aborted)


async def _prepare(rules: Pageviews, request: web.Request, response: web.StreamResponse) -> None:
    """Note the status that is sent, for answers that are cut off later; set the cookie of an anonymous visitor."""
    request[_STATUS] = response.status
    _set_cookie(rules, request, response)


@contextmanager
def _guarded() -> Generator[None]:
    try:
        yield
    except Exception as exc:  # noqa: BLE001 (the response comes first)
        guard_log("pageview", logging.ERROR, "an automatic pageview failed: %s", describe_exception(exc))


def _set_cookie(rules: Pageviews, request: web.Request, response: web.StreamResponse | None) -> None:
    """Decide on the cookie of an anonymous visitor, once; without an answer there is none."""
    request_tracker = request.get(_TRACKER)
    if request_tracker is None or request_tracker.visitor is None:
        return
    is_page = response is not None and request_tracker.expects_pageview and _page(rules, request) is not None
    cache_control = "" if response is None else ",".join(response.headers.getall(hdrs.CACHE_CONTROL, ()))
    cookie = request_tracker.set_cookie(is_page=is_page, cache_control=cache_control)
    if cookie is not None and response is not None:
        response.headers.add(hdrs.SET_COOKIE, cookie)


def _page(rules: Pageviews, request: web.Request) -> str | None:
    """Return the template of the route, if a request to it counts; a request without a route is a scanner's."""
    resource = request.match_info.route.resource
    return None if resource is None or rules.excludes(resource.canonical, request.path) else resource.canonical


def _is_gone(request: web.Request) -> bool:
    """Return whether the client has closed the connection."""
    # "is True": in a test the transport may be a mock.
    return request.transport is None or request.transport.is_closing() is True


def _track(
    rules: Pageviews,
    request_tracker: RequestTracker,
    request: web.Request,
    started: float,
    status: int | None,
    *,
    aborted: bool,
) -> None:
    route = _page(rules, request)
    if route is None or status == SWITCHING or request_tracker.uid is None:  # a WebSocket (101) is no page
        return
    params = rules.params(
        route=route,
        method=request.method,
        status=status,
        seconds=perf_counter() - started,
        aborted=aborted,
        client_ip=request.remote,
        user_agent=request.headers.get(hdrs.USER_AGENT),
    )
    request_tracker.pageview(params)
