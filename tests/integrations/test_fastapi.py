"""FastAPI: templates through every kind of nesting, the Tracker in every kind of handler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fastapi
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from salesmachine_async.integrations.fastapi import SalesmachineMiddleware, Tracker, identify
from salesmachine_async.testing import Recorder
from tests.support.asgi_driver import call, websocket


def make(recorder: Recorder, **options: Any) -> FastAPI:
    app = FastAPI(**options)
    app.add_middleware(SalesmachineMiddleware, agent=recorder, pageviews=True)
    inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/outer/{tenant}")

    @app.get("/plain/{number}")
    async def plain(number: int, sm: Tracker) -> None:
        sm.identify("u")

    @inner.get("/deep/{rest:path}")
    async def deep(rest: str, sm: Tracker) -> None:
        sm.identify("u")

    @app.get("/def/{uid}")
    def threaded(uid: str, sm: Tracker) -> None:
        identify(uid)
        sm.track("in a thread")

    @app.get("/stream")
    async def stream(sm: Tracker, tasks: BackgroundTasks) -> StreamingResponse:
        def rows() -> Iterator[str]:
            sm.identify("u")
            yield "a"
            sm.track("in a stream")
            yield "b"

        tasks.add_task(lambda: sm.track("in a task"))
        return StreamingResponse(rows(), background=tasks)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, sm: Tracker) -> None:
        await websocket.accept()
        identify("u")
        sm.track("over a socket", {"text": await websocket.receive_text()})
        await websocket.close()

    @app.get("/boom")
    async def boom(sm: Tracker) -> None:
        sm.identify("u")
        raise RuntimeError("boom")

    outer.include_router(inner)
    app.include_router(outer)
    sub = FastAPI()
    sub.add_api_route("/items/{item}", plain_of_sub, methods=["GET"])
    app.mount("/sub/{region}", sub)
    return app


async def plain_of_sub(item: str, sm: Tracker) -> None:
    sm.identify("u")


TEMPLATES = [
    ("/plain/7", "/plain/{number}"),
    ("/outer/acme/inner/deep/a/b", "/outer/{tenant}/inner/deep/{rest}"),
    ("/sub/eu/items/9", "/sub/{region}/items/{item}"),
]


@pytest.mark.parametrize(("path", "template"), TEMPLATES)
async def test_the_pageview_has_the_whole_template(recorder: Recorder, path: str, template: str) -> None:
    """Nested routers, their prefixes, mounts; none of the values."""
    answer = await call(make(recorder), path)
    assert answer.status == 200, fastapi.__version__
    (message,) = recorder.messages
    # How a path converter is written differs between releases.
    assert message["params"]["visit_url"].replace(":path", "") == template


async def added(request: Request) -> Response:
    return Response("ok")


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/docs", "/docs"),
        ("/redoc", "/redoc"),
        ("/openapi.json", "/openapi.json"),
        ("/docs/oauth2-redirect", "/docs/oauth2-redirect"),
        ("/added", "/added"),
        ("/added/7/of/9", "/added/{number}/of/{total}"),
        ("/routed/7", "/routed/{number}"),
        ("/mounted/7/added/9", "/mounted/{region}/added/{number}"),
    ],
)
async def test_routes_that_fastapi_did_not_decorate_have_their_template(
    recorder: Recorder, path: str, template: str
) -> None:
    """The pages of the documentation, `add_route` of the application and of routers, and mounts of such."""
    app, router, sub = FastAPI(), APIRouter(), FastAPI()
    app.add_middleware(SalesmachineMiddleware, agent=recorder, pageviews=True, contact=lambda _: "u")
    app.add_route("/added", added)
    app.add_route("/added/{number}/of/{total}", added)
    router.add_route("/{number}", added)
    app.include_router(router, prefix="/routed")
    sub.add_route("/added/{number}", added)
    app.mount("/mounted/{region}", sub)
    answer = await call(app, path)
    assert answer.status == 200
    assert [message["params"]["visit_url"] for message in recorder.messages] == [template]


async def test_behind_a_proxy_the_template_is_the_applications(recorder: Recorder) -> None:
    """The template excludes the prefix that a proxy removes."""
    answer = await call(make(recorder), "/api/plain/7", root_path="/api")
    assert answer.status == 200
    recorder.assert_tracked("pageview", visit_url="/plain/{number}")


async def test_what_does_not_match_is_no_pageview(recorder: Recorder) -> None:
    """A 404 has no route, and a 422 no contact."""
    app = make(recorder)
    assert (await call(app, "/nope")).status == 404
    assert (await call(app, "/plain/x")).status == 422
    assert recorder.messages == []


async def test_a_plain_function_tracks_from_its_thread(recorder: Recorder) -> None:
    """identify() in the thread is seen by the pageview outside."""
    assert (await call(make(recorder), "/def/7")).status == 200
    recorder.assert_tracked("in a thread", contact_uid="7")
    recorder.assert_tracked("pageview", contact_uid="7", visit_url="/def/{uid}")


async def test_streams_and_background_tasks_share_the_tracker(recorder: Recorder) -> None:
    """The order is that of what happened."""
    answer = await call(make(recorder), "/stream")
    assert answer.body == b"ab"
    assert [message["event_uid"] for message in recorder.messages] == ["in a stream", "pageview", "in a task"]


async def test_a_websocket_handler_has_the_tracker(recorder: Recorder) -> None:
    """A WebSocket handler gets the tracker by the same annotation."""
    await websocket(make(recorder), "/ws", ["hello"])
    recorder.assert_tracked("over a socket", contact_uid="u", text="hello")
    recorder.assert_not_tracked("pageview")


async def test_an_unhandled_exception_is_a_500(recorder: Recorder) -> None:
    """Starlette answers for us outside of us."""
    with pytest.raises(RuntimeError, match="boom"):
        await call(make(recorder), "/boom")
    recorder.assert_tracked("pageview", status=500, visit_url="/boom")


def test_openapi_does_not_know_of_it(recorder: Recorder) -> None:
    """The tracker is no parameter of the API."""
    assert "sm" not in str(make(recorder).openapi())
    assert "alesmachine" not in str(make(recorder).openapi())


async def test_without_the_middleware_the_error_says_what_to_do() -> None:
    """The first use without the middleware raises an error with the fix."""
    app = FastAPI()
    app.add_api_route("/items/{item}", plain_of_sub, methods=["GET"])
    with pytest.raises(RuntimeError, match="add_middleware"):
        await call(app, "/items/1")


@pytest.mark.parametrize("outermost", [True, False])
async def test_base_http_middleware_above_or_below_does_not_matter(recorder: Recorder, outermost: bool) -> None:
    """The tracker is the same object in the task that BaseHTTPMiddleware starts."""
    app = FastAPI()

    async def dispatch(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    layers: list[Any] = [
        lambda: app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch),
        lambda: app.add_middleware(SalesmachineMiddleware, agent=recorder, pageviews=True),
    ]
    for add in layers if outermost else reversed(layers):
        add()

    def current(sm: Tracker) -> Any:
        sm.identify("u")
        return sm

    @app.get("/x/{y}")
    def handler(y: str, sm: Any = Depends(current)) -> None:  # noqa: B008
        sm.track("seen")

    assert (await call(app, "/x/1")).status == 200
    recorder.assert_tracked("seen", contact_uid="u")
    recorder.assert_tracked("pageview", contact_uid="u", visit_url="/x/{y}")
