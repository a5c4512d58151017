"""The middleware looks on: whatever an application sends, raises or leaves out gets through as it is."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from salesmachine_async import Agent, AgentClosed, Invalid
from salesmachine_async.integrations.asgi import SalesmachineMiddleware, current_tracker, identify
from salesmachine_async.testing import Recorder
from tests.carriers import Carrier
from tests.integrations.driver import call, http_scope, websocket

START = {"type": "http.response.start", "status": 200, "headers": []}


class Route:
    path_format = "/things/{thing}"


def wrapped(app: Any, agent: Agent, **options: Any) -> SalesmachineMiddleware:
    return SalesmachineMiddleware(app, agent, **{"pageviews": True, **options})


def routed(scope: Any) -> None:
    """Do as a router does: note the route in the scope."""
    scope["route"] = Route()
    identify("u")


async def test_every_message_passes_as_it_is_and_at_once(recorder: Recorder) -> None:
    """A streamed answer: the very objects, in order, each sent before the application goes on."""
    sent = [
        START,
        *({"type": "http.response.body", "body": b"x", "more_body": True} for _ in range(3)),
        {"type": "http.response.body", "body": b"", "more_body": False},
        {"type": "http.response.trailers", "headers": []},
    ]
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        for index, message in enumerate(sent):
            await send(message)
            assert len(got) == index + 1
            assert got[-1] is message

    async def send(message: Any) -> None:
        got.append(message)

    await wrapped(app, recorder)(http_scope(), None, send)  # type: ignore[arg-type]
    assert len(got) == len(sent)
    recorder.assert_tracked("pageview", contact_uid="u", visit_url="/things/{thing}", status=200, method="GET")


async def test_the_pageview_comes_with_the_last_piece_not_with_the_end_of_background_tasks(recorder: Recorder) -> None:
    """An application may work on for long after its answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})
        assert len(recorder.tracked("pageview")) == 1
        current_tracker().track("afterwards")

    await call(wrapped(app, recorder))
    assert [message["event_uid"] for message in recorder.messages] == ["pageview", "afterwards"]


async def test_a_file_sent_by_path_is_an_answer(recorder: Recorder) -> None:
    """Servers with the pathsend extension get one message in place of the body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        await send({"type": "http.response.pathsend", "path": "/tmp/file"})

    await call(wrapped(app, recorder))
    assert "aborted" not in recorder.assert_tracked("pageview")["params"]


async def test_a_file_sent_by_descriptor_is_an_answer(recorder: Recorder) -> None:
    """The zero-copy extension stands for the body as well."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        await send({"type": "http.response.zerocopysend", "file": 3, "more_body": True})
        await send({"type": "http.response.zerocopysend", "file": 3})

    await call(wrapped(app, recorder))
    assert "aborted" not in recorder.assert_tracked("pageview")["params"]


async def test_an_answer_that_goes_on_after_its_end_is_one_pageview(recorder: Recorder) -> None:
    """Servers drop what comes after a disconnect without a word."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        await send({"type": "http.response.body"})
        await send({"type": "http.response.body"})

    await call(wrapped(app, recorder))
    assert len(recorder.messages) == 1


async def test_an_exception_before_the_answer_is_a_500_and_passes_untouched(recorder: Recorder) -> None:
    """The same exception, not wrapped; its text is nowhere in the pageview."""
    boom = RuntimeError("secret")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        raise boom

    with pytest.raises(RuntimeError) as caught:
        await call(wrapped(app, recorder))
    assert caught.value is boom
    assert caught.value.__context__ is None
    params = recorder.assert_tracked("pageview", status=500)["params"]
    assert "aborted" not in params
    assert "secret" not in str(params)


async def test_an_exception_in_the_middle_of_the_answer_leaves_its_status_and_aborted(recorder: Recorder) -> None:
    """The client saw a 200 that broke off."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await call(wrapped(app, recorder))
    recorder.assert_tracked("pageview", status=200, aborted=True)


async def test_an_application_that_returns_without_an_answer_is_a_500(recorder: Recorder) -> None:
    """Servers answer 500 in its place."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)

    await call(wrapped(app, recorder))
    recorder.assert_tracked("pageview", status=500)


async def test_a_cancelled_request_is_aborted_and_stays_cancelled(recorder: Recorder) -> None:
    """Servers cancel when the client goes away."""
    reached = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(call(wrapped(app, recorder)))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "status" not in recorder.assert_tracked("pageview", aborted=True)["params"]


async def test_a_client_that_goes_in_the_middle_is_aborted(recorder: Recorder) -> None:
    """The server's send() raises; the final piece never comes; the error is the application's to handle."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        with pytest.raises(OSError, match="gone"):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    await wrapped(app, recorder)(http_scope(), None, send)  # type: ignore[arg-type]
    recorder.assert_tracked("pageview", status=200, aborted=True)


async def test_an_answer_ended_for_a_client_that_is_gone_is_aborted(recorder: Recorder) -> None:
    """As Starlette's BaseHTTPMiddleware does: told of the disconnect, it ends the stream as if that were all."""
    gone = {"type": "http.disconnect"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        assert await receive() is gone
        await send({"type": "http.response.body"})
        assert await receive() is gone  # after the end it is nothing special

    async def receive() -> Any:
        return gone

    async def send(message: Any) -> None:
        pass

    await wrapped(app, recorder)(http_scope(), receive, send)
    assert len(recorder.messages) == 1
    recorder.assert_tracked("pageview", status=200, aborted=True)


async def test_a_websocket_has_a_tracker_and_is_no_pageview(recorder: Recorder) -> None:
    """Context for both kinds of connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send({"type": "websocket.accept"})
        current_tracker().track("said")

    answer = await websocket(wrapped(app, recorder), "/")
    assert answer.kinds == ["websocket.accept"]
    assert [message["event_uid"] for message in recorder.messages] == ["said"]


@pytest.mark.parametrize("kind", ["websocket.close", "websocket.http.response.start"])
async def test_a_handshake_that_is_denied_passes_as_it_is(recorder: Recorder, kind: str) -> None:
    """In either way that ASGI knows; it is no pageview either."""
    messages: list[dict[str, Any]] = [{"type": kind, "code": 1008, "status": 403, "headers": []}]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        for message in messages:
            await send(message)

    answer = await websocket(wrapped(app, recorder, contact=lambda scope: "u"), "/")
    assert all(got is sent for got, sent in zip(answer.messages, messages, strict=True))
    assert recorder.messages == []


async def test_a_websocket_that_breaks_off_raises_what_it_raised(recorder: Recorder) -> None:
    """And its tracker is gone from the context."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send({"type": "websocket.accept"})
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        await websocket(wrapped(app, recorder), "/")
    with pytest.raises(LookupError):
        current_tracker()


async def test_unknown_kinds_of_scopes_pass_through(recorder: Recorder) -> None:
    """What a later version of ASGI brings is not touched."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope, receive, send])

    scope = {"type": "webtransport"}
    receive, send = object(), object()
    await wrapped(app, recorder)(scope, receive, send)  # type: ignore[arg-type]
    assert seen == [{"type": "webtransport"}, receive, send]
    assert seen[0] is scope


async def test_mounted_twice_it_works_once(recorder: Recorder) -> None:
    """The inner one passes everything through."""
    trackers: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        trackers.append(current_tracker())
        await send(START)
        await send({"type": "http.response.body"})

    outer = wrapped(wrapped(app, Recorder()), recorder)
    await call(outer)
    assert len(recorder.messages) == 1
    assert trackers[0].agent is recorder


async def test_routers_write_into_the_scope_of_the_server(recorder: Recorder) -> None:
    """Middleware outside of ours reads there what was routed; a copy would hide it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)

    scope = http_scope()
    await wrapped(app, recorder)(scope, None, None)  # type: ignore[arg-type]
    assert isinstance(scope["route"], Route)


class Broken(Recorder):
    """Whose every call raises."""

    def pageview(self, *args: Any, **kwargs: Any) -> bool:
        raise RuntimeError("broken")

    async def start(self) -> None:
        raise RuntimeError("broken")


async def test_our_own_failures_do_not_reach_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    """An agent that raises at everything: the answer is whole, the log has a line for each kind."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    answer = await call(wrapped(app, Broken()))
    assert (answer.status, answer.body) == (200, b"ok")
    assert "the agent could not be started: broken" in caplog.text
    assert "an automatic pageview failed: RuntimeError" in caplog.text


async def test_callables_that_raise_or_return_nonsense_are_only_logged(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Also a coroutine, which nobody awaits: it is closed, so it does not even warn."""

    async def asynchronous(scope: Any) -> str:
        return "u"

    def failing(scope: Any) -> str:
        raise KeyError("private")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Route()
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    for contact in (asynchronous, failing, lambda scope: 1.5):
        assert (await call(wrapped(app, recorder, contact=contact))).body == b"ok"
    assert recorder.messages == []
    assert "must return a str, an int or None, not coroutine" in caplog.text
    assert "private" not in caplog.text


async def test_a_closed_agent_answers_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """An agent given to the middleware and closed too early refuses its messages, not the requests."""
    agent = Agent(transport=Carrier(), on_invalid=Invalid.REPORT)
    await agent.aclose()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        assert current_tracker().track("late") is False
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    with caplog.at_level(logging.WARNING):
        assert (await call(wrapped(app, agent))).body == b"ok"
    strict = Agent(transport=Carrier())
    await strict.aclose()

    async def careful(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        with pytest.raises(AgentClosed):
            current_tracker().track("late")
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    assert (await call(wrapped(careful, strict))).body == b"ok"


@pytest.mark.parametrize(
    "message", [{"type": "http.response.start"}, {"type": "http.response.start", "status": "strange"}, {}, {"type": []}]
)
async def test_messages_that_break_the_protocol_are_the_servers_affair(
    recorder: Recorder, message: dict[str, Any]
) -> None:
    """They pass as well; the pageview knows no better than 500."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(message)

    assert (await call(wrapped(app, recorder))).messages == [message]
    recorder.assert_tracked("pageview", status=500)


@pytest.mark.parametrize(
    "strange",
    [
        {"method": None},
        {"method": ["GET"]},
        {"path": None},
        {"headers": None},
        {"headers": [("user-agent", "text")]},
        {"headers": [b"broken"]},
        {"headers": [(b"user-agent", None)]},
        {"client": 7},
        {"client": ()},
        {"root_path": 7, "app_root_path": 7},
        {"route": 7, "endpoint": 7, "fastapi": 7, "path_params": 7, "path_template": 7},
    ],
    ids=str,
)
async def test_a_strange_scope_is_the_applications_affair(recorder: Recorder, strange: dict[str, Any]) -> None:
    """Whatever a server, or a middleware outside, has put there: the answer is whole."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        identify("u")
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    tracked = wrapped(app, recorder, client_ip=True, user_agent=True, exclude=["/x"])

    async def outside(scope: Any, receive: Any, send: Any) -> None:
        await tracked({**scope, **strange}, receive, send)

    answer = await call(outside)
    assert (answer.status, answer.body) == (200, b"ok")


async def test_an_application_that_breaks_the_scope_is_answered_all_the_same(recorder: Recorder) -> None:
    """Emptied, or with an object in it that raises at every look."""

    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        identify("u")
        hostile = scope["path"] == "/hostile"
        scope.clear()
        if hostile:
            scope.update(route=Hostile(), endpoint=Hostile(), fastapi=Hostile(), method="GET")
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    for path in ("/emptied", "/hostile"):
        assert (await call(wrapped(app, recorder), path)).body == b"ok"


@pytest.mark.parametrize("uid", ["\x00\x1b[31m", "a\nb", "\ud800", " " * 50, "u" * 100_000, -1, True])
async def test_a_strange_uid_does_not_reach_the_answer(recorder: Recorder, uid: Any) -> None:
    """Recorded if it can be sent; else a line in the log."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Route()
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    answer = await call(wrapped(app, recorder, contact=lambda scope: uid, account=lambda scope: uid))
    assert (answer.status, answer.body) == (200, b"ok")
