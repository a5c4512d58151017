"""Real alarms, as often as they come, while the event loop of the main thread delivers and sleeps."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import pytest

from salesmachine_async import Agent, Batching, QueueLimits
from salesmachine_async.threaded import ThreadedAgent
from tests.support.carriers import Carrier
from tests.support.core import Interruption, law_holds

SECONDS: Final = 1.0
INTERVAL: Final = 0.0007
LIMITS: Final = QueueLimits(max_messages=10**6, max_bytes=2**30)


@contextmanager
def alarms(handler: Callable[[], object]) -> Iterator[None]:
    """Have *handler* run in the main thread again and again."""

    def on_alarm(_signum: int, _frame: FrameType | None) -> None:
        handler()

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
async def test_a_handler_that_tracks_and_reads_counts(batch: int) -> None:
    """The handler's messages are delivered once, without a further call, and each of its snapshots obeys the law."""
    carrier = Carrier()
    accepted: list[bool] = []
    async with Agent(transport=carrier, batching=Batching(max_messages=batch, linger=0.001), queue=LIMITS) as agent:

        def handler() -> None:
            accepted.append(agent.track("u", "of the handler"))
            assert law_holds(agent._accumulator.counts())

        with alarms(handler):
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                accepted.append(agent.track("u", "e"))
                await asyncio.sleep(0.002)
                assert (await agent.flush()).pending == 0
        async with asyncio.timeout(20):
            while agent.stats().delivered < len(accepted):
                await asyncio.sleep(0.005)
    assert len({message["messageId"] for message in carrier.delivered}) == len(carrier.delivered) == len(accepted)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [20, 100])
def test_a_handler_that_raises_within_calls(batch: int) -> None:
    """No message is lost, duplicated or left when handlers raise within calls of the main thread."""
    carrier = Carrier()
    returned = raised = 0
    armed = False

    def handler() -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Interruption

    agent = ThreadedAgent(transport=carrier, batching=Batching(max_messages=batch, linger=0.001), queue=LIMITS)
    agent.track("u", "first")
    with alarms(handler):
        while raised < 50:
            try:
                armed = True
                while True:
                    returned += agent.track("u", "e")
            except Interruption:
                raised += 1
    report = agent.close(60)
    assert report.ok
    assert returned + 1 <= report.delivered <= returned + 1 + raised
    assert len({message["messageId"] for message in carrier.delivered}) == len(carrier.delivered) == report.delivered


@pytest.mark.slow
def test_a_handler_that_tracks_with_a_loop_in_another_thread() -> None:
    """While the main thread tracks, flushes and reads counts."""
    carrier = Carrier()
    accepted: list[bool] = []
    agent = ThreadedAgent(transport=carrier, batching=Batching(max_messages=3, linger=0.001), queue=LIMITS)
    with alarms(lambda: accepted.append(agent.track("u", "of the handler"))):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            accepted.append(agent.track("u", "e"))
            stats = agent.stats()
            assert stats.accepted == stats.delivered + stats.queued + stats.in_flight
            agent.flush(1)
    report = agent.close()
    assert report.ok
    assert report.delivered == len(accepted) == len(carrier.delivered)
