"""The agent's life: with a lifespan, without one, with one the application refuses, and without keys."""

from __future__ import annotations

import asyncio
import logging
import os
from contextvars import ContextVar
from typing import Any

import pytest

from salesmachine_async import Agent, Batch, Invalid, InvalidMessage, Outcome, ThreadedAgent
from salesmachine_async.integrations import _environment
from salesmachine_async.integrations.asgi import SalesmachineMiddleware, current_tracker, get_agent, identify, tracking
from salesmachine_async.testing import Workspace
from tests.support.asgi_driver import Lifespan, call, http_scope, running
from tests.support.carriers import Carrier


class App:
    """An application that tracks everywhere; its lifespan is whatever *lifespan* does."""

    def __init__(self, lifespan: Any = None) -> None:
        self.lifespan = lifespan
        self.trackers: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            if self.lifespan is None:
                raise ValueError("Django can only handle ASGI/HTTP connections")
            await self.lifespan(receive, send)
            return
        identify("u")
        self.trackers.append(current_tracker())
        current_tracker().track(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})


async def polite(receive: Any, send: Any) -> None:
    for what in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{what}"
        await send({"type": f"lifespan.{what}.complete"})


async def silent(receive: Any, send: Any) -> None:
    """Return at once."""


async def mute(receive: Any, send: Any) -> None:
    """Listen, answer nothing."""
    await receive()


async def hasty(receive: Any, send: Any) -> None:
    """Return after the startup."""
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def curt(receive: Any, send: Any) -> None:
    """Return at the shutdown, without a word."""
    await hasty(receive, send)
    await receive()


@pytest.mark.parametrize("lifespan", [polite, silent, mute, hasty, curt, None])
async def test_the_own_agent_lives_as_long_as_the_application(workspace: Workspace, lifespan: Any) -> None:
    """The agent delivers before the shutdown completes, whatever the application does with the lifespan."""
    app = App(lifespan)
    middleware = SalesmachineMiddleware(app)
    async with running(middleware):
        await call(middleware, "/one")
        await call(middleware, "/two")
        agent = app.trackers[0].agent
        assert "open" in repr(agent)
    assert "closed" in repr(agent)
    assert [event["event_uid"] for event in workspace.events()] == ["/one", "/two"]


async def test_each_lifespan_has_an_agent_of_its_own(workspace: Workspace) -> None:
    """Test clients start and stop one application many times."""
    app = App(polite)
    middleware = SalesmachineMiddleware(app)
    for path in ("/one", "/two"):
        async with running(middleware):
            await call(middleware, path)
    assert app.trackers[0].agent is not app.trackers[1].agent
    assert len(workspace.events()) == 2


async def test_what_the_applications_own_shutdown_tracks_is_delivered(workspace: Workspace) -> None:
    """The agent ends after the application."""
    app = App()

    async def lifespan(receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        assert app.trackers[0].track("goodbye")
        await send({"type": "lifespan.shutdown.complete"})

    app.lifespan = lifespan
    middleware = SalesmachineMiddleware(app)
    async with running(middleware):
        await call(middleware, "/")
    assert [event["event_uid"] for event in workspace.events()] == ["/", "goodbye"]


async def test_a_given_agent_is_started_and_flushed_but_not_closed() -> None:
    """The owner of a given agent closes it."""
    carrier = Carrier()
    async with Agent(transport=carrier) as agent:
        middleware = SalesmachineMiddleware(App(polite), agent)
        async with running(middleware):
            await call(middleware, "/")
        assert carrier.events() == ["/"]
        assert agent.track("u", "on it goes")


async def test_a_given_agent_closed_by_the_applications_own_lifespan_is_no_trouble() -> None:
    """``async with agent`` in the user's lifespan, and the middleware: both may be."""
    carrier = Carrier()
    agent = Agent(transport=carrier)

    async def lifespan(receive: Any, send: Any) -> None:
        async with agent:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    middleware = SalesmachineMiddleware(App(lifespan), agent)
    async with running(middleware):
        await call(middleware, "/")
    assert carrier.events() == ["/"]


async def test_a_failed_startup_is_passed_on_and_ends_the_agent(workspace: Workspace) -> None:
    """The server must know; nothing stays behind."""

    async def lifespan(receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise RuntimeError("no database")

    lifetime = Lifespan(SalesmachineMiddleware(App(lifespan)))
    assert await lifetime.say("startup") == "lifespan.startup.failed"
    with pytest.raises(RuntimeError, match="no database"):
        await lifetime.task


async def test_a_lifespan_that_breaks_is_not_covered_up(workspace: Workspace) -> None:
    """An application that took part and then raised has failed."""

    async def lifespan(receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("broken")

    lifetime = Lifespan(SalesmachineMiddleware(App(lifespan)))
    with pytest.raises(RuntimeError, match="broken"):
        await lifetime.say("startup")


async def test_a_failed_startup_that_returns_is_not_spoken_over(workspace: Workspace) -> None:
    """No message follows startup.failed."""

    async def lifespan(receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})

    lifetime = Lifespan(SalesmachineMiddleware(App(lifespan)))
    assert await lifetime.say("startup") == "lifespan.startup.failed"
    await lifetime.task
    assert lifetime.outgoing.empty()


async def test_a_cancelled_lifespan_still_drains(workspace: Workspace) -> None:
    """Some servers end it like that."""
    middleware = SalesmachineMiddleware(App(polite))
    lifetime = Lifespan(middleware)
    await lifetime.say("startup")
    await call(middleware, "/")
    lifetime.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lifetime.task
    assert len(workspace.events()) == 1


async def test_without_a_lifespan_an_agent_with_a_thread_of_its_own_delivers(workspace: Workspace) -> None:
    """Without a lifespan, as in test clients, a ThreadedAgent delivers, independent of the application's loop."""
    app = App()
    for middleware in (SalesmachineMiddleware(app), SalesmachineMiddleware(app)):
        await call(middleware, "/")
    (agent,) = {tracker.agent for tracker in app.trackers}
    assert isinstance(agent, ThreadedAgent)
    assert len(await workspace.wait_for_async("/", count=2)) == 2


async def test_a_lifespan_after_requests_without_one_has_its_own_agent(workspace: Workspace) -> None:
    """Tests use the same application in either way."""
    app = App(polite)
    middleware = SalesmachineMiddleware(app)
    await call(middleware, "/before")
    async with running(middleware):
        await call(middleware, "/within")
        assert isinstance(app.trackers[1].agent, Agent)
    await call(middleware, "/after")
    assert app.trackers[0].agent is app.trackers[2].agent
    assert "closed" in repr(app.trackers[1].agent)
    assert len(await workspace.wait_for_async(count=3)) == 3


async def test_the_stand_in_follows_the_environment(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed environment makes a new agent, and the old one delivers its messages."""
    app = App()
    middleware = SalesmachineMiddleware(app)
    await call(middleware, "/old")
    monkeypatch.setenv("SALESMACHINE_API_TOKEN", f"{workspace.token}-other")
    await call(middleware, "/new")
    assert [event["event_uid"] for event in await workspace.wait_for_async()] == ["/old"]
    assert app.trackers[0].agent is not app.trackers[1].agent


async def test_one_stand_in_for_first_requests_that_come_together(workspace: Workspace) -> None:
    """Of agents made at the same time by several threads one is used, and the others are dropped unstarted."""
    agent = _environment.fallback_agent()
    assert _environment._made(tuple(map(os.environ.get, _environment.VARIABLES))) is agent
    await asyncio.sleep(0.1)  # in which it would be closed
    assert agent.track("1", "first")
    assert await workspace.wait_for_async()


async def test_requests_on_another_loop_than_the_lifespans_are_no_trouble(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent delivers where it was started; there is nothing to complain of."""
    app = App(polite)
    middleware = SalesmachineMiddleware(app)
    async with running(middleware):
        await asyncio.to_thread(asyncio.run, call(middleware, "/elsewhere"))
        await call(middleware, "/here")
    assert [event["event_uid"] for event in workspace.events()] == ["/elsewhere", "/here"]
    assert caplog.records == []


async def test_a_given_agent_without_a_lifespan_is_started_by_the_first_request() -> None:
    """A given agent starts on the loop of the first request."""
    carrier = Carrier()
    agent = Agent(transport=carrier)
    middleware = SalesmachineMiddleware(App(), agent)
    await call(middleware, "/")
    assert "open" in repr(agent)
    await agent.aclose()
    assert carrier.events() == ["/"]


async def test_the_agents_tasks_do_not_remember_the_request_that_started_it() -> None:
    """Else it, and its trace, would live as long as the agent."""
    trace = ContextVar("trace", default="none")
    seen: list[str] = []

    class Watching(Carrier):
        async def send(self, batch: Batch) -> Outcome:
            seen.append(trace.get())
            return await super().send(batch)

    trace.set("of the first request")
    agent = Agent(transport=Watching())
    await call(SalesmachineMiddleware(App(), agent), "/")
    assert (await agent.aclose()).delivered == 1
    assert seen == ["none"]


async def test_the_scope_does_not_keep_the_tracker(workspace: Workspace) -> None:
    """Scope and tracker form no reference cycle."""
    app = App(polite)
    scope = http_scope()

    async def send(message: Any) -> None:
        assert "salesmachine" in scope

    await SalesmachineMiddleware(app, contact=lambda scope: "u")(scope, None, send)  # type: ignore[arg-type]
    assert "salesmachine" not in scope
    assert app.trackers[0].track("later")


async def test_mounted_twice_one_agent_lives(workspace: Workspace) -> None:
    """The inner one has none."""
    app = App(polite)
    inner = SalesmachineMiddleware(app)
    outer = SalesmachineMiddleware(inner)
    async with running(outer):
        await call(outer, "/")
    assert len(workspace.events()) == 1
    assert inner._lifespan._agent is None


async def test_without_keys_tracking_is_off_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without keys calls are checked and nothing is sent, with one line in the log."""
    monkeypatch.delenv("SALESMACHINE_API_TOKEN", raising=False)
    app = App(polite)
    middleware = SalesmachineMiddleware(app)
    async with running(middleware):
        assert (await call(middleware, "/")).status == 200
        agent = app.trackers[0].agent
        assert agent.track("u", "e") is False
        assert agent.track("", "e") is False
        assert not (await agent.flush()).pending
        with pytest.raises(Exception, match="tracking is off"):
            await agent.ping()
    (record,) = [record for record in caplog.records if "tracking is off" in record.message]
    assert record.levelno == logging.WARNING
    assert "SALESMACHINE_API_TOKEN" in record.message


async def test_missing_keys_are_on_stderr_where_no_logging_is_configured(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without logging, as under uvicorn, the line about missing keys goes to stderr."""
    monkeypatch.delenv("SALESMACHINE_API_TOKEN", raising=False)
    monkeypatch.setattr(logging.getLogger("salesmachine_async"), "parent", None)
    async with running(SalesmachineMiddleware(App(polite))):
        pass
    line = "salesmachine_async: tracking is off: no API token: pass token= or set SALESMACHINE_API_TOKEN\n"
    assert capfd.readouterr().err == line


async def test_an_empty_token_turns_tracking_off(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The switch for an environment that has the keys otherwise."""
    monkeypatch.setenv("SALESMACHINE_API_TOKEN", "")
    middleware = SalesmachineMiddleware(App(polite))
    async with running(middleware):
        assert (await call(middleware, "/")).status == 200
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert workspace.requests() == []


async def test_unusable_keys_are_an_error_in_the_log_and_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The shop stays open; the log does not show the key."""
    monkeypatch.setenv("SALESMACHINE_API_TOKEN", "se:cret")
    middleware = SalesmachineMiddleware(App(polite))
    async with running(middleware):
        assert (await call(middleware, "/")).status == 200
    (record,) = [record for record in caplog.records if "tracking is off" in record.message]
    assert record.levelno == logging.ERROR
    assert "se:cret" not in caplog.text


async def test_an_end_that_fails_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A failed close is logged, and the shutdown completes."""

    class Unwilling(Agent):
        async def flush(self, timeout: float | None = None) -> Any:
            raise RuntimeError("unwilling")

    async with Unwilling(transport=Carrier()) as agent:
        middleware = SalesmachineMiddleware(App(polite), agent)
        async with running(middleware):
            pass
    assert "the agent could not be closed: unwilling" in caplog.text


@pytest.mark.parametrize("given", [False, True])
async def test_a_request_that_outlives_the_lifespan_tracks_without_an_exception(
    workspace: Workspace, given: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that the server cuts off: what it tracks in its clean-up goes to the agent of the process."""
    agent = Agent(transport=Carrier()) if given else None
    over, done = asyncio.Event(), asyncio.Event()
    results: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await polite(receive, send)
            return
        identify("u")
        try:
            await over.wait()
        finally:
            tracker = current_tracker()
            results.extend([tracker.track("late"), tracker.contact({"a": 1}), tracker.pageview()])
            done.set()

    middleware = SalesmachineMiddleware(app, agent)
    async with running(middleware):
        request = asyncio.ensure_future(call(middleware, "/"))
        await asyncio.sleep(0)
    if agent is not None:
        await agent.aclose()
    over.set()
    await done.wait()
    await request
    if given:
        assert results == [False] * 3
        assert "a message was dropped: the agent of the application is closed" in caplog.text
    else:
        assert results == [True] * 3
        assert len(await workspace.wait_for_async(contact_uid="u", count=2)) == 2


async def test_arguments_that_cannot_be_sent_are_no_error_of_the_request(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """A visitor typed them in. An option says otherwise, for development."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await polite(receive, send)
            return
        identify("u")
        current_tracker().track("feedback", {"text": "x" * 600_000})
        current_tracker().track("", {"a": 1})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    middleware = SalesmachineMiddleware(app)
    async with running(middleware):
        assert (await call(middleware, "/")).status == 200
    assert (await call(middleware, "/")).status == 200
    strict = SalesmachineMiddleware(app, on_invalid=Invalid.RAISE)
    async with running(strict):
        with pytest.raises(InvalidMessage):
            await call(strict, "/")
    with pytest.raises(InvalidMessage):
        await call(strict, "/")


class Hostile(logging.Handler):
    """Raises for each line, or tracks."""

    def __init__(self, *, tracks: bool) -> None:
        super().__init__()
        self.tracks = tracks
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        if not self.tracks:
            raise RuntimeError("the handler is broken")
        current_tracker().track("logged")
        _environment.fallback_agent().track("u", "logged")


@pytest.mark.parametrize("tracks", [False, True])
async def test_a_hostile_logging_handler_breaks_neither_the_start_nor_a_request(
    monkeypatch: pytest.MonkeyPatch, tracks: bool
) -> None:
    """A handler that raises has no effect without a token, with a lifespan and without one."""
    monkeypatch.delenv("SALESMACHINE_API_TOKEN", raising=False)
    handler = Hostile(tracks=tracks)
    logger = logging.getLogger("salesmachine_async")
    logger.addHandler(handler)
    try:
        app = App(polite)
        middleware = SalesmachineMiddleware(app)
        async with running(middleware):
            assert (await call(middleware, "/")).status == 200
        for _ in range(100):
            assert (await call(middleware, "/")).status == 200
    finally:
        logger.removeHandler(handler)
    assert 1 <= handler.lines < 10


async def test_the_agent_can_be_had_by_the_application(workspace: Workspace) -> None:
    """get_agent returns the agent for metrics, signals and calls outside of requests."""
    app = App(polite)
    middleware = SalesmachineMiddleware(app)
    async with running(middleware):
        await call(middleware, "/")
        agent = get_agent(middleware)
        assert agent is app.trackers[0].agent
        assert get_agent(app) is agent
        assert agent.stats().accepted == 1
    assert isinstance(get_agent(app), ThreadedAgent)
    with pytest.raises(LookupError, match="no agent for this application"):
        get_agent(object())
    with pytest.raises(LookupError, match="no agent for this application"):
        get_agent([])


async def test_a_block_outside_of_a_request_has_a_tracker(workspace: Workspace) -> None:
    """A block in a job, a thread or a task has a tracker, also a nested one."""
    agent = Agent(transport=(carrier := Carrier()))
    with tracking("u", "acme", agent=agent) as tracker:
        assert current_tracker() is tracker
        assert current_tracker().track("outer")
        with tracking("v", agent=agent):
            assert await asyncio.to_thread(lambda: current_tracker().track("inner"))
        identify("w")
        assert current_tracker().track("later")
    assert current_tracker().track("outside") is False
    await agent.aclose()
    assert [(each["contact_uid"], each["event_uid"]) for each in carrier.delivered] == [
        ("u", "outer"),
        ("v", "inner"),
        ("w", "later"),
    ]
    with tracking("x"):
        assert current_tracker().track("of the process")
    assert [event["event_uid"] for event in await workspace.wait_for_async(contact_uid="x")] == ["of the process"]
