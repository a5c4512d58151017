"""Many threads, one agent."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress

import pytest

from salesmachine_async import Agent, AgentClosed, Batching, QueueLimits, Retry
from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.testing import serve
from tests.support.carriers import Carrier
from tests.support.core import switching_often

THREADS = 8


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox on a thread and loop of its own, so that it answers while a test's loop is busy."""
    with serve() as sandbox:
        yield sandbox


async def in_threads(work: object) -> None:
    """Run ``work(index)`` in eight threads while the event loop runs."""
    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(THREADS)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("untraced")
async def test_200_000_messages_of_8_threads_arrive_once_and_in_order(sandbox: Sandbox) -> None:
    """Four senders deliver each message once and each contact's in order, during faults."""
    sandbox.faults([Fault(times=20), Fault(status=503, times=3), Fault(times=5), Fault(status=429, retry_after=0.05)])
    each = 25_000
    async with Agent(
        "threads",
        base_url=sandbox.url,
        concurrency=4,
        batching=Batching(max_messages=500),
        queue=QueueLimits(max_messages=200_000),
        retry=Retry(wait_initial=0.01, wait_max=0.1),
    ) as agent:

        def work(index: int) -> None:
            for number in range(each):
                assert agent.track(f"u{index}-{number % 10}", "e", {"n": number})

        await in_threads(work)
        report = await agent.flush()
        stats = agent.stats()
    assert (report.delivered, report.ok) == (THREADS * each, True)
    assert stats.retries >= 4
    found = sandbox.events("threads")
    assert len(found) == THREADS * each
    assert sandbox.summary("threads")["duplicates"] == 0
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in found:
        numbers[event["contact_uid"]].append(event["params"]["n"])
    assert len(numbers) == THREADS * 10
    for contact, seen in numbers.items():
        assert seen == list(range(int(contact[-1]), each, 10))


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_threads_track_while_the_loop_flushes_drains_and_closes(concurrency: int) -> None:
    """Calls raise AgentClosed after the close, and all accepted messages are delivered."""
    carrier = Carrier()
    limits = QueueLimits(max_messages=3000)
    agent = Agent(
        transport=carrier, concurrency=concurrency, queue=limits, batching=Batching(max_messages=7, linger=0.001)
    )
    await agent.start()
    accepted = [0] * THREADS
    closed = [False] * THREADS

    def work(index: int) -> None:
        try:
            while True:
                if agent.track(f"u{index}", "e", {"n": accepted[index]}):
                    accepted[index] += 1
                else:
                    time.sleep(0.001)
        except AgentClosed:
            closed[index] = True

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(THREADS)]
    with switching_often():
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                await agent.flush(timeout=0.01)
                with suppress(TimeoutError):  # the threads do not hold back: the low-water mark may never be reached
                    await asyncio.wait_for(agent.drain(), 0.01)
                stats = agent.stats()
                assert stats.accepted == stats.delivered + stats.queued + stats.in_flight
                assert stats.queued + stats.in_flight <= 3000 + THREADS  # each may be in the middle of a call
        finally:
            report = await agent.aclose(timeout=30)
            for thread in threads:
                await asyncio.to_thread(thread.join)
    assert all(closed)
    assert report.ok
    assert report.delivered == sum(accepted) == agent.stats().accepted == len(carrier.delivered)
    assert len({message["messageId"] for message in carrier.delivered}) == report.delivered
    for index in range(THREADS):
        seen = [message["params"]["n"] for message in carrier.delivered if message["contact_uid"] == f"u{index}"]
        assert seen == list(range(accepted[index]))


async def test_a_message_of_another_thread_wakes_the_loop() -> None:
    """A half-full batch of a thread is sent after its linger although the loop has nothing else to do."""
    carrier = Carrier()
    async with Agent(transport=carrier, batching=Batching(linger=0.01)) as agent:
        await asyncio.to_thread(agent.track, "u", "e")
        async with asyncio.timeout(5):
            while not carrier.delivered:
                await asyncio.sleep(0.005)
        await asyncio.to_thread(lambda: [agent.track("u", "full") for _ in range(100)])
        async with asyncio.timeout(5):
            while len(carrier.delivered) < 101:
                await asyncio.sleep(0.005)
        assert agent.stats().delivered == 101


@pytest.mark.parametrize("step", ["_add", "_announce"])
@pytest.mark.parametrize("call", ["track", "contact"])
async def test_what_a_broken_off_call_has_queued_is_sent_within_the_linger(step: str, call: str) -> None:
    """A time limit (Celery's, say) that raises once the line is in the queue leaves no message waiting for the next."""

    class Interrupted(Exception):
        """The exception of a signal handler."""

    carrier = Carrier()
    # A bound so small that every message is long, and takes `_add`.
    limits = QueueLimits(max_messages=10**6, max_bytes=10**6) if step == "_add" else QueueLimits()
    async with Agent(transport=carrier, batching=Batching(linger=0.01), queue=limits) as agent:
        real = getattr(agent, step)

        def broken_off(*arguments: object) -> object:
            if step == "_add":
                real(*arguments)
            raise Interrupted

        setattr(agent, step, broken_off)
        with pytest.raises(Interrupted):
            agent.track("1", "e") if call == "track" else agent.contact("1")
        setattr(agent, step, real)
        async with asyncio.timeout(5):
            while not carrier.delivered:
                await asyncio.sleep(0.01)
        assert agent.stats().delivered == 1
