"""The accumulator beside a model of it: lists of messages. The law, the bounds and the order hold after every step."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.barrier import Barrier
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async.errors import AgentClosed, QueueFull
from salesmachine_async.policy import Overflow
from salesmachine_async.report import Endpoint, LossReason
from tests.support.core import accumulator, add_alias, add_line, law_holds, line, numbers, uid_for

SIZE: Final = 40
sizes: Final = st.sampled_from([SIZE, SIZE, SIZE, 2 * SIZE, 5 * SIZE])
indexes: Final = st.integers(0, 2)


class Life(RuleBasedStateMachine):
    """
    Steps of calls and of the loop's thread, in any order.

    Attributes:
        queued: By partition, what has no outcome, in its order: the number of each message, and its bytes.
        before: By barrier, the numbers of the messages accepted before it.
    """

    @initialize(
        batch=st.integers(1, 8),
        batch_bytes=st.sampled_from([7 * SIZE, 100 * SIZE]),
        queue=st.integers(1, 12),
        queue_bytes=st.sampled_from([7 * SIZE, 20 * SIZE, 1000 * SIZE]),
        overflow=st.sampled_from(Overflow),
        partitions=st.integers(1, 3),
    )
    def begin(self, batch: int, overflow: Overflow, **bounds: int) -> None:
        self.it: Accumulator = accumulator(batch, overflow=overflow, **bounds)
        self.it.wake = lambda partition: self.woken.add(partition.index)
        self.overflow = overflow
        self.batch, self.batch_bytes = min(batch, bounds["queue"]), min(bounds["batch_bytes"], bounds["queue_bytes"])
        self.queue, self.queue_bytes = bounds["queue"], bounds["queue_bytes"]
        self.woken: set[int] = set()
        self.queued: list[dict[int, int]] = [{} for _ in self.it.partitions]
        self.aliases: set[int] = set()
        self.accepted = 0
        self.delivered: set[int] = set()
        self.lost: dict[LossReason, set[int]] = {}
        self.before: dict[Barrier, set[int]] = {}
        self.calls = 0
        # The lines of batches that have left the memory, by their partition and first number.
        self.disk: dict[tuple[int, int], list[bytes]] = {}

    def partition(self, index: int) -> Partition:
        return self.it.partitions[index % len(self.it.partitions)]

    def held(self) -> tuple[int, int]:
        """Return the number and the bytes of the messages without an outcome that are in memory."""
        absent = self.spilled()
        messages, size = sum(map(len, self.queued)), sum(sum(each.values()) for each in self.queued)
        return messages - sum(batch.count for batch in absent), size - sum(batch.size for batch in absent)

    def spilled(self) -> list[Batch]:
        """Return the batches that are on disk only."""
        return [batch for partition in self.it.partitions for batch in partition.sealed if batch.spilled]

    def numbers(self, *batches: Batch) -> list[int]:
        """Return the numbers of their messages, also of those that are on disk only."""
        lines = (self.disk[batch.partition, batch.first] if batch.spilled else batch.lines() for batch in batches)
        return [json.loads(line)["n"] for each in lines for line in each]

    def settled(self, batch: Batch, reason: LossReason | None) -> None:
        """Note the outcome of a batch."""
        found = self.numbers(batch)
        for number in found:
            del self.queued[batch.partition][number]
        (self.delivered if reason is None else self.lost.setdefault(reason, set())).update(found)

    def call(self, index: int, size: int, *, alias: bool = False) -> None:
        partition = self.partition(index)
        uid, number = uid_for(partition.index, len(self.it.partitions)), self.calls
        self.calls += 1
        messages, held = self.held()
        fits = messages < self.queue and held + size <= self.queue_bytes
        try:
            if alias:
                size = len(line(number, uid))
                fits = messages < self.queue and held + size <= self.queue_bytes
                accepted = add_alias(self.it, number, uid)
            else:
                accepted = add_line(self.it, line(number, uid, size), uid)
        except AgentClosed:
            assert self.it.is_closed()
            return
        except QueueFull:
            assert self.overflow is Overflow.RAISE
            assert not fits
            return
        assert not self.it.is_closed()
        if self.overflow is Overflow.DROP_OLDEST:
            assert accepted or not fits
        else:
            assert accepted == fits
        if accepted:
            self.accepted += 1
            self.queued[partition.index][number] = size
            if alias:
                self.aliases.add(number)
            # The loop is notified, or looks anyway: it has set the number, so its linger timer runs.
            assert partition.index in self.woken or 0 < len(partition.pending) < partition.notice.at

    @rule(index=indexes, size=sizes)
    def track(self, index: int, size: int) -> None:
        """Make a call."""
        self.call(index, size)

    @rule(index=indexes, several=st.lists(sizes, min_size=2, max_size=9))
    def track_many(self, index: int, several: list[int]) -> None:
        """Make several calls in a row."""
        for size in several:
            self.call(index, size)

    @rule(index=indexes)
    def alias(self, index: int) -> None:
        """Make a call for a request of its own."""
        self.call(index, 0, alias=True)

    @rule(index=indexes)
    def look(self, index: int) -> None:
        """Look at a partition as `Sender` does."""
        partition = self.partition(index)
        self.it.collect(partition)
        self.woken.discard(partition.index)
        if partition.lines:
            self.it.quieten(partition)
        self.displace()

    @rule(index=indexes)
    def seal(self, index: int) -> None:
        """End the linger."""
        partition = self.partition(index)
        partition.due = True
        self.it.seal(partition)
        assert not partition.lines

    def displace(self) -> None:
        """Displace, and note what was lost: the oldest, and no more than has to be."""
        assert self.it.displace() == bool(self.it.displaced)
        taken = [*self.it.displaced]
        self.it.displaced.clear()
        last = 0
        for reason, batch in taken:
            assert reason is LossReason.QUEUE_FULL
            assert numbers(batch) == [*self.waiting(batch.partition)][: batch.count]
            last = self.queued[batch.partition][numbers(batch)[-1]]
            self.settled(batch, reason)
        left, left_bytes = self.held()
        if taken:
            assert self.overflow is Overflow.DROP_OLDEST
            assert left + 1 > self.queue or left_bytes + last > self.queue_bytes
        if self.overflow is Overflow.DROP_OLDEST and any(self.waiting(each.index) for each in self.it.partitions):
            assert left <= self.queue
            assert left_bytes <= self.queue_bytes

    def waiting(self, index: int) -> dict[int, int]:
        """Return what is queued in a partition and in memory, and not in flight."""
        partition = self.it.partitions[index]
        others = [batch for batch in (partition.in_flight, *partition.sealed) if batch is not None]
        absent = set(self.numbers(*(batch for batch in others if batch is partition.in_flight or batch.spilled)))
        return {number: size for number, size in self.queued[index].items() if number not in absent}

    @rule(index=indexes)
    def take(self, index: int) -> None:
        """Begin to send."""
        partition = self.partition(index)
        if partition.in_flight is None:
            batch = self.it.take(partition)
            assert batch is partition.in_flight
            assert not any(each.spilled for each in self.flying())

    def flying(self) -> list[Batch]:
        return [batch for partition in self.it.partitions if (batch := partition.in_flight) is not None]

    @precondition(lambda self: self.flying())
    @rule(data=st.data(), reason=st.sampled_from([None, None, LossReason.REJECTED, LossReason.TOO_LARGE]))
    def settle(self, data: st.DataObject, reason: LossReason | None) -> None:
        """Give an outcome."""
        batch = data.draw(st.sampled_from(self.flying()))
        self.it.settle(batch, reason)
        self.settled(batch, reason)

    @precondition(lambda self: self.flying())
    @rule(data=st.data(), searching=st.booleans())
    def return_one(self, data: st.DataObject, *, searching: bool) -> None:
        """Return a batch to its queue: in halves if it can be halved and is searched, else whole."""
        batch = data.draw(st.sampled_from(self.flying()))
        if batch.count > 1 and searching:
            self.it.split(batch, searching=data.draw(st.booleans()))
        else:
            self.it.put_back(batch)

    @rule(index=indexes, leave=st.integers(0, 4), durable=st.integers(0, 4))
    def spill(self, index: int, leave: int, durable: int) -> None:
        """Let batches leave the memory, but for the last ones, which are not on disk yet."""
        partition = self.partition(index)
        for batch in partition.sealed:
            if not batch.spilled:
                self.disk[partition.index, batch.first] = batch.lines()
        self.it.spill(partition, partition.numbered - durable, leave, leave * SIZE)

    @precondition(lambda self: self.spilled())
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """Read a batch back, if there is room for it."""
        batch = data.draw(st.sampled_from(self.spilled()))
        messages, held = self.held()
        if messages + batch.count <= self.queue and held + batch.size <= self.queue_bytes:
            self.it.restore(batch, [*self.disk[batch.partition, batch.first]])

    @rule()
    def draw_barrier(self) -> None:
        """Begin a flush."""
        barrier = self.it.barrier()
        self.before[barrier] = self.delivered.union(*self.lost.values(), *self.queued)
        assert barrier.accepted == len(self.before[barrier])

    @precondition(lambda self: self.before)
    @rule()
    def drop_barrier(self) -> None:
        """End a flush."""
        del self.before[next(iter(self.before))]

    @precondition(lambda self: self.calls > 20)
    @rule()
    def close(self) -> None:
        """Close."""
        self.it.close()

    @precondition(lambda self: self.it.is_closed() and not self.flying())
    @rule()
    def abandon(self) -> None:
        """Give up all that is left."""
        self.it.abandon(LossReason.CLOSED)
        while self.it.displaced:
            reason, batch = self.it.displaced.popleft()
            assert reason is LossReason.CLOSED
            self.settled(batch, reason)
        assert not any(self.queued)

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        """The law holds, and each number is right."""
        counts = self.it.counts()
        assert law_holds(counts)
        flying, absent = self.flying(), self.spilled()
        messages, held = sum(map(len, self.queued)), sum(sum(each.values()) for each in self.queued)
        assert (counts.spooled, counts.spooled_bytes) == (
            sum(batch.count for batch in absent),
            sum(batch.size for batch in absent),
        )
        assert counts.accepted == self.accepted
        assert counts.delivered == len(self.delivered)
        assert counts.lost == Counter({reason: len(found) for reason, found in self.lost.items()})
        assert counts.in_flight == sum(batch.count for batch in flying)
        assert counts.queued == messages - counts.in_flight
        assert counts.queued_bytes == held - sum(batch.size for batch in flying)

    @invariant()
    def the_bounds_hold(self) -> None:
        """Exactly; under `DROP_OLDEST` but for one batch in each partition, until the loop displaces."""
        messages, held = self.held()
        partitions = len(self.it.partitions) if self.overflow is Overflow.DROP_OLDEST else 0
        assert messages <= self.queue + partitions * self.batch
        assert held <= self.queue_bytes + partitions * self.batch_bytes

    @invariant()
    def each_message_is_in_one_place_and_in_order(self) -> None:
        """In each partition: in flight, sealed, open, pending."""
        for partition, queued in zip(self.it.partitions, self.queued, strict=True):
            flying = [] if partition.in_flight is None else [partition.in_flight]
            found = self.numbers(*flying, *partition.sealed)
            found += [json.loads(each)["n"] for each in (*partition.lines, *partition.pending)]
            assert found == [*queued]
            for batch in (*flying, *partition.sealed):
                assert 1 <= batch.count <= self.batch
                assert batch.body_size <= self.batch_bytes
                assert (batch.endpoint is Endpoint.ALIAS) == (not self.aliases.isdisjoint(self.numbers(batch)))
                assert batch.endpoint is Endpoint.BATCH or batch.count == 1

    @invariant()
    def each_barrier_reports_what_was_before_it(self) -> None:
        """And is passed by a partition once nothing before it is left there."""
        for barrier, before in self.before.items():
            report = self.it.report(barrier)
            assert report.delivered == len(self.delivered & before)
            lost = {reason: len(found & before) for reason, found in self.lost.items() if found & before}
            assert {reason: count for reason, count in report.lost.items() if count} == lost
            assert report.pending == len(before.intersection(*[set().union(*self.queued)]))
            for partition, queued in zip(self.it.partitions, self.queued, strict=True):
                assert self.it.passed(barrier, partition) == before.isdisjoint(queued)


TestLife: Any = pytest.mark.slow(Life.TestCase)
TestLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
