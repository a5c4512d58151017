"""The delivery of what dead processes left, by an agent that tracks nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from salesmachine_async import Agent, Batch, HttpTransport, Outcome, Retry, Spool, State, Timeouts
from salesmachine_async.errors import DeliveryError
from salesmachine_async.report import LossReason

if TYPE_CHECKING:
    from salesmachine_async.cli.credentials import ApiKeys

POLL_SECONDS = 0.05
# For the request in flight when the time is over: cut off, it might be sent twice.
CLOSE_SECONDS = 1.0
# The writers' own bound holds for them; this command writes only what it finds rejected or damaged.
NO_BOUND = 2**50


@dataclass(slots=True)
class DrainResult:
    """
    Outcomes of the messages.

    Attributes:
        delivered: Messages delivered.
        lost: Messages lost, by reason.
        rejected_kept: Of those rejected, how many were written to ``rejected.ndjson``.
        complete: Whether everything was read and has an outcome.
        parked: Whether the server rejects all requests.
        error: The last error; None after a success.
        seconds: The duration.
    """

    delivered: int = 0
    lost: Counter[LossReason] = field(default_factory=Counter[LossReason])
    rejected_kept: int = 0
    complete: bool = False
    parked: bool = False
    error: DeliveryError | None = None
    seconds: float = 0.0


class _Readdressed:
    """
    The transport of the own key, for messages that were meant for another destination.

    Args:
        transport: The transport.
        destination: Whose messages it takes.
    """

    def __init__(self, transport: HttpTransport, destination: int) -> None:
        self.destination = destination
        self._transport = transport

    async def send(self, batch: Batch) -> Outcome:
        """Send one batch."""
        return await self._transport.send(batch)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


async def drain(
    path: str,
    keys: ApiKeys,
    transport: dict[str, Any],
    *,
    accept: Sequence[int],
    wait: float,
    progress: Callable[[int], None],
) -> DrainResult:
    """
    Deliver what dead processes left, until nothing is left or the time is over.

    Args:
        path: The path of the spool.
        keys: The keys to deliver with.
        transport: Further arguments of `HttpTransport`.
        accept: Destinations whose messages are delivered with these keys, too.
        wait: Seconds.
        progress: Called with the number of messages that have an outcome.
    """
    result, begun = DrainResult(), time.monotonic()
    for destination in (None, *accept):
        carrier = HttpTransport(keys.token, keys.secret, base_url=keys.base_url, **transport)
        if destination == carrier.destination:
            continue
        agent = Agent(
            enabled=True,
            spool=Spool(path, recover_first=0.0, max_bytes=NO_BOUND),
            retry=Retry(wait_max=5.0),
            timeouts=Timeouts(close=CLOSE_SECONDS),
            transport=carrier if destination is None else _Readdressed(carrier, destination),
        )
        async with agent:
            await _until_done(agent, result, begun + wait, progress)
        _add_up(agent, result)
        if not result.complete:
            break
    result.seconds = time.monotonic() - begun
    return result


async def _until_done(agent: Agent, result: DrainResult, until: float, progress: Callable[[int], None]) -> None:
    before = result.delivered + sum(result.lost.values())
    while True:
        stats = agent.stats()
        result.error = stats.last_error
        result.parked = stats.state is State.PARKED
        result.complete = bool(stats.spool and stats.spool.searches) and not stats.queued and not stats.in_flight
        progress(before + stats.delivered + sum(stats.lost.values()))
        if result.complete or result.parked or time.monotonic() >= until:
            return
        await asyncio.sleep(POLL_SECONDS)


def _add_up(agent: Agent, result: DrainResult) -> None:
    stats = agent.stats()
    result.delivered += stats.delivered
    result.lost.update(stats.lost)
    result.rejected_kept += stats.spool.rejected_kept if stats.spool else 0
