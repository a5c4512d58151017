"""What a flush waits for, and what it reports."""

from __future__ import annotations

import gc
from collections import Counter
from typing import cast

import pytest

from salesmachine_async._core.barrier import Barrier, Tally
from salesmachine_async.report import LossReason, Report
from tests.support.core import accumulator, add_all, everything, interrupted, numbers, uid_for


def test_what_has_no_outcome_is_pending() -> None:
    """A report has the counts of the tally; the rest of what was accepted is pending."""
    report = Barrier(1, accepted=10).report(Tally(4, Counter({LossReason.REJECTED: 1})))
    assert report == Report(delivered=4, lost={LossReason.REJECTED: 1}, pending=5)


def test_a_report_may_be_changed() -> None:
    """A report is its reader's: what is done to it is in no later one."""
    it = accumulator(batch=1)
    add_all(it, 1)
    barrier = it.barrier()
    it.abandon(LossReason.CLOSED)
    cast("Counter[LossReason]", it.report(barrier).lost).clear()
    it.counts().lost.clear()
    assert it.report(barrier).lost == it.counts().lost == {LossReason.CLOSED: 1}


def test_a_tally_is_replaced_and_never_changed() -> None:
    """Deliveries, losses and what was kept add up, in a new tally each time."""
    first = Tally()
    second = first.plus(Tally(3)).plus(Tally(lost={LossReason.CLOSED: 2})).plus(Tally(kept=5))
    third = second.plus(Tally(1, {LossReason.CLOSED: 1, LossReason.EXPIRED: 4}, 1))
    assert third.total() == 17
    assert third == (4, {LossReason.CLOSED: 3, LossReason.EXPIRED: 4}, 6)
    assert second == (3, {LossReason.CLOSED: 2}, 5)
    assert first == (0, {}, 0)


def test_a_barrier_lies_behind_everything_accepted_before() -> None:
    """Messages accepted after the barrier are neither waited for nor reported."""
    it = accumulator(batch=2)
    (partition,) = it.partitions
    add_all(it, 1, 2, 3)
    barrier = it.barrier()
    add_all(it, 4)
    for count, delivered in ((2, 2), (1, 3)):
        assert not it.passed(barrier, partition)
        batch = it.take(partition)
        assert batch is not None
        assert batch.count == count
        it.settle(batch)
        assert it.report(barrier) == Report(delivered=delivered, lost={}, pending=3 - delivered)
    assert it.passed(barrier, partition)
    assert numbers(*everything(it)) == [4]
    assert it.report(barrier) == Report(delivered=3, lost={}, pending=0)


def test_parts_of_a_batch_lie_where_the_whole_lay() -> None:
    """A split or returned batch is still before the barrier."""
    it = accumulator()
    (partition,) = it.partitions
    add_all(it, 1, 2, 3)
    barrier = it.barrier()
    batch = it.take(partition)
    assert batch is not None
    it.split(batch)
    assert not it.passed(barrier, partition)
    batch = it.take(partition)
    assert batch is not None
    it.settle(batch, LossReason.REJECTED)
    assert not it.passed(barrier, partition)
    assert it.report(barrier) == Report(delivered=0, lost={LossReason.REJECTED: 1}, pending=2)
    everything(it)
    assert it.passed(barrier, partition)


def test_each_partition_passes_by_itself() -> None:
    """A stuck partition does not hide that another has passed the barrier."""
    it = accumulator(partitions=2)
    for index in (0, 1):
        add_all(it, index, uid=uid_for(index, 2))
    barrier = it.barrier()
    first, second = it.partitions
    batch = it.take(second)
    assert batch is not None
    it.settle(batch)
    assert (it.passed(barrier, first), it.passed(barrier, second)) == (False, True)


def test_flushes_with_nothing_between_them_share_a_barrier() -> None:
    """A thousand of them do not make each outcome a thousand times as dear."""
    it = accumulator()
    add_all(it, 1)
    barrier = it.barrier()
    assert it.barrier() is barrier
    add_all(it, 2)
    other = it.barrier()
    assert other is not barrier
    assert (barrier.accepted, other.accepted) == (1, 2)


def test_a_barrier_that_is_collected_is_counted_for_no_more() -> None:
    """The next one starts from the counts of its own moment."""
    it = accumulator()
    add_all(it, 1)
    barrier = it.barrier()
    assert len(it._tallies) == 1
    del barrier
    gc.collect()
    everything(it)
    assert not it._tallies
    assert it.report(it.barrier()) == Report(delivered=1, lost={}, pending=0)


@pytest.mark.parametrize("point", range(1, 40))
def test_a_barrier_may_be_collected_in_the_middle_of_an_outcome(point: int) -> None:
    """A flush that is collected, in any thread, takes nothing from the report of another."""
    it = accumulator()
    (partition,) = it.partitions
    add_all(it, 1)
    barriers = [it.barrier()]
    add_all(it, 2)
    kept = it.barrier()
    interrupted(lambda: everything(it), barriers.clear, point)
    everything(it)
    assert it.passed(kept, partition)
    assert it.report(kept) == Report(delivered=2, lost={}, pending=0)
