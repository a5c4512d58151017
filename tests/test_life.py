"""Beginnings and ends: start, close, cancellation, loops that die, tasks that are killed, agents that are forgotten."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import os
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import orjson
import pytest

from salesmachine_async import (
    Agent,
    AgentClosed,
    Batch,
    Batching,
    Loss,
    LossReason,
    Outcome,
    Overflow,
    QueueLimits,
    Retry,
    Timeouts,
    WrongLoop,
    _process,
)
from salesmachine_async._core.partition import Partition
from salesmachine_async._core.retry import decide
from tests.support.carriers import BROKEN, OK, Carrier, Hanging, answer
from tests.support.virtual import run
from tests.support.waiting import until

# Closing may take its deadline and a quarter of a second, as the design promises.
GRACE = 0.25


def law_holds(agent: Agent) -> bool:
    """Every accepted message is somewhere, once."""
    stats = agent.stats()
    return stats.accepted == stats.delivered + sum(stats.lost.values()) + stats.queued + stats.in_flight


# Closing.


async def test_closing_delivers_what_is_left() -> None:
    """aclose() sends open batches without waiting for their linger, and reports."""
    carrier = Carrier()
    agent = Agent(transport=carrier, batching=Batching(linger=1000))
    await agent.start()
    agent.track("u", "e")
    report = await agent.aclose()
    assert (report.delivered, report.ok) == (1, True)
    assert carrier.closed == 1


async def test_closing_an_agent_that_never_started_delivers() -> None:
    """Closing an agent that was never started delivers its messages."""
    carrier = Carrier()
    agent = Agent(transport=carrier)
    agent.track("u", "e")
    assert (await agent.aclose()).delivered == 1
    assert carrier.closed == 1


async def test_closing_twice_and_at_once_gives_the_same_report() -> None:
    """aclose() is idempotent, also when called side by side."""
    carrier = Carrier()
    agent = Agent(transport=carrier)
    agent.track("u", "e")
    first, second = await asyncio.gather(agent.aclose(), agent.aclose())
    assert first == second == await agent.aclose()
    assert carrier.closed == 1


async def test_every_call_after_the_end_raises() -> None:
    """A closed agent accepts nothing and says so."""
    agent = Agent(transport=Carrier())
    await agent.aclose()
    calls: list[Callable[[], object]] = [
        lambda: agent.contact("u"),
        lambda: agent.account("a"),
        lambda: agent.track("u", "e"),
        lambda: agent.pageview("u"),
        lambda: agent.alias("u", "v"),
        lambda: agent.track("u", "e", message_id="m"),
    ]
    for call in calls:
        with pytest.raises(AgentClosed):
            call()
    with pytest.raises(AgentClosed):
        await agent.start()
    assert (await agent.flush()).ok
    await agent.drain()
    assert agent.stats().accepted == 0


async def test_calls_are_refused_while_closing() -> None:
    """Calls raise AgentClosed from the call of aclose() on."""
    agent = Agent(transport=Carrier(takes=0.05))
    agent.track("u", "e")
    closing = asyncio.ensure_future(agent.aclose())
    await asyncio.sleep(0)
    with pytest.raises(AgentClosed):
        agent.track("u", "late")
    assert (await closing).delivered == 1


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_hanging_host_does_not_hold_up_the_end(concurrency: int, caplog: pytest.LogCaptureFixture) -> None:
    """A close ends at its deadline; the rest is lost as CLOSED, passed to on_lost and logged."""
    losses: list[Loss] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(
            transport=Hanging(), concurrency=concurrency, on_lost=losses.append, batching=Batching(max_messages=10)
        )
        await agent.start()
        for number in range(100):
            agent.track(f"u{number}", "e")
        start = loop.time()
        report = await agent.aclose(timeout=2)
        assert loop.time() - start == pytest.approx(2)
        assert (report.lost, report.pending, report.delivered) == ({LossReason.CLOSED: 100}, 0, 0)
        assert law_holds(agent)

    run(main())
    assert [loss.count for loss in losses] == [100]
    assert len({message["messageId"] for message in losses[0].messages}) == 100
    assert "lost 100 messages (closed)" in caplog.text


def test_closing_cuts_a_long_backoff_short() -> None:
    """A close ends a backoff of 1000 s and tries again at once."""
    carrier = Carrier([BROKEN])

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=carrier, retry=Retry(wait_initial=1000, wait_max=1000))
        await agent.start()
        agent.track("u", "e")
        await agent.flush(timeout=1)
        start = loop.time()
        assert (await agent.aclose(timeout=5)).delivered == 1
        assert loop.time() - start < 1

    run(main())


def test_closing_tries_until_its_deadline() -> None:
    """A close repeats requests to a broken host with a fresh backoff until its deadline."""
    carrier = Carrier(decide=lambda _: BROKEN)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=carrier, retry=Retry(wait_initial=0.5, wait_max=30))
        agent.track("u", "e")
        start = loop.time()
        report = await agent.aclose(timeout=10)
        assert loop.time() - start == pytest.approx(10)
        assert report.lost == {LossReason.CLOSED: 1}
        assert len(carrier.attempts) >= 4

    run(main())


def test_closing_within_a_pause_of_an_hour_ends_at_once() -> None:
    """No request may be made before the pause ends, so waiting for the deadline would be in vain."""
    carrier = Carrier([answer(429, Retry_After="3600")])

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=carrier)
        await agent.start()
        agent.track("u", "e")
        await agent.flush(timeout=1)
        start = loop.time()
        assert (await agent.aclose(timeout=10)).lost == {LossReason.CLOSED: 1}
        assert loop.time() - start < 1
        assert len(carrier.attempts) == 1

    run(main())


def test_closing_waits_out_a_pause_that_ends_in_time() -> None:
    """A pause shorter than the deadline is obeyed, and then the rest is delivered."""
    carrier = Carrier([answer(429, Retry_After="3")])

    async def main() -> None:
        agent = Agent(transport=carrier)
        agent.track("u", "e")
        assert (await agent.aclose(timeout=10)).delivered == 1
        assert carrier.times[1] - carrier.times[0] >= 3

    run(main())


def test_a_pause_that_begins_while_closing_ends_it() -> None:
    """A 429 with a long Retry-After in the last moments: no point in waiting."""
    carrier = Carrier([answer(429, Retry_After="3600")], takes=1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=carrier)
        agent.track("u", "e")
        start = loop.time()
        await agent.aclose(timeout=100)
        assert loop.time() - start < 5

    run(main())


def test_a_deadline_of_zero_gives_up_at_once() -> None:
    """aclose(0), or a negative timeout, loses the whole queue and logs it."""

    async def main() -> None:
        for timeout in (0, -5.0):
            agent = Agent(transport=Hanging())
            agent.track("u", "e")
            assert (await agent.aclose(timeout)).lost == {LossReason.CLOSED: 1}

    run(main())


@pytest.mark.parametrize("timeout", [float("nan"), "5", True, object()])
async def test_a_timeout_that_is_no_number_is_refused(timeout: Any) -> None:
    """A bad timeout raises an error that names it, and the agent stays open."""
    agent = Agent(transport=Carrier())
    with pytest.raises(ValueError, match="timeout"):
        await agent.flush(timeout)
    with pytest.raises(ValueError, match="timeout"):
        await agent.aclose(timeout)
    assert (await agent.aclose()).ok


@pytest.mark.slow
def test_giving_up_a_full_queue_takes_no_time_per_message() -> None:
    """200,000 messages (1 M in benchmarks/shutdown.py) are given up in less processor time than the grace allows."""
    losses: list[int] = []

    async def main() -> None:
        agent = Agent(
            transport=Hanging(),
            queue=QueueLimits(max_messages=1_000_000, max_bytes=2**30),
            batching=Batching(max_messages=500),
            on_lost=lambda loss: losses.append(loss.count),
        )
        for _ in range(200_000):
            agent.track("u", "e")
        await agent.start()
        await asyncio.sleep(0)
        start = time.process_time()
        report = await agent.aclose(timeout=0.2)
        assert time.process_time() - start < GRACE
        assert report.lost == {LossReason.CLOSED: 200_000}

    run(main())
    assert losses == [200_000]


def test_a_second_close_with_less_time_brings_the_end_forward() -> None:
    """Each caller of aclose returns by its own deadline."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=Hanging())
        agent.track("u", "e")
        start = loop.time()
        patient = asyncio.ensure_future(agent.aclose(timeout=60))
        await asyncio.sleep(1)
        report = await agent.aclose(timeout=2)
        assert loop.time() - start == pytest.approx(3)
        assert await patient == report

    run(main())


def test_a_second_close_with_more_time_does_not_prolong_the_first() -> None:
    """The deadline of the first close stays."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=Hanging())
        agent.track("u", "e")
        start = loop.time()
        await asyncio.gather(agent.aclose(timeout=2), agent.aclose(timeout=60))
        assert loop.time() - start == pytest.approx(2)

    run(main())


async def test_a_flush_while_the_senders_end_does_not_start_them_again() -> None:
    """A flush during the last moments of a close leaves no task in the loop."""

    class Slow(Carrier):
        async def send(self, batch: Batch) -> Outcome:
            try:
                return await super().send(batch)
            finally:
                await asyncio.sleep(0.05)  # takes its time to be cancelled

    agent = Agent(transport=Slow(takes=60))
    agent.track("u", "e")
    await agent.start()
    await agent.flush(timeout=0.01)
    closing = asyncio.ensure_future(agent.aclose(timeout=0))
    await asyncio.sleep(0.01)
    await asyncio.gather(agent.flush(), agent.drain(), closing)
    assert lane_tasks() == []


async def test_a_close_killed_before_its_first_step_begins_again() -> None:
    """A closing task that is cancelled before it runs is replaced, and the caller still gets the drain."""
    agent = Agent(transport=Carrier())
    agent.track("u", "e")
    closer = asyncio.ensure_future(agent.aclose())
    await asyncio.sleep(0)
    (closing,) = [task for task in asyncio.all_tasks() if task.get_name() == "salesmachine-close"]
    closing.cancel()
    assert (await closer).delivered == 1
    assert lane_tasks() == []


async def test_a_transport_whose_end_is_no_coroutine_does_not_stop_the_close(caplog: pytest.LogCaptureFixture) -> None:
    """A carrier with a plain aclose() is logged by type, and the agent is closed."""

    carrier: Any = Carrier()
    carrier.aclose = lambda: None
    agent = Agent(transport=carrier)
    agent.track("u", "e")
    assert (await agent.aclose()).delivered == 1
    assert "TypeError" in caplog.text


def test_a_loop_that_runs_on_after_another_took_over_sends_nothing() -> None:
    """The senders of an abandoned loop take no more batches, even if it runs again."""
    carrier = Carrier(takes=0.02)
    agent = Agent(transport=carrier)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def begin() -> None:
        await agent.start()
        agent.track("u", "1")
        await agent.flush(timeout=0.01)

    async def end() -> None:
        for number in range(5):
            agent.track("u", str(number))
        assert (await agent.aclose()).delivered == 6

    first.run_until_complete(begin())
    second.run_until_complete(end())
    before = len(carrier.attempts)
    first.run_until_complete(asyncio.sleep(0.1))
    assert len(carrier.attempts) == before
    assert asyncio.all_tasks(first) == set()
    first.close()
    second.close()


def test_an_agent_cannot_be_copied() -> None:
    """A copy would end the delivery of the original when it is collected."""
    agent = Agent(transport=Carrier())
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(agent)


async def test_a_transport_that_cannot_be_cancelled_does_not_hold_up_the_end() -> None:
    """A carrier that swallows cancellation is left behind; its late success changes no count."""
    release = asyncio.Event()

    class Stubborn(Carrier):
        async def send(self, batch: Batch) -> Outcome:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            return OK

        async def aclose(self) -> None:
            await asyncio.sleep(60)

    agent = Agent(transport=Stubborn())
    agent.track("u", "e")
    report = await agent.aclose(timeout=0.05)
    assert report.lost == {LossReason.CLOSED: 1}
    release.set()
    await asyncio.sleep(0.01)
    assert agent.stats().delivered == 0
    assert law_holds(agent)


async def test_a_transport_that_fails_to_close_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An error of the carrier's aclose() does not become one of the agent's."""

    class Failing(Carrier):
        async def aclose(self) -> None:
            raise OSError("SECRET")

    agent = Agent(transport=Failing())
    agent.track("u", "e")
    assert (await agent.aclose()).ok
    assert "OSError" in caplog.text
    assert "SECRET" not in caplog.text


# Cancellation of the caller, at every place where he may wait.


def waiting(agent: Agent) -> dict[str, Callable[[], Coroutine[Any, Any, object]]]:
    return {"flush": agent.flush, "drain": agent.drain}


@pytest.mark.parametrize("name", ["flush", "drain"])
def test_cancelling_a_wait_cancels_only_the_wait(name: str) -> None:
    """A cancelled flush leaves its request alone, no message is sent twice, and another flush works."""
    carrier = Carrier(takes=5)

    async def main() -> None:
        agent = Agent(transport=carrier, queue=QueueLimits(max_messages=10))
        for number in range(10):
            agent.track("u", str(number))
        await agent.start()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await waiting(agent)[name]()
        await waiting(agent)[name]()
        assert (await agent.aclose()).delivered == 10
        assert len(carrier.attempts) == 1

    run(main())


@pytest.mark.parametrize("after", [0, 0.5])
@pytest.mark.parametrize("times", [1, 3])
def test_cancelled_while_closing_it_still_drains_and_then_raises(after: float, times: int) -> None:
    """A close that is cancelled, once or often, delivers the rest and then raises the cancellation."""
    carrier = Carrier(takes=2)

    async def main() -> None:
        agent = Agent(transport=carrier)
        agent.track("u", "e")
        closer = asyncio.ensure_future(agent.aclose(timeout=10))
        for _ in range(times):
            await asyncio.sleep(after)
            closer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closer
        assert carrier.closed == 1
        assert agent.stats().delivered == 1
        assert (await agent.aclose()).ok

    run(main())


def test_cancelled_while_closing_a_hanging_host_it_ends_by_the_deadline() -> None:
    """Cancellation neither shortens nor prolongs the drain's deadline."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=Hanging())
        agent.track("u", "e")
        start = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await agent.aclose(timeout=3)
        assert loop.time() - start == pytest.approx(3)
        assert agent.stats().lost == {LossReason.CLOSED: 1}

    run(main())


async def test_a_cancelled_anyio_scope_does_not_stop_the_drain() -> None:
    """anyio cancels every await in a cancelled scope; the final drain is shielded from it."""
    carrier = Carrier(takes=0.05)
    agent = Agent(transport=carrier)
    with anyio.CancelScope() as scope:
        async with agent:
            agent.track("u", "e")
            scope.cancel()
    assert carrier.events() == ["e"]
    assert repr(agent).startswith("<Agent [closed")


async def test_an_agent_may_be_closed_by_another_task() -> None:
    """No scope is held open between start and close: any task may do either."""
    agent = Agent(transport=Carrier())
    await asyncio.create_task(agent.start())
    agent.track("u", "e")
    assert (await asyncio.create_task(agent.aclose())).ok


async def test_an_exception_in_the_body_comes_through_after_the_drain() -> None:
    """async with delivers and lets the error pass."""
    carrier = Carrier()
    agent = Agent(transport=carrier)
    with pytest.raises(ZeroDivisionError):
        async with agent:
            _ = agent.track("u", "e") / 0
    assert carrier.events() == ["e"]


def test_sigint_drains() -> None:
    """asyncio.run, cancelled as by Ctrl-C, leaves the block through the drain."""
    carrier = Carrier(takes=0.01)

    async def main() -> None:
        async with Agent(transport=carrier) as agent:
            agent.track("u", "e")
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_later(0.01, task.cancel)
            await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert carrier.events() == ["e"]


# Lanes killed, loops gone.


def lane_tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("salesmachine-sender")]


def test_a_cancelled_sender_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """A sender's task that is cancelled is replaced; its batch is sent again with the same ids."""
    carrier = Carrier(takes=5)

    async def main() -> None:
        async with Agent(transport=carrier) as agent:
            agent.track("u", "e")
            await agent.flush(timeout=2)
            (sender,) = lane_tasks()
            sender.cancel()
            assert (await agent.flush()).delivered == 1
            assert carrier.attempts[0][2] == carrier.attempts[1][2]

    run(main())
    assert "was cancelled from outside" in caplog.text


def test_a_crashing_lane_is_started_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a sender costs time, not messages."""
    failures = [ZeroDivisionError("SECRET")] * 3

    def failing(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return decide(*args)

    monkeypatch.setattr("salesmachine_async._delivery.sender.decide", failing)

    async def main() -> None:
        async with Agent(transport=Carrier([BROKEN] * 3)) as agent:
            agent.track("u", "e")
            assert (await agent.flush()).delivered == 1

    run(main())
    assert failures == []
    assert "ZeroDivisionError" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_lane_killed_while_closing_does_not_stop_the_drain() -> None:
    """A sender whose task is cancelled in the last moments of a close is started again."""
    carrier = Carrier(takes=2)

    async def main() -> None:
        agent = Agent(transport=carrier)
        agent.track("u", "e")
        closer = asyncio.ensure_future(agent.aclose(timeout=30))
        await asyncio.sleep(1)
        lane_tasks()[0].cancel()
        assert (await closer).delivered == 1

    run(main())


def test_everything_killed_while_closing_still_accounts_for_all() -> None:
    """If the end of the loop cancels the closing task too, the rest is lost as CLOSED and passed to on_lost."""
    losses: list[Loss] = []
    agent = Agent(transport=Hanging(), on_lost=losses.append)

    async def main() -> None:
        agent.track("u", "e")
        closing = asyncio.ensure_future(agent.aclose(timeout=1000))
        await asyncio.sleep(0.01)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

    run(main())
    assert [(loss.reason, loss.count) for loss in losses] == [(LossReason.CLOSED, 1)]
    assert law_holds(agent)


def test_a_second_event_loop_takes_over_what_the_first_left() -> None:
    """A loop that ended without aclose() leaves the queue; start() in the next one delivers it."""
    carrier = Carrier(takes=0.01)
    agent = Agent(transport=carrier)

    async def first() -> None:
        await agent.start()
        agent.track("u", "1")
        await agent.flush()
        agent.track("u", "2")

    async def second() -> None:
        await agent.start()
        agent.track("u", "4")
        assert (await agent.aclose()).delivered == 4

    asyncio.run(first())
    agent.track("u", "3")
    assert agent.stats().queued == 2
    asyncio.run(second())
    assert carrier.events() == ["1", "2", "3", "4"]


def test_a_batch_in_flight_when_the_loop_ended_is_sent_by_the_next() -> None:
    """A batch without an outcome is sent again with the same ids."""
    agent = Agent(transport=(hanging := Hanging()))

    async def first() -> None:
        await agent.start()
        agent.track("u", "1")
        await agent.flush(timeout=0.01)

    asyncio.run(first())
    assert len(hanging.attempts) == 1
    assert law_holds(agent)
    hanging.send = Carrier().send  # type: ignore[method-assign]

    async def second() -> None:
        assert (await agent.aclose()).delivered == 1

    asyncio.run(second())


def test_a_loop_closed_while_closing_can_be_followed_by_another_close() -> None:
    """A close that died with its loop is taken up by the next."""
    agent = Agent(transport=Carrier(takes=0.05))
    agent.track("u", "e")
    loop = asyncio.new_event_loop()
    task = loop.create_task(agent.aclose(timeout=5))
    loop.run_until_complete(asyncio.sleep(0.01))
    for pending in asyncio.all_tasks(loop):
        pending._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    del task
    report = asyncio.run(agent.aclose(timeout=5))
    assert report.delivered + report.lost.get(LossReason.CLOSED, 0) == 1


async def test_a_loop_that_is_still_running_is_not_left() -> None:
    """Starting in a second loop while the first runs is refused and named."""
    async with Agent(transport=Carrier()) as agent:
        agent.track("u", "e")

        def elsewhere() -> None:
            with pytest.raises(WrongLoop):
                asyncio.run(agent.start())
            with pytest.raises(WrongLoop):
                asyncio.run(agent.flush())
            with pytest.raises(WrongLoop):
                asyncio.run(agent.ping())
            with pytest.raises(WrongLoop):
                asyncio.run(agent.aclose())

        await asyncio.to_thread(elsewhere)
        assert (await agent.flush()).delivered == 1


async def test_starting_twice_does_nothing() -> None:
    """start() is idempotent."""
    async with Agent(transport=Carrier(), concurrency=2) as agent:
        await agent.start()
        assert len(lane_tasks()) == 2


# Forgotten agents.


def test_a_dropped_agent_warns_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    """An agent collected without aclose() causes a ResourceWarning and a line with the number of messages."""
    agent = Agent(transport=Carrier())
    agent.track("u", "e")
    agent.track("u", "e")
    with pytest.warns(ResourceWarning, match="2 messages"):
        del agent
    assert "2 messages are lost" in caplog.text


async def test_a_dropped_running_agent_ends_its_tasks(caplog: pytest.LogCaptureFixture) -> None:
    """An agent that is collected while its loop runs ends its senders and closes its transport."""
    carrier = Carrier()
    agent = Agent(transport=carrier, concurrency=3)
    await agent.start()
    with pytest.warns(ResourceWarning):
        del agent
    await until(lambda: carrier.closed)
    assert lane_tasks() == []
    assert carrier.closed == 1
    assert [record.getMessage() for record in caplog.records] == [
        "an agent was not closed. Use `async with` or `await agent.aclose()`"
    ]


def test_an_agent_dropped_after_its_loop_warns() -> None:
    """An agent that is collected after its loop ended causes the usual warning."""

    async def main() -> Agent:
        agent = Agent(transport=Carrier())
        await agent.start()
        agent.track("u", "e")
        return agent

    agent = asyncio.run(main())
    with pytest.warns(ResourceWarning, match="1 messages"):
        del agent


@pytest.mark.slow
def test_an_unused_agent_may_be_dropped() -> None:
    """Made, never used: nothing to warn of. The same for one whose constructor raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent = Agent(transport=Carrier())
        del agent
        with pytest.raises(ValueError, match="concurrency"):
            Agent(transport=Carrier(), concurrency=-1)
        gc.collect()


def test_nothing_is_left_behind() -> None:
    """A close leaves no task and no timer in the loop."""

    async def main() -> None:
        before = asyncio.all_tasks()
        async with Agent(transport=Carrier(), concurrency=4, batching=Batching(linger=1000)) as agent:
            for number in range(10):
                agent.track(f"u{number}", "e")
            await agent.flush(timeout=1)
            agent.track("u", "e")
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
        loop: Any = asyncio.get_running_loop()
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    run(main())


async def test_timeouts_close_is_the_default_deadline() -> None:
    """aclose() without a timeout takes the policy's."""
    agent = Agent(transport=Hanging(), timeouts=Timeouts(close=0.05))
    agent.track("u", "e")
    async with asyncio.timeout(5):
        assert (await agent.aclose()).lost == {LossReason.CLOSED: 1}


def test_the_library_adds_only_a_null_handler() -> None:
    """Levels, propagation and other handlers are the application's."""
    logger = logging.getLogger("salesmachine_async")
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    assert logger.level == logging.NOTSET
    assert logger.propagate


async def test_a_batch_in_flight_is_known_wherever_its_lane_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that raises (SystemExit, say) when the queue has given it away and the sender has not got it."""
    carrier = Carrier()
    async with Agent(transport=carrier, batching=Batching(max_messages=3, linger=0.01)) as agent:
        real = agent._accumulator.take

        def broken_off(partition: Partition) -> Batch | None:
            if real(partition) is not None:
                monkeypatch.setattr(agent._accumulator, "take", real)
                raise ZeroDivisionError
            return None

        monkeypatch.setattr(agent._accumulator, "take", broken_off)
        for number in range(5):
            agent.track("1", "e", {"n": number})
        report = await agent.flush(5)
    assert (report.delivered, report.ok) == (5, True)
    assert [message["params"]["n"] for message in carrier.delivered] == list(range(5))


async def test_displaced_messages_that_no_hook_has_seen_are_reported_at_the_end() -> None:
    """A signal handler that raised between the loss and the hook does not hide it."""
    losses: list[Loss] = []
    limits = QueueLimits(max_messages=2, overflow=Overflow.DROP_OLDEST)
    async with Agent(transport=Carrier(), queue=limits, on_lost=losses.append) as agent:
        for number in range(3):
            agent.track("u", str(number))
        agent._accumulator.displace()  # without the report that follows it
    assert [(loss.reason, loss.count) for loss in losses] == [(LossReason.QUEUE_FULL, 1)]


def in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process have another id from now on, as the child of a fork has."""
    pid = os.getpid() + 1
    monkeypatch.setattr(_process, "_pid", _process._pid)  # restored with the rest
    monkeypatch.setattr(os, "getpid", lambda: pid)


async def test_a_fork_that_python_has_not_seen_is_noticed_before_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child of a fork by C code sends nothing of what its parent sends, and accepts messages of its own."""
    carrier = Carrier()
    agent = Agent(transport=carrier)
    agent.track("u", "the parent's")
    in_another_process(monkeypatch)
    await agent.start()
    await asyncio.sleep(0.01)
    assert carrier.attempts == []
    assert agent.stats().accepted == 0
    agent.track("u", "the child's")
    assert (await agent.aclose()).delivered == 1
    assert carrier.events() == ["the child's"]


def test_a_fork_that_python_has_not_seen_is_noticed_by_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next message in another millisecond begins an empty queue, with ids of its own."""
    agent = Agent(transport=Carrier())
    agent.track("u", "the parent's")
    parents = agent._accumulator
    in_another_process(monkeypatch)
    time.sleep(0.002)  # a millisecond must pass: that is how often the process is looked at
    agent.track("u", "the child's")
    assert agent._accumulator is not parents
    assert agent.stats().accepted == 1
    (line,) = agent._accumulator.partitions[0].pending
    (old,) = parents.partitions[0].pending
    assert orjson.loads(line)["messageId"][:24] != orjson.loads(old)["messageId"][:24]
    asyncio.run(agent.aclose(timeout=1))
