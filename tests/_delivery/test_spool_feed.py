"""The loop's side of a spool: groups of recovered messages, failures of its tasks, reading back, its end."""

from __future__ import annotations

import asyncio
import gc
import warnings
from concurrent.futures import Future
from pathlib import Path

import pytest

from salesmachine_async import Agent, Batching, LossReason, Retry, Spool
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.receipt import Receipt
from salesmachine_async._delivery import spool_feed
from salesmachine_async._delivery.hooks import Hooks
from salesmachine_async._delivery.recovered import batches_of
from salesmachine_async._delivery.spool_feed import SpoolFeed
from salesmachine_async._log import RateLimitedLogger
from salesmachine_async._spool.log import Chunk
from salesmachine_async._spool.pieces import ALIAS, BATCH, LogPiece
from salesmachine_async._spool.spooler import Recovered
from salesmachine_async.report import Endpoint, Loss
from tests.support.carriers import BROKEN, Carrier
from tests.support.core import Interruption
from tests.support.waiting import until

QUICK = Batching(linger=0.01)
HASTY = Retry(wait_initial=0.01, wait_max=0.02)


def feed_of(agent: Agent) -> SpoolFeed:
    """Return the feed of an agent that has started."""
    feed = agent._flusher._feed
    assert feed is not None
    return feed


async def leave(path: Path, count: int) -> None:
    """Leave so many messages in a spool."""
    away = Carrier(decide=lambda _: BROKEN)
    async with Agent(transport=away, spool=Spool(path, deliver=False), batching=QUICK) as agent:
        for number in range(count):
            agent.track("u", "e", {"n": number})


@pytest.mark.parametrize("kinds", [[BATCH, ALIAS], [ALIAS], [ALIAS, BATCH], []])
def test_an_alias_is_a_batch_of_its_own(kinds: list[int]) -> None:
    """Recovered messages become one batch for each run of equal kinds; an alias ends its batch at once."""
    found = [
        Recovered(LogPiece(0, number, 1, b"{}", kind, 5), Receipt(1, lambda _: None), expired=False)
        for number, kind in enumerate(kinds)
    ]
    batches = [(batch.endpoint, written) for batch, written, _ in batches_of(found, QUICK, 1)]
    endpoints = {BATCH: Endpoint.BATCH, ALIAS: Endpoint.ALIAS}
    assert batches == [(endpoints[kind], 5) for kind in kinds]


def test_a_loss_of_no_batches_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """A loss without batches is neither logged nor reported."""
    losses: list[Loss] = []
    hooks = Hooks(on_delivered=None, on_lost=losses.append, before_send=None, log=RateLimitedLogger())
    hooks.lost(LossReason.CLOSED, None, [])
    assert (losses, caplog.records) == ([], [])


async def test_a_backlog_larger_than_what_is_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next messages are read only when most of those before have an outcome; all arrive in order."""
    monkeypatch.setattr(spool_feed, "RECOVER_BYTES", 2000)
    await leave(tmp_path, 300)
    carrier = Carrier()
    async with Agent(transport=carrier, spool=tmp_path, batching=Batching(max_messages=5, linger=0.01)) as agent:
        await until(lambda: agent.stats().delivered == 300)
    assert [message["params"]["n"] for message in carrier.delivered] == list(range(300))


async def test_a_task_that_fails_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks restart after one has raised what a signal handler raised in it."""
    monkeypatch.setattr(spool_feed, "RESTART_SECONDS", 0.01)
    failed: list[SpoolFeed] = []
    expire = SpoolFeed._expire

    def failing(self: SpoolFeed) -> None:
        if not failed:
            failed.append(self)
            raise Interruption
        expire(self)

    monkeypatch.setattr(SpoolFeed, "_expire", failing)
    async with Agent(transport=Carrier(), spool=tmp_path, batching=QUICK) as agent:
        feed = feed_of(agent)
        tasks = feed._tasks
        await until(lambda: feed._tasks is not tasks and feed.is_running())
        agent.track("u", "e")
        assert (await agent.flush()).ok
    assert failed == [feed]


async def test_a_batch_that_expired_while_it_was_read_stays_lost(tmp_path: Path) -> None:
    """What is read back is put only into a batch that still waits for it."""
    async with Agent(transport=Carrier(), spool=tmp_path, batching=QUICK) as agent:
        feed = feed_of(agent)
        batch = Batch.of_lines([b"{}"])
        batch.first = 0
        read: Future[Chunk] = Future()
        read.set_result(Chunk([], 1, 1))
        feed._spooler.read_back = lambda *_: read  # type: ignore[method-assign]
        before = agent._accumulator.counts()
        await feed._read_back(agent._accumulator.partitions[0], [batch])
        assert agent._accumulator.counts() == before


async def test_ages_are_sampled_a_hundred_times_within_the_age(tmp_path: Path) -> None:
    """Two looks in a row take one sample."""
    spool = Spool(tmp_path, max_age=10_000.0)
    async with Agent(transport=Carrier(), spool=spool, batching=QUICK) as agent:
        feed = feed_of(agent)
        feed._expire()
        feed._expire()
        assert len(feed._sealed_by) == 1


async def test_the_tasks_of_a_collected_agent_end(tmp_path: Path) -> None:
    """A running agent that is garbage-collected ends the tasks of its spool, too."""
    agent = Agent(transport=Carrier(), spool=tmp_path, batching=QUICK)
    await agent.start()
    tasks = feed_of(agent)._tasks
    assert tasks
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        del agent
        gc.collect()
    await until(lambda: all(task.done() for task in tasks))
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.01)
