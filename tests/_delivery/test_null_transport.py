"""The transport without a network."""

from __future__ import annotations

from salesmachine_async import Agent, ConnectionFailed, Outcome, Transport
from salesmachine_async._delivery.null_transport import NullTransport


async def test_it_delivers_or_fails_as_it_was_made() -> None:
    """Every request, pings too."""
    transport: Transport = NullTransport()
    async with Agent(transport=transport) as agent:
        agent.track("u", "e")
        await agent.ping()
        assert (await agent.flush()).delivered == 1
    failing = Agent(transport=NullTransport(Outcome.failed(ConnectionFailed("off"))))
    failing.track("u", "e")
    assert (await failing.aclose(0)).delivered == 0
