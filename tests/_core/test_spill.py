"""What leaves the memory for the disk, comes back, expires, or is left to another process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async._core.receipt import Receipt
from salesmachine_async._core.snapshot import messages_below, unwritten, waiting
from salesmachine_async.policy import Batching, Overflow, QueueLimits
from salesmachine_async.report import Endpoint, LossReason
from tests.support.core import (
    PLENTY,
    Interruption,
    accumulator,
    add,
    add_alias,
    add_all,
    interrupted,
    law_holds,
    line,
    numbers,
    uid_for,
)


def filled(messages: int = 12, *, queue: int = PLENTY, overflow: Overflow = Overflow.DROP_NEWEST) -> Accumulator:
    """Return an accumulator with batches of three."""
    it = accumulator(batch=3, queue=queue, overflow=overflow)
    add_all(it, *range(messages))
    it.seal(it.partitions[0])
    return it


def spilled(it: Accumulator) -> list[int]:
    """Return the first numbers of the batches that are on disk only."""
    return [batch.first for batch in it.partitions[0].sealed if batch.spilled]


def lines_of(batch: Batch) -> list[bytes | None]:
    """Return what the disk has of a batch of `filled`."""
    return [line(number) for number in range(batch.first, batch.first + batch.count)]


def drain(it: Accumulator) -> list[int]:
    """Take and settle everything, with what is on disk read back; returns the numbers in order."""
    partition, found = it.partitions[0], list[int]()
    it.seal(partition)
    while partition.sealed:
        if partition.sealed[0].spilled:
            it.restore(partition.sealed[0], lines_of(partition.sealed[0]))
        batch = it.take(partition)
        assert batch is not None
        it.settle(batch)
        found += numbers(batch)
    return found


def test_what_is_durable_leaves_but_for_the_next_ones() -> None:
    """The sums stay what they were; only memory is freed."""
    it = filled()
    before = it.counts()
    it.spill(it.partitions[0], durable=11, leave=4, leave_bytes=PLENTY)
    assert spilled(it) == [6]  # the last one is not durable
    it.spill(it.partitions[0], durable=11, leave=4, leave_bytes=PLENTY)
    assert spilled(it) == [6]  # those before it are sent next
    after = it.counts()
    assert (after.queued, after.queued_bytes) == (before.queued, before.queued_bytes)
    assert after.spooled == 3 * len(spilled(it))
    assert after.spooled_bytes == sum(batch.size for batch in it.partitions[0].sealed if batch.spilled)
    assert law_holds(after)


def test_either_bound_is_enough_to_make_more_leave() -> None:
    """Few messages may be many bytes."""
    it = filled()
    it.spill(it.partitions[0], durable=12, leave=PLENTY, leave_bytes=100)
    assert spilled(it) == [6, 9]
    it = filled()
    it.spill(it.partitions[0], durable=12, leave=1, leave_bytes=PLENTY)
    assert spilled(it) == [3, 6, 9]


@pytest.mark.parametrize(("leave", "leave_bytes"), [(4, PLENTY), (PLENTY, 4 * len(line(1)))])
def test_what_was_read_back_leaves_again_but_for_the_next_ones(leave: int, leave_bytes: int) -> None:
    """After a failure that makes the requests smaller, less of it is needed soon, and calls need the room."""
    it = filled(18)
    partition = it.partitions[0]
    it.spill(partition, durable=18, leave=0, leave_bytes=0)
    for batch in [*partition.sealed][:4]:
        it.restore(batch, lines_of(batch))
    first = it.take(partition)
    assert first is not None
    it.split(first)
    before = it.counts()
    it.spill(partition, durable=9, leave=leave, leave_bytes=leave_bytes)
    assert [batch.first for batch in partition.sealed if not batch.spilled] == [0, 1, 3, 9]  # 9 is not on disk
    after = it.counts()
    assert (after.queued, after.queued_bytes) == (before.queued, before.queued_bytes)
    assert law_holds(after)
    assert drain(it) == [*range(18)]


def interruption() -> None:
    """Raise as a signal handler does."""
    raise Interruption


def test_an_interrupted_spill_leaves_nothing_that_the_next_one_does_not_find() -> None:
    """Wherever a signal handler raises, everything on disk has left the memory after another look."""
    point, met = 0, True
    while met:
        point += 1
        it = filled(18)
        partition = it.partitions[0]
        it.spill(partition, durable=9, leave=0, leave_bytes=0)
        it.restore(partition.sealed[0], lines_of(partition.sealed[0]))
        met = interrupted(partial(it.spill, partition, 18, 1, PLENTY), interruption, point)
        it.spill(partition, durable=18, leave=1, leave_bytes=PLENTY)
        assert spilled(it) == [3, 6, 9, 12, 15]
        assert drain(it) == [*range(18)]
    assert point > 10


@pytest.mark.parametrize(("alone", "left"), [(True, [1]), (False, [])])
def test_something_stays_behind_a_message_alone_in_flight(alone: bool, left: list[int]) -> None:
    """It may have to be sent before that message, if the server fails with it; behind more messages nothing stays."""
    it = filled(9)
    partition = it.partitions[0]
    batch = it.take(partition)
    assert batch is not None
    if alone:
        it.split(batch)
        it.take(partition)
    it.spill(partition, durable=9, leave=1, leave_bytes=PLENTY)
    assert [each.first for each in partition.sealed if not each.spilled] == left


def test_room_is_made_for_calls() -> None:
    """A full queue takes messages again, and all come out in order."""
    it = filled(12, queue=12)
    assert add_all(it, 12) == [False]
    it.spill(it.partitions[0], durable=12, leave=3, leave_bytes=100)
    assert add_all(it, 12, 13) == [True, True]
    assert drain(it) == [*range(14)]
    counts = it.counts()
    assert (counts.spooled, counts.spooled_bytes, counts.queued, counts.queued_bytes) == (0, 0, 0, 0)


def test_what_is_read_back_takes_room_again() -> None:
    """The bounds are exact for the calls after it, also where they were not near before it."""
    it = accumulator(batch=2, batch_bytes=4000, queue=100, queue_bytes=10_000)
    (partition,) = it.partitions
    add_all(it, 0, 1, size=1900)
    it.seal(partition)
    it.spill(partition, durable=2, leave=0, leave_bytes=0)
    it.quieten(partition)
    it.restore(partition.sealed[0], [line(0, size=1900), line(1, size=1900)])
    used = 3800
    for number in range(2, 60):
        size = 1500 if number % 2 else 90
        fits = used + size <= 10_000
        assert add(it, number, size=size) == fits
        used += size * fits


def test_the_open_batch_is_displaced_where_all_before_it_is_on_disk() -> None:
    """The bound is for what is in memory."""
    it = accumulator(batch=3, queue=3, overflow=Overflow.DROP_OLDEST, partitions=2)
    one, other = (uid_for(index, 2) for index in range(2))
    add(it, 0, one)
    it.seal(it.partitions[0])
    it.spill(it.partitions[0], durable=1, leave=0, leave_bytes=0)
    add_all(it, 1, 2, uid=one)
    add_all(it, 3, 4, uid=other)
    assert it.displace()
    assert [numbers(batch) for _, batch in it.displaced] == [[1]]
    assert law_holds(it.counts())


def test_what_is_on_disk_only_is_not_taken_and_not_written_again() -> None:
    """Nor does it lose its place in the numbers."""
    it = filled(6)
    partition = it.partitions[0]
    it.spill(partition, durable=6, leave=0, leave_bytes=0)
    assert spilled(it) == [0, 3]
    assert it.take(partition) is None
    assert unwritten(partition, 0) == []
    assert (min(each.start for each in waiting(partition)), messages_below(partition, 4)) == (0, 4)
    add_all(it, 6, 7)
    assert [run.first for run in unwritten(partition, 0)] == [6]
    assert messages_below(partition, 7) == 7
    assert drain(it) == [*range(8)]


def test_an_alias_comes_back_as_an_alias() -> None:
    """It stays a request of its own."""
    it = accumulator(batch=3)
    add(it, 0)
    add_alias(it, 1)
    partition = it.partitions[0]
    it.seal(partition)
    it.spill(partition, durable=2, leave=0, leave_bytes=0)
    for batch in [*partition.sealed]:
        it.restore(batch, lines_of(batch))
    assert [batch.endpoint for batch in partition.sealed] == [Endpoint.BATCH, Endpoint.ALIAS]
    assert drain(it) == [0, 1]


def test_what_cannot_be_read_back_is_lost_as_damaged() -> None:
    """The others of its batch are delivered, and a flush ends."""
    it = filled(9)
    partition = it.partitions[0]
    barrier = it.barrier()
    it.spill(partition, durable=9, leave=0, leave_bytes=0)
    it.restore(partition.sealed[1], [line(3), None, line(5)])
    assert [(reason, batch.count, batch.messages()) for reason, batch in it.displaced] == [(LossReason.DAMAGED, 1, [])]
    last = partition.sealed[-1]
    it.restore(last, [None, None, None])
    counts = it.counts()
    assert counts.lost == {LossReason.DAMAGED: 4}
    assert law_holds(counts)
    assert drain(it) == [0, 1, 2, 3, 5]
    assert it.passed(barrier, partition)
    report = it.report(barrier)
    assert (report.delivered, report.lost, report.pending) == (5, {LossReason.DAMAGED: 4}, 0)
    assert (partition.unsettled_bytes, partition.spilled_bytes) == (0, 0)


def test_a_full_queue_displaces_what_is_in_memory() -> None:
    """To lose what is on disk would make no room."""
    it = filled(12, queue=12, overflow=Overflow.DROP_OLDEST)
    it.spill(it.partitions[0], durable=9, leave=0, leave_bytes=0)
    assert spilled(it) == [0, 3, 6]
    add_all(it, *range(12, 24))
    it.displace()
    assert spilled(it) == [0, 3, 6]
    lost = [number for _, batch in it.displaced for number in numbers(batch)]
    assert lost == [*range(9, 9 + len(lost))]
    assert law_holds(it.counts())
    assert it.counts().queued - it.counts().spooled <= 12


def test_deferral_looks_no_further_than_the_memory() -> None:
    """What is on disk may concern the same contact as what comes behind it."""
    it = accumulator(batch=1)
    partition = it.partitions[0]
    for number, uid in enumerate("aab"):
        it.add(partition, b'{"contact_uid":"%s","n":%d}' % (uid.encode(), number))
    it.seal(partition)
    it.spill(partition, durable=3, leave=0, leave_bytes=0)
    it.restore(partition.sealed[0], [b'{"contact_uid":"a","n":0}'])
    it.restore(partition.sealed[2], [b'{"contact_uid":"b","n":2}'])
    lone = it.take(partition)
    assert lone is not None
    assert not it.defer(lone)
    assert not it.others_wait(lone)


def test_the_old_expire() -> None:
    """In memory or on disk; what was sealed later stays."""
    it = filled(6)
    number = it.sealed_batches
    it.spill(it.partitions[0], durable=3, leave=0, leave_bytes=0)
    add_all(it, 6, 7)
    it.seal(it.partitions[0])
    it.expire(it.partitions[0], number)
    assert it.counts().lost == {LossReason.EXPIRED: 6}
    assert it.counts().spooled == it.counts().spooled_bytes == 0
    assert drain(it) == [6, 7]


def test_what_is_kept_is_neither_lost_nor_queued() -> None:
    """Up to a number, in the middle of a batch too; a flush and the end of the agent count it."""
    it = filled(9)
    partition = it.partitions[0]
    barrier = it.barrier()
    it.spill(partition, durable=3, leave=0, leave_bytes=0)
    it.keep(partition, 4)
    counts = it.counts()
    assert (counts.kept, counts.queued, counts.spooled) == (4, 5, 0)
    assert law_holds(counts)
    it.keep(partition, 4)
    assert it.counts() == counts
    assert drain(it) == [*range(4, 9)]
    report = it.report(barrier)
    assert (report.delivered, report.kept, report.pending, report.ok) == (5, 4, 0, False)
    late = it.barrier()
    assert it.report(late) == report
    assert late.accepted == 9
    add(it, 9)
    assert it.report(it.barrier()).pending == 1


def test_a_barrier_counts_what_was_kept_before_it_alone() -> None:
    """A message behind the barrier that is kept is in no report of it."""
    it = filled(3)
    partition = it.partitions[0]
    early, late = it.barrier(), None
    add_all(it, 3, 4, 5)
    late = it.barrier()
    it.keep(partition, 6)
    assert [it.report(barrier).kept for barrier in (early, late)] == [3, 6]


def test_batches_with_a_receipt_stay_in_memory() -> None:
    """Their messages lie in another process's directory, or in a relay's engine."""
    it = accumulator()
    batch = Batch.of_lines([line(0)])
    batch.receipt = Receipt(1, lambda _: None)
    it.put(batch)
    it.spill(it.partitions[0], durable=9, leave=0, leave_bytes=0)
    assert it.counts().spooled == 0
    it.lose(batch, LossReason.EXPIRED)
    assert it.counts().lost == {LossReason.EXPIRED: 1}


def test_calls_never_belong_to_an_extra_partition() -> None:
    """It is for what an earlier process left."""
    it = Accumulator(Batching(), QueueLimits(), 2, extra=1)
    assert len(it.partitions) == 3
    assert {it.partition_for(str(number)).index for number in range(50)} == {0, 1}


Step = Callable[[Accumulator, Partition], object]
STEPS: Final[dict[str, Step]] = {
    "spill": lambda it, partition: it.spill(partition, durable=12, leave=0, leave_bytes=0),
    "restore": lambda it, partition: it.restore(partition.sealed[1], lines_of(partition.sealed[1])),
    "damaged": lambda it, partition: it.restore(partition.sealed[1], [line(3), None, line(5)]),
    "keep": lambda it, partition: it.keep(partition, 4),
    "expire": lambda it, partition: it.expire(partition, partition.sealed[1].number),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("what", ["call", "raise", "look"])
def test_at_every_point_the_law_holds(name: str, what: str) -> None:
    """Whether a call comes, a signal handler raises, or another thread looks."""
    point = 0
    while True:
        point += 1
        it = filled()
        partition = it.partitions[0]
        if name != "spill":
            it.spill(partition, durable=9, leave=0, leave_bytes=0)
        extra: list[int] = []

        def inner(it: Accumulator = it, extra: list[int] = extra) -> None:
            if what == "raise":
                raise Interruption
            if what == "call":
                add(it, 12)
                extra.append(12)
            assert law_holds(it.counts())
            assert it.counts().accepted == 12 + len(extra)
            assert messages_below(it.partitions[0], PLENTY) <= 12 + len(extra)

        if not interrupted(lambda: STEPS[name](it, partition), inner, point):  # noqa: B023
            break
        counts = it.counts()
        assert law_holds(counts)
        assert counts.accepted == 12 + len(extra)
        assert counts.spooled == sum(batch.count for batch in partition.sealed if batch.spilled)
        assert counts.spooled_bytes == sum(batch.size for batch in partition.sealed if batch.spilled)
        for gap in [batch for batch in partition.sealed if batch.spilled and not batch.size]:
            it.restore(gap, [None])  # as the feed does, which finds a message that is still missing
        done = {number for number in range(12) if number not in _left(it)}
        assert drain(it) == [*(number for number in range(12) if number not in done), *extra]
        assert it.counts().lost.total() + it.counts().kept == len(done)
        assert it.counts().queued_bytes == 0
    assert point > 1


def _left(it: Accumulator) -> set[int]:
    """Return the numbers that are queued."""
    return {number for batch in it.partitions[0].sealed for number in range(batch.first, batch.first + batch.count)}
