"""aiohttp: setup(), its typed key, sub-applications."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from salesmachine_async.integrations import aiohttp as salesmachine
from salesmachine_async.testing import Recorder, Workspace


async def page(request: web.Request) -> web.Response:
    sm = salesmachine.tracker(request)
    sm.identify(request.match_info.get("user", "u"))
    sm.track("seen")
    return web.Response(text="ok")


async def denied(request: web.Request) -> web.Response:
    salesmachine.identify("u")
    raise web.HTTPForbidden


async def broken(request: web.Request) -> web.Response:
    salesmachine.identify("u")
    raise RuntimeError("boom")


async def socket(request: web.Request) -> web.WebSocketResponse:
    salesmachine.identify("u")
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    salesmachine.current_tracker().track("over a socket")
    await ws.close()
    return ws


def make(agent: Any = None, **options: Any) -> web.Application:
    app, sub = web.Application(), web.Application()
    salesmachine.setup(app, agent, **{"pageviews": True, **options})
    app.router.add_get("/users/{user}", page)
    app.router.add_get("/denied", denied)
    app.router.add_get("/broken", broken)
    app.router.add_get("/ws", socket)
    app.router.add_get("/health", page)
    sub.router.add_get("/items/{item:\\d+}", page)
    app.add_subapp("/sub", sub)
    return app


async def get(app: web.Application, path: str) -> int:
    async with TestClient(TestServer(app)) as client, client.get(path) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize(("path", "template"), [("/users/7", "/users/{user}"), ("/sub/items/7", "/sub/items/{item}")])
async def test_the_pageview_has_the_whole_template(recorder: Recorder, path: str, template: str) -> None:
    """The template includes the prefix of a sub-application."""
    assert await get(make(recorder, client_ip=True, user_agent=True), path) == 200
    params = recorder.assert_tracked("pageview", visit_url=template, status=200, visit_ip="127.0.0.1")["params"]
    assert "aiohttp" in params["visit_agent"]


@pytest.mark.parametrize("path", ["/nope", "/health"])
async def test_wrong_and_excluded_paths_are_no_pageviews(recorder: Recorder, path: str) -> None:
    """Unknown and excluded paths are answered as always, without a pageview."""
    await get(make(recorder, exclude=["/health"], contact=lambda request: "u"), path)
    recorder.assert_not_tracked("pageview")


async def test_an_http_exception_has_its_status(recorder: Recorder) -> None:
    """aiohttp's way to answer from deep inside."""
    assert await get(make(recorder), "/denied") == 403
    recorder.assert_tracked("pageview", status=403)


async def test_a_file_has_the_status_that_is_sent(recorder: Recorder, tmp_path: Path) -> None:
    """aiohttp looks for the file after the handlers: it may be missing, known to the visitor, or wanted in part."""
    (tmp_path / "a.txt").write_text("text")
    app = make(recorder, contact=lambda request: "u")
    app.router.add_static("/static", tmp_path)
    async with TestClient(TestServer(app)) as client:
        modified = (await client.get("/static/a.txt")).headers["Last-Modified"]
        await client.get("/static/a.txt", headers={"Range": "bytes=0-1"})
        await client.get("/static/a.txt", headers={"If-Modified-Since": modified})
        await client.get("/static/none.txt")
    pages = [message["params"] for message in recorder.tracked("pageview")]
    assert [(page["visit_url"], page["status"]) for page in pages] == [
        ("/static", status) for status in (200, 206, 304, 404)
    ]


@pytest.mark.parametrize("kind", ["file", "body"])
async def test_a_client_that_goes_in_the_middle_of_a_download(recorder: Recorder, tmp_path: Path, kind: str) -> None:
    """What aiohttp sends after the middleware is aborted, too, with the status that was sent."""
    (tmp_path / "big").write_bytes(b"x" * 50_000_000)
    over = asyncio.Event()

    async def download(request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: asyncio.get_running_loop().call_soon(over.set))
        return web.FileResponse(tmp_path / "big") if kind == "file" else web.Response(body=b"x" * 50_000_000)

    app = make(recorder, contact=lambda request: "u")
    app.router.add_get("/download", download)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/download")
        assert response.status == 200
        response.close()
        await over.wait()
    recorder.assert_tracked("pageview", visit_url="/download", status=200, aborted=True)


async def test_an_exception_is_a_500(recorder: Recorder) -> None:
    """The exception reaches aiohttp unchanged, which answers 500."""
    assert await get(make(recorder), "/broken") == 500
    recorder.assert_tracked("pageview", status=500)


async def test_a_websocket_has_a_tracker_and_is_no_pageview(recorder: Recorder) -> None:
    """A WebSocket handler has a tracker, but its request is no pageview."""
    async with TestClient(TestServer(make(recorder))) as client, client.ws_connect("/ws") as ws:
        await ws.receive()
    recorder.assert_tracked("over a socket", contact_uid="u")
    recorder.assert_not_tracked("pageview")


async def test_a_client_that_goes_cancels_nothing_of_ours(recorder: Recorder) -> None:
    """A handler that is cancelled for a lost client makes an aborted pageview."""
    reached, over = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        salesmachine.identify("u")
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
        raise AssertionError

    app = make(recorder)
    app.router.add_get("/slow", slow)
    async with TestClient(TestServer(app, handler_cancellation=True)) as client:
        request = asyncio.ensure_future(client.get("/slow"))
        await reached.wait()
        request.cancel()
        await over.wait()
        await asyncio.sleep(0)
    assert "status" not in recorder.assert_tracked("pageview", aborted=True)["params"]


class PatientServer(TestServer):
    """Lets a handler run to its end when its client goes, which is aiohttp's default outside of tests."""

    async def _make_runner(self, **_: Any) -> web.AppRunner:
        return web.AppRunner(self.app)


@pytest.mark.parametrize("how", ["answers", "raises an answer", "raises"])
async def test_a_client_that_goes_gets_no_status(recorder: Recorder, how: str) -> None:
    """What a handler still does for a client that has gone is not recorded as its answer."""
    reached, over = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        salesmachine.identify("u")
        reached.set()
        while request.transport is not None:
            await asyncio.sleep(0)
        over.set()
        if how == "raises":
            raise RuntimeError
        if how == "raises an answer":
            raise web.HTTPBadRequest
        return web.Response(status=201)

    app = make(recorder)
    app.router.add_get("/slow", slow)
    async with TestClient(PatientServer(app)) as client:
        request = asyncio.ensure_future(client.get("/slow"))
        await reached.wait()
        request.cancel()
        await over.wait()
        while not recorder.tracked("pageview"):
            await asyncio.sleep(0)
    assert "status" not in recorder.assert_tracked("pageview", aborted=True)["params"]


async def test_methods_can_be_left_out(recorder: Recorder) -> None:
    """The tracker is there all the same."""
    assert await get(make(recorder, methods=("POST",)), "/users/7") == 200
    recorder.assert_tracked("seen", contact_uid="7")
    recorder.assert_not_tracked("pageview")


async def test_set_up_twice_it_works_once(recorder: Recorder) -> None:
    """The inner one passes everything through."""
    app = make(recorder)
    salesmachine.setup(app, recorder, pageviews=True)
    assert await get(app, "/users/7") == 200
    assert len(recorder.tracked("pageview")) == 1


async def test_a_failing_pageview_does_not_reach_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    """The failure of a pageview is logged, and the answer is unchanged."""

    class Broken(Recorder):
        def pageview(self, *args: Any, **kwargs: Any) -> bool:
            raise RuntimeError("broken")

    assert await get(make(Broken()), "/users/7") == 200
    assert "an automatic pageview failed: RuntimeError" in caplog.text


async def test_without_setup_the_error_says_what_to_do() -> None:
    """The first use without a setup raises an error with the fix."""
    app = web.Application()
    app.router.add_get("/", page)
    with pytest.raises(LookupError, match="setup"):
        salesmachine.tracker(_request_of(app))


def _request_of(app: web.Application) -> web.Request:
    from aiohttp.test_utils import make_mocked_request

    return make_mocked_request("GET", "/", app=app)


async def test_the_own_agent_lives_as_long_as_the_application(workspace: Workspace) -> None:
    """Sub-applications find it in config_dict; what other cleanup contexts track last is delivered."""
    app = make()

    async def other(app: web.Application) -> Any:
        yield
        app[salesmachine.AGENT].track("u", "goodbye")

    app.cleanup_ctx.append(other)
    assert await get(app, "/sub/items/7") == 200
    assert [event["event_uid"] for event in workspace.events()] == ["seen", "pageview", "goodbye"]
    assert "closed" in repr(app[salesmachine.AGENT])


def test_get_agent_returns_the_agent_of_the_application(recorder: Recorder) -> None:
    """The agent is found by the aiohttp application, before it runs as well."""
    assert salesmachine.get_agent(make(recorder)) is recorder
    with pytest.raises(LookupError, match="add the integration"):
        salesmachine.get_agent(web.Application())
