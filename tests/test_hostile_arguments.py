"""No call raises under `Invalid.REPORT`, whichever way it takes through the agent, whatever its arguments do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from salesmachine_async import Agent, Invalid, InvalidMessage, Tracker
from salesmachine_async.integrations._anonymous import AnonymousVisitors
from salesmachine_async.integrations._context import RequestTracker
from tests.support.carriers import Carrier
from tests.support.hostile import HOSTILE

# The ways through an agent: the short one, with params of its own, with a hook, with debug, not at all.
AGENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "params": {"params": {"release": "1.0"}},
    "before_send": {"before_send": lambda message: message},
    "debug": {"debug": True},
    "disabled": {"enabled": False},
}
everything = pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)


@pytest.fixture(params=AGENTS)
async def agent(request: pytest.FixtureRequest) -> AsyncIterator[Agent]:
    """Yield an agent that has not been started, so that it keeps what it accepts."""
    agent = Agent("token", "secret", transport=Carrier(), on_invalid=Invalid.REPORT, **AGENTS[request.param])
    yield agent
    await agent.aclose(0)


@pytest.mark.slow
@everything
def test_no_call_of_an_agent_raises(agent: Agent, make: Callable[[], Any]) -> None:
    """Each returns whether it was accepted."""
    for uid in ("u", 7):
        for params in (make(), {"v": make()}, {"v": [{"w": (make(),)}]}):
            assert isinstance(agent.track(uid, "e", params), bool)
            assert isinstance(agent.contact(uid, params), bool)
            assert isinstance(agent.account(uid, params), bool)
            assert isinstance(agent.pageview(uid, params), bool)
        assert isinstance(agent.track(uid, make(), {"a": 1}), bool)
        assert isinstance(agent.track(uid, "e", created_at=make()), bool)
        assert isinstance(agent.track(uid, "e", message_id=make()), bool)
        assert isinstance(agent.alias(uid, make()), bool)
        assert isinstance(agent.alias(uid, "v", message_id=make()), bool)
    assert isinstance(agent.track(make(), "e"), bool)
    assert isinstance(agent.contact(make()), bool)
    assert isinstance(agent.account(make()), bool)
    assert isinstance(agent.alias(make(), "v"), bool)


def trackers(agent: Agent, make: Callable[[], Any]) -> Iterator[tuple[Tracker, Any]]:
    """Yield trackers, and params for their calls."""
    for params in (make(), {"v": make()}, None):
        yield Tracker(agent, "u", "acme", {"b": 1}), params
        yield Tracker(agent, "u", None, {"release": 1}), params
        yield RequestTracker(agent, lambda: "u", lambda: 7), params
    for params in ({"a": 1}, {}, None):
        yield Tracker(agent, make(), make()), params
        yield RequestTracker(agent, make, make), params
        identified = RequestTracker(agent, None, None)
        identified.identify(make(), make())
        yield identified, params
        visitor = AnonymousVisitors(lambda _: make()).visitor({}, "", https=False)
        visited = RequestTracker(agent, None, None, visitor=visitor)
        visited.track("seen")
        visited.identify(make())
        yield visited, params


@pytest.mark.slow
@everything
def test_no_call_of_a_tracker_raises(agent: Agent, make: Callable[[], Any]) -> None:
    """Neither for its own arguments, nor for what it is bound to, nor for what a callable returns."""
    for tracker, params in trackers(agent, make):
        assert isinstance(tracker.track("e", params), bool)
        assert isinstance(tracker.contact(params), bool)
        assert isinstance(tracker.pageview(params), bool)


async def test_what_cannot_be_merged_leaves_the_agents_own_params() -> None:
    """A key that raises when it is compared hides neither the message nor the release; strictly, it is an error."""
    params, carrier = HOSTILE["a key that cannot be compared"](), Carrier()
    async with Agent("t", "s", transport=carrier, on_invalid=Invalid.REPORT, params={"release": "1.0"}) as agent:
        assert agent.track("u", "e", params)
        assert agent.contact("u", params)
        assert agent.stats().invalid_values == 2
    assert [message["params"] for message in carrier.delivered] == [{"release": "1.0"}] * 2
    async with Agent("t", "s", transport=carrier, params={"release": "1.0"}) as agent:
        with pytest.raises(InvalidMessage, match=r"^params: could not be read \(LookupError\)"):
            agent.track("u", "e", params)
