"""A call goes to the agent: never dropped, however full it is."""

from __future__ import annotations

import asyncio

from salesmachine_async import Agent, Batch, Outcome, Verdict
from salesmachine_async.cli.importing.mapping import TrackingCall


def track(agent: Agent, call: TrackingCall) -> bool:
    """
    Make one call; False when the queue has no room for it.

    Raises:
        InvalidMessage: The agent cannot send it.
    """
    method, uid, other, params, created_at, message_id = call
    if method == "event":
        return agent.track(uid, other, params, created_at=created_at, message_id=message_id)
    if method == "contact":
        return agent.contact(uid, params, created_at=created_at, message_id=message_id)
    if method == "account":
        return agent.account(uid, params, created_at=created_at, message_id=message_id)
    return agent.alias(uid, other, message_id=message_id)


class Nowhere:
    """A transport for ``--dry-run``: all that comes this far could be sent."""

    async def send(self, batch: Batch) -> Outcome:  # noqa: ARG002 (it goes nowhere)
        """Take a batch, and let the event loop turn as a request would."""
        await asyncio.sleep(0)
        return Outcome(verdict=Verdict.DELIVERED)

    async def aclose(self) -> None:
        """Do nothing."""
