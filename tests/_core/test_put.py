"""Batches from outside: they are counted as recovered, and their receipts are settled once for each message."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async._core.receipt import Receipt, RejectedLine
from salesmachine_async.errors import Rejected
from salesmachine_async.policy import Overflow
from salesmachine_async.report import LossReason
from tests.support.core import Interruption, accumulator, add_all, everything, interrupted, law_holds, line, numbers


class Origin:
    """A source of batches that records the answers of their receipts."""

    def __init__(self) -> None:
        self.answers: list[Sequence[RejectedLine]] = []

    def batch(self, *which: int, partition: int = 0) -> Batch:
        """Return a batch of these messages."""
        batch = Batch.of_lines([line(number) for number in which], partition=partition)
        batch.receipt = Receipt(len(which), self.answers.append)
        return batch


def taken(it: Accumulator, index: int = 0) -> Batch:
    """Take a batch that must be there."""
    batch = it.take(it.partitions[index])
    assert batch is not None
    return batch


def test_what_was_put_is_recovered_and_not_accepted() -> None:
    """The law holds with both."""
    it, origin = accumulator(batch=3), Origin()
    add_all(it, 0, 1)
    it.put(origin.batch(2, 3, 4))
    add_all(it, 5)
    counts = it.counts()
    assert (counts.accepted, counts.recovered, counts.queued) == (3, 3, 6)
    assert law_holds(counts)
    assert numbers(*everything(it)) == [*range(6)]
    counts = it.counts()
    assert (counts.accepted, counts.recovered, counts.delivered) == (3, 3, 6)
    assert law_holds(counts)
    assert origin.answers == [[]]


def test_it_wakes_the_loop_and_is_before_a_later_barrier() -> None:
    """A flush waits for it as for all."""
    it, origin, woken = accumulator(partitions=2), Origin(), list[Partition]()
    it.wake = woken.append
    it.put(origin.batch(1, 2, partition=1))
    assert woken == [it.partitions[1]]
    barrier = it.barrier()
    assert barrier.accepted == 2
    assert not it.passed(barrier, it.partitions[1])
    it.settle(taken(it, 1))
    assert it.passed(barrier, it.partitions[1])
    assert it.report(barrier).delivered == 2


def test_a_full_queue_takes_it_and_drops_calls() -> None:
    """The bounds hold for calls; what is put in was bounded by its origin."""
    it, origin = accumulator(queue=4), Origin()
    it.put(origin.batch(*range(6)))
    assert add_all(it, 7) == [False]
    it.settle(taken(it))
    assert add_all(it, 8) == [True]


def test_its_receipt_answers_when_the_last_part_is_settled() -> None:
    """The receipt answers with the rejected messages, whichever way the batch was split."""
    it, origin = accumulator(), Origin()
    error = Rejected("400", status=400)
    it.put(origin.batch(*range(4)))
    it.split(taken(it), searching=True)
    it.settle(taken(it))
    it.split(taken(it), searching=True)
    it.settle(taken(it), LossReason.REJECTED, error)
    assert origin.answers == []
    it.settle(taken(it), LossReason.TOO_LARGE)
    assert origin.answers == [[RejectedLine(line(2), error), RejectedLine(line(3), None)]]


def test_other_losses_are_not_rejected() -> None:
    """An expired or displaced message is settled, and not kept."""
    it, origin = accumulator(batch=4, queue=4, overflow=Overflow.DROP_OLDEST), Origin()
    it.put(origin.batch(0, 1))
    it.settle(taken(it), LossReason.EXPIRED)
    it.put(origin.batch(2, 3, 4))
    add_all(it, 5, 6, 7)
    it.displace()
    assert origin.answers == [[]]
    add_all(it, 8, 9, 10)
    it.displace()
    assert origin.answers == [[], []]
    it.put(origin.batch(11, 12))
    it.abandon(LossReason.CLOSED)
    assert origin.answers == [[], [], []]
    assert law_holds(it.counts())


@pytest.mark.parametrize("reason", [None, LossReason.REJECTED])
def test_an_interruption_loses_no_answer(reason: LossReason | None) -> None:
    """After a signal handler that raises at any point of a step, the next step answers the receipt."""
    point = 0

    def interrupt() -> None:
        raise Interruption

    while True:
        point += 1
        it, origin = accumulator(), Origin()
        it.put(origin.batch(0, 1))
        it.put(origin.batch(2))
        batch = taken(it)
        if not interrupted(lambda: it.settle(batch, reason), interrupt, point):  # noqa: B023
            break
        if it.partitions[0].in_flight is not None:
            it.settle(batch, reason)
        it.settle(taken(it))
        assert len(origin.answers) in (2, 3)  # one that was interrupted at its end answers once more
        assert len(origin.answers[0]) == (0 if reason is None else 2)
        assert law_holds(it.counts())
    assert point > 1


def test_an_interrupted_put_has_happened_or_has_not() -> None:
    """A put that is interrupted at any point can be repeated."""
    point = 0

    def interrupt() -> None:
        raise Interruption

    while True:
        point += 1
        it, origin = accumulator(), Origin()
        add_all(it, 0)
        batch = origin.batch(1, 2)
        if not interrupted(lambda: it.put(batch), interrupt, point):  # noqa: B023
            break
        if not it.counts().recovered:
            it.put(batch)
        assert numbers(*everything(it)) == [0, 1, 2]
        assert law_holds(it.counts())
    assert point > 1


def test_what_is_put_adds_to_what_is_there() -> None:
    """The counts of two batches are the sums, and each has a number of its own."""
    it = accumulator(queue=10, queue_bytes=10_000)
    batches = [Batch.of_lines([line(0, size=50), line(1, size=60)]), Batch.of_lines([line(2, size=70)])]
    for batch in batches:
        it.put(batch)
    counts = it.counts()
    assert (counts.recovered, counts.queued, counts.queued_bytes) == (3, 3, 180)
    assert [batch.number for batch in batches] == [1, 2]
    assert it.sealed_batches == 2
    assert it.partitions[0].changes % 2 == 0


def test_an_interrupted_answer_is_repeated() -> None:
    """A receipt whose answer an exception interrupted is answered by the next look, not by the next outcome alone."""
    it = accumulator()
    batch = Batch.of_lines([line(1)], partition=0)
    answers: list[Sequence[RejectedLine]] = []

    def answer(rejected: Sequence[RejectedLine]) -> None:
        if not answers:
            answers.append(())
            raise Interruption
        answers.append(rejected)

    batch.receipt = Receipt(1, answer)
    it.put(batch)
    with pytest.raises(Interruption):
        it.settle(taken(it))
    assert it.counts().delivered == 1
    it.answer_receipts()
    it.answer_receipts()
    assert len(answers) == 2
