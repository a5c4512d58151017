"""The short way of a call, without the lock: what other threads do meanwhile, wherever CPython lets them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import count, product
from typing import Final

import pytest

from salesmachine_async._core.accumulator import NOTHING, OPENED, REFUSED, SEALED, Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async.policy import Overflow
from tests.support.core import (
    PLENTY,
    accumulator,
    add_all,
    interrupted,
    interrupted_always,
    law_holds,
    line,
    numbers,
    switches,
    uid_in_partition,
)

BATCH: Final = 4
QUEUE: Final = 14
SIZE: Final = 64
# Which calls, and under which policy: it matters to those that add.
CALLS: Final = [
    *product(["add", "add a large one", "alias"], [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST]),
    *product(["barrier", "seal", "take", "counts", "fill"], [Overflow.DROP_NEWEST]),
]


def test_a_call_within_the_grant_is_one_step() -> None:
    """In the bytecode nothing between the look at the grant and the last count lets another thread in."""
    assert switches(Accumulator.add, "room", "count") == []


def test_without_a_gil_every_call_takes_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way is one step only where one thread at a time runs Python."""
    monkeypatch.setattr(sys, "version", f"{sys.version} free-threading build")
    it = accumulator()
    add_all(it, 1)
    with ThreadPoolExecutor(1) as other:
        with it._lock:
            adding = other.submit(add_all, it, 2)
            assert not wait([adding], timeout=0.1).done
        assert adding.result(20) == [NOTHING]


def test_with_a_gil_a_call_within_the_grant_takes_no_lock() -> None:
    """Nor does it wait for one that another thread holds."""
    it = accumulator()
    add_all(it, 1)
    with ThreadPoolExecutor(1) as other, it._lock:
        assert other.submit(add_all, it, 2).result(20) == [NOTHING]


@dataclass(frozen=True)
class Scene:
    """
    An accumulator with room for QUEUE messages of SIZE bytes, and a call that holds the lock.

    Args:
        name: Which call; it may add the messages from 100 on.
        partitions: How many.
        overflow: The policy.
        held: How many messages it holds.
        first: So many of them go to the last partitions, one to each, and the rest to the first partition; or else in turns.
    """

    name: str
    partitions: int
    overflow: Overflow
    held: int
    first: int = 0

    def run(self, point: int, *, nested: bool = False) -> tuple[bool, int]:
        """
        Play it with other threads in the middle, at the so-manieth point; then look whether all is well.

        Args:
            point: Which.
            nested: Whether a signal handler tracks at this point, the long way if need be. Other threads then come
                at each later point. It, or the message it interrupts, may exceed a bound by itself.

        Returns whether there was such a point, and how many messages other threads added meanwhile.
        """
        it = accumulator(BATCH, BATCH * SIZE + 1, QUEUE, QUEUE * SIZE, self.overflow, self.partitions)
        uids = [uid_in_partition(it, partition) for partition in range(self.partitions)]
        for number in range(self.held):
            partition = (
                number % self.partitions
                if not self.first
                else self.partitions - 1 - number
                if number < self.first
                else 0
            )
            assert not it.add(uids[partition], line(number, size=SIZE)) & REFUSED
        taken: list[Batch] = []
        accepted: list[int] = []

        def meanwhile(now: int) -> None:
            if nested and now == point and it.add(uids[-1], line(101, size=SIZE)) != REFUSED:
                accepted.append(101)
            if (now > point) if nested else (now == point):
                accepted.extend(use_up_grants(it, uids, 1000 * now))

        met = interrupted_always(lambda: self.call(it, uids[0], accepted, taken), meanwhile) >= point
        added = len(accepted)
        accepted += use_up_grants(it, uids, 200)
        counts = it.counts()
        assert law_holds(counts)
        assert counts.queued + counts.in_flight <= QUEUE + nested
        assert counts.queued_bytes + sum(batch.size for batch in taken) <= (QUEUE + 2 * nested) * SIZE
        batches = [*it.take_evicted(), *taken, *everything(it)]
        assert all(batch.count == len(batch.messages()) <= BATCH for batch in batches)
        assert all(batch.size <= (BATCH + 2 * nested) * SIZE for batch in batches)
        assert sorted(numbers(*batches)) == sorted([*range(self.held), *accepted])
        return met, added

    def call(self, it: Accumulator, uid: str, accepted: list[int], taken: list[Batch]) -> None:
        match self.name:
            case "add" | "add a large one" | "alias":
                add = it.add_alias if self.name == "alias" else it.add
                size = 2 * SIZE if self.name == "add a large one" else SIZE
                if not add(uid, line(100, size=size)) & REFUSED:
                    accepted.append(100)
            case "take":
                taken += [batch for batch in [it.take(it.partitions[0])] if batch is not None]
            case "counts":
                assert law_holds(it.counts())
            case _:
                actions: dict[str, Callable[[], object]] = {
                    "seal": lambda: it.seal_open(it.partitions[0]),
                    "barrier": it.barrier,
                    "fill": it.fill,
                }
                actions[self.name]()


def use_up_grants(it: Accumulator, uids: list[str], start: int) -> list[int]:
    """Do what other threads can do without the lock: add as many messages as all partitions are granted."""
    added: list[int] = []
    for partition, uid in zip(it.partitions, uids, strict=True):
        while partition.room >= SIZE and partition.count < partition.count_limit:
            added.append(start + len(added))
            assert it.add(uid, line(added[-1], size=SIZE)) == NOTHING
    return added


def everything(it: Accumulator) -> list[Batch]:
    """Seal and take all that is queued."""
    batches: list[Batch] = []
    for partition in it.partitions:
        it.seal_open(partition)
        while (batch := it.take(partition)) is not None:
            batches.append(batch)
            it.settle(batch)
    return batches


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("partitions", [1, 2, 3])
@pytest.mark.parametrize(("name", "overflow"), CALLS)
def test_other_threads_in_the_middle(name: str, partitions: int, overflow: Overflow) -> None:
    """Wherever others use up what is granted, each message is found once, and no bound is exceeded."""
    added = 0
    for held, first in product(range(QUEUE + 1), range(partitions)):
        for point in count(1):
            met, others = Scene(name, partitions, overflow, held, first).run(point)
            added += others
            if not met:
                break
    assert added


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize(("name", "overflow"), [call for call in CALLS if call[0] != "counts"])
def test_a_signal_handler_and_other_threads_in_the_middle(name: str, partitions: int, overflow: Overflow) -> None:
    """It may exceed a bound by one message and no more, whatever others add meanwhile; and nothing is lost."""
    for held in range(QUEUE + 1):
        for point in count(1):
            if not Scene(name, partitions, overflow, held).run(point, nested=True)[0]:
                assert point > 1
                break


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("held", range(0, 11, 2))
def test_a_signal_handler_in_a_queue_that_only_bytes_bound(held: int, partitions: int) -> None:
    """What others use of the grant that a handler was given in the middle of a call, the call does not grant again."""
    for point in count(1):
        it = accumulator(PLENTY, PLENTY, PLENTY, QUEUE * SIZE, partitions=partitions)
        uids = [uid_in_partition(it, partition) for partition in range(partitions)]
        for number in range(held):
            it.add(uids[number % partitions], line(number, size=SIZE))

        def meanwhile(now: int) -> None:
            if now == point:  # noqa: B023
                it.add(uids[-1], line(101, size=SIZE))  # noqa: B023
            elif now > point:  # noqa: B023
                use_up_grants(it, uids, 1000 * now)  # noqa: B023

        points = interrupted_always(lambda: it.add(uids[0], line(100, size=SIZE)), meanwhile)  # noqa: B023
        use_up_grants(it, uids, 200)
        assert it.counts().queued <= QUEUE + 1, point
        if points < point:
            break


@pytest.mark.parametrize(("batch", "queue"), [(2, 100), (3, 100), (4, 9), (4, 14)])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_signal_handler_that_seals_leaves_no_grant_for_the_next_batch(batch: int, queue: int, times: int) -> None:
    """Wherever it comes, the message that opens the next batch says so: else nobody would seal it after its linger."""
    for held in range(queue if queue < 20 else batch):
        for point in count(1):
            it = accumulator(batch, queue=queue)
            add_all(it, *range(held))
            if not interrupted(lambda: add_all(it, 100), lambda: add_all(it, *range(200, 200 + times)), point):  # noqa: B023
                break
            (partition,) = it.partitions
            if not partition.count:
                assert add_all(it, 300)[0] & (OPENED | REFUSED), point


def test_a_batch_that_another_thread_has_opened_meanwhile_is_not_sealed_before_its_time() -> None:
    """The call that was to fill a batch, and waited for the lock, adds to the next one."""
    it = accumulator(4)
    add_all(it, 0, 1, 2)
    with ThreadPoolExecutor(1) as other:
        with it._lock:
            waiting = other.submit(add_all, it, 100)
            assert not wait([waiting], timeout=0.1).done
            assert add_all(it, 200, 201) == [SEALED, OPENED]
        assert waiting.result(20) == [NOTHING]
    assert ([batch.count for batch in it.partitions[0].sealed], it.partitions[0].count) == ([4], 2)


@pytest.mark.parametrize("overflow", [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST])
def test_a_finaliser_that_tracks_exceeds_a_bound_by_one_message(overflow: Overflow) -> None:
    """Also where CPython 3.11 collects garbage though nothing is called: wherever it makes a tuple or an iterator."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what other tests have left is not looked through each time
    try:
        for wait_for in range(1, 40):
            it = accumulator(8, queue=12, overflow=overflow)
            add_all(it, *range(7))
            tracked: list[int] = []

            class Last:
                def __init__(self) -> None:
                    self.me = self

                def __del__(self) -> None:
                    tracked.append(it.add("a", line(100)))  # noqa: B023

            gc.collect()
            gc.disable()
            Last()
            gc.set_threshold(gc.get_count()[0] + wait_for)
            gc.enable()
            it.add("a", line(7))
            gc.disable()
            add_all(it, *range(8, 20))
            counts = it.counts()
            assert law_holds(counts)
            assert counts.queued <= 12 + 1, wait_for
    finally:
        gc.set_threshold(*before)
        gc.enable()
        gc.unfreeze()
