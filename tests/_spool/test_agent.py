"""Agents with a spool, in one process: what an earlier agent left, outages beyond the memory, ends, failing disks."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async import (
    Agent,
    Batch,
    Batching,
    ConfigError,
    LossReason,
    Overflow,
    QueueLimits,
    Report,
    Retry,
    Spool,
    SpoolFailed,
    SpoolState,
    State,
    Stats,
    ThreadedAgent,
    _process,
)
from salesmachine_async._core.receipt import Receipt
from salesmachine_async._delivery import spool_feed
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.spooler import Spooler
from salesmachine_async.sandbox import Sandbox
from salesmachine_async.testing import Recorder, Workspace, capture, serve
from tests.support.carriers import BROKEN, Carrier, Hanging, answer
from tests.support.core import Interruption
from tests.support.spool import segments
from tests.support.waiting import until


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with serve() as running:
        yield running


@pytest.fixture
def workspace(sandbox: Sandbox) -> Workspace:
    return Workspace(sandbox)


QUICK = Batching(linger=0.01)
HASTY = Retry(wait_initial=0.01, wait_max=0.02)


def down() -> Carrier:
    """Return a network whose other side is away."""
    return Carrier(decide=lambda _: BROKEN)


def numbered(agent: Agent | ThreadedAgent, *which: int, uid: str = "u") -> None:
    """Track events of these numbers."""
    for number in which:
        assert agent.track(uid, "e", {"n": number})


def found(carrier: Carrier) -> list[int]:
    """Return the numbers that were delivered, in order."""
    return [message["params"]["n"] for message in carrier.delivered]


def advance(seconds: float) -> None:
    """Let time pass on the running event loop, at once."""
    loop = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + seconds  # type: ignore[method-assign]


def law_holds(stats: Stats) -> bool:
    """Everything that came in is in exactly one place."""
    came = stats.accepted + stats.recovered
    return came == stats.delivered + sum(stats.lost.values()) + stats.kept + stats.queued + stats.in_flight


async def ended(agent: Agent, timeout: float = 0) -> Report:
    """Close an agent whose messages are not delivered; they are on disk, and its directory is free, however slow."""
    await agent.sync()
    report = await agent.aclose(timeout)
    await until(lambda: (spool := agent.stats().spool) is not None and spool.state is SpoolState.CLOSED)
    return report


async def leave(path: Path, *which: int, **options: Any) -> Stats:
    """Let an agent end without its messages delivered."""
    agent = Agent(transport=down(), spool=path, batching=QUICK, **options)
    numbered(agent, *which)
    await agent.start()
    report = await ended(agent)
    assert (report.kept, report.pending, dict(report.lost), report.ok) == (len(which), 0, {}, False)
    return agent.stats()


async def test_the_next_agent_delivers_what_one_has_left_first(tmp_path: Path) -> None:
    """Recovered messages are delivered in order, with their ids, before any new one; nothing is left on disk."""
    stats = await leave(tmp_path, *range(250))
    assert (stats.kept, stats.queued, stats.accepted) == (250, 0, 250)
    assert law_holds(stats)
    carrier = Carrier()
    async with Agent(transport=carrier, spool=tmp_path, batching=QUICK) as agent:
        numbered(agent, 250)
        await until(lambda: agent.stats().delivered == 251)
        assert found(carrier) == [*range(251)]
        assert len({message["messageId"] for message in carrier.delivered}) == 251
        stats = agent.stats()
        assert (stats.recovered, stats.accepted, stats.queued) == (250, 1, 0)
        assert law_holds(stats)
    assert [path.name for path in tmp_path.iterdir()] == ["quota.lock"]


async def test_many_small_commits_become_full_batches(tmp_path: Path) -> None:
    """Records of one message each are delivered in full batches, not in a request each."""
    agent = Agent(transport=down(), spool=Spool(tmp_path, commit=60), batching=QUICK)
    for number in range(30):
        numbered(agent, number)
        await agent.sync()
    assert agent.alias("u", "v")
    numbered(agent, 30)
    await ended(agent)
    carrier = Carrier()
    async with Agent(transport=carrier, spool=tmp_path, batching=Batching(max_messages=20)) as agent:
        await until(lambda: agent.stats().delivered == 32)
    assert [len(messages) for _, _, messages in carrier.attempts] == [20, 10, 1, 1]
    assert carrier.delivered[30]["alias"] == "v"


async def test_calls_before_the_start_are_written(tmp_path: Path) -> None:
    """The messages of an agent that is never started are on disk after a commit."""
    agent = Agent(transport=Carrier(), spool=Spool(tmp_path, commit=0.01))
    numbered(agent, 1)
    await until(lambda: (spool := agent.stats().spool) and spool.commits)
    assert segments(tmp_path)
    assert (await agent.aclose()).ok


async def test_sync_is_refused_without_a_spool(tmp_path: Path) -> None:
    """`sync` raises without a spool, because it could not keep its promise."""
    agent = Agent(transport=Carrier())
    with pytest.raises(SpoolFailed, match="SALESMACHINE_SPOOL"):
        await agent.sync()
    closed = Agent(transport=Carrier(), spool=tmp_path)
    await closed.aclose()
    await closed.sync()
    await Agent(enabled=False, spool=tmp_path).sync()


async def test_the_environment_names_the_path_and_an_empty_one_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment variable is read at construction; an empty value means no spool."""
    monkeypatch.setenv("SALESMACHINE_SPOOL", str(tmp_path))
    agent = Agent(transport=Carrier())
    assert agent.stats().spool is not None
    assert Agent(transport=Carrier(), spool="").stats().spool is None
    assert Agent(enabled=False).stats().spool is None
    assert Recorder().stats().spool is None
    await agent.aclose()
    monkeypatch.setenv("SALESMACHINE_SPOOL", "")
    assert Agent(transport=Carrier()).stats().spool is None


def test_an_unusable_path_is_found_at_construction(tmp_path: Path) -> None:
    """An unusable path raises at construction, or logs one line if the policy makes the spool optional."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError):
        Agent(transport=Carrier(), spool=file)
    with pytest.raises(ConfigError, match="path or a Spool"):
        Agent(transport=Carrier(), spool=3)  # type: ignore[arg-type]


async def test_an_optional_spool_that_is_unusable_is_left_out(tmp_path: Path) -> None:
    """An optional spool that is unusable is left out: undelivered messages are lost, as without a spool."""
    (tmp_path / "file").touch()
    agent = Agent(transport=down(), spool=Spool(tmp_path / "file", required=False), batching=QUICK)
    numbered(agent, 1)
    with pytest.raises(SpoolFailed):
        await agent.sync()
    report = await agent.aclose(0.1)
    assert (report.kept, dict(report.lost)) == (0, {LossReason.CLOSED: 1})
    spool = agent.stats().spool
    assert spool is not None


async def test_messages_of_another_account_are_left_alone(tmp_path: Path, workspace: Workspace) -> None:
    """A token's messages are sent with this token only."""
    agent = workspace.agent(spool=tmp_path, base_url="http://127.0.0.1:9", batching=QUICK)
    numbered(agent, 1)
    assert (await ended(agent)).kept == 1
    async with workspace.agent(spool=tmp_path) as other:
        await until(lambda: not other._flusher._senders[0].held)
        assert other.stats().recovered == 0
    agent = workspace.agent(spool=tmp_path, base_url="http://127.0.0.1:9", batching=QUICK, retry=HASTY)
    async with agent:
        await until(lambda: agent.stats().recovered == 1)
        assert (await agent.aclose(0)).kept == 1
    assert (
        b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()).count(workspace.token.encode())
        == 0
    )


async def test_new_messages_do_not_wait_for_ever(tmp_path: Path) -> None:
    """New messages wait at most `recover_first` for recovered ones that cannot be delivered."""
    await leave(tmp_path, 1, 2)
    carrier = Carrier(decide=lambda batch: BROKEN if b'"n":1}' in batch.body() else None)
    agent = Agent(transport=carrier, spool=Spool(tmp_path, recover_first=0.05), batching=QUICK, retry=HASTY)
    async with agent:
        numbered(agent, 3)
        await until(lambda: found(carrier) == [3])
        assert (await agent.aclose(0)).kept == 2


async def test_only_writing_sends_nothing_and_leaves_all(tmp_path: Path) -> None:
    """An agent that only writes sends nothing and keeps nothing in memory; its `flush` waits for the disk."""
    carrier = Carrier()
    agent = Agent(transport=carrier, spool=Spool(tmp_path, deliver=False, commit=0.01), batching=QUICK)
    await agent.start()
    numbered(agent, *range(5))
    report = await agent.flush()
    assert (report.kept, report.pending, report.delivered) == (5, 0, 0)
    assert law_holds(agent.stats())
    numbered(agent, 5, 6)
    assert (await agent.aclose()).kept == 7
    assert carrier.attempts == []
    async with Agent(transport=carrier, spool=tmp_path, batching=QUICK) as sender:
        await until(lambda: sender.stats().delivered == 7)
    assert found(carrier) == [*range(7)]


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_an_outage_larger_than_the_memory(tmp_path: Path, concurrency: int) -> None:
    """An outage moves the queue to disk and back: no message is dropped, and each contact's order is kept."""
    carrier = down()
    agent = Agent(
        transport=carrier,
        spool=Spool(tmp_path, commit=0.01),
        batching=QUICK,
        queue=QueueLimits(max_messages=1000),
        retry=HASTY,
        concurrency=concurrency,
    )
    async with agent:
        for number in range(8000):
            numbered(agent, number, uid=f"u{number % 7}")
            if number % 100 == 99:
                await until(lambda: agent._accumulator.fill() < 0.8)
                assert law_holds(agent.stats())
        stats = agent.stats()
        assert stats.spooled > 5000
        assert stats.queued + stats.in_flight == 8000
        assert stats.spooled_bytes > 0
        assert agent._accumulator.fill() <= 1
        carrier.decide = None
        report = await agent.flush()
        assert (report.delivered, report.pending) == (8000, 0)
        assert sorted(found(carrier)) == [*range(8000)]
        for uid in range(7):
            mine = [number for number in found(carrier) if number % 7 == uid]
            assert mine == sorted(mine)
        stats = agent.stats()
        assert (stats.spooled, stats.spooled_bytes) == (0, 0)


async def test_what_left_the_memory_is_kept_at_the_end(tmp_path: Path) -> None:
    """Messages that were moved to disk are kept at the end, and the next agent finds them in order."""
    options: dict[str, Any] = {"batching": QUICK, "queue": QueueLimits(max_messages=300), "retry": HASTY}
    agent = Agent(transport=down(), spool=Spool(tmp_path, commit=0.01), **options)
    async with agent:
        for number in range(2000):
            numbered(agent, number)
            if number % 50 == 49:
                await until(lambda: agent._accumulator.fill() < 0.8)
        assert agent.stats().spooled
        report = await ended(agent)
    assert (report.kept, report.pending, dict(report.lost)) == (2000, 0, {})
    assert law_holds(agent.stats())
    carrier = Carrier()
    async with Agent(transport=carrier, spool=tmp_path, **options) as after:
        await until(lambda: after.stats().delivered == 2000)
    assert found(carrier) == [*range(2000)]


async def test_what_cannot_be_read_back_is_reported(tmp_path: Path) -> None:
    """A message that cannot be read back is lost as DAMAGED, by its number; the rest arrives."""
    carrier, lost = down(), list[tuple[LossReason, int]]()
    agent = Agent(
        transport=carrier,
        spool=Spool(tmp_path, commit=0.01),
        batching=Batching(max_messages=10, linger=0.01),
        queue=QueueLimits(max_messages=100),
        retry=HASTY,
        on_lost=lambda loss: lost.append((loss.reason, loss.count)),
    )
    async with agent:
        for number in range(500):
            numbered(agent, number)
            if number % 10 == 9:
                await agent.sync()
                await until(lambda: agent._accumulator.fill() < 0.8)
        for path in segments(tmp_path):
            data = bytearray(path.read_bytes())
            at = data.index(b'"n":250}')
            data[at + 5] ^= 1
            path.write_bytes(data)
        carrier.decide = None
        report = await agent.flush()
    damaged = report.lost[LossReason.DAMAGED]
    assert damaged == 10
    assert report.delivered == 490
    assert (LossReason.DAMAGED, 10) in lost
    assert found(carrier) == [number for number in range(500) if not 250 <= number < 260]
    spool = agent.stats().spool
    assert spool is not None
    assert spool.damaged_bytes > 0


class BadDisk(Files):
    """A disk whose writes and reads fail while a test says so."""

    writes = reads = True
    hangs: threading.Event | None = None

    def write(self, fd: int, parts: Any, position: int) -> int:
        if self.hangs is not None:
            self.hangs.wait()
        if not BadDisk.writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(fd, parts, position)

    def read(self, fd: int, size: int, position: int = 0) -> bytes:
        if not BadDisk.reads:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(fd, size, position)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[BadDisk]]:
    """Give all agents of a test a bad disk."""
    monkeypatch.setattr("salesmachine_async._spool.spooler.Spooler.__init__.__kwdefaults__", _defaults())
    yield BadDisk
    BadDisk.writes = BadDisk.reads = True
    if BadDisk.hangs is not None:
        BadDisk.hangs.set()
    BadDisk.hangs = None


def _defaults() -> dict[str, Any]:
    return {**(Spooler.__init__.__kwdefaults__ or {}), "files": BadDisk}


async def test_only_when_memory_and_disk_are_full_is_a_call_dropped(tmp_path: Path, disk: type[BadDisk]) -> None:
    """Calls are dropped only when memory and disk are full; unwritten messages are lost at the end."""
    disk.writes = False
    agent = Agent(
        transport=down(),
        spool=Spool(tmp_path, commit=0.01),
        batching=QUICK,
        queue=QueueLimits(max_messages=100),
        retry=HASTY,
    )
    async with agent:
        numbered(agent, *range(100))
        with pytest.raises(SpoolFailed):
            await agent.sync()
        assert not agent.track("u", "e")
        spool = agent.stats().spool
        assert spool is not None
        assert spool.state is SpoolState.FULL
        report = await agent.aclose(0.1)
    assert (report.kept, dict(report.lost)) == (0, {LossReason.CLOSED: 100})
    assert law_holds(agent.stats())


async def test_only_what_is_not_on_a_full_disk_is_lost(tmp_path: Path) -> None:
    """When one commit reaches the bound, the report says which messages the next agent delivers."""
    agent = Agent(transport=down(), spool=Spool(tmp_path, max_bytes=2**20))
    numbered(agent, *range(8000))
    await agent.start()
    with pytest.raises(SpoolFailed, match="max_bytes"):
        await agent.sync()
    report = await agent.aclose(1)
    assert 1000 < report.kept < 8000
    assert dict(report.lost) == {LossReason.CLOSED: 8000 - report.kept}
    carrier = Carrier()
    async with Agent(transport=carrier, spool=tmp_path) as later:
        await until(lambda: (stats := later.stats()).delivered == stats.recovered == report.kept)
    assert found(carrier) == list(range(report.kept))


async def test_a_full_disk_under_drop_oldest_loses_the_oldest(tmp_path: Path, disk: type[BadDisk]) -> None:
    """A full disk under `drop_oldest` loses the oldest messages, as an agent without a spool does."""
    disk.writes = False
    agent = Agent(
        transport=Hanging(),
        spool=Spool(tmp_path, commit=0.01),
        batching=Batching(max_messages=10, linger=0.01),
        queue=QueueLimits(max_messages=100, overflow=Overflow.DROP_OLDEST),
    )
    async with agent:
        for number in range(500):
            numbered(agent, number)
            await asyncio.sleep(0)
        assert agent.stats().lost[LossReason.QUEUE_FULL] >= 300
        assert law_holds(agent.stats())
        await agent.aclose(0)


@pytest.mark.slow
async def test_what_drop_oldest_loses_makes_room_for_what_is_newer(tmp_path: Path) -> None:
    """Under `drop_oldest` a path at its bound takes the newest messages, although the oldest one is in flight."""
    limits = QueueLimits(max_messages=1000, overflow=Overflow.DROP_OLDEST)
    agent = Agent(transport=Hanging(), spool=Spool(tmp_path, max_bytes=2**20), queue=limits)
    await agent.start()
    end, reached, synced = 0, False, True
    while not (reached and synced):  # until the bound is reached, and then until there is room again
        for number in range(end, end + 100):
            while not agent.track("u", "e", {"n": number}):
                await asyncio.sleep(0)  # the event loop makes room
        end += 100
        try:
            await agent.sync()
            synced = True
        except SpoolFailed:
            reached, synced = True, False
    report = await ended(agent)
    assert report.lost[LossReason.QUEUE_FULL]
    assert LossReason.CLOSED not in report.lost
    carrier = Carrier()
    async with Agent(transport=carrier, spool=tmp_path) as later:
        await until(lambda: (stats := later.stats()).recovered == stats.delivered > 0)
    assert found(carrier) == sorted(found(carrier))
    assert found(carrier)[-500:] == [*range(end - 500, end)]


@pytest.mark.slow
async def test_a_disk_that_cannot_be_read_now_is_read_later(
    tmp_path: Path, disk: type[BadDisk], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed read is logged and repeated, and no message is lost by it."""
    monkeypatch.setattr(spool_feed, "RETRY_SECONDS", 0.01)
    carrier = down()
    agent = Agent(
        transport=carrier,
        spool=Spool(tmp_path, commit=0.01),
        batching=QUICK,
        queue=QueueLimits(max_messages=100),
        retry=HASTY,
    )
    async with agent:
        for number in range(500):
            numbered(agent, number)
            if number % 20 == 19:
                await until(lambda: agent._accumulator.fill() < 0.7)
        disk.reads = False
        carrier.decide = None
        await until(lambda: "cannot be read" in caplog.text)
        disk.reads = True
        assert (await agent.flush()).ok
    assert found(carrier) == [*range(500)]


async def test_a_deadline_is_kept_although_the_disk_hangs(tmp_path: Path, disk: type[BadDisk]) -> None:
    """A close keeps its deadline while the disk hangs; messages not confirmed on disk are lost."""
    disk.hangs = threading.Event()
    agent = Agent(transport=down(), spool=Spool(tmp_path, commit=0.01), batching=QUICK)
    await agent.start()
    numbered(agent, 1, 2)
    report = await asyncio.wait_for(agent.aclose(0.3), 20)
    assert (report.kept, dict(report.lost), report.pending) == (0, {LossReason.CLOSED: 2}, 0)


async def test_a_sync_during_the_end_waits_for_the_last_commit(tmp_path: Path, disk: type[BadDisk]) -> None:
    """What has no outcome yet is not confirmed before it is on disk; what has one is."""
    released = disk.hangs = threading.Event()
    agent = Agent(transport=Carrier(decide=lambda _: answer(401)), spool=tmp_path)
    numbered(agent, 1)
    closing = asyncio.create_task(agent.aclose(60))
    await until(lambda: agent.stats().state is State.CLOSED)
    syncing = asyncio.create_task(agent.sync())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not syncing.done()
    released.set()
    await syncing
    assert [b'"n":1' in each.read_bytes() for each in segments(tmp_path)] == [True]
    assert (await closing).kept == 1
    await agent.sync()


async def test_rejected_messages_are_kept(tmp_path: Path) -> None:
    """Rejected messages, new or recovered, are kept in the spool, and `on_lost` is called for each."""
    await leave(tmp_path, 1, 2, 3)
    lost: list[int] = []
    carrier = Carrier(decide=lambda batch: answer(400) if b'"n":2}' in batch.body() else None)
    agent = Agent(
        transport=carrier,
        spool=Spool(tmp_path, commit=0.01),
        batching=QUICK,
        on_lost=lambda loss: lost.extend(message["params"]["n"] for message in loss.messages),
    )
    async with agent:
        numbered(agent, 4, 2)
        await until(lambda: agent.stats().delivered == 3)
        await agent.flush()
    assert lost == [2, 2]
    kept = [json.loads(line) for path in tmp_path.rglob("rejected.ndjson") for line in path.read_text().splitlines()]
    assert [(each["status"], each["message"]["params"]["n"]) for each in kept] == [(400, 2), (400, 2)]
    spool = agent.stats().spool
    assert spool is not None
    assert spool.rejected_kept == 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.rglob("rejected.ndjson"))


async def test_a_sender_that_ends_before_its_receipt_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a recovered batch was read from is settled by the restart of the sender, without another outcome."""
    await leave(tmp_path, 1)
    answer_receipt, interrupted = Receipt.answer, list[Receipt]()

    def interrupt_first(self: Receipt) -> None:
        if not interrupted:
            interrupted.append(self)
            raise Interruption
        answer_receipt(self)

    monkeypatch.setattr(Receipt, "answer", interrupt_first)
    carrier = Carrier()
    async with Agent(transport=carrier, spool=Spool(tmp_path, commit=0.01), batching=QUICK) as agent:
        await until(lambda: interrupted)
        assert segments(tmp_path)
        await until(lambda: not segments(tmp_path))
        assert agent.stats().delivered == 1
    assert found(carrier) == [1]


async def test_a_rejected_message_is_kept_before_it_is_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption between the two leaves the message twice in the spool rather than nowhere."""
    carrier = Carrier(decide=lambda batch: answer(400) if b'"n":1}' in batch.body() else None)
    agent = Agent(transport=carrier, spool=Spool(tmp_path, commit=0.01), batching=QUICK)
    settle, interrupted = agent._accumulator.settle, list[Batch]()

    def interrupt_first(batch: Batch, *outcome: Any) -> None:
        if not interrupted:
            interrupted.append(batch)
            raise Interruption
        settle(batch, *outcome)

    monkeypatch.setattr(agent._accumulator, "settle", interrupt_first)
    async with agent:
        numbered(agent, 1)
        await until(lambda: agent.stats().lost[LossReason.REJECTED] == 1)
    kept = [json.loads(line) for path in tmp_path.rglob("rejected.ndjson") for line in path.read_text().splitlines()]
    assert [each["message"]["params"]["n"] for each in kept] == [1, 1]


async def test_old_messages_expire(tmp_path: Path) -> None:
    """Messages expire at `max_age`, whether this process or an earlier one wrote them."""
    await leave(tmp_path, 1, 2)
    lost: list[LossReason] = []
    agent = Agent(
        transport=Hanging(),
        spool=Spool(tmp_path, max_age=0.001),
        batching=Batching(max_messages=1, linger=0.01),
        on_lost=lambda loss: lost.append(loss.reason),
    )
    async with agent:
        numbered(agent, 3, 4, 5)
        await until(lambda: agent.stats().lost.get(LossReason.EXPIRED, 0) >= 4)
        assert set(lost) == {LossReason.EXPIRED}
        assert agent.stats().recovered == 2
        assert law_holds(agent.stats())
        await agent.aclose(0)


async def test_open_batches_expire_too(tmp_path: Path) -> None:
    """Messages expire in an open batch that waits behind a request that hangs."""
    agent = Agent(transport=Hanging(), spool=Spool(tmp_path, max_age=1000), batching=QUICK)
    async with agent:
        numbered(agent, 1)
        await until(lambda: agent.stats().in_flight == 1)
        numbered(agent, 2)
        advance(20)
        await until(lambda: agent._accumulator.partitions[0].sealed)
        advance(2000)
        await until(lambda: agent.stats().lost.get(LossReason.EXPIRED) == 1)
        assert (await ended(agent)).kept == 1


async def test_a_recovery_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed recovery is repeated, and new messages do not wait for it."""
    await leave(tmp_path, 1)
    monkeypatch.setattr(spool_feed, "RECOVER_SECONDS", 0.01)
    recover, failures = Spooler.recover, [SpoolFailed("on purpose")]

    def fail_once(spooler: Spooler, n_bytes: int, into: Any) -> Any:
        future = recover(spooler, n_bytes, into) if not failures else Future[Any]()
        if failures:
            future.set_exception(failures.pop())
        return future

    monkeypatch.setattr(Spooler, "recover", fail_once)
    async with Agent(transport=Carrier(), spool=tmp_path, batching=QUICK) as agent:
        await until(lambda: agent.stats().delivered == 1)
    assert "messages were not recovered" in caplog.text


async def test_recovered_messages_expire_while_they_wait(tmp_path: Path) -> None:
    """The age of a recovered message counts from the time it was written."""
    await leave(tmp_path, *range(4))
    agent = Agent(transport=Hanging(), spool=Spool(tmp_path, max_age=1000), batching=Batching(max_messages=2))
    async with agent:
        await until(lambda: agent.stats().in_flight == 2)
        advance(2000)
        await until(lambda: agent.stats().lost.get(LossReason.EXPIRED) == 2)
        assert agent.stats().recovered == 4
        await agent.aclose(0)


@pytest.mark.slow
async def test_a_collected_agent_logs_what_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An agent that is garbage-collected logs how much waits, and leaves it to the next agent."""
    agent = Agent(transport=down(), spool=Spool(tmp_path, commit=0.01), batching=QUICK)
    numbered(agent, 1, 2)
    await agent.sync()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        del agent
        gc.collect()
    assert "2 messages wait in" in caplog.text
    assert "are lost" not in caplog.text
    carrier = Carrier()
    async with Agent(transport=carrier, spool=tmp_path, batching=QUICK) as after:
        await until(lambda: after.stats().delivered == 2)


async def test_tasks_that_were_cancelled_from_outside_begin_again(tmp_path: Path) -> None:
    """The agent's tasks restart after an application cancels all tasks of the loop."""
    await leave(tmp_path, *range(3))
    carrier = down()
    agent = Agent(transport=carrier, spool=Spool(tmp_path, recover_first=0), batching=QUICK, retry=HASTY)
    async with agent:
        await until(lambda: agent.stats().recovered == 3)
        before = agent._flusher._feed
        assert before is not None
        tasks = before._tasks
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
        await until(lambda: before._tasks is not tasks and before.is_running())
        carrier.decide = None
        numbered(agent, 3)
        await until(lambda: agent.stats().delivered == 4)
    assert sorted(found(carrier)) == [0, 1, 2, 3]


async def test_a_threaded_agent_has_a_spool_too(tmp_path: Path) -> None:
    """A threaded agent has a spool and a blocking `sync`."""
    carrier = down()
    agent = ThreadedAgent(transport=carrier, spool=tmp_path, batching=QUICK)
    numbered(agent, 1, 2)
    agent.sync()
    assert segments(tmp_path)
    report = agent.close(0.2)
    assert (report.kept, report.ok) == (2, False)
    agent.sync()
    ThreadedAgent(enabled=False, spool=tmp_path).sync()
    with pytest.raises(SpoolFailed):
        ThreadedAgent(transport=carrier).sync()


async def test_a_capture_writes_and_recovers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture ignores the spool that the application under test has configured."""
    await leave(tmp_path, 1)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv("SALESMACHINE_SPOOL", str(tmp_path))
    with capture() as recorder:
        async with Agent() as agent, Agent(spool=tmp_path) as other:
            agent.track("u", "e")
            other.track("u", "f")
            await asyncio.sleep(0.05)
        recorder.assert_tracked("e")
        recorder.assert_tracked("f")
    assert sorted(tmp_path.rglob("*")) == before


async def test_a_child_of_a_fork_begins_anew(tmp_path: Path) -> None:
    """A forked child has its own directory; the parent keeps its messages and its lock."""
    agent = Agent(transport=down(), spool=Spool(tmp_path, commit=0.01), batching=QUICK)
    numbered(agent, 1, 2)
    await agent.sync()
    spooler = agent._spooler
    assert spooler is not None
    spooler._committer.stop()  # a fork takes no thread along
    thread = spooler._committer._thread
    assert thread is not None
    thread.join(10)
    _process._after_fork_in_child()  # as in a child; the files of "the parent" are closed by it
    assert agent.stats().accepted == 0
    assert agent._spooler is spooler
    numbered(agent, 3)
    await agent.sync()
    assert len({path.parent for path in segments(tmp_path)}) == 2
    assert agent.stats().queued == 1
    assert (await agent.aclose(0.1)).kept == 1
    assert agent.stats().state is State.CLOSED
