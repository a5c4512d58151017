"""The FastAPI example under uvicorn."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.sync.client import connect

from salesmachine_async.testing import Workspace
from tests.support.example_process import served

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:websockets"), pytest.mark.slow]


def tracked(workspace: Workspace) -> list[tuple[Any, ...]]:
    return [
        (event["event_uid"], event["contact_uid"], event["params"].get("visit_url")) for event in workspace.events()
    ]


def test_every_message_arrives(workspace: Workspace) -> None:
    """Handlers of all kinds, a stream, a background task, a WebSocket, pageviews; SIGTERM; all accounted for."""
    with served(workspace, "uvicorn", "--port", "0", "examples.fastapi_app:app") as server:
        assert server.get("/health")[0] == 200
        assert server.get("/users/u1/orders/9", "POST")[0] == 200
        assert server.get("/users/u2")[0] == 200
        assert server.get("/users/u3/report")[1] == "one,two"
        assert server.get("/nope")[0] == 404
        with connect(server.url.replace("http", "ws") + "/chat/u4") as websocket:
            websocket.send("hello")
            for _ in websocket:
                pass
        said = server.end()
    assert "Traceback" not in said
    assert tracked(workspace) == [
        ("order_created", "u1", None),
        ("pageview", "u1", "/users/{user_id}/orders/{order_id}"),
        ("pageview", "u2", "/users/{user_id}"),
        ("report_streamed", "u3", None),
        ("pageview", "u3", "/users/{user_id}/report"),
        ("report_done", "u3", None),
        ("chat_message", "u4", None),
    ]
    assert workspace.contact("u2")["params"]["email"] == "u2@example.com"
    assert workspace.summary()["duplicates"] == 0


def test_a_server_that_is_down_while_the_application_ends_does_not_keep_it(workspace: Workspace) -> None:
    """503 until the deadline: the process ends, and says how much it could not deliver."""
    workspace.faults(*[503] * 1000)
    with served(workspace, "uvicorn", "--port", "0", "tests.examples.impatient_app:app") as server:
        assert server.get("/")[0] == 200
        said = server.end()
    assert "lost 1 messages (closed)" in said
    assert "Application shutdown complete" in said
    assert workspace.events() == []


def test_without_a_lifespan_what_is_left_is_delivered_at_the_exit(workspace: Workspace) -> None:
    """``--lifespan off`` and an exit that Python sees."""
    with served(workspace, "tests.examples.no_lifespan") as server:
        assert server.get("/users/u1/orders/9", "POST")[0] == 200
        workspace.wait_for("pageview")
        # The first messages were sent when the agent's thread began; these wait for their linger.
        assert server.get("/users/u1/orders/10", "POST")[0] == 200
        said = server.end()
    assert "Traceback" not in said
    assert [name for name, _, _ in tracked(workspace)] == ["order_created", "pageview"] * 2
