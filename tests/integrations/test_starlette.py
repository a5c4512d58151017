"""Starlette, before and after 1.7, which was the first to note the route in the scope."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, Route
from starlette.staticfiles import StaticFiles

from salesmachine_async.integrations.asgi import SalesmachineMiddleware, identify
from salesmachine_async.testing import Recorder
from tests.support.asgi_driver import call


async def page(request: Request) -> Response:
    identify("u")
    return PlainTextResponse("ok")


class Endpoint(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        identify("u")
        return PlainTextResponse("ok")


async def raw(scope: Any, receive: Any, send: Any) -> None:
    """An application without routes."""
    await PlainTextResponse("ok")(scope, receive, send)


def make(recorder: Recorder) -> Starlette:
    return Starlette(
        routes=[
            Route("/users/{user}", page),
            Route("/class/{user}", Endpoint),
            Mount("/shop/{tenant}", routes=[Route("/items/{item:int}", page)]),
            Mount("/raw", raw),
            Mount("/static", StaticFiles(directory=Path(__file__).parent)),
            Host("{tenant}.example.org", Starlette(routes=[Route("/there/{x}", page)])),
        ],
        middleware=[Middleware(SalesmachineMiddleware, agent=recorder, pageviews=True, contact=lambda scope: "u")],
    )


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/users/7", "/users/{user}"),
        ("/class/7", "/class/{user}"),
        ("/shop/acme/items/7", "/shop/{tenant}/items/{item}"),
    ],
)
async def test_the_pageview_has_the_template(recorder: Recorder, path: str, template: str) -> None:
    """A pageview has the template and never the path, also in releases that do not record the route."""
    assert (await call(make(recorder), path)).body == b"ok"
    recorder.assert_tracked("pageview", visit_url=template)


async def test_an_application_behind_a_host_has_a_template_too(recorder: Recorder) -> None:
    """The template of a Host route excludes its parameters; before Starlette 1.7, which notes it, there is none."""
    answer = await call(make(recorder), "/there/7", headers=[(b"host", b"acme.example.org")])
    assert answer.body == b"ok"
    if tuple(map(int, version("starlette").split(".")[:2])) < (1, 7):
        assert recorder.messages == []
        return
    (message,) = recorder.messages
    assert "7" not in message["params"]["visit_url"]
    assert "acme" not in message["params"]["visit_url"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/static/conftest.py", 200), ("/static/nope", 404), ("/shop/1/nope", 404), ("/raw/secret", 200), ("/raw", 307)],
)
async def test_what_a_mount_answers_without_a_route_is_no_pageview(recorder: Recorder, path: str, status: int) -> None:
    """A mount without routes makes no pageviews, because files and scans look the same."""
    assert (await call(make(recorder), path)).status == status
    assert recorder.messages == []


async def test_a_wrong_path_is_no_pageview(recorder: Recorder) -> None:
    """Although everybody is identified here."""
    assert (await call(make(recorder), "/nope")).status == 404
    assert recorder.messages == []


async def test_a_redirect_of_slashes_is_no_pageview(recorder: Recorder) -> None:
    """The request that follows is."""
    assert (await call(make(recorder), "/users/7/")).status == 307
    assert recorder.messages == []
