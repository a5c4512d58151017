"""The bounds of the queue: exact, by messages and by bytes, whatever a call does beyond them."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async.errors import MessageTooLarge, QueueFull
from salesmachine_async.policy import Overflow
from salesmachine_async.report import DropReason, LossReason
from tests.support.core import accumulator, add, add_alias, add_all, everything, law_holds, line, numbers, uid_for

SIZE: Final = 64


def held(it: Accumulator) -> int:
    counts = it.counts()
    return counts.queued + counts.in_flight


@pytest.mark.parametrize("partitions", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 2, 7, 100])
@pytest.mark.parametrize("queue", [1, 2, 3, 10, 99, 100, 101, 350])
def test_the_bound_on_messages_is_exact(partitions: int, batch: int, queue: int) -> None:
    """Before the loop runs, exactly `max_messages` are accepted, in any partition."""
    it = accumulator(batch=batch, queue=queue, partitions=partitions)
    accepted = sum(add(it, number, uid=str(number)) for number in range(queue + 50))
    assert (accepted, held(it)) == (queue, queue)
    assert it.counts().dropped == {DropReason.QUEUE_FULL: 50}


@pytest.mark.parametrize("partitions", [1, 3])
@given(looks=st.lists(st.integers(0, 40), max_size=12), settles=st.lists(st.booleans(), min_size=12, max_size=12))
def test_the_bound_holds_while_the_loop_collects_and_delivers(
    partitions: int, looks: list[int], settles: list[bool]
) -> None:
    """The bound is never exceeded, and a message that fits is accepted, whatever the loop does between calls."""
    it = accumulator(batch=4, queue=30, partitions=partitions)
    number = 0
    for calls, settle in zip(looks, settles, strict=False):
        for _ in range(calls):
            before = held(it)
            assert add(it, number, uid=str(number % 11)) == (before < 30)
            number += 1
        for partition in it.partitions:
            it.collect(partition)
            it.quieten(partition)
            if settle and (batch := it.take(partition)) is not None:
                it.settle(batch)
        assert held(it) <= 30
    assert law_holds(it.counts())


@given(sizes=st.lists(st.integers(40, 700), max_size=60), collect=st.booleans())
def test_the_bound_on_bytes_is_exact(sizes: list[int], collect: bool) -> None:
    """A message is accepted if, and only if, it fits."""
    it = accumulator(batch=10, batch_bytes=2000, queue=50, queue_bytes=9000)
    used = count = 0
    for number, size in enumerate(sizes):
        fits = used + size <= 9000 and count < 50
        assert add(it, number, size=size) == fits
        used, count = used + size * fits, count + fits
        assert it.counts().queued_bytes == used
        if collect:
            it.collect(it.partitions[0])
            it.quieten(it.partitions[0])


def test_short_messages_do_not_enter_the_room_that_a_long_one_has_taken() -> None:
    """A long message that was counted exactly brings the bound near; the calls after it are counted as well."""
    it = accumulator(batch=3, batch_bytes=280, queue=4, queue_bytes=280)
    assert add_alias(it, 0)
    used = it.counts().queued_bytes
    for number, size in enumerate((200, 40, 40, 40), 1):
        fits = used + size <= 280
        assert add(it, number, size=size) == fits
        used += size * fits
        assert it.counts().queued_bytes == used


def test_delivered_messages_make_room() -> None:
    """A delivery makes room for as many messages, and calls take the fast path again."""
    it = accumulator(batch=2, queue=20)
    (partition,) = it.partitions
    assert all(add_all(it, *range(20)))
    assert not add(it, 20)
    assert partition.append is not partition.pending.append
    everything(it)
    it.collect(partition)
    it.quieten(partition)
    assert partition.append == partition.pending.append
    assert sum(add_all(it, *range(30))) == 20


def test_what_is_in_flight_takes_room() -> None:
    """Messages in flight count against the bound, because they are not delivered yet."""
    it = accumulator(batch=2, queue=2)
    add_all(it, 1, 2)
    it.seal(it.partitions[0])
    assert it.take(it.partitions[0]) is not None
    assert not add(it, 3)


def test_an_alias_takes_room() -> None:
    """An alias counts against the bound like any other message."""
    it = accumulator(queue=2)
    assert [add_alias(it, number) for number in range(3)] == [True, True, False]


@pytest.mark.parametrize("overflow", list(Overflow))
@pytest.mark.parametrize("size", [255, 300, 5000])
def test_a_message_larger_than_a_batch_is_refused(overflow: Overflow, size: int) -> None:
    """The call raises an error with both sizes, and no other message is lost."""
    it = accumulator(batch_bytes=256, overflow=overflow)
    assert add(it, 0, size=254)
    with pytest.raises(MessageTooLarge, match=rf"message: is {size} bytes, but a batch holds at most 254"):
        add(it, 1, size=size)
    assert held(it) == 1


def test_raise_raises_at_the_call() -> None:
    """Under `Overflow.RAISE` the call raises QueueFull and counts as dropped."""
    it = accumulator(queue=2, overflow=Overflow.RAISE)
    add_all(it, 1, 2)
    with pytest.raises(QueueFull, match="2 messages"):
        add(it, 3)
    assert it.counts().dropped == {DropReason.QUEUE_FULL: 1}


# DROP_OLDEST.


def displacing(**options: int) -> Accumulator:
    return accumulator(overflow=Overflow.DROP_OLDEST, **options)


@pytest.mark.parametrize("partitions", [1, 3])
def test_the_oldest_are_displaced_when_the_loop_runs(partitions: int) -> None:
    """Exactly the surplus is displaced, and the newest messages stay."""
    it = displacing(batch=5, queue=12, partitions=partitions)
    for number in range(15):
        assert add(it, number, uid=str(number))
        for partition in it.partitions:
            it.collect(partition)
    assert it.displace()
    assert held(it) == 12
    lost = numbers(*(batch for _, batch in it.displaced))
    assert len(lost) == 3
    assert sorted(lost + numbers(*everything(it))) == list(range(15))
    assert it.counts().lost == {LossReason.QUEUE_FULL: 3}
    assert law_holds(it.counts())
    if partitions == 1:
        assert lost == [0, 1, 2]


def test_nothing_is_displaced_while_the_bounds_hold() -> None:
    """No message is displaced below the bounds, nor under another policy."""
    it = displacing(queue=3)
    add_all(it, 1, 2, 3)
    assert not it.displace()
    it = accumulator(queue=3)
    add_all(it, 1, 2, 3, 4)
    assert not it.displace()


@pytest.mark.parametrize("partitions", [1, 2])
def test_calls_exceed_the_bound_by_a_batch_for_each_partition_at_most(partitions: int) -> None:
    """Without a run of the loop, calls beyond the bound and a batch for each partition are dropped."""
    it = displacing(batch=4, queue=10, partitions=partitions)
    accepted = sum(add(it, number, uid=str(number)) for number in range(50))
    assert accepted == 10 + 4 * partitions
    assert it.counts().dropped == {DropReason.QUEUE_FULL: 50 - accepted}


def test_part_of_a_batch_is_displaced() -> None:
    """The rest of it keeps its place."""
    it = displacing(batch=10, queue=10)
    add_all(it, *range(13))
    assert it.displace()
    assert [(reason, numbers(batch)) for reason, batch in it.displaced] == [(LossReason.QUEUE_FULL, [0, 1, 2])]
    assert numbers(*everything(it)) == list(range(3, 13))


def test_bytes_are_made_room_for() -> None:
    """The oldest messages are displaced until the new one fits."""
    it = displacing(batch=10, queue=100, queue_bytes=10 * SIZE)
    add_all(it, *range(10), size=SIZE)
    add(it, 10, size=2 * SIZE + 1)
    assert it.displace()
    assert numbers(*(batch for _, batch in it.displaced)) == [0, 1, 2]
    assert it.counts().queued_bytes == 9 * SIZE + 1


def test_what_is_in_flight_stays() -> None:
    """A message that would not fit beside it displaces none in vain."""
    it = displacing(batch=4, queue=100, queue_bytes=10 * SIZE)
    add_all(it, *range(4), size=2 * SIZE)
    it.seal(it.partitions[0])
    assert it.take(it.partitions[0]) is not None
    assert add(it, 4, size=SIZE)
    assert not add(it, 5, size=3 * SIZE)
    assert not it.displace()
    assert add(it, 6, size=2 * SIZE)
    assert it.displace()
    assert numbers(*(batch for _, batch in it.displaced)) == [4]


def test_what_is_put_in_flight_beyond_the_bounds_stays() -> None:
    """There is nothing left to lose then."""
    it = displacing(batch=4, queue=2)
    it.put(Batch.of_lines([line(number) for number in range(4)]))
    assert it.take(it.partitions[0]) is not None
    assert not it.displace()
    assert not it.displaced
    assert it.counts().in_flight == 4


def test_calls_of_the_hook_displace_nothing() -> None:
    """Calls by the hook displace nothing, so that it is not called again for each; other threads may displace."""
    it = displacing(batch=1, queue=2)
    add_all(it, 1, 2)
    from threading import Thread, get_ident

    it.reporting_thread = get_ident()
    assert not add(it, 3)
    thread = Thread(target=add, args=(it, 4))
    thread.start()
    thread.join()
    assert held(it) == 3
    it.reporting_thread = 0
    assert it.displace()


def test_the_oldest_of_all_partitions_goes_first() -> None:
    """Messages are displaced in the order in which their batches were sealed."""
    it = displacing(batch=1, queue=4, partitions=2)
    for number in range(4):
        uid = uid_for((number // 2) % 2, 2)
        add(it, number, uid=uid)
        it.collect(it.partition_for(uid))
    for number in (4, 5):
        add(it, number, uid=uid_for(0, 2))
    assert it.displace()
    assert numbers(*(batch for _, batch in it.displaced)) == [0, 1]


def test_what_was_displaced_is_reported_as_such() -> None:
    """Also that nothing could be displaced, because all of it is in flight."""
    it = displacing(batch=2, queue=2)
    add_all(it, 0, 1)
    it.seal(it.partitions[0])
    assert it.displace() is False
    batch = it.take(it.partitions[0])
    assert batch is not None
    it.put(Batch.of_lines([line(2)]))
    assert it.displace() is True
    it.split(batch)
    assert it.displace() is False
    assert it.counts().lost == {LossReason.QUEUE_FULL: 1}
