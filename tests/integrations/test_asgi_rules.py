"""Which requests are pageviews, and what is known about them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from salesmachine_async import ConfigError
from salesmachine_async.integrations._context import RequestTracker, enter, leave
from salesmachine_async.integrations._route import route_template
from salesmachine_async.integrations.asgi import SalesmachineMiddleware, current_tracker, identify
from salesmachine_async.testing import Recorder
from tests.support.asgi_driver import call


class Route:
    def __init__(self, path: str) -> None:
        self.path = path


def answering(*, route: str | None = "/things/{thing}", uid: Any = "u") -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if route is not None:
            scope["route"] = Route(route)
        if uid is not None:
            identify(uid)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    return app


async def pageviews(recorder: Recorder, app: Any = None, path: str = "/things/1", **options: Any) -> list[Any]:
    """Make a request; return the params of the pageviews."""
    method, more = options.pop("method", "GET"), options.pop("scope", {})
    middleware = SalesmachineMiddleware(app or answering(), recorder, **{"pageviews": True, **options})
    await call(middleware, path, method, **more)
    return [message["params"] for message in recorder.tracked("pageview")]


async def test_by_default_there_are_none(recorder: Recorder) -> None:
    """By default requests have a context and no pageview."""
    assert await pageviews(recorder, pageviews=False) == []


async def test_anonymous_visitors_have_none(recorder: Recorder) -> None:
    """A request without a contact makes no pageview."""
    assert await pageviews(recorder, answering(uid=None)) == []


async def test_requests_without_a_route_have_none(recorder: Recorder) -> None:
    """Scanners try many paths."""
    assert await pageviews(recorder, answering(route=None), "/wp-login.php") == []


@pytest.mark.parametrize("pattern", ["/things/{thing}", "/things/1", "/things/*", "*"])
async def test_routes_and_paths_can_be_excluded(recorder: Recorder, pattern: str) -> None:
    """Pageviews are excluded by template, by path, or by a pattern of either."""
    assert await pageviews(recorder, exclude=("/health", pattern)) == []


async def test_what_is_not_excluded_counts(recorder: Recorder) -> None:
    """A pattern fits as a whole."""
    assert len(await pageviews(recorder, exclude=("/thing", "/things/", "hings/*"))) == 1


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE"])
async def test_methods_without_a_page_do_not_count(recorder: Recorder, method: str) -> None:
    """Probes and preflights."""
    assert await pageviews(recorder, method=method) == []


async def test_methods_can_be_chosen_in_any_case(recorder: Recorder) -> None:
    """The case of methods has no meaning."""
    assert len(await pageviews(recorder, methods=["get"])) == 1
    assert len(await pageviews(recorder, methods=["get"], method="POST")) == 1


@pytest.mark.parametrize("options", [{"exclude": "/health"}, {"methods": "GET"}])
def test_a_single_text_is_a_mistake(options: Any) -> None:
    """A text in the place of a list is an error, because its letters would be the patterns."""
    with pytest.raises(ConfigError, match="must be several texts"):
        SalesmachineMiddleware(answering(), None, **options)


async def test_address_and_browser_are_sent_only_on_demand(recorder: Recorder) -> None:
    """Address and browser are personal data, so they are sent on demand only."""
    (plain,) = await pageviews(recorder)
    assert plain.keys() == {"visit_url", "method", "duration", "status"}
    recorder.clear()
    (full,) = await pageviews(recorder, client_ip=True, user_agent=True)
    assert (full["visit_ip"], full["visit_agent"]) == ("203.0.113.7", "Mozilla/5.0")


@pytest.mark.parametrize("scope", [{"client": None, "headers": []}, {"client": ["", 0], "headers": ()}])
async def test_a_client_may_have_neither(recorder: Recorder, scope: Any) -> None:
    """A unix socket has no address."""
    (params,) = await pageviews(recorder, client_ip=True, user_agent=True, scope=scope)
    assert params.keys() == {"visit_url", "method", "duration", "status"}


async def test_long_user_agents_are_cut(recorder: Recorder) -> None:
    """A long User-Agent is cut, whatever its bytes."""
    (params,) = await pageviews(recorder, user_agent=True, scope={"headers": [(b"user-agent", b"\xff" * 9000)]})
    assert params["visit_agent"] == "\xff" * 512


async def test_the_contact_is_read_after_the_application_has_set_it(recorder: Recorder) -> None:
    """Authentication runs inside."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert current_tracker().contact_uid is None
        scope["user"] = {"id": 42, "team": 7}
        current_tracker().track("early")
        await answering(uid=None)(scope, receive, send)

    options: Any = {
        "contact": lambda scope: scope.get("user", {}).get("id"),
        "account": lambda scope: scope.get("user", {}).get("team"),
    }
    await pageviews(recorder, app, **options)
    recorder.assert_tracked("early", contact_uid=42, account_uid="7")
    recorder.assert_tracked("pageview", contact_uid=42, account_uid="7")


async def test_an_empty_uid_is_no_contact(recorder: Recorder) -> None:
    """Many a session has that for an anonymous visitor; it must not become an error of the handler that tracks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert current_tracker().track("seen") is False
        await answering(uid=None)(scope, receive, send)

    assert await pageviews(recorder, app, contact=lambda scope: "") == []


async def test_identify_comes_before_what_the_callables_say(recorder: Recorder) -> None:
    """identify() takes precedence over the callables, also with no contact."""
    assert len(await pageviews(recorder, contact=lambda scope: "other", account=lambda scope: "team")) == 1
    assert recorder.messages[0]["contact_uid"] == "u"
    assert "account_uid" not in recorder.messages[0]["params"]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        identify(None)
        await answering(uid=None)(scope, receive, send)

    assert len(await pageviews(recorder, application, contact=lambda scope: "other")) == 1


async def test_requests_at_the_same_time_do_not_see_each_other(recorder: Recorder) -> None:
    """Twenty at once, each identified before and tracked after the others."""
    barrier = asyncio.Barrier(20)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        uid = scope["path"].removeprefix("/")
        identify(uid)
        await barrier.wait()
        await asyncio.to_thread(current_tracker().track, "mine", {"path": uid})
        await send({"type": "http.response.start", "status": 200, "headers": []})

    middleware = SalesmachineMiddleware(app, recorder)
    await asyncio.gather(*(call(middleware, f"/{number}") for number in range(20)))
    assert sorted(int(message["contact_uid"]) for message in recorder.messages) == list(range(20))
    assert all(message["contact_uid"] == message["params"]["path"] for message in recorder.messages)


async def test_after_the_request_there_is_no_tracker(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """The context ends with the request, also where several share a task, and identify() then logs."""
    await pageviews(recorder)
    identify("u")
    tracker = current_tracker()
    assert [tracker.track("e"), tracker.contact(), tracker.pageview()] == [False] * 3
    assert tracker.contact_uid is None
    (record,) = caplog.records
    assert "identify() was dropped outside of a request: add the middleware" in record.getMessage()


def test_a_tracker_left_in_a_foreign_context_does_no_harm(recorder: Recorder) -> None:
    """A coroutine thrown away is closed by the garbage collector, wherever that runs."""
    import contextvars

    token = contextvars.copy_context().run(enter, RequestTracker(recorder, None, None))
    leave(token)


# The route's template.


def handler() -> None: ...


async def application(scope: Any, receive: Any, send: Any) -> None: ...


class Handler:
    pass


class Context:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Mount:
    path = "/static"


@pytest.mark.parametrize(
    ("scope", "template"),
    [
        ({}, None),
        ({"path_template": "/a/{b:str}"}, "/a/{b:str}"),
        ({"path_template": ""}, None),
        ({"route": Route("/a/{b}")}, "/a/{b}"),
        ({"route": Context(path_format="/f/{b}", path="/f/{b:int}")}, "/f/{b}"),
        ({"route": Mount()}, None),
        ({"route": Context()}, None),
        ({"route": object(), "endpoint": handler, "path": "/docs"}, "/docs"),
        ({"endpoint": partial(partial(handler)), "path": "/docs", "path_params": {}}, "/docs"),
        ({"endpoint": Handler, "path": "/api/docs", "app_root_path": "/api"}, "/docs"),
        ({"endpoint": Handler(), "path": "/static/7"}, None),
        ({"endpoint": handler}, None),
        ({"endpoint": handler, "path": "/docs", "app_root_path": 7}, None),
        ({"route": Mount(), "endpoint": Handler(), "path": "/static/7"}, None),
        ({"route": Mount(), "endpoint": handler, "path": "/static"}, None),
        ({"endpoint": application, "path": "/raw/secret"}, None),
        ({"endpoint": partial(application), "path": "/raw/secret"}, None),
        ({"endpoint": handler, "path": "/u/7/o/9", "path_params": {"u": "7", "o": "9"}}, "/u/{u}/o/{o}"),
        ({"endpoint": handler, "path": "/u/7/7/x", "path_params": {"a": 7, "b": "7"}}, "/u/{a}/{b}/x"),
        ({"endpoint": handler, "path": "/f/a/b", "path_params": {"rest": "a/b"}}, "/f/{rest}"),
        ({"endpoint": handler, "path": "/u/007", "path_params": {"u": 7}}, None),
        ({"fastapi": {"effective_route_context": Context(path_format="/all/{b}")}, "route": Route("/{b}")}, "/all/{b}"),
        ({"fastapi": {"effective_route_context": Context(starlette_route=Route("/st"))}}, "/st"),
        ({"fastapi": {}, "route": Route("/a")}, "/a"),
        ({"fastapi": "changed", "route": Route("/a")}, "/a"),
        ({"route": Route("/a"), "root_path": "/api/v1", "app_root_path": "/api"}, "/v1/a"),
        ({"route": Route("/a"), "root_path": "/v1"}, "/a"),
        ({"route": Route("/a"), "root_path": "/other", "app_root_path": "/api"}, "/a"),
        ({"route": Route("/a"), "root_path": None}, "/a"),
        (
            {"route": Route("/{b}"), "root_path": "/u/7/x", "app_root_path": "", "path_params": {"u": 7, "b": "7"}},
            "/u/{u}/x/{b}",
        ),
        (
            {"route": Route("/{b}"), "root_path": "/u/007", "app_root_path": "", "path_params": {"u": 7, "b": "7"}},
            "/{u}/{b}",
        ),
        (
            {"route": Route("/z"), "root_path": "/f/a/b", "app_root_path": "", "path_params": {"path": "a/b"}},
            "/f/{path}/z",
        ),
    ],
)
def test_the_template_is_read_from_what_routers_note(scope: dict[str, Any], template: str | None) -> None:
    """Litestar, FastAPI, Starlette of several ages; mounts; and never a value of a parameter."""
    assert route_template(scope) == template
