"""The way of a message through the accumulator: collected, sealed, taken, returned, settled."""

from __future__ import annotations

from collections import Counter, deque
from itertools import count
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core import accumulator as module
from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition, partition_of
from salesmachine_async.errors import AgentClosed
from salesmachine_async.policy import Overflow
from salesmachine_async.report import DropReason, Endpoint, LossReason
from tests.support.core import (
    accumulator,
    add,
    add_alias,
    add_all,
    add_line,
    everything,
    interrupted,
    law_holds,
    line,
    numbers,
    uid_for,
)

SIZE: Final = 64


def take(it: Accumulator, index: int = 0) -> Batch:
    batch = it.take(it.partitions[index])
    assert batch is not None
    return batch


class Loop:
    """Notes which partitions calls ask the loop to look at."""

    def __init__(self, it: Accumulator) -> None:
        self.woken: list[int] = []
        it.wake = self.wake

    def wake(self, partition: Partition) -> None:
        self.woken.append(partition.index)


# Partitions.


def test_the_partition_of_a_uid_is_the_same_in_every_process() -> None:
    """The partition is the CRC-32 of the uid's bytes, modulo the number of partitions."""
    assert [partition_of(uid, 4) for uid in ("", "a", "78910", "\u00e9")] == [0, 3, 0, 2]
    it = accumulator(partitions=4)
    assert [it.partition_for(uid).index for uid in ("a", "78910")] == [3, 0]
    assert accumulator().partition_for("a").index == 0


# Calls and the loop.


def test_the_first_call_notifies_the_loop_and_the_next_do_not_until_a_batch_is_full() -> None:
    """The loop is notified once for the beginning of a batch, and once for each full batch."""
    it = accumulator(batch=4)
    loop = Loop(it)
    (partition,) = it.partitions
    add_all(it, 1)
    assert loop.woken == [0]
    assert it.collect(partition)
    it.quieten(partition)
    add_all(it, 2, 3)
    assert loop.woken == [0]
    add_all(it, 4)
    assert loop.woken == [0, 0]
    assert not it.collect(partition)
    assert numbers(take(it)) == [1, 2, 3, 4]


def test_a_loop_that_does_not_come_is_notified_once() -> None:
    """The next calls are quick, but for one in each batch, which looks at the bounds."""
    it = accumulator(batch=4)
    loop = Loop(it)
    add_all(it, *range(13))
    assert len(loop.woken) == 1
    it.collect(it.partitions[0])
    assert [batch.count for batch in it.partitions[0].sealed] == [4, 4, 4]


def test_after_a_look_that_leaves_nothing_open_the_next_call_notifies() -> None:
    """No timer would find the next message, so its call notifies the loop."""
    it = accumulator(batch=2)
    loop = Loop(it)
    (partition,) = it.partitions
    add_all(it, 1, 2)
    assert not it.collect(partition)
    loop.woken.clear()
    add_all(it, 3)
    assert loop.woken == [0]


def test_a_call_that_raises_the_number_after_the_loop_has_looked_changes_nothing() -> None:
    """A late call raises the number of an outdated notice, so that the next message still notifies the loop."""
    it = accumulator(batch=2)
    (partition,) = it.partitions

    def look(woken: Partition) -> None:
        it.seal(woken)

    it.wake = look
    add_all(it, 1)
    loop = Loop(it)
    add_all(it, 2)
    assert loop.woken == [0]
    assert partition.notice.at


def test_the_loop_is_notified_of_another_batch_only_when_one_is_open() -> None:
    """The linger of a batch begins once, when it is opened."""
    it = accumulator(batch=2)
    (partition,) = it.partitions
    add_all(it, 1)
    assert it.collect(partition)
    assert not it.collect(partition)
    add_all(it, 2, 3)
    assert it.collect(partition)


# Sealing.


@pytest.mark.parametrize(("count", "sealed", "opened"), [(1, [], 1), (2, [2], 0), (5, [2, 2], 1), (6, [2, 2, 2], 0)])
def test_a_batch_is_sealed_when_it_is_full_by_count(count: int, sealed: list[int], opened: int) -> None:
    """A full batch is sealed, and the remaining messages stay open."""
    it = accumulator(batch=2)
    (partition,) = it.partitions
    add_all(it, *range(count))
    it.collect(partition)
    assert [batch.count for batch in partition.sealed] == sealed
    assert len(partition.lines) == opened
    assert numbers(*everything(it)) == list(range(count))


@given(st.lists(st.integers(30, 400), min_size=1, max_size=40), st.integers(402, 1500))
def test_no_body_exceeds_the_batch_size(sizes: list[int], limit: int) -> None:
    """Batches are as large as they may be, in order, and none is larger."""
    it = accumulator(batch=7, batch_bytes=limit, queue=10**4, queue_bytes=10**7)
    for number, size in enumerate(sizes):
        assert add(it, number, size=size)
    batches = everything(it)
    assert numbers(*batches) == list(range(len(sizes)))
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        assert len(batch.body()) == batch.body_size <= limit
        assert batch.count <= 7
        first = len(following.lines()[0]) if following is not None else limit
        assert batch.count == 7 or batch.body_size + first + 2 > limit or following is None


def test_a_batch_that_is_full_by_bytes_notifies_the_loop() -> None:
    """Long lines count by their bytes at the call."""
    it = accumulator(batch=100, batch_bytes=1000, queue=100, queue_bytes=10**5)
    loop = Loop(it)
    (partition,) = it.partitions
    assert it.long == 998
    it = accumulator(batch=100, batch_bytes=1000, queue=1000, queue_bytes=10**5)
    loop = Loop(it)
    (partition,) = it.partitions
    add(it, 0, size=300)
    it.collect(partition)
    it.quieten(partition)
    loop.woken.clear()
    add(it, 1, size=300)
    add(it, 2, size=300)
    assert loop.woken == []
    add(it, 3, size=300)
    assert loop.woken == [0]
    it.collect(partition)
    assert [numbers(batch) for batch in partition.sealed] == [[0, 1, 2]]


def test_an_alias_is_a_request_of_its_own_in_its_place() -> None:
    """An alias is sent after all messages accepted before it, and before all accepted after it."""
    it = accumulator()
    add_all(it, 1, 2)
    add_alias(it, 3)
    add_alias(it, 4)
    add_all(it, 5)
    batches = everything(it)
    assert [(batch.endpoint, numbers(batch)) for batch in batches] == [
        (Endpoint.BATCH, [1, 2]),
        (Endpoint.ALIAS, [3]),
        (Endpoint.ALIAS, [4]),
        (Endpoint.BATCH, [5]),
    ]


def test_an_alias_is_sealed_by_the_next_look() -> None:
    """Neither an alias nor the open batch before it waits for the linger."""
    it = accumulator()
    (partition,) = it.partitions
    add_all(it, 1)
    add_alias(it, 2)
    assert not it.collect(partition)
    assert [batch.endpoint for batch in partition.sealed] == [Endpoint.BATCH, Endpoint.ALIAS]


def test_what_waits_for_a_busy_sender_fills_its_batch() -> None:
    """A batch whose linger is over is sealed when the sender can take it, not before: a trickle makes full batches."""
    it = accumulator(batch=3)
    (partition,) = it.partitions
    add_all(it, 0)
    partition.due = True
    first = take(it)
    for number in range(1, 6):
        add_all(it, number)
        it.collect(partition)
        partition.due = bool(partition.lines)
    it.settle(first)
    assert [batch.count for batch in everything(it)] == [3, 2]


def test_an_open_batch_that_is_not_due_is_not_taken() -> None:
    """A batch stays open for its linger, because more messages may follow."""
    it = accumulator()
    add_all(it, 1)
    it.collect(it.partitions[0])
    assert it.take(it.partitions[0]) is None


# Flight.


def test_a_batch_in_flight_counts_as_in_flight() -> None:
    """A batch in flight counts neither as queued messages nor as queued bytes."""
    it = accumulator(batch=2)
    add_all(it, 1, 2, 3, size=SIZE)
    it.collect(it.partitions[0])
    batch = take(it)
    counts = it.counts()
    assert (counts.accepted, counts.queued, counts.in_flight, counts.queued_bytes) == (3, 1, 2, SIZE)
    it.settle(batch)
    counts = it.counts()
    assert (counts.accepted, counts.delivered, counts.queued, counts.in_flight) == (3, 2, 1, 0)


def test_a_returned_batch_is_the_next_one_again() -> None:
    """A returned batch goes to the front of its queue."""
    it = accumulator(batch=1)
    add_all(it, 1, 2)
    it.collect(it.partitions[0])
    it.put_back(take(it))
    assert it.counts().queued == 2
    assert numbers(*everything(it)) == [1, 2]


@pytest.mark.parametrize("searching", [False, True])
def test_the_halves_of_a_batch_take_its_place(searching: bool) -> None:
    """The halves of a batch go to the front of the queue, the older one first."""
    it = accumulator(batch=5)
    add_all(it, *range(7))
    it.seal(it.partitions[0])
    it.split(take(it), searching=searching)
    assert it.counts().queued == 7
    older = take(it)
    assert (numbers(older), older.searching) == ([0, 1], searching)
    it.settle(older)
    assert numbers(*everything(it)) == [2, 3, 4, 5, 6]


def test_a_lost_batch_is_counted_by_its_reason() -> None:
    """The count of each reason is the sum over all partitions."""
    it = accumulator(batch=1, partitions=2)
    for index in (0, 1):
        add_all(it, index, uid=uid_for(index, 2))
        it.seal(it.partitions[index])
        it.settle(take(it, index), LossReason.REJECTED)
    counts = it.counts()
    assert counts.lost == {LossReason.REJECTED: 2}
    assert law_holds(counts)


def test_numbers_follow_the_order_of_sealing() -> None:
    """Batches are numbered from 1 across all partitions."""
    it = accumulator(batch=1, partitions=2)
    for number in range(4):
        uid = uid_for(number % 2, 2)
        add_all(it, number, uid=uid)
        it.collect(it.partition_for(uid))
    assert [(batch.number, numbers(batch)) for batch in everything(it)] == [(1, [0]), (2, [1]), (3, [2]), (4, [3])]


# The end.


def test_a_closed_accumulator_accepts_nothing() -> None:
    """A closed accumulator refuses short lines, long lines and aliases, and keeps what it holds."""
    it = accumulator()
    add_all(it, 1)
    it.close()
    with pytest.raises(AgentClosed):
        add(it, 2)
    with pytest.raises(AgentClosed):
        add(it, 2, size=5000)
    with pytest.raises(AgentClosed):
        add_alias(it, 2)
    assert it.is_closed()
    assert numbers(*everything(it)) == [1]


def test_a_quiet_partition_is_quiet_no_longer_once_it_is_closed() -> None:
    """A look after the close does not raise the number again."""
    it = accumulator()
    (partition,) = it.partitions
    add_all(it, 1)
    it.collect(partition)
    it.close()
    it.quieten(partition)
    assert partition.notice.at == 0


def test_a_line_appended_in_the_moment_of_the_close_is_taken_back() -> None:
    """The call that appended the line raises AgentClosed, and no count includes it."""
    it = accumulator()
    (partition,) = it.partitions
    append = partition.append  # as a call has read it
    it.close()
    late = line(1)
    append(late)
    with pytest.raises(AgentClosed):
        it.announce(partition, late)
    assert it.counts().accepted == 0


def test_a_line_that_the_close_has_collected_was_accepted() -> None:
    """The collected line gets an outcome, so its call returns True."""
    it = accumulator()
    (partition,) = it.partitions
    late = line(1)
    partition.append(late)
    it.close()
    it.barrier()
    assert it.announce(partition, late)
    assert it.counts().accepted == 1


def test_no_line_is_collected_once_the_close_is_complete() -> None:
    """A call that appends behind the last barrier takes its line back, however often the loop looks before that."""
    it = accumulator(batch=2)
    (partition,) = it.partitions
    append = partition.append  # as a call has read it
    add_all(it, 1)
    it.close()
    barrier = it.barrier()
    late = line(2)
    append(late)
    it.collect(partition)
    it.seal(partition)
    assert it.barrier() is barrier
    it.settle(take(it))
    it.quieten(partition)
    it.abandon(LossReason.CLOSED)
    with pytest.raises(AgentClosed):
        it.announce(partition, late)
    with pytest.raises(AgentClosed):
        add(it, 3)
    report = it.report(barrier)
    assert (report.delivered, report.ok) == (1, True)
    assert (it.counts().accepted, it.counts().queued) == (1, 0)


def test_what_was_accepted_during_a_barrier_before_the_close_is_collected() -> None:
    """The barrier that was drawn while another thread closed is not the last one."""
    it = accumulator(partitions=2)
    first, second = it.partitions
    uid = uid_for(0, 2)

    class Closing(list[bytes]):
        def __bool__(self) -> bool:
            if not it.is_closed():
                add(it, 1, uid)  # behind the barrier in this partition, and before the close
                it.close()
            return len(self) > 0

    second.lines = Closing()
    early = it.barrier()
    assert it.is_closed()
    assert it.report(early).pending == 0
    assert it.report(it.barrier()).pending == 1
    assert not first.pending


@pytest.mark.parametrize("closed", [False, True])
def test_an_interrupted_call_leaves_no_line_that_is_not_looked_at(closed: bool) -> None:
    """The loop looks; where it never will again, the line is taken back."""
    it = accumulator()
    (partition,) = it.partitions
    woken: list[Partition] = []
    it.wake = woken.append
    append, late = partition.append, line(1)
    if closed:
        it.close()
        it.barrier()
    append(late)
    it.interrupted(partition, late)
    it.interrupted(partition, line(2))  # interrupted before it has appended
    assert [*partition.pending] == ([] if closed else [late])
    assert woken == ([] if closed else [partition, partition])


def test_abandoning_loses_everything_that_is_not_in_flight() -> None:
    """Abandoned batches are lost once each, the oldest of all partitions first."""
    it = accumulator(batch=2, partitions=2)
    uids = [uid_for(index, 2) for index in (0, 1)]
    for number in range(7):
        add(it, number, uid=uids[number % 2])
    it.seal(it.partitions[0])
    flying = take(it)
    it.abandon(LossReason.CLOSED)
    reasons = {reason for reason, _ in it.displaced}
    lost = [batch for _, batch in it.displaced]
    assert reasons == {LossReason.CLOSED}
    assert [batch.number for batch in lost] == sorted(batch.number for batch in lost)
    assert sorted(numbers(flying, *lost)) == list(range(7))
    counts = it.counts()
    assert (counts.queued, counts.in_flight, counts.lost) == (0, 2, {LossReason.CLOSED: 5})


# Counts.


def test_a_fresh_one_has_counted_nothing() -> None:
    """Counts by reason leave out reasons that never happened."""
    counts = accumulator().counts()
    assert (counts.accepted, counts.queued_bytes, counts.lost, counts.dropped) == (0, 0, Counter(), Counter())


def test_dropped_calls_are_counted_by_reason() -> None:
    """Drops by the agent and drops for want of room are counted."""
    it = accumulator(queue=1)
    it.drop(DropReason.INVALID)
    add_all(it, 1, 2, 3)
    assert it.counts().dropped == {DropReason.INVALID: 1, DropReason.QUEUE_FULL: 2}


def test_bytes_are_counted_wherever_a_message_waits() -> None:
    """Pending, open and sealed messages count with their encoded size."""
    it = accumulator(batch=2)
    (partition,) = it.partitions
    for _ in range(3):
        add_line(it, line(1, size=SIZE))
        assert it.counts().queued_bytes == it.counts().queued * SIZE
        it.collect(partition)
        assert it.counts().queued_bytes == it.counts().queued * SIZE


@pytest.mark.parametrize("overflow", list(Overflow))
def test_fill_is_the_nearer_bound(overflow: Overflow) -> None:
    """The fill level is that of messages or of bytes, whichever is higher."""
    it = accumulator(queue=10, queue_bytes=1000, overflow=overflow, batch=2)
    assert it.fill() == 0
    for number in range(4):
        add(it, number, size=SIZE)
    it.seal(it.partitions[0])
    assert it.fill() == pytest.approx(0.4)
    add(it, 4, size=500)
    it.seal(it.partitions[0])
    assert it.fill() == pytest.approx((4 * SIZE + 500) / 1000)


# Deferral.


def uid_line(number: int, uid: str) -> bytes:
    """Return an encoded event of a contact."""
    return f'{{"contact_uid":"{uid}","n":{number}}}'.encode()


def failing(uids: str, batch: int = 1) -> tuple[Accumulator, Batch]:
    """Queue one message a letter, and take the first, which has failed alone."""
    it = accumulator(batch=batch)
    for number, uid in enumerate(uids):
        add_line(it, uid_line(number, uid))
    it.seal(it.partitions[0])
    first = take(it)
    first.lone_failures = (1.0,)
    return it, first


@pytest.mark.parametrize(
    ("uids", "order"),
    [("ab", [1, 0]), ("aab", [2, 0, 1]), ("abbcc", [1, 0, 2, 3, 4]), ("aaba", [2, 0, 1, 3])],
)
def test_a_deferred_message_lets_one_of_another_contact_pass(uids: str, order: list[int]) -> None:
    """A deferred message returns to its place, and only messages of other contacts overtake it."""
    it, first = failing(uids)
    assert it.defer(first)
    assert law_holds(it.counts())
    assert numbers(*iter(lambda: settled(it), None)) == order


def settled(it: Accumulator) -> Batch | None:
    """Take the next batch and settle it."""
    (partition,) = it.partitions
    if (batch := it.take(partition)) is not None:
        it.settle(batch)
    return batch


def test_a_message_is_cut_out_of_a_batch_that_waits() -> None:
    """The messages around it stay in their places, also if they are in a batch that was open."""
    it, first = failing("a", batch=5)
    for number, uid in enumerate("aabc", 1):
        add_line(it, uid_line(number, uid))
    assert it.others_wait(first)
    assert it.defer(first)
    (partition,) = it.partitions
    assert [numbers(batch) for batch in partition.sealed] == [[3], [0], [1, 2], [4]]

    assert [batch.first for batch in partition.sealed] == [3, 0, 1, 4]


def test_a_message_that_was_cut_out_of_a_batch_returns_between_its_parts() -> None:
    """All but the first of what waits ascends, as the spool takes for granted."""
    it, first = failing("a", batch=4)
    for number, uid in enumerate("abcdabcd", 1):
        add_line(it, uid_line(number, uid))
    it.seal(it.partitions[0])
    (partition,) = it.partitions
    for moment in range(2, 6):
        assert it.defer(first)
        _, *behind = [batch.first for batch in partition.sealed]
        assert behind == sorted(behind)
        first = take(it)
        first.lone_failures = (float(moment),)
    it.settle(first)
    found = numbers(*iter(lambda: settled(it), None))
    assert sorted([*found, *numbers(first)]) == [*range(9)]


def test_every_uid_of_a_message_counts_for_its_order() -> None:
    """A message of an account, and an alias, keep their place behind the messages of each of their uids."""
    it = accumulator(batch=1)
    add_line(it, b'{"contact_uid":"a","account_uid":"x","n":0}')
    it.add(it.partitions[0], it.alias_line(b'{"contact_uid":"b","alias":"a","n":1}'))
    add_line(it, b'{"account_uid":"x","n":2}')
    add_line(it, b'{"contact_uid":"b","n":3}')
    it.seal(it.partitions[0])
    first = take(it)
    first.lone_failures = (1.0,)
    assert not it.defer(first)
    add_line(it, b'{"contact_uid":"c","n":4}')
    assert it.defer(first)
    assert numbers(take(it)) == [4]


def test_of_those_that_failed_alone_the_one_that_waits_longest_comes_first() -> None:
    """Wherever it stands."""
    it, first = failing("abcd")
    for batch, moment in zip(it.partitions[0].sealed, (5.0, 3.0, 4.0), strict=True):
        batch.lone_failures = (moment,)
    assert it.defer(first)
    assert numbers(take(it)) == [2]


@pytest.mark.parametrize("uids", ["a", "aa", "aaaa"])
def test_a_message_stays_in_flight_if_all_that_waits_belongs_to_its_contact(uids: str) -> None:
    """A message is not deferred if every waiting one belongs to its contact."""
    it, first = failing(uids)
    assert not it.others_wait(first)
    assert not it.defer(first)
    assert it.partitions[0].in_flight is first


def test_those_that_failed_alone_take_turns() -> None:
    """A message that has not failed comes first, then the one that has waited longest."""
    it, first = failing("abc")
    assert it.defer(first)
    second = take(it)
    second.lone_failures = (2.0,)
    assert it.defer(second)
    third = take(it)
    assert numbers(first, second, third) == [0, 1, 2]
    third.lone_failures = (3.0,)
    assert not it.others_wait(third)
    assert it.defer(third)
    assert take(it) is first


def test_a_flush_waits_for_a_deferred_message() -> None:
    """A deferred message stays before the barrier, although the message sent in its place came later."""
    it, first = failing("a")
    barrier = it.barrier()
    (partition,) = it.partitions
    add_line(it, uid_line(1, "b"))
    assert it.defer(first)
    assert not it.passed(barrier, partition)
    other = take(it)
    assert other is not first
    assert not it.passed(barrier, partition)
    it.settle(other)
    assert not it.passed(barrier, partition)
    it.settle(take(it))
    assert it.passed(barrier, partition)


# An exception that is raised while a generator is closed goes to the hook for unraisable ones.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_deferral_that_is_interrupted_has_happened_or_has_not() -> None:
    """A handler that raises at any point leaves each message in one place."""
    for point in count(1):
        it, first = failing("aabc")

        def fail() -> None:
            raise KeyboardInterrupt

        try:
            over = not interrupted(lambda it=it, first=first: it.defer(first), fail, point)  # type: ignore[misc]
        except KeyboardInterrupt:
            over = False
        assert law_holds(it.counts())
        (partition,) = it.partitions
        if partition.in_flight is not None:
            it.put_back(first)
        assert sorted(numbers(*everything(it))) == [0, 1, 2, 3]
        if over:
            break


def test_a_batch_that_is_settled_or_displaced_holds_no_other() -> None:
    """A hook may keep it, and would keep the other halves."""
    it = accumulator(queue=4, overflow=Overflow.DROP_OLDEST)
    add_all(it, 0, 1, 2, 3)
    it.seal(it.partitions[0])
    it.split(take(it), searching=True)
    older = take(it)
    it.settle(older)
    it.split(take(it), searching=True)
    add_all(it, 4, 5, 6)
    assert it.displace()
    assert older.partner is None
    assert all(batch.partner is None for _, batch in it.displaced)


def test_a_snapshot_in_the_middle_of_a_seal_is_taken_again() -> None:
    """A snapshot is repeated if another thread collects or seals while it is taken."""

    class Sealing(deque[bytes]):
        def __len__(self) -> int:
            if partition.lines == [b"1"]:
                partition.lines, partition.unsettled = [], 1
            return super().__len__()

    it = accumulator()
    (partition,) = it.partitions
    partition.pending = Sealing()
    partition.lines = [b"1"]
    assert it.counts().accepted == 1


def test_no_more_than_about_a_megabyte_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a message to send before a deferred one covers about a megabyte."""
    monkeypatch.setattr(module, "LOOK_AHEAD_BYTES", 1)
    it = accumulator(batch=2)
    add_all(it, *range(6))
    it.seal(it.partitions[0])
    assert [(index, at) for index, _, at, _ in module._ahead(it.partitions[0].sealed)] == [(0, 0), (0, 1)]
