"""The other web examples, each under its server."""

from __future__ import annotations

import pytest

from salesmachine_async.testing import Workspace
from tests.support.example_process import served

pytestmark = pytest.mark.slow

UVICORN = ("uvicorn", "--port", "0")


@pytest.mark.parametrize(
    ("command", "status", "route"),
    [
        ((*UVICORN, "examples.starlette_app:app"), 200, "/users/{user_id}/orders/{order_id}"),
        ((*UVICORN, "examples.litestar_app:app"), 201, "/users/{user_id}/orders/{order_id}"),
        (("tests.examples.serve_aiohttp",), 200, "/users/{user_id}/orders/{order_id}"),
        (("tests.examples.serve_flask",), 200, "/users/<user_id>/orders/<order_id>"),
    ],
    ids=["starlette", "litestar", "aiohttp", "flask"],
)
def test_every_message_arrives(workspace: Workspace, command: tuple[str, ...], status: int, route: str) -> None:
    """An event and a pageview for each of ten requests; SIGTERM; all accounted for."""
    with served(workspace, *command) as server:
        for number in range(10):
            assert server.get(f"/users/u{number}/orders/{number}", "POST")[0] == status
        assert server.get("/nope")[0] == 404
        said = server.end()
    assert "Traceback" not in said
    assert "Warning" not in said
    assert workspace.summary()["events"] == 20
    for number in range(10):
        order, pageview = workspace.events(contact_uid=f"u{number}")
        assert (order["event_uid"], order["params"]) == ("order_created", {"order": str(number)})
        assert (pageview["event_uid"], pageview["params"]["visit_url"]) == ("pageview", route)
        assert pageview["params"]["status"] == status


def test_litestar_tracks_from_threads(workspace: Workspace) -> None:
    """Plain handlers track from their threads."""
    with served(workspace, *UVICORN, "examples.litestar_app:app") as server:
        assert server.get("/users/u1/letters", "POST")[0] == 201
        server.end()
    assert [event["event_uid"] for event in workspace.events()] == ["letter_sent", "pageview"]


def test_aiohttps_agent_is_in_the_application(workspace: Workspace) -> None:
    """The application has the agent, for calls without a contact."""
    with served(workspace, "tests.examples.serve_aiohttp") as server:
        assert server.get("/news")[0] == 200
        server.end()
    assert workspace.account("acme")["params"] == {"name": "Acme"}
    assert workspace.events() == []


@pytest.mark.parametrize(
    "command", [(*UVICORN, "examples.django_app:application"), ("tests.examples.serve_wsgi",)], ids=["asgi", "wsgi"]
)
def test_django_knows_who_is_logged_in(workspace: Workspace, command: tuple[str, ...]) -> None:
    """No page counts before the login, all after it do, and SIGTERM loses none."""
    with served(workspace, *command) as server:
        assert server.get("/home/")[0] == 200
        status, _, cookie = server.get("/login/42/")
        assert status == 200
        for path in ("/home/", "/orders/9/"):
            assert server.get(path, Cookie=cookie.partition(";")[0])[0] == 200
        said = server.end()
    assert "Traceback" not in said
    assert [(event["event_uid"], event["params"].get("visit_url")) for event in workspace.events()] == [
        ("pageview", "/login/<int:number>/"),
        ("pageview", "/home/"),
        ("order_created", None),
        ("pageview", "/orders/<str:order_id>/"),
    ]
    assert {event["contact_uid"] for event in workspace.events()} == {"42"}
