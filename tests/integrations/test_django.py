"""Django, under ASGI with the wrapper, and under WSGI without."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test.utils import override_settings

from salesmachine_async.integrations import _environment
from salesmachine_async.integrations.asgi import SalesmachineMiddleware
from salesmachine_async.integrations.django import get_agent
from salesmachine_async.testing import Recorder, Workspace
from tests.integrations.django_project import cookie_of
from tests.support.asgi_driver import call, running

pytestmark = pytest.mark.filterwarnings(
    # Django's own: a plain generator under ASGI.
    "ignore:StreamingHttpResponse must consume synchronous iterators"
)


async def asgi(recorder: Recorder, path: str, user: int | None = 42, **options: Any) -> int:
    app = SalesmachineMiddleware(ASGIHandler(), recorder, **{"pageviews": True, **options})
    headers = [(b"host", b"example.com"), *([cookie_of(user)] if user is not None else [])]
    return (await call(app, path, headers=headers)).status


async def test_the_logged_in_user_is_the_contact_of_an_async_view(recorder: Recorder) -> None:
    """Loaded the asynchronous way, after the view, which did not ask for it."""
    assert await asgi(recorder, "/async/") == 200
    recorder.assert_tracked("pageview", contact_uid=42, visit_url="/async/", status=200)


async def test_the_logged_in_user_is_the_contact_of_a_sync_view(recorder: Recorder) -> None:
    """A sync view may load the user from the database in its thread."""
    assert await asgi(recorder, "/sync/7/") == 200
    recorder.assert_tracked("seen in a thread", contact_uid=42)
    recorder.assert_tracked("pageview", contact_uid=42, visit_url="/sync/<int:number>/")


async def test_an_async_view_that_has_loaded_the_user_tracks_for_them(recorder: Recorder) -> None:
    """On the event loop only a user that is already loaded is used."""
    assert await asgi(recorder, "/tracking/", pageviews=False) == 200
    recorder.assert_tracked("seen on the loop", contact_uid=42)
    recorder.assert_not_tracked("pageview")


async def test_identify_comes_first(recorder: Recorder) -> None:
    """identify() takes precedence over the user who is logged in."""
    assert await asgi(recorder, "/identified/") == 200
    recorder.assert_tracked("pageview", contact_uid="by hand", account_uid="acme")


async def test_the_wrappers_own_callable_comes_before_the_user(recorder: Recorder) -> None:
    """The callable of the wrapper takes precedence over the user."""
    assert await asgi(recorder, "/async/", contact=lambda scope: "said") == 200
    recorder.assert_tracked("pageview", contact_uid="said")


@pytest.mark.parametrize("path", ["/async/", "/sync/7/", "/streamed/"])
async def test_anonymous_visitors_have_no_pageview(recorder: Recorder, path: str) -> None:
    """Anonymous visitors are answered as always, without a pageview."""
    assert await asgi(recorder, path, user=None) == 200
    assert recorder.messages == []


async def test_a_wrong_path_is_no_pageview(recorder: Recorder) -> None:
    """An unknown path makes no pageview, even for a user who is logged in."""
    assert await asgi(recorder, "/nope/") == 404
    assert recorder.messages == []


async def test_a_broken_view_is_a_500(recorder: Recorder) -> None:
    """Django has made the answer by then."""
    assert await asgi(recorder, "/broken/") == 500
    recorder.assert_tracked("pageview", contact_uid="u", status=500)


async def test_a_user_that_cannot_be_loaded_is_only_logged(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """The database is down, the page is up."""
    assert await asgi(recorder, "/async/", user=13) == 200
    assert recorder.messages == []
    assert "request.auser() raised RuntimeError" in caplog.text


async def test_without_authentication_there_is_no_user(recorder: Recorder) -> None:
    """The middleware needs none."""
    with override_settings(MIDDLEWARE=["salesmachine_async.integrations.django.SalesmachineMiddleware"]):
        assert await asgi(recorder, "/async/") == 200
        assert await asgi(recorder, "/sync/7/") == 200
    assert recorder.messages == []


async def test_the_contact_and_account_of_the_settings_are_called(recorder: Recorder) -> None:
    """The callables of the settings get the request, not the scope."""
    options = {"contact": lambda request: request.path, "account": lambda request: 7}
    with override_settings(SALESMACHINE=options):
        assert await asgi(recorder, "/async/") == 200
    recorder.assert_tracked("pageview", contact_uid="/async/", account_uid="7")


async def test_the_wrapper_answers_the_lifespan_for_django(workspace: Workspace) -> None:
    """Django raises ValueError at it; the server sees a start and an end, and everything is delivered."""
    app = SalesmachineMiddleware(ASGIHandler(), pageviews=True)
    async with running(app):
        headers = [(b"host", b"example.com"), cookie_of(42)]
        assert (await call(app, "/async/", headers=headers)).status == 200
    assert [event["contact_uid"] for event in workspace.events()] == ["42"]


# Under WSGI.


def wsgi(
    path: str, user: int | None = 42, *, method: str = "GET", body: Any = None, parts: int | None = None
) -> tuple[str, bytes]:
    """Make a request to a WSGI application; returns the status and the body."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SERVER_NAME": "example.com",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "203.0.113.7",
        "HTTP_USER_AGENT": "Mozilla/5.0",
        "wsgi.input": body or io.BytesIO(),
        "CONTENT_LENGTH": "9" if body else "",
        "wsgi.url_scheme": "http",
    }
    if user is not None:
        environ["HTTP_COOKIE"] = cookie_of(user)[1].decode()
    statuses: list[str] = []
    response = WSGIHandler()(environ, lambda status, headers: statuses.append(status))  # type: ignore[arg-type]
    answered = b"".join(islice(response, parts))
    response.close()
    return statuses[0][:3], answered


@pytest.fixture
def settings_with(recorder: Recorder) -> Iterator[dict[str, Any]]:
    options: dict[str, Any] = {"agent": recorder, "pageviews": True}
    with override_settings(SALESMACHINE=options):
        yield options


def test_wsgi_pageviews_come_from_the_middleware(recorder: Recorder, settings_with: dict[str, Any]) -> None:
    """Route, user, and on demand address and browser."""
    settings_with.update(client_ip=True, user_agent=True)
    assert wsgi("/sync/7/") == ("200", b"ok")
    recorder.assert_tracked(
        "pageview",
        contact_uid=42,
        visit_url="/sync/<int:number>/",
        status=200,
        visit_ip="203.0.113.7",
        visit_agent="Mozilla/5.0",
    )
    recorder.assert_tracked("seen in a thread", contact_uid=42)


def test_wsgi_errors_are_500(recorder: Recorder, settings_with: dict[str, Any]) -> None:
    """An error makes a pageview with 500, and a stream one with 200 when it begins."""
    assert wsgi("/broken/")[0] == "500"
    recorder.assert_tracked("pageview", status=500)
    recorder.clear()
    assert wsgi("/streamed/") == ("200", b"ab")
    assert [message["event_uid"] for message in recorder.messages] == ["row", "row", "pageview"]
    recorder.assert_tracked("pageview", visit_url="/streamed/", status=200)
    assert wsgi("/file/") == ("200", b"file")
    recorder.assert_tracked("pageview", visit_url="/file/", status=200)


@pytest.mark.parametrize("path", ["/streamed/", "/streamed-async/"])
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning")
async def test_asgi_streams_have_the_tracker(recorder: Recorder, path: str) -> None:
    """A stream has the tracker, and its pageview comes at its end."""
    application = SalesmachineMiddleware(ASGIHandler(), recorder, pageviews=True)
    answer = await call(application, path, headers=[cookie_of(42)])
    assert answer.body == b"ab"
    assert [message["event_uid"] for message in recorder.messages] == ["row", "row", "pageview"]


def test_wsgi_a_visitor_who_leaves_in_the_middle_of_the_upload(
    recorder: Recorder, settings_with: dict[str, Any]
) -> None:
    """Django handles the error of a broken upload."""

    class Body:
        def read(self, *_: Any) -> bytes:
            raise OSError("the connection is closed")

        readline = read

    status, _ = wsgi("/uploaded/", method="POST", body=Body())
    assert status in ("400", "500")
    assert "status" not in recorder.assert_tracked("pageview", aborted=True)["params"]


def test_wsgi_a_visitor_who_leaves_in_the_middle_of_a_stream(recorder: Recorder, settings_with: dict[str, Any]) -> None:
    """Aborted, with the status that was sent."""
    assert wsgi("/streamed/", parts=1) == ("200", b"a")
    recorder.assert_tracked("pageview", aborted=True, status=200)


def test_wsgi_async_views_work_too(recorder: Recorder, settings_with: dict[str, Any]) -> None:
    """Django runs a loop for them."""
    assert wsgi("/async/") == ("200", b"ok")
    recorder.assert_tracked("pageview", contact_uid=42, visit_url="/async/")


@pytest.mark.parametrize("excluded", ["/sync/*", "/sync/<int:number>/"])
def test_wsgi_routes_can_be_excluded(recorder: Recorder, settings_with: dict[str, Any], excluded: str) -> None:
    """Pageviews are excluded by path or by route."""
    settings_with.update(exclude=[excluded])
    assert wsgi("/sync/7/") == ("200", b"ok")
    recorder.assert_not_tracked("pageview")


def test_wsgi_a_failing_pageview_does_not_reach_the_answer(
    settings_with: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The failure of a pageview is logged, and the answer is unchanged."""

    class Broken(Recorder):
        def pageview(self, *args: Any, **kwargs: Any) -> bool:
            raise RuntimeError("broken")

    settings_with["agent"] = Broken()
    assert wsgi("/sync/7/") == ("200", b"ok")
    assert "an automatic pageview failed: RuntimeError" in caplog.text


def test_wsgi_has_one_threaded_agent_for_the_process(workspace: Workspace) -> None:
    """The first request makes the agent of the process, from the environment."""
    with override_settings(SALESMACHINE={"pageviews": True}):
        wsgi("/sync/7/")
        wsgi("/sync/8/")
    assert _environment.fallback_agent().close().ok
    assert workspace.summary()["pageviews"] == 2


def test_wsgi_without_keys_is_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without keys nothing is sent, with one line in the log."""
    monkeypatch.delenv("SALESMACHINE_API_TOKEN", raising=False)
    with override_settings(SALESMACHINE={"pageviews": True}):
        assert wsgi("/sync/7/") == ("200", b"ok")
    assert "tracking is off: no API token" in caplog.text


def test_get_agent_returns_the_agent_of_the_project(recorder: Recorder, settings_with: dict[str, Any]) -> None:
    """The agent is the one of the setting, or of the ASGI wrapper."""
    assert get_agent() is recorder
    other = Recorder()
    assert get_agent(SalesmachineMiddleware(ASGIHandler(), other)) is other
    del settings_with["agent"]
    assert get_agent() is _environment.fallback_agent()


def test_a_setting_that_is_a_mistake_is_found_at_the_start() -> None:
    """Django loads its middleware then."""
    with (
        override_settings(SALESMACHINE={"exclude": "/admin/*"}),
        pytest.raises(ValueError, match="exclude must be several texts"),
    ):
        WSGIHandler()


@pytest.mark.slow
def test_the_module_needs_no_configured_settings() -> None:
    """The module can be imported before the settings are configured."""
    source = "import salesmachine_async.integrations.django"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0
