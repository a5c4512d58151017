"""Visitors before their login, in each framework: a browser visits, logs in, makes further visits, and logs out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from http.cookies import SimpleCookie
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse as FastAPIText
from flask import Flask
from flask import Response as FlaskResponse
from litestar import Litestar, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from salesmachine_async.integrations import aiohttp as salesmachine
from salesmachine_async.integrations import asgi, fastapi, flask, litestar, wsgi
from salesmachine_async.integrations.asgi import AnonymousCookie, current_tracker
from salesmachine_async.testing import Recorder, Workspace
from tests.integrations import django_project  # noqa: F401 (sets Django up)
from tests.support.asgi_driver import Answer, call, running, websocket
from tests.support.visitors import act
from tests.support.wsgi_driver import Server

Get = Callable[[str, str, bool], Awaitable[tuple[int, list[tuple[str, str]]]]]
COOKIE = "salesmachine_visitor"


class Browser:
    """Keeps the cookies that it gets, as a browser does."""

    def __init__(self, get: Get, *, https: bool = False) -> None:
        self._get = get
        self._https = https
        self.cookies: dict[str, str] = {}

    async def visit(self, path: str) -> SimpleCookie:
        """Make a request; returns the cookies that its answer sets."""
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        _, headers = await self._get(path, header, self._https)
        found: SimpleCookie = SimpleCookie()
        for name, value in headers:
            if name.lower() == "set-cookie":
                found.load(value)
        for name, morsel in found.items():
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        return found


def over_asgi(app: Any) -> Get:
    async def get(path: str, cookies: str, https: bool) -> tuple[int, list[tuple[str, str]]]:
        headers = [(b"host", b"example.com"), (b"cookie", cookies.encode())]
        answer = Answer()
        with suppress(RuntimeError):  # the one of the handler, as servers do
            await call(app, path, answer=answer, headers=headers, scheme="https" if https else "http")
        if not answer.messages:
            return 500, []
        start = answer.messages[0]
        return start["status"], [(name.decode(), value.decode()) for name, value in start["headers"]]

    return get


def over_wsgi(app: Any) -> Get:
    async def get(path: str, cookies: str, https: bool) -> tuple[int, list[tuple[str, str]]]:
        server = Server(app)
        server.get(path, HTTP_COOKIE=cookies, **{"wsgi.url_scheme": "https" if https else "http"})
        return int(server.status[:3]), server.headers

    return get


def make_starlette(agent: Any, **options: Any) -> Any:
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok", headers=act(request.path_params["action"], request.path_params.get("user", "")))

    async def socket(ws: WebSocket) -> None:
        await ws.accept()
        current_tracker().track("over a socket")
        await ws.close()

    async def stream(request: Request) -> StreamingResponse:
        async def rows() -> AsyncIterator[bytes]:
            current_tracker().track("row")
            yield b"x"

        return StreamingResponse(rows())

    app = Starlette(
        routes=[
            Route("/stream", stream),
            Route("/{action}", page),
            Route("/{action}/{user}", page),
            WebSocketRoute("/ws", socket),
        ]
    )
    return asgi.SalesmachineMiddleware(app, agent, **options)


def make_fastapi(agent: Any, **options: Any) -> Any:
    app = FastAPI()
    app.add_middleware(fastapi.SalesmachineMiddleware, agent=agent, **options)

    @app.get("/{action}")
    @app.get("/{action}/{user}")
    def page(action: str, user: str = "") -> FastAPIText:
        return FastAPIText("ok", headers=act(action, user))

    return app


def make_litestar(agent: Any, **options: Any) -> Any:
    @get("/{action:str}/{user:str}")
    async def with_user(action: FromPath[str], user: FromPath[str]) -> Response[str]:
        return Response("ok", headers=act(action, user))

    @get("/{action:str}")
    async def page(action: FromPath[str]) -> Response[str]:
        return Response("ok", headers=act(action))

    handlers: list[HTTPRouteHandler] = [page, with_user]
    return Litestar(handlers, plugins=[litestar.SalesmachinePlugin(agent, **options)])


def make_flask(agent: Any, **options: Any) -> Any:
    app = Flask(__name__)
    app.logger.disabled = True
    flask.Salesmachine(app, agent=agent, **options)

    @app.get("/<action>")
    @app.get("/<action>/<user>")
    def page(action: str, user: str = "") -> FlaskResponse:
        return FlaskResponse("ok", headers=act(action, user))

    return app


def make_wsgi(agent: Any, **options: Any) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        _, action, *user = environ["PATH_INFO"].split("/")
        try:
            headers = act(action, *user[:1])
        except RuntimeError:
            start_response("500 Broken", [("Content-Type", "text/plain")])
            return [b""]
        start_response("200 OK", [("Content-Type", "text/plain"), *headers.items()])
        return [b"ok"]

    return wsgi.SalesmachineMiddleware(
        app, agent, route=lambda environ: "/{action}" if environ["PATH_INFO"] != "/a/b/c" else None, **options
    )


@pytest.fixture(
    params=["starlette", "fastapi", "litestar", "django", "django asgi", "django wsgi", "flask", "wsgi", "aiohttp"]
)
async def make(request: pytest.FixtureRequest, recorder: Recorder) -> AsyncIterator[Callable[..., Get]]:
    """A function that makes the application in a framework, with options."""
    clients: list[TestClient[Any, Any]] = []
    settings: list[Any] = []

    def made(**options: Any) -> Get:
        options = {"pageviews": True, "anonymous_id": AnonymousCookie(), **options}
        match request.param:
            case "starlette":
                return over_asgi(make_starlette(recorder, **options))
            case "fastapi":
                return over_asgi(make_fastapi(recorder, **options))
            case "litestar":
                return over_asgi(make_litestar(recorder, **options))
            case "django":
                settings.append(override_settings(SALESMACHINE={}))
                settings[-1].enable()
                return over_asgi(asgi.SalesmachineMiddleware(ASGIHandler(), recorder, **options))
            case "django asgi" | "django wsgi":
                settings.append(override_settings(SALESMACHINE={"agent": recorder, **options}))
                settings[-1].enable()
                return over_wsgi(WSGIHandler()) if request.param == "django wsgi" else over_asgi(ASGIHandler())
            case "flask":
                return over_wsgi(make_flask(recorder, **options))
            case "wsgi":
                return over_wsgi(make_wsgi(recorder, **options))
            case _:
                return over_aiohttp(options)

    def over_aiohttp(options: dict[str, Any]) -> Get:
        async def page(incoming: web.Request) -> web.Response:
            if incoming.match_info["action"] == "denied":
                raise web.HTTPForbidden
            headers = act(incoming.match_info["action"], incoming.match_info.get("user", ""))
            return web.Response(text="ok", headers=headers)

        app = web.Application()
        salesmachine.setup(app, recorder, **options)
        app.router.add_get("/{action}", page)
        app.router.add_get("/{action}/{user}", page)
        clients.append(TestClient(TestServer(app)))

        async def over_http(path: str, cookies: str, https: bool) -> tuple[int, list[tuple[str, str]]]:
            await clients[-1].start_server()
            async with clients[-1].get(path, headers={"Cookie": cookies} if cookies else None) as response:
                await response.read()
                return response.status, list(response.headers.items())

        return over_http

    yield made
    for client in clients:
        await client.close()
    for setting in settings:
        setting.disable()


def summary(recorder: Recorder) -> list[tuple[str, Any]]:
    """Return the tracked messages with their contacts."""
    return [(each.get("event_uid", "alias"), each["contact_uid"]) for each in recorder.messages]


async def test_a_visit_a_login_and_the_time_after(make: Callable[..., Get], recorder: Recorder) -> None:
    """A visitor's messages have one uid, then an alias, then the contact's uid."""
    browser = Browser(make())
    (morsel,) = (await browser.visit("/seen")).values()
    uid = morsel.value
    assert (morsel.key, morsel["httponly"], morsel["samesite"], morsel["path"]) == (COOKIE, True, "Lax", "/")
    assert await browser.visit("/seen") == {}
    assert (await browser.visit("/login/u"))[COOKIE]["max-age"] == "0"
    assert browser.cookies == {}
    assert await browser.visit("/login/u") == {}
    pages = [("seen", uid), ("pageview", uid)] * 2
    assert summary(recorder) == [*pages, ("alias", "u"), *[("logged in", "u"), ("pageview", "u")] * 2]
    assert [each["alias"] for each in recorder.messages if "alias" in each] == [uid]


async def test_a_pageview_alone_has_a_cookie(make: Callable[..., Get], recorder: Recorder) -> None:
    """A pageview sets the cookie although the handler tracks nothing."""
    browser = Browser(make())
    await browser.visit("/quiet")
    assert summary(recorder) == [("pageview", browser.cookies[COOKIE])]


async def test_without_pageviews_only_what_tracks_has_a_cookie(make: Callable[..., Get], recorder: Recorder) -> None:
    """Without pageviews, only responses of handlers that track have a cookie."""
    browser = Browser(make(pageviews=False))
    assert await browser.visit("/quiet") == {}
    await browser.visit("/seen")
    assert summary(recorder) == [("seen", browser.cookies[COOKIE])]


@pytest.mark.parametrize("path", ["/a/b/c", "/health"])
async def test_what_is_no_pageview_has_no_cookie(make: Callable[..., Get], recorder: Recorder, path: str) -> None:
    """A 404 and an excluded path set no cookie."""
    assert await Browser(make(exclude=("/health",))).visit(path) == {}
    assert recorder.messages == []


async def test_a_page_for_all_visitors_has_no_cookie(make: Callable[..., Get], recorder: Recorder) -> None:
    """A page that a cache may store has no cookie, because all visitors would share its uid."""
    browser = Browser(make())
    assert await browser.visit("/cached") == {}
    assert recorder.messages == []
    await browser.visit("/seen")
    assert await browser.visit("/cached") == {}
    assert summary(recorder)[-1] == ("pageview", browser.cookies[COOKIE])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_an_error_page(make: Callable[..., Get], recorder: Recorder) -> None:
    """A pageview of an error page has a uid that the browser keeps, or is not tracked."""
    browser = Browser(make())
    await browser.visit("/broken")
    assert [uid for _, uid in summary(recorder)] == list(browser.cookies.values())
    recorder.clear()
    await browser.visit("/seen")
    await browser.visit("/broken")
    assert [uid for _, uid in summary(recorder)] == [browser.cookies[COOKIE]] * 3
    recorder.assert_tracked("pageview", status=500)


async def test_a_forged_cookie_is_replaced(make: Callable[..., Get], recorder: Recorder) -> None:
    """A forged cookie is replaced, and its value is never a uid."""
    browser = Browser(make())
    browser.cookies[COOKIE] = "u"
    await browser.visit("/seen")
    assert browser.cookies[COOKIE].startswith("anonymous-")
    assert {uid for _, uid in summary(recorder)} == {browser.cookies[COOKIE]}


async def test_a_logout_begins_a_new_visitor(make: Callable[..., Get], recorder: Recorder) -> None:
    """A logout begins a new visitor in a shared browser."""
    browser = Browser(make())
    await browser.visit("/seen")
    first = browser.cookies[COOKIE]
    await browser.visit("/logout")
    assert browser.cookies == {}
    await browser.visit("/seen")
    assert browser.cookies[COOKIE] != first


async def test_https_makes_it_secure(make: Callable[..., Get], request: pytest.FixtureRequest) -> None:
    """The cookie is Secure over https only, because browsers refuse that over http."""
    if "aiohttp" in request.node.name:
        pytest.skip("aiohttp reads it from the connection: test_the_attributes_of_the_cookie")
    get = make()
    assert (await Browser(get, https=True).visit("/seen"))[COOKIE]["secure"]
    assert not (await Browser(get).visit("/seen"))[COOKIE]["secure"]


async def test_the_callable_sees_the_request(make: Callable[..., Get], recorder: Recorder) -> None:
    """A callable reads the application's session from the request, and no cookie is set."""
    browser = Browser(make(anonymous_id=lambda request: "session-7"))
    assert await browser.visit("/seen") == {}
    await browser.visit("/login/u")
    await browser.visit("/login/u")
    assert summary(recorder) == [
        ("seen", "session-7"),
        ("pageview", "session-7"),
        ("alias", "u"),
        *[("logged in", "u"), ("pageview", "u")] * 2,
    ]


async def test_by_default_visitors_are_not_tracked(make: Callable[..., Get], recorder: Recorder) -> None:
    """Without the option, no visitor is tracked."""
    assert await Browser(make(anonymous_id=None)).visit("/seen") == {}
    assert recorder.messages == []


async def test_the_history_of_the_visitor_becomes_the_contacts(workspace: Workspace) -> None:
    """A real server holds one contact with the events from before and after the login."""
    app = make_fastapi(None, pageviews=True, anonymous_id=AnonymousCookie())
    async with running(app):
        browser = Browser(over_asgi(app))
        await browser.visit("/seen")
        await browser.visit("/login/u")
        await browser.visit("/login/u")
    summary = workspace.summary()
    assert (summary["contacts"], summary["events"], summary["pageviews"], summary["aliases"]) == (1, 6, 3, 1)


async def test_a_websocket_keeps_the_visitor(recorder: Recorder) -> None:
    """A websocket uses the page's cookie, and sets none after its start."""
    app = make_starlette(recorder, pageviews=True, anonymous_id=AnonymousCookie())
    browser = Browser(over_asgi(app))
    await browser.visit("/seen")
    recorder.clear()
    headers = [(b"cookie", f"{COOKIE}={browser.cookies[COOKIE]}".encode())]
    await websocket(app, "/ws", headers=headers)
    assert summary(recorder) == [("over a socket", browser.cookies[COOKIE])]


async def test_a_stream_keeps_the_visitor(recorder: Recorder) -> None:
    """A stream's pageview sets the cookie before its rows are tracked."""
    browser = Browser(over_asgi(make_starlette(recorder, pageviews=True, anonymous_id=AnonymousCookie())))
    await browser.visit("/stream")
    uid = browser.cookies[COOKIE]
    assert summary(recorder) == [("row", uid), ("pageview", uid)]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.response.start", "status": 200},
        {"type": "http.response.start", "status": 200, "headers": None},
        {"type": "http.response.start", "status": 200, "headers": [("not", "bytes")]},
        {"type": "http.response.start", "status": 200, "headers": iter([(b"a", b"b")])},
        {"type": "http.response.start"},
        {"no": "type"},
    ],
)
async def test_messages_that_break_the_protocol_are_for_the_server(recorder: Recorder, message: Any) -> None:
    """Messages that violate ASGI pass unchanged, with or without a cookie."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        current_tracker().track("seen")
        await send(message)

    wrapped = asgi.SalesmachineMiddleware(app, recorder, pageviews=True, anonymous_id=AnonymousCookie())
    (sent,) = (await call(wrapped)).messages
    assert sent.get("status") == message.get("status")


@pytest.mark.parametrize("headers", [None, [("one",)], [(1, 2)], "text"])
def test_wsgi_headers_that_break_the_protocol_are_for_the_server(recorder: Recorder, headers: Any) -> None:
    """Headers that violate WSGI pass unchanged, with or without a cookie added."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        current_tracker().track("seen")
        start_response("200 OK", headers)
        return iter([b"ok"])

    server = Server(wsgi.SalesmachineMiddleware(app, recorder, anonymous_id=AnonymousCookie()), check=False)
    assert server.get() == b"ok"
    assert server.headers == headers or server.headers[-1][0] == "Set-Cookie"


async def test_aiohttp_denials_have_the_cookie(recorder: Recorder) -> None:
    """An HTTP exception of aiohttp has the cookie, as any response has."""

    async def denied(request: web.Request) -> web.Response:
        raise web.HTTPForbidden

    app = web.Application()
    salesmachine.setup(app, recorder, pageviews=True, anonymous_id=AnonymousCookie())
    app.router.add_get("/denied", denied)
    async with TestClient(TestServer(app)) as client, client.get("/denied") as response:
        assert response.status == 403
        uid = response.cookies[COOKIE].value
    recorder.assert_tracked("pageview", contact_uid=uid, status=403)
