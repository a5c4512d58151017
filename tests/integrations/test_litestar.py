"""Litestar: the plug-in, because its middleware hears nothing of the lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from litestar import Litestar, Router, WebSocket, get, websocket
from litestar.params import FromPath

from salesmachine_async import Agent
from salesmachine_async.integrations.litestar import SalesmachinePlugin, Tracker, current_tracker, get_agent, identify
from salesmachine_async.testing import Recorder, Workspace
from tests.support.asgi_driver import call, running
from tests.support.asgi_driver import websocket as open_websocket


@get("/users/{user:str}")
async def profile(user: FromPath[str], salesmachine: Tracker) -> str:
    salesmachine.identify(user)
    salesmachine.track("seen")
    return "ok"


@get("/threads/{user:str}", sync_to_thread=True)
def threaded(user: FromPath[str]) -> str:
    identify(user)
    current_tracker().track("in a thread")
    return "ok"


@get("/health")
async def health() -> str:
    identify("u")
    return "ok"


@websocket("/ws")
async def ws(socket: WebSocket, salesmachine: Tracker) -> None:  # type: ignore[type-arg]
    await socket.accept()
    salesmachine.identify("u")
    salesmachine.track("over a socket")
    await socket.close()


def make(recorder: Recorder) -> Litestar:
    return Litestar(
        [Router("/v1", route_handlers=[profile, threaded]), health, ws],
        plugins=[SalesmachinePlugin(recorder, pageviews=True, exclude=("/health",))],
    )


async def test_the_pageview_has_the_whole_template(recorder: Recorder) -> None:
    """The template includes the prefix of a router."""
    assert (await call(make(recorder), "/v1/users/7")).status == 200
    recorder.assert_tracked("seen", contact_uid="7")
    recorder.assert_tracked("pageview", contact_uid="7", visit_url="/v1/users/{user}", status=200)


async def test_a_plain_function_tracks_from_its_thread(recorder: Recorder) -> None:
    """A sync handler tracks with the functions instead of the dependency."""
    assert (await call(make(recorder), "/v1/threads/7")).status == 200
    recorder.assert_tracked("in a thread", contact_uid="7")
    recorder.assert_tracked("pageview", contact_uid="7")


async def test_excluded_and_wrong_paths_are_no_pageviews(recorder: Recorder) -> None:
    """Excluded and unknown paths are answered as always, without a pageview."""
    app = make(recorder)
    assert (await call(app, "/health")).status == 200
    assert (await call(app, "/nope")).status == 404
    assert recorder.messages == []


async def test_a_websocket_handler_has_the_tracker(recorder: Recorder) -> None:
    """A WebSocket handler has the tracker as the same dependency."""
    await open_websocket(make(recorder), "/ws")
    recorder.assert_tracked("over a socket", contact_uid="u")


async def test_the_agent_ends_after_everything_else(workspace: Workspace) -> None:
    """Messages tracked by the end of the application's own lifespan are delivered."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        yield
        app.state.tracker.track("goodbye")

    @get("/{user:str}")
    async def hello(user: FromPath[str], salesmachine: Tracker) -> str:
        salesmachine.identify(user)
        app.state.tracker = salesmachine
        return "ok"

    async def on_shutdown(app: Litestar) -> None:
        app.state.tracker.track("really")

    app = Litestar([hello], lifespan=[lifespan], on_shutdown=[on_shutdown], plugins=[SalesmachinePlugin()])
    async with running(app):
        assert (await call(app, "/u")).status == 200
    assert sorted(event["event_uid"] for event in workspace.events()) == ["goodbye", "really"]
    assert "closed" in repr(app.state.tracker.agent)


async def test_get_agent_returns_the_agent_of_the_application(workspace: Workspace, recorder: Recorder) -> None:
    """The agent is found by the Litestar object, which cannot be referred to weakly."""
    app = make(recorder)
    assert get_agent(app) is recorder
    async with running(app):
        assert get_agent(app) is recorder
    own = Litestar([], plugins=[SalesmachinePlugin()])
    async with running(own):
        assert isinstance(get_agent(own), Agent)
    with pytest.raises(LookupError, match="add the SalesmachinePlugin"):
        get_agent(Litestar([]))
