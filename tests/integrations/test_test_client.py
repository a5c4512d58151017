"""Starlette's TestClient, which most tests of web applications use: other threads, and a new event loop each time."""

from __future__ import annotations

import asyncio
import gc

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from salesmachine_async.integrations.fastapi import SalesmachineMiddleware, Tracker
from salesmachine_async.testing import Workspace, capture


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(SalesmachineMiddleware, pageviews=True)

    @app.get("/async/{user}")
    async def asynchronous(user: str, sm: Tracker) -> None:
        sm.identify(user)

    @app.get("/def/{user}")
    def threaded(user: str, sm: Tracker) -> None:
        sm.identify(user)

    return app


def test_captured_with_and_without_the_lifespan(app: FastAPI) -> None:
    """Recorded when the request returns; twice in a row."""
    with capture() as recorder:
        for _ in range(2):
            with TestClient(app) as client:
                assert client.get("/async/u1").status_code == 200
                recorder.assert_tracked("pageview", contact_uid="u1", visit_url="/async/{user}")
            recorder.clear()
        assert TestClient(app).get("/def/u2").status_code == 200
        recorder.assert_tracked("pageview", contact_uid="u2", visit_url="/def/{user}")


def test_delivered_with_the_lifespan(app: FastAPI, workspace: Workspace) -> None:
    """A real server has the messages by the end of the block."""
    with TestClient(app) as client:
        for number in range(5):
            client.get(f"/def/u{number}")
    assert [event["contact_uid"] for event in workspace.events()] == [f"u{number}" for number in range(5)]


def test_delivered_without_the_lifespan(app: FastAPI, workspace: Workspace) -> None:
    """Messages survive a client that ends its loop with each request, as in most tests."""
    client = TestClient(app)
    for number in range(5):
        assert client.get(f"/def/u{number}").status_code == 200
    assert len(workspace.wait_for("pageview", count=5)) == 5
    assert workspace.summary()["duplicates"] == 0


# The connections of loops that are no more can only be collected, and say so: that is what a lifespan is for.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_the_lifespan_a_given_agent_goes_through_many_loops(workspace: Workspace) -> None:
    """A loop for each request; nothing is lost on the way, and the end may come in yet another loop."""
    agent = workspace.agent()
    app = FastAPI()
    app.add_middleware(SalesmachineMiddleware, agent=agent)

    @app.get("/{user}")
    def tracked(user: str, sm: Tracker) -> None:
        sm.identify(user)
        sm.track("seen")

    for number in range(5):
        assert TestClient(app).get(f"/u{number}").status_code == 200
    assert asyncio.run(agent.aclose()).delivered == 5
    assert len(workspace.events()) == 5
    # Each once, although a request that ended with its loop was perhaps repeated: with the same ids.
    assert len({event["message_id"] for event in workspace.events()}) == 5
    gc.collect()  # here, where it is expected
