"""The loop's side of a spool: groups of recovered messages, failures of its tasks, reading back, its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import threading
import time
import warnings
from concurrent.futures import Future
from pathlib import Path

import pytest

from salesmachine_async import Agent, Batching, LossReason, Outcome, QueueLimits, Retry, Spool, SpoolFailed
from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async._core.receipt import Receipt, RejectedLine
from salesmachine_async._delivery import spool_feed
from salesmachine_async._delivery.hooks import Hooks
from salesmachine_async._delivery.recovered import batches_of
from salesmachine_async._delivery.spool_feed import SpoolFeed
from salesmachine_async._log import RateLimitedLogger
from salesmachine_async._spool import committer, pieces
from salesmachine_async._spool.log import Chunk
from salesmachine_async._spool.pieces import ALIAS, BATCH, LogPiece
from salesmachine_async._spool.spooler import Recovered
from salesmachine_async.report import Endpoint, Loss
from tests.support.carriers import BROKEN, Carrier, Hanging, answer
from tests.support.core import Interruption, interrupted, law_holds, line
from tests.support.waiting import until

QUICK = Batching(linger=0.01)
HASTY = Retry(wait_initial=0.01, wait_max=0.02)


class Gate(Carrier):
    """A transport that answers nothing before it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()

    async def send(self, batch: Batch) -> Outcome:
        await self.opened.wait()
        return await super().send(batch)


def feed_of(agent: Agent) -> SpoolFeed:
    """Return the feed of an agent that has started."""
    feed = agent._flusher._feed
    assert feed is not None
    return feed


async def leave(path: Path, count: int) -> None:
    """Leave so many messages in a spool."""
    away = Carrier(decide=lambda _: BROKEN)
    few = Batching(max_messages=5, linger=0.01)
    async with Agent(transport=away, spool=Spool(path, deliver=False), batching=few) as agent:
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
    """The next messages are read only when most of those before have an outcome; few wait, and all arrive in order."""
    monkeypatch.setattr(spool_feed, "RECOVER_BYTES", 2000)
    monkeypatch.setattr(pieces, "_RECORD_BYTES", 500)
    await leave(tmp_path, 300)
    most = 0

    def count(_: Batch) -> None:
        nonlocal most
        most = max(most, agent._accumulator.partitions[-1].unsettled_bytes)

    carrier = Carrier(decide=count)
    async with Agent(transport=carrier, spool=tmp_path, batching=Batching(max_messages=5, linger=0.01)) as agent:
        await until(lambda: agent.stats().delivered == 300)
    assert 1000 < most <= 4000
    assert [message["params"]["n"] for message in carrier.delivered] == list(range(300))


async def test_what_is_read_back_keeps_the_bounds_of_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more is read back at once than stays in memory for the requests to come, however small the messages are."""
    in_memory: list[int] = []
    restore = Accumulator.restore

    def restored(self: Accumulator, batch: Batch, lines: list[bytes | None]) -> None:
        restore(self, batch, lines)
        in_memory.append(self.partitions[0].unsettled - self.partitions[0].spilled)

    monkeypatch.setattr(Accumulator, "restore", restored)
    carrier, limits = Gate(), QueueLimits(max_messages=1000)
    async with Agent(transport=carrier, spool=tmp_path, queue=limits, batching=Batching(linger=0.01)) as agent:
        for number in range(5000):
            while not agent.track("u", "e", {"n": number}):
                await asyncio.sleep(0.001)
        assert agent._accumulator.partitions[0].spilled > 3000
        carrier.opened.set()
        assert (await agent.flush()).ok
    assert [message["params"]["n"] for message in carrier.delivered] == [*range(5000)]
    assert max(in_memory) <= 1000


@pytest.mark.parametrize(("bound", "messages", "spilled"), [(300, 250, [True]), (1000, 600, [False] + 4 * [True])])
async def test_what_is_sent_next_is_not_moved_to_and_fro(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: int, messages: int, spilled: list[bool]
) -> None:
    """While a request lasts, nothing is read back; where the memory holds more, the next batch stays in it."""
    restored: list[Batch] = []
    restore, spill, looks = Accumulator.restore, Accumulator.spill, list[Partition]()

    def watched(self: Accumulator, batch: Batch, lines: list[bytes | None]) -> None:
        restored.append(batch)
        restore(self, batch, lines)

    def counted(self: Accumulator, partition: Partition, durable: int, leave: int, leave_bytes: int) -> None:
        looks.append(partition)
        spill(self, partition, durable, leave, leave_bytes)

    monkeypatch.setattr(Accumulator, "restore", watched)
    monkeypatch.setattr(Accumulator, "spill", counted)
    monkeypatch.setattr(spool_feed, "UPKEEP_SECONDS", 0.001)
    monkeypatch.setattr(spool_feed, "SPILL_ABOVE", 0.0)
    async with Agent(transport=Hanging(), spool=tmp_path, queue=QueueLimits(max_messages=bound)) as agent:
        for number in range(messages):
            assert agent.track("u", "e", {"n": number})
        await agent.sync()
        await until(lambda: len(looks) > 20)
        sealed = agent._accumulator.partitions[0].sealed
        assert [batch.spilled for batch in sealed][: len(spilled)] == spilled
        assert restored == []
        await agent.aclose(0)


async def test_an_open_batch_leaves_a_small_memory(tmp_path: Path) -> None:
    """While the spool has room, calls are accepted again, also if the memory holds hardly more than a batch."""
    limits, batching = QueueLimits(max_messages=150), Batching(linger=60)
    async with Agent(transport=Hanging(), spool=tmp_path, queue=limits, batching=batching) as agent:
        for number in range(1000):
            await until(lambda: agent.track("u", "e", {"n": number}))  # noqa: B023 (called at once)
        assert len(agent._accumulator.partitions[0].sealed) < 60  # a batch is closed early only where room is needed
        await agent.aclose(0)
    carrier = Carrier()
    async with Agent(transport=carrier, spool=tmp_path) as after:
        await until(lambda: after.stats().delivered == 1000)
    assert [message["params"]["n"] for message in carrier.delivered] == [*range(1000)]


async def test_nothing_small_is_closed_while_nothing_can_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk has not got what is new, batches become full, however full the memory is."""
    monkeypatch.setattr(spool_feed, "UPKEEP_SECONDS", 0.001)
    fills: list[float] = []
    fill = Accumulator.fill

    def watched(self: Accumulator) -> float:
        fills.append(fill(self))
        return fills[-1]

    monkeypatch.setattr(Accumulator, "fill", watched)
    agent = Agent(transport=Hanging(), spool=Spool(tmp_path, commit=60), queue=QueueLimits(max_messages=1000))
    async with agent:
        for number in range(600):
            assert agent.track("u", "e", {"n": number})
        for number in range(600, 650):
            before = len(fills)
            assert agent.track("u", "e", {"n": number})
            await until(lambda: len(fills) > before + 4)  # noqa: B023 (called at once)
        assert [batch.count for batch in agent._accumulator.partitions[0].sealed] == [100] * 5
        await agent.aclose(0)


async def test_records_may_end_within_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one read gets is enough for the next batch, wherever the records on disk end."""
    monkeypatch.setattr(spool_feed, "READ_BACK_BYTES", 100_000)
    carrier = Gate()
    agent = Agent(
        transport=carrier,
        spool=tmp_path,
        batching=Batching(max_messages=1000, max_bytes=90_000, linger=0.01),
        queue=QueueLimits(max_bytes=4_000_000),
    )
    for number in range(3000):
        assert agent.track("u", "e", {"n": number, "x": "x" * 1000})
    await agent.sync()
    async with agent:
        await until(lambda: agent.stats().spooled > 2000)
        carrier.opened.set()
        assert (await agent.flush()).ok
    assert [message["params"]["n"] for message in carrier.delivered] == [*range(3000)]


@pytest.mark.slow
async def test_a_message_that_always_fails_stops_nothing_in_a_small_memory(tmp_path: Path) -> None:
    """The next one is in memory to be sent before it, and to show that the message itself is the reason."""
    away = True

    def decide(batch: Batch) -> Outcome | None:
        return answer(500) if away or b'"n":0}' in batch.body() else None

    carrier, batching = Carrier(decide=decide), Batching(max_messages=2, linger=0.01)
    limits = QueueLimits(max_messages=15)
    async with Agent(transport=carrier, spool=tmp_path, batching=batching, queue=limits, retry=HASTY) as agent:
        for number in range(60):
            await until(lambda: agent.track(f"u{number % 7}", "e", {"n": number}))  # noqa: B023 (called at once)
        assert agent.stats().spooled > 40
        away = False
        report = await agent.flush()
    assert (report.delivered, dict(report.lost)) == (59, {LossReason.REJECTED: 1})


async def test_a_task_that_fails_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks restart after one has raised what a signal handler raised in it."""
    monkeypatch.setattr(spool_feed, "RESTART_SECONDS", 0.01)
    failed: list[SpoolFeed] = []
    expire = SpoolFeed._expire

    async def failing(self: SpoolFeed) -> None:
        if not failed:
            failed.append(self)
            raise Interruption
        await expire(self)

    monkeypatch.setattr(SpoolFeed, "_expire", failing)
    async with Agent(transport=Carrier(), spool=tmp_path, batching=QUICK) as agent:
        feed = feed_of(agent)
        tasks = feed._tasks
        await until(lambda: feed._tasks is not tasks and feed.is_running())
        agent.track("u", "e")
        assert (await agent.flush()).ok
    assert failed == [feed]


@pytest.mark.parametrize("count", [1, 2], ids=["expired in the meantime", "read in part"])
async def test_only_a_whole_batch_that_still_waits_is_put_in_its_place(tmp_path: Path, count: int) -> None:
    """What is read back of a batch that was lost since, or not to its end, changes nothing."""
    async with Agent(transport=Carrier(), spool=tmp_path, batching=QUICK) as agent:
        feed = feed_of(agent)
        batch = Batch.of_lines([b"{}"] * count)
        batch.first = 0
        read: Future[Chunk] = Future()
        read.set_result(Chunk([], 1, 1))
        feed._spooler.read_back = lambda *_: read  # type: ignore[method-assign]
        before = agent._accumulator.counts()
        await feed._read_back(agent._accumulator.partitions[0], [batch])
        assert agent._accumulator.counts() == before


async def test_batches_on_disk_are_read_up_to_one_in_memory(tmp_path: Path) -> None:
    """What follows a batch that is in memory is read when its turn comes."""
    partition = on_disk(0, 1, 2)
    partition.sealed[1].spilled = False
    async with Agent(transport=Carrier(), spool=tmp_path) as agent:
        assert feed_of(agent)._wanted(partition) == [partition.sealed[0]]


async def test_a_message_that_was_brought_forward_is_read_alone(tmp_path: Path) -> None:
    """One read goes from the first to the last that it gets, so a message from behind them is in none with them."""
    partition = on_disk(9, 0, 1, 3)
    deferred, first, second, _ = partition.sealed
    async with Agent(transport=Carrier(), spool=tmp_path) as agent:
        assert feed_of(agent)._wanted(partition) == [deferred]
        del partition.sealed[0]
        assert feed_of(agent)._wanted(partition) == [first, second]


def on_disk(*firsts: int) -> Partition:
    """Return a partition of batches of one message that have left the memory, by their numbers."""
    partition = Partition(0)
    for first in firsts:
        partition.sealed.append(Batch.of_lines([line(first)]))
        partition.sealed[-1].first, partition.sealed[-1].spilled = first, True
    return partition


async def test_nothing_leaves_for_a_directory_that_goes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was durable in a directory that was deleted during the look stays in memory."""
    monkeypatch.setattr(spool_feed, "SPILL_ABOVE", 0.0)
    limits = QueueLimits(max_messages=1000)
    async with Agent(transport=Hanging(), spool=Spool(tmp_path, commit=60), queue=limits) as agent:
        feed, partition = feed_of(agent), agent._accumulator.partitions[0]
        feed.stop()  # the test looks itself
        for number in range(500):
            assert agent.track("u", "e", {"n": number})
        await agent.sync()
        spooler = agent._spooler
        assert spooler is not None
        durable = spooler.durable

        def deleted_behind_it(index: int) -> int:
            found = durable(index)
            spooler._worker._own.vanished += 1
            return found

        with monkeypatch.context() as patch:
            patch.setattr(spooler, "durable", deleted_behind_it)
            assert await feed._keep_up()
        assert partition.spilled == 0
        await feed._keep_up()
        assert partition.spilled > 0
        await agent.aclose(0)


async def test_ages_are_sampled_a_hundred_times_within_the_age(tmp_path: Path) -> None:
    """Two looks in a row take one sample."""
    spool = Spool(tmp_path, max_age=10_000.0)
    async with Agent(transport=Carrier(), spool=spool, batching=QUICK) as agent:
        feed = feed_of(agent)
        await feed._expire()
        await feed._expire()
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


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and write a few messages at a time."""
    monkeypatch.setattr(spool_feed, "READ_BACK_BYTES", 1)
    monkeypatch.setattr(spool_feed, "RECOVER_BYTES", 600)
    monkeypatch.setattr(pieces, "_RECORD_BYTES", 200)


async def outage(agent: Agent, count: int) -> None:
    """Track so many messages while the server is away, as fast as they leave the memory."""
    for number in range(count):
        assert agent.track("u", "e", {"n": number})
        if number % 10 == 9:
            await agent.sync()
            await until(lambda: agent._accumulator.fill() < 0.8)


@pytest.mark.usefixtures("small")
async def test_a_batch_of_many_records_is_read_back(tmp_path: Path) -> None:
    """A batch that is larger than what is read at once is read back as a whole, with its newlines."""
    carrier = Carrier(decide=lambda _: BROKEN)
    agent = Agent(
        transport=carrier,
        spool=Spool(tmp_path, commit=0.01),
        batching=Batching(max_messages=20, linger=0.01),
        queue=QueueLimits(max_messages=100),
        retry=HASTY,
    )
    async with agent:
        await outage(agent, 300)
        assert agent.stats().spooled
        carrier.decide = None
        assert (await agent.flush()).ok
    assert [message["params"]["n"] for message in carrier.delivered] == list(range(300))


@pytest.mark.usefixtures("small")
async def test_what_is_read_while_the_tasks_are_cancelled_is_delivered(tmp_path: Path) -> None:
    """What the disk gives to a task that was cancelled meanwhile is delivered by the next one, in order."""
    await leave(tmp_path, 20)
    carrier, free = Carrier(), threading.Event()
    agent = Agent(transport=carrier, spool=tmp_path, batching=QUICK)
    spooler = agent._spooler
    assert spooler is not None
    spooler._committer.submit(free.wait)
    async with agent:
        feed = feed_of(agent)
        for _ in range(2):
            await asyncio.sleep(0)  # the task waits for the disk
            tasks = feed._tasks
            for task in tasks:
                task.cancel()
            await until(lambda: feed._tasks is not tasks and feed.is_running())  # noqa: B023
        agent.track("u", "e", {"n": 20})
        free.set()
        await until(lambda: agent.stats().delivered == 21)
    assert [message["params"]["n"] for message in carrier.delivered] == list(range(21))


async def test_what_was_on_disk_only_in_a_deleted_directory_is_lost(tmp_path: Path) -> None:
    """It is lost as DAMAGED at once, and not reported as kept; what is in memory is written anew, and kept."""
    lost: list[Loss] = []
    agent = Agent(
        transport=Carrier(decide=lambda _: BROKEN),
        spool=Spool(tmp_path / "spool", commit=0.01),
        batching=Batching(max_messages=10, linger=0.01),
        queue=QueueLimits(max_messages=100),
        retry=HASTY,
        on_lost=lost.append,
    )
    async with agent:
        await outage(agent, 300)
        shutil.rmtree(tmp_path / "spool")
        await agent.sync()
        await until(lambda: lost)
        report = await agent.aclose(0.5)
    gone = sum(loss.count for loss in lost)
    assert report.lost == {LossReason.DAMAGED: gone}
    assert gone > 100
    assert (report.kept, report.pending) == (300 - gone, 0)
    carrier = Carrier()
    async with Agent(transport=carrier, spool=tmp_path / "spool", batching=QUICK) as after:
        await until(lambda: after.stats().delivered == 300 - gone)


@pytest.mark.parametrize("readable", [True, False])
async def test_what_expires_on_disk_reaches_the_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    """What is on disk only is read back for `on_lost` before it is lost; without its lines where the disk refuses."""
    lost: list[Loss] = []
    agent = Agent(
        transport=Hanging(),
        spool=Spool(tmp_path, commit=0.01, max_age=1000),
        batching=Batching(max_messages=10, linger=0.01),
        queue=QueueLimits(max_messages=100),
        on_lost=lost.append,
    )
    async with agent:
        await outage(agent, 300)
        feed, loop = feed_of(agent), asyncio.get_running_loop()
        monkeypatch.setattr(spool_feed, "READ_BACK_BYTES", 5000)
        await until(lambda: agent.stats().in_flight == 10)
        before = loop.time
        loop.time = lambda: before() + 20  # type: ignore[method-assign]
        await until(lambda: feed._sealed_by[-1][1] == agent._accumulator.sealed_batches)
        spooled = agent.stats().spooled
        assert spooled > 100
        if not readable:

            def refuse(*_: object) -> Future[Chunk]:
                refused: Future[Chunk] = Future()
                refused.set_exception(SpoolFailed("on purpose"))
                return refused

            monkeypatch.setattr(feed._spooler, "read_back", refuse)
        loop.time = lambda: before() + 5000  # type: ignore[method-assign]
        await until(lambda: agent.stats().lost.get(LossReason.EXPIRED) == 290)
        found = [message["params"]["n"] for loss in lost for message in loss.messages]
        if readable:
            assert sorted(found) == list(range(10, 300))
            assert len(lost) > 3  # a little at a time
        else:
            assert len(found) == 290 - spooled
        assert sum(loss.count for loss in lost) == 290
        await agent.aclose(0)


def no_thread(*_: object) -> None:
    """Refuse a thread."""
    raise RuntimeError("on purpose")


def test_a_batch_of_several_records_settles_each_once() -> None:
    """Interrupted at any point and called again, it counts no message twice, and answers for each record."""
    point, met = 0, True
    while met:
        point += 1
        answers: list[tuple[str, int]] = []

        def receipt(name: str, count: int, answers: list[tuple[str, int]] = answers) -> Receipt:
            return Receipt(count, lambda rejected: answers.append((name, len(rejected))))

        receipts = [receipt("a", 2), receipt("b", 3), receipt("c", 9)]
        found = [
            Recovered(LogPiece(0, 0, each.pending, b"\n".join([b"{}"] * each.pending)), each, expired=False)
            for each in receipts
        ]
        first, second = (batch for batch, _, _ in batches_of(found, Batching(max_messages=7), 1))

        def settle(batch: Batch = first) -> None:
            assert batch.receipt is not None
            batch.receipt.rejected[:] = [RejectedLine(b"{}", None)]
            batch.receipt.pending = 0
            batch.receipt.answer()

        def interrupt() -> None:
            raise Interruption

        met = interrupted(settle, interrupt, point)
        settle()
        assert [each.pending for each in receipts] == [0, 0, 7]
        assert {*answers} == {("a", 1), ("b", 0)}
        settle(second)
        assert receipts[2].pending == 0
        assert answers[-1] == ("c", 1)
    assert point > 3
    assert answers == [("a", 1), ("b", 0), ("a", 1), ("b", 0), ("c", 1)]


async def test_tasks_of_an_interrupted_start_end(tmp_path: Path) -> None:
    """A task that no start has noted does nothing."""
    async with Agent(transport=Carrier(), spool=tmp_path, batching=QUICK) as agent:
        feed = feed_of(agent)
        await feed._upkeep(object())
        await feed._recover(object())


# What is raised in the callback of a weak reference is reported as unraisable, and swallowed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("expired", [False, True])
async def test_what_was_read_is_queued_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expired: bool) -> None:
    """An interruption at any point leaves the rest to the next call, also if the sender works in the meantime."""
    # Interrupted within a handler of logging, the lock of the handler would be held for ever; on CPython 3.14, within
    # the start of a thread, that of the threads. The spool then works in the loop's thread.
    monkeypatch.setattr(logging.getLogger("salesmachine_async"), "disabled", True)
    monkeypatch.setattr(committer, "start_thread", no_thread)

    def interrupt() -> None:
        raise Interruption

    point, met = 0, True
    while met:
        point += 1
        agent = Agent(transport=Carrier(), spool=Spool(tmp_path, max_age=1000), batching=Batching(max_messages=2))
        feed, accumulator = feed_of(agent), agent._accumulator
        extra = accumulator.partitions[-1]
        lines = [b'{"n":%d}' % number for number in range(6)]
        piece = LogPiece(0, 0, 6, b"\n".join(lines), written_ms=time.time_ns() // 1_000_000)
        feed._found.append([Recovered(piece, Receipt(6, lambda _: None), expired)])
        met = interrupted(feed._queue_found, interrupt, point)
        flying = accumulator.take(extra)
        if feed._found or feed._batches:
            assert await feed._find()
        feed._queue_found()
        counts = accumulator.counts()
        assert counts.recovered == 6
        assert counts.lost.total() == (6 - counts.in_flight if expired else 0)
        assert law_holds(counts)
        if not expired:
            assert [line for batch in [flying, *extra.sealed] if batch for line in batch.lines()] == lines
        if flying is not None:
            accumulator.settle(flying)
        accumulator.abandon(LossReason.EXPIRED)
        await agent.aclose(0)
    assert point > 20
