"""The view of a partition for a thread that takes nothing off it: complete, and numbered right, at every moment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count, product
from threading import Event, Thread
from typing import Final

import orjson
import pytest

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async._core.snapshot import Run, unwritten, waiting
from salesmachine_async.policy import Overflow
from salesmachine_async.report import LossReason
from tests.support.core import (
    accumulator,
    add,
    add_alias,
    add_all,
    interrupted,
    line,
    switching_often,
)


def found(runs: list[Run]) -> dict[int, int]:
    """Return by number which message was found; checks the counts, and that no number is there twice."""
    result: dict[int, int] = {}
    for run in runs:
        lines = run.lines.split(b"\n")
        assert len(lines) == run.messages
        for number, each in enumerate(lines, run.first):
            assert number not in result
            result[number] = orjson.loads(each)["n"]
    return result


def first_unsettled(partition: Partition) -> int:
    """Return the number of the oldest message without an outcome."""
    return min(numbers.start for numbers in waiting(partition))


def held(partition: Partition) -> list[int]:
    """Return the numbers that the runs have, in their order."""
    return [*found(unwritten(partition, 0))]


def test_everything_is_there_in_order_wherever_it_is() -> None:
    """Messages in flight, sealed, open and pending appear in order, each with its number."""
    it = accumulator(batch=3)
    partition = it.partitions[0]
    add_all(it, *range(8))
    it.collect(partition)
    assert it.take(partition) is not None
    add_all(it, 8, 9)
    runs = unwritten(partition, 0)
    assert found(runs) == {number: number for number in range(10)}
    assert [(run.first, run.messages) for run in runs] == [(0, 3), (3, 3), (6, 4)]


def test_only_what_is_not_written_is_there() -> None:
    """A sealed batch as a whole, loose lines from the number on; what is settled not at all."""
    it = accumulator(batch=3)
    partition = it.partitions[0]
    add_all(it, *range(8))
    it.collect(partition)
    assert held(partition) == [*range(8)]
    assert [*found(unwritten(partition, 4))] == [3, 4, 5, 6, 7]
    assert [*found(unwritten(partition, 7))] == [7]
    assert unwritten(partition, 8) == []
    batch = it.take(partition)
    assert batch is not None
    it.settle(batch)
    assert held(partition) == [*range(3, 8)]


def test_an_alias_is_a_run_of_its_own() -> None:
    """An alias is a run of its own, also before it is sealed."""
    it = accumulator()
    partition = it.partitions[0]
    add_all(it, 0, 1)
    add_alias(it, 2)
    add_alias(it, 3)
    add(it, 4)
    expected = [(0, 2, False), (2, 1, True), (3, 1, True), (4, 1, False)]
    assert [(run.first, run.messages, run.alias) for run in unwritten(partition, 0)] == expected
    it.seal(partition)
    assert [(run.first, run.messages, run.alias) for run in unwritten(partition, 0)] == expected


def test_many_loose_lines_are_several_runs() -> None:
    """A record that is damaged is lost as a whole, so it must not hold everything."""
    it = accumulator(batch=1000)
    add_all(it, *range(300))
    runs = unwritten(it.partitions[0], 0)
    assert len(runs) > 1
    assert found(runs) == {number: number for number in range(300)}


def test_the_first_unsettled_is_the_oldest_one() -> None:
    """The first unsettled message is the oldest one, also when newer ones have an outcome."""
    it = accumulator(batch=2, queue=100, overflow=Overflow.DROP_OLDEST)
    partition = it.partitions[0]
    assert first_unsettled(partition) == 0
    add_all(it, *range(7))
    assert first_unsettled(partition) == 0
    it.seal(partition)
    one = it.take(partition)
    assert one is not None
    assert first_unsettled(partition) == 0
    it.settle(one)
    assert first_unsettled(partition) == 2
    two = it.take(partition)
    assert two is not None
    it.abandon(LossReason.CLOSED)
    assert first_unsettled(partition) == 2  # the one in flight, though all newer ones are lost
    assert waiting(partition) == [range(2, 4), range(7, sys.maxsize)]
    it.settle(two)
    assert first_unsettled(partition) == 7


def test_parts_know_their_numbers() -> None:
    """Halves, and what is cut out for a deferral, which brings a newer message to the front."""
    it = accumulator(batch=7)
    partition = it.partitions[0]
    for number, uid in enumerate("aabbcab"):
        it.add(partition, b'{"contact_uid":"%s","n":%d}' % (uid.encode(), number))
    it.seal(partition)
    whole = it.take(partition)
    assert whole is not None
    it.split(whole)
    assert found(unwritten(partition, 0)) == {number: number for number in range(7)}
    half = it.take(partition)
    assert half is not None
    it.split(half)
    lone = it.take(partition)
    assert lone is not None
    assert (lone.count, lone.first) == (1, 0)
    lone.lone_failures = (1.0,)
    assert it.defer(lone)
    front = it.take(partition)
    assert front is not None
    assert front.first == 2
    assert found(unwritten(partition, 0)) == {number: number for number in range(7)}
    assert first_unsettled(partition) == 0
    it.settle(front)
    assert found(unwritten(partition, 0)) == {number: number for number in range(7) if number != 2}
    assert first_unsettled(partition) == 0


def test_a_move_that_ran_out_of_memory_does_not_hold_the_view_for_ever() -> None:
    """A failed move leaves an odd number of changes, and a reader does not wait for the next move."""
    it = accumulator()
    partition = it.partitions[0]
    add_all(it, 0, 1)
    partition.changes |= 1
    assert held(partition) == [0, 1]
    it.seal(partition)
    assert not partition.changes & 1
    assert held(partition) == [0, 1]


# What the thread of the loop may be doing at the moment of a look.
Step = Callable[[Accumulator, Partition], object]
STEPS: Final[dict[str, Step]] = {
    "collect": lambda it, partition: it.collect(partition),
    "seal": lambda it, partition: it.seal(partition),
    "take": lambda it, partition: it.take(partition),
    "put": lambda it, partition: it.put(Batch.of_lines([line(11), line(12)], partition=partition.index)),
    "put_back": lambda it, _: it.put_back(flying(it)),
    "split": lambda it, _: it.split(flying(it)),
    "settle": lambda it, _: it.settle(flying(it)),
    "displace": lambda it, _: it.displace(),
}


def flying(it: Accumulator) -> Batch:
    """Return what is in flight."""
    batch = it.partitions[0].in_flight
    assert batch is not None
    return batch


@pytest.mark.parametrize(("name", "queue"), [*product(STEPS, (10, 1000))])
def test_no_step_hides_a_message(name: str, queue: int) -> None:
    """At every point of a step the numbers have no gap, and each belongs to its message."""
    point = 0
    while True:
        point += 1
        it = accumulator(batch=3, queue=queue, overflow=Overflow.DROP_OLDEST)
        partition = it.partitions[0]
        add_all(it, *range(8))
        it.collect(partition)
        if name != "take":
            assert it.take(partition) is not None
        add_all(it, *range(8, 11))

        def look(partition: Partition = partition) -> None:
            numbers = found(unwritten(partition, 0))
            end = 13 if partition.numbered == 13 else 11
            if name == "displace":  # loses the oldest that are not in flight
                assert {0, 1, 2, 9, 10} <= set(numbers) <= {*range(end)}
            else:
                assert [*numbers] == [*range(first_unsettled(partition), end)]
            assert all(number == message for number, message in numbers.items())

        if not interrupted(lambda: STEPS[name](it, partition), look, point):  # noqa: B023
            break
        look()
    assert point > 1


def test_a_thread_that_looks_misses_nothing() -> None:
    """Each look at a busy partition has all numbers from its start on, each with the message of that number."""
    it = accumulator(batch=5, queue=50)
    partition = it.partitions[0]
    stop, failures, looks = Event(), list[BaseException](), [0]

    def look() -> None:
        try:
            while not stop.is_set():
                start = first_unsettled(partition)
                numbers = found(unwritten(partition, start))
                assert [*numbers] == [*range(min(numbers, default=0), max(numbers, default=-1) + 1)]
                assert all(number == message for number, message in numbers.items())
                looks[0] += 1
        except BaseException as exc:
            failures.append(exc)

    thread = Thread(target=look, daemon=True)
    with switching_often():
        thread.start()
        number = 0
        for turn in count():
            if failures or (looks[0] >= 50 and number >= 500):
                break
            number += add(it, number)
            if turn % 3 == 0:
                it.collect(partition)
            if turn % 7 == 0 and (batch := it.take(partition)) is not None:
                it.put_back(batch) if turn % 2 else it.settle(batch)
            if turn % 11 == 0 and (batch := it.take(partition)) is not None:
                it.split(batch) if batch.count > 1 else it.put_back(batch)
        stop.set()
        thread.join(20)
    assert not failures, failures[0]
