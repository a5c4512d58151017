"""The room that the bounds leave, and from where on calls are counted one by one."""

from __future__ import annotations

import pytest

from salesmachine_async._core.bounds import Bounds, decline
from salesmachine_async._core.partition import LOOKING, Partition
from salesmachine_async.errors import AgentClosed
from salesmachine_async.policy import Batching, Overflow, QueueLimits

# Lines above 100 bytes are long, and three lines fill a batch.
LONG = 100
STEP = 3


def bounds(*partitions: Partition, messages: int = 20, overflow: Overflow = Overflow.DROP_NEWEST) -> Bounds:
    return Bounds(
        Batching(max_messages=STEP, max_bytes=1500),
        QueueLimits(max_messages=messages, max_bytes=messages * LONG, overflow=overflow),
        partitions,
    )


def filled(partition: Partition, messages: int, size: int) -> None:
    """Let a partition have so many messages in its batches, of so many bytes in all."""
    partition.unsettled, partition.unsettled_bytes = messages, size


def declines(partition: Partition) -> bool:
    return partition.append is decline


@pytest.mark.parametrize(
    ("messages", "size", "near"),
    [(14, 0, False), (15, 0, True), (0, 1400, False), (0, 1401, True)],
)
def test_a_bound_is_near_if_not_each_partition_can_add_a_batch(messages: int, size: int, near: bool) -> None:
    """From there on every call of every partition is counted, and nothing is left for long lines."""
    first, second = Partition(0), Partition(1)
    it = bounds(first, second)
    filled(first, messages, size)
    it.watch(anew=True)
    assert (declines(first), declines(second)) == (near, near)
    assert it.spare_bytes == (0 if near else 1400 - size)


@pytest.mark.parametrize(
    ("messages", "size", "far"),
    [(8, 0, True), (9, 0, False), (0, 800, True), (0, 801, False)],
)
def test_calls_are_no_longer_counted_if_each_partition_can_add_two(messages: int, size: int, far: bool) -> None:
    """Not at one batch, or calls would be counted and not by turns."""
    first, second = Partition(0), Partition(1)
    it = bounds(first, second)
    it.guard()
    filled(second, messages, size)
    it.stop_guarding()
    assert (declines(first), declines(second)) == (not far, not far)
    if far:
        assert first.notice is second.notice is LOOKING
        assert first.append == first.pending.append


def test_a_closed_queue_stays_guarded() -> None:
    """Whatever room there is, each call comes to the look at which it is refused."""
    only = Partition(0)
    it = bounds(only)
    it.closed = True
    it.watch(anew=True)
    assert declines(only)
    it.stop_guarding()
    assert declines(only)
    with pytest.raises(AgentClosed, match=r"^the agent is closed: it accepts no more messages\Z"):
        it.have_room(1)


def test_the_bytes_that_are_left_rise_only_anew() -> None:
    """A look during calls may find less room than was left, but what calls have taken since is not given back."""
    only = Partition(0)
    it = bounds(only)
    assert it.spare_bytes == 1700
    it.spare_bytes -= 500
    it.watch()
    assert it.spare_bytes == 1200
    filled(only, 1, 1000)
    it.watch()
    assert it.spare_bytes == 700
    it.watch(anew=True)
    assert it.spare_bytes == 700
    filled(only, 0, 0)
    it.watch()
    assert it.spare_bytes == 700
    it.watch(anew=True)
    assert it.spare_bytes == 1700


def test_lines_that_are_not_long_count_as_long_as_they_can_be() -> None:
    """To add up their bytes is left to the look at which it matters."""
    only = Partition(0)
    it = bounds(only)
    only.pending += [b"x" * 10, b"y" * 200]
    only.lines = [b"z" * 20]
    only.large_bytes = 200
    assert it.room() == (17, 2000 - 3 * LONG - 200)
    assert it.room(exactly=True) == (17, 2000 - 230)
    filled(only, 6, 600)
    only.spilled, only.spilled_bytes = 5, 500
    assert it.room(exactly=True) == (16, 2000 - 330)
    assert it.fill() == pytest.approx(1 - 1400 / 2000)


@pytest.mark.parametrize(
    ("messages", "size", "allowed"),
    [(22, 0, True), (23, 0, False), (0, 2000 + 1500 - 70, True), (0, 2000 + 1500 - 69, False)],
)
def test_the_bounds_are_exceeded_by_a_batch_at_most(messages: int, size: int, allowed: bool) -> None:
    """Until the loop displaces, under DROP_OLDEST; under another policy they are not exceeded at all."""
    for overflow in Overflow:
        only = Partition(0)
        it = bounds(only, overflow=overflow)
        filled(only, messages, size)
        assert it.may_be_exceeded(70) is (allowed and overflow is Overflow.DROP_OLDEST)
