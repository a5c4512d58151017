"""What wakes the senders, restarts them and ends them, on virtual time."""

from __future__ import annotations

import asyncio
import logging
import threading

import anyio
import pytest

from salesmachine_async import (
    Agent,
    Batch,
    Batching,
    LossReason,
    Outcome,
    Overflow,
    QueueLimits,
    Retry,
    State,
    Unauthorized,
)
from salesmachine_async._core.retry import Decision, RetryState, Split, Wait, decide
from tests.support.carriers import BROKEN, OK, Carrier, Hanging, answer
from tests.support.core import uid_for
from tests.support.virtual import run
from tests.support.waiting import until


def lane_tasks() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("salesmachine-sender-")]


def contact_of_partition(index: int, senders: int) -> str:
    """A contact whose messages go through the sender with this index."""
    return uid_for(index, senders)


# The linger.


def test_the_linger_begins_with_the_first_message() -> None:
    """Later messages do not postpone the batch, even if they displace older ones of another sender."""
    full, other = contact_of_partition(0, 2), contact_of_partition(1, 2)

    def decide(batch: Batch) -> Outcome | None:
        return BROKEN if batch.partition == 0 else None

    carrier = Carrier(decide=decide)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(
            transport=carrier,
            concurrency=2,
            batching=Batching(max_messages=5, linger=10),
            queue=QueueLimits(max_messages=12, overflow=Overflow.DROP_OLDEST),
            retry=Retry(wait_initial=10_000, wait_max=10_000),
        )
        async with agent:
            for _ in range(10):
                agent.track(full, "e")
            await asyncio.sleep(1)
            began = loop.time()
            agent.track(other, "1")
            agent.track(other, "2")
            await asyncio.sleep(6)
            agent.track(other, "3")
            await asyncio.sleep(0)
            assert sum(agent.stats().lost.values()) == 1
            await asyncio.sleep(10)
            assert [time - began for time, _, messages in carrier.attempts if messages[0]["contact_uid"] == other] == [
                10
            ]
            await agent.aclose(timeout=0)

    run(main())
    assert carrier.events() == ["1", "2", "3"]


def test_a_batch_that_lingers_is_sent_when_it_is_due_and_not_before() -> None:
    """The timer of a batch that was full before its time is no shorter linger for the next one."""
    carrier = Carrier()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Agent(transport=carrier, batching=Batching(max_messages=2, linger=10)) as agent:
            began = loop.time()
            agent.track("u", "1")
            await asyncio.sleep(4)
            agent.track("u", "2")
            agent.track("u", "3")
            await asyncio.sleep(30)
            assert [time - began for time in carrier.times] == [4, 14]

    run(main())


def test_a_message_of_another_thread_begins_a_linger() -> None:
    """A call from another thread wakes the loop, which sends the batch when its linger is over."""
    carrier = Carrier()

    async def main() -> None:
        async with Agent(transport=carrier, batching=Batching(linger=10)) as agent:
            # Not to_thread: its executor is shut down with a timeout, which virtual time passes at once.
            thread = threading.Thread(target=agent.track, args=("u", "e"))
            thread.start()
            thread.join()
            await asyncio.sleep(11)
            assert carrier.events() == ["e"]

    run(main())


# Lanes that end.


def test_a_lane_killed_in_the_last_moment_does_not_come_back() -> None:
    """While other senders are given their grace to end, one that had ended before is not started again."""
    hanging, killed = contact_of_partition(0, 2), contact_of_partition(1, 2)

    class Stubborn(Hanging):
        async def send(self, batch: Batch) -> Outcome:
            try:
                return await super().send(batch)
            except asyncio.CancelledError:
                if batch.partition == 0:
                    await asyncio.sleep(0.08)
                raise

    async def main() -> None:
        agent = Agent(transport=Stubborn(), concurrency=2)
        agent.track(hanging, "e")
        agent.track(killed, "e")
        closing = asyncio.ensure_future(agent.aclose(timeout=10))
        await asyncio.sleep(9.98)
        (task,) = [task for task in lane_tasks() if task.get_name() == "salesmachine-sender-1"]
        task.cancel()
        assert sum((await closing).lost.values()) == 2
        assert lane_tasks() == []

    run(main())


def test_a_crash_of_a_sender_is_logged_with_type_and_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log line of a bug has its type and its place, and says that no message is lost."""
    failures = [ZeroDivisionError("SECRET")]

    def failing(outcome: Outcome, situation: RetryState, policy: Retry) -> Decision:
        if failures:
            raise failures.pop()
        return decide(outcome, situation, policy)

    monkeypatch.setattr("salesmachine_async._delivery.sender.decide", failing)

    async def main() -> None:
        async with Agent(transport=Carrier([BROKEN])) as agent:
            agent.track("u", "e")
            assert (await agent.flush()).delivered == 1

    run(main())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    line = record.getMessage()
    assert line.startswith("a delivery task failed: ZeroDivisionError (test_flusher.py:")
    assert line.endswith("); it is restarted, and nothing is lost")


# Closing.


def test_a_cancelled_anyio_scope_does_not_keep_the_loop_busy() -> None:
    """The repeated cancellations are kept out: time passes, and with it the drain."""

    async def main() -> None:
        agent = Agent(transport=Carrier(takes=5))
        agent.track("u", "e")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await agent.aclose(timeout=10)
        assert agent.stats().delivered == 1

    run(main())


def test_a_close_cancelled_in_its_last_moments_still_ends() -> None:
    """A close that is cancelled while it waits for senders and for the transport accounts for every message."""

    class Stubborn(Hanging):
        async def send(self, batch: Batch) -> Outcome:
            try:
                return await super().send(batch)
            finally:
                await asyncio.sleep(30)

        async def aclose(self) -> None:
            await asyncio.sleep(30)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=Stubborn())
        agent.track("u", "e")
        began = loop.time()
        closer = asyncio.ensure_future(agent.aclose(timeout=1))
        await asyncio.sleep(0.5)
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "salesmachine-close"]
        await asyncio.sleep(0.55)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        assert (await closer).lost == {LossReason.CLOSED: 1}
        assert loop.time() - began == pytest.approx(1.1)

    run(main())


# Flushes.


def test_a_flush_leaves_nothing_behind() -> None:
    """Neither a finished flush nor one that timed out leaves a reference."""

    async def main() -> None:
        async with Agent(transport=Carrier(takes=5)) as agent:
            agent.track("u", "e")
            assert (await agent.flush(timeout=1)).pending == 1
            assert (await agent.flush()).pending == 0
            assert agent._flusher._flushes == {}

    run(main())


# Ping.


async def test_ping_counts_as_a_request() -> None:
    """Each ping that goes out is in the stats, and the last one's failure with it."""
    async with Agent(transport=Carrier([OK, answer(500), OK])) as agent:
        await agent.ping()
        with pytest.raises(Exception, match="500"):
            await agent.ping()
        assert agent.stats().last_error is not None
        await agent.ping()
        assert (agent.stats().requests, agent.stats().last_error) == (3, None)


async def test_ping_says_what_400_means() -> None:
    """A ping carries no message, so 400 speaks of the key."""
    async with Agent(transport=Carrier([answer(400)])) as agent:
        with pytest.raises(Unauthorized) as caught:
            await agent.ping()
    assert str(caught.value) == "the server answered 400 to ping: check the API token and secret"
    assert caught.value.status == 400


# The edges of its life.


def test_an_agent_that_never_started_has_no_stuck_partition() -> None:
    """An agent that never started has no parked sender."""
    assert not Agent(transport=Carrier())._flusher._is_stuck(0)


async def test_an_end_that_was_interrupted_ends_without_another_wait() -> None:
    """The remaining messages are lost as CLOSED."""
    agent = Agent(transport=Hanging())
    agent.track("u", "e")
    await agent.start()
    agent._flusher.stage = State.CLOSED
    report = await agent._flusher._close()
    assert report.lost == {LossReason.CLOSED: 1}


def test_a_call_after_the_end_of_its_loop_is_kept_for_the_next_one() -> None:
    """The closed loop cannot be notified."""
    carrier = Carrier()
    agent = Agent(transport=carrier)
    asyncio.run(agent.start())
    agent.track("u", "e")
    assert asyncio.run(agent.aclose()).delivered == 1


async def test_a_loop_that_cannot_be_notified_is_the_callers_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that cannot notify the loop, as near the recursion limit, does not return True."""

    def fail(*_: object, **__: object) -> None:
        raise RecursionError

    async with Agent(transport=Carrier()) as agent:
        monkeypatch.setattr(asyncio.get_running_loop(), "call_soon", fail)
        with pytest.raises(RecursionError):
            agent.track("u", "e")
        monkeypatch.undo()
        assert (await agent.flush()).pending == 0


async def test_a_task_that_another_has_replaced_returns_nothing_to_the_queue() -> None:
    """Only the latest task of a sender owns what is in flight."""
    agent = Agent(transport=Hanging())
    async with agent:
        agent.track("u", "e")
        await asyncio.sleep(0)
        (sender,) = agent._flusher._senders
        (task,) = agent._flusher._tasks.values()
        sender.end_linger()
        await until(lambda: agent.stats().in_flight)
        sender._run = object()
        agent._flusher._tasks.clear()  # so that it is not started again
        task.cancel()
        await asyncio.wait({task})
        assert agent.stats().in_flight == 1
        await agent.aclose(timeout=0)


def test_a_batch_that_was_taken_back_during_its_wait_is_not_rearranged() -> None:
    """A batch that is back in its queue is not split, because its halves would be duplicates."""

    async def main() -> None:
        async with Agent(transport=Carrier()) as agent:
            (sender,) = agent._flusher._senders
            batch = Batch.of_lines([b"{}", b"{}"])  # not the one that the sender works on
            await sender._rearrange(Split(after=Wait()), batch, BROKEN)
            assert not batch.lasting
            assert not agent._accumulator.partitions[0].sealed

    run(main())
