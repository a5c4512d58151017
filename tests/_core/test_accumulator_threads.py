"""Eight threads that call while one thread does the steps of the loop."""

from __future__ import annotations

import time
from collections import defaultdict
from threading import Event, Thread
from typing import Final

import pytest

from salesmachine_async._core.accumulator import Counts
from salesmachine_async._core.batch import Batch
from salesmachine_async.policy import Overflow
from tests.support.core import accumulator, add_line, law_holds, line, switching_often, uid_for

THREADS: Final = 8
BATCH: Final = 5
SIZE: Final = 64
LARGE: Final = 150
SECONDS: Final = 0.3


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("overflow", [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST])
@pytest.mark.parametrize("queue", [30, 5000])
def test_nothing_is_lost_doubled_or_reordered(partitions: int, overflow: Overflow, queue: int) -> None:
    """The law and the bounds hold in each snapshot, and each accepted message has one outcome."""
    it = accumulator(BATCH, 10 * SIZE, queue, queue * SIZE, overflow, partitions)
    uids = [uid_for(index % partitions, partitions) for index in range(THREADS)]
    accepted: list[list[int]] = [[] for _ in range(THREADS)]
    stop = Event()
    delivered: list[Batch] = []
    samples: list[Counts] = []

    def work(index: int) -> None:
        number = index
        while not stop.is_set():
            size = LARGE if number % 5 == 0 else SIZE
            if add_line(it, line(number, uids[index], size), uids[index]):
                accepted[index].append(number)
            number += THREADS

    threads = [Thread(target=work, args=(index,), daemon=True) for index in range(THREADS)]
    with switching_often():
        for thread in threads:
            thread.start()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            samples.append(it.counts())
            for partition in it.partitions:
                it.collect(partition)
                if partition.lines:
                    it.quieten(partition)
                it.displace()
                partition.due = bool(partition.lines)
                if (batch := it.take(partition)) is not None:
                    it.settle(batch)
                    delivered.append(batch)
        stop.set()
        for thread in threads:
            thread.join(20)
    while any(partition.pending or partition.lines or partition.sealed for partition in it.partitions):
        for partition in it.partitions:
            it.seal(partition)
            if (batch := it.take(partition)) is not None:
                it.settle(batch)
                delivered.append(batch)
    displaced = [batch for _, batch in it.displaced]
    outcomes = [message["n"] for batch in [*delivered, *displaced] for message in batch.messages()]
    assert sorted(outcomes) == sorted(number for numbers in accepted for number in numbers)
    counts = it.counts()
    assert (counts.accepted, counts.queued_bytes) == (len(outcomes), 0)
    order: dict[int, list[int]] = defaultdict(list)
    for batch in delivered:
        for message in batch.messages():
            order[message["n"] % THREADS].append(message["n"])
    assert all(numbers == sorted(numbers) for numbers in order.values())
    overshoot = partitions * BATCH if overflow is Overflow.DROP_OLDEST else 0
    for sample in samples:
        assert law_holds(sample)
        assert sample.queued + sample.in_flight <= queue + overshoot + THREADS
