"""The capture of all agents of a process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from salesmachine_async import Agent, AgentClosed, ConnectionFailed, Invalid, InvalidMessage, ThreadedAgent
from salesmachine_async.access import AccessClient
from salesmachine_async.integrations.asgi import SalesmachineMiddleware, current_tracker, identify
from salesmachine_async.integrations.opentelemetry import UntracedTransport
from salesmachine_async.testing import Recorder, capture
from tests.support.asgi_driver import Route, call, running
from tests.support.carriers import Carrier


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port on which a connection fails the test."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.fixture
def url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_old_and_new_agents_are_captured_and_reach_no_socket(url: str) -> None:
    """Existing and new agents are recorded, with all calls; flush, ping and close report success."""
    carrier = Carrier()
    async with Agent("t", base_url=url) as old, Agent(transport=carrier) as carried:
        with capture() as recorder:
            async with Agent("t", transport=UntracedTransport("t", base_url=url)) as new:
                for agent in (old, new, carried):
                    agent.contact("u")
                    agent.account("acme")
                    agent.track("u", "e")
                    agent.pageview("u")
                    agent.alias("u", "v")
                    agent.bind("u").track("bound")
                    assert (await agent.flush()).delivered == 6
                    assert agent.stats().delivered == 6
                await old.ping()
            with pytest.raises(AgentClosed):
                new.track("u", "e")
        assert len(recorder.messages) == 18
        assert old.stats().accepted == 0
        assert carrier.delivered == []
        assert carried.track("u", "afterwards")
    assert carrier.events() == ["afterwards"]


def test_threaded_agents_are_captured_too(url: str) -> None:
    """A threaded agent is captured like any agent."""
    with capture() as recorder, ThreadedAgent("t", base_url=url) as agent:
        agent.track("u", "e")
        assert agent.flush().delivered == 1
        agent.ping()
    recorder.assert_tracked("e")


def test_each_agent_keeps_its_policies() -> None:
    """Each agent keeps its on_invalid and its before_send."""

    def redact(message: dict[str, Any]) -> dict[str, Any]:
        return {**message, "params": {}}

    strict = Agent("t")
    lenient = Agent("t", on_invalid=Invalid.REPORT, before_send=redact)
    with capture() as recorder:
        with pytest.raises(InvalidMessage):
            strict.track("", "e")
        assert lenient.track("", "e") is False
        assert lenient.track("u", "e", {"email": "private"})
    assert [message["params"] for message in recorder.messages] == [{}]


async def test_messages_queued_before_the_capture_stay_queued(url: str) -> None:
    """A message queued before the capture is neither recorded nor sent, and stays queued."""
    agent = Agent("t", base_url=url)
    agent.track("u", "before")
    with capture() as recorder:
        await agent.start()
        assert (await agent.flush()).ok
        assert agent.track("u", "within")
    assert [message["event_uid"] for message in recorder.messages] == ["within"]
    assert agent.stats().queued + agent.stats().in_flight == 1
    with capture():
        await agent.aclose()


async def test_an_application_with_the_middleware_needs_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The middleware's own agent takes its keys from the environment of the capture."""
    monkeypatch.delenv("SALESMACHINE_API_TOKEN", raising=False)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(scope["type"])
        scope["route"] = Route()
        identify("u")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    middleware = SalesmachineMiddleware(app, pageviews=True)
    with capture() as recorder:
        assert os.environ["SALESMACHINE_API_URL"] == "https://salesmachine.invalid"
        async with running(middleware):
            await call(middleware)
    recorder.assert_tracked("pageview", contact_uid="u")
    assert "SALESMACHINE_API_TOKEN" not in os.environ


async def test_an_application_started_without_keys_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that was started without keys, before the test, is captured, too."""
    monkeypatch.delenv("SALESMACHINE_API_TOKEN", raising=False)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise ValueError
        identify("u")
        current_tracker().track("e")

    middleware = SalesmachineMiddleware(app)
    async with running(middleware):
        with capture() as recorder:
            await call(middleware)
    recorder.assert_tracked("e", contact_uid="u")


async def test_the_access_client_opens_no_socket(url: str) -> None:
    """A request of the Access API fails at once, because its answer is unknown."""
    async with AccessClient("t", base_url=url) as api:
        with capture():
            with pytest.raises(ConnectionFailed, match="nothing is sent while a test captures"):
                await api.contacts.get("u")
            with pytest.raises(ConnectionFailed):
                await api.events.create("u", "e")


def test_a_separate_recorder_keeps_its_messages() -> None:
    """A separate Recorder keeps its own messages."""
    own = Recorder()
    with capture() as recorder:
        own.track("u", "mine")
        assert own.stats().accepted == 1
    assert recorder.messages == []
    own.assert_tracked("mine")


def test_captures_nest() -> None:
    """The inner recorder has the messages within, the outer one the rest; afterwards nothing is patched."""
    agent, original = Agent("t"), Agent.track
    with capture() as outer:
        agent.track("u", "one")
        with capture() as inner:
            agent.track("u", "two")
        agent.track("u", "three")
    assert [message["event_uid"] for message in inner.messages] == ["two"]
    assert [message["event_uid"] for message in outer.messages] == ["one", "three"]
    assert Agent.track is original


def test_an_exception_ends_the_capture() -> None:
    """An exception in the block removes all patches."""
    original = Agent.flush
    with pytest.raises(KeyError), capture():
        raise KeyError
    assert Agent.flush is original
