"""Nothing of ours reaches the answer: broken agents, broken callables, messages and scopes that no server makes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from salesmachine_async import Agent, Invalid
from salesmachine_async.integrations.asgi import current_tracker, identify
from salesmachine_async.testing import Recorder
from tests.support.asgi_driver import START, Route, call, routed, wrapped
from tests.support.carriers import Carrier


class Broken(Recorder):
    """A callable whose every call raises."""

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
    """Failures of the callables are logged, and a returned coroutine is closed without a warning."""

    async def asynchronous(scope: Any) -> str:
        return "u"

    def failing(scope: Any) -> str:
        raise KeyError("private")

    def cancelled(scope: Any) -> str:
        raise asyncio.CancelledError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Route()
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    for contact in (asynchronous, failing, cancelled, lambda scope: 1.5):
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
        tracker = current_tracker()
        assert [tracker.track("late"), tracker.contact(), tracker.pageview()] == [False] * 3
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    assert (await call(wrapped(careful, strict))).body == b"ok"


@pytest.mark.parametrize(
    "message", [{"type": "http.response.start"}, {"type": "http.response.start", "status": "strange"}, {}, {"type": []}]
)
async def test_messages_that_break_the_protocol_are_the_servers_affair(
    recorder: Recorder, message: dict[str, Any]
) -> None:
    """Invalid messages reach the server, and the pageview has the status 500."""

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
    """The answer is complete, whatever the scope contains."""

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
