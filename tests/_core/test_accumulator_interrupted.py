"""The accumulator interrupted at every point of every step: by calls, by a close, by a snapshot, by an exception."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Final

import pytest

from salesmachine_async._core import accumulator as module
from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.barrier import Barrier
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async.errors import AgentClosed, QueueFull
from salesmachine_async.policy import Overflow
from salesmachine_async.report import LossReason, Report
from tests.support.core import (
    Interruption,
    accumulator,
    add_alias,
    add_line,
    interrupted,
    interrupted_always,
    law_holds,
    line,
    numbers,
    uid_for,
)

BATCH: Final = 4
SIZE: Final = 64
NEAR: Final = 14
FAR: Final = 1000
LARGE: Final = 200


class Loop:
    """
    The event loop and its senders, in the order in which `Sender` looks; it runs only when `run` is called.

    Args:
        it: The accumulator.
    """

    def __init__(self, it: Accumulator) -> None:
        self.it = it
        self.woken: set[int] = set()
        # Partitions whose linger timer runs.
        self.lingering: set[int] = set()
        self.delivered: list[Batch] = []
        it.wake = self.wake

    def wake(self, partition: Partition) -> None:
        self.woken.add(partition.index)

    def look(self, partition: Partition) -> None:
        """Do what `Sender._look` does."""
        self.it.collect(partition)
        if partition.lines and not partition.due:
            self.lingering.add(partition.index)
        if partition.lines:
            self.it.quieten(partition)
        self.it.displace()

    def run(self) -> None:
        """Run until nothing wakes the loop and no timer runs: looks, timers, senders."""
        while self.woken or self.lingering:
            for index in sorted(self.woken):
                self.woken.discard(index)
                self.look(self.it.partitions[index])
            for index in sorted(self.lingering):
                self.lingering.discard(index)
                self.it.collect(self.it.partitions[index])
                self.it.partitions[index].due = bool(self.it.partitions[index].lines)
            for partition in self.it.partitions:
                self.send(partition)

    def send(self, partition: Partition) -> None:
        """Do what `Sender.run` does once it is woken; first it returns what an interrupted task has left."""
        if partition.in_flight is not None:
            self.it.put_back(partition.in_flight)
        while (batch := self.it.take(partition)) is not None:
            self.it.settle(batch)
            self.delivered.append(batch)


class Scene:
    """An accumulator that holds something in every place, the loop, and the step to interrupt."""

    def __init__(self, step: str, partitions: int, overflow: Overflow, queue: int, held: int) -> None:
        self.it = it = accumulator(BATCH, 6 * SIZE, queue, queue * SIZE, overflow, partitions)
        self.loop = Loop(it)
        self.uids = [uid_for(index, partitions) for index in range(partitions)]
        self.accepted: list[int] = []
        self.unsure: list[int] = []
        self.barriers: list[Barrier] = []
        self.settled: list[Batch] = []
        first = it.partitions[0]
        for number in range(held):
            self.add(number, index=number % partitions if number % 3 else 0)
            if number in (3, 6):
                self.loop.look(it.partitions[number % partitions])
        self.flying: Batch | None = None
        if step in ("settle", "lose", "put_back", "split", "search", "released"):
            it.seal(first)
            self.flying = it.take(first)
            assert self.flying is not None
        if step in ("settle", "lose", "barrier", "displace"):
            self.barriers.append(it.barrier())
            self.wake_all()
        self.step = step

    def wake_all(self) -> None:
        for partition in self.it.partitions:
            self.loop.wake(partition)

    def add(self, number: int, *, index: int = 0, size: int = SIZE, alias: bool = False) -> None:
        """Make a call as the agent does, with its wake-up after an exception, and note what became of it."""
        it, uid = self.it, self.uids[index]
        try:
            accepted = add_alias(it, number, uid) if alias else add_line(it, line(number, uid, size), uid)
        except (AgentClosed, QueueFull):
            return
        except BaseException:
            self.unsure.append(number)
            it.wake(it.partitions[index])
            raise
        if accepted:
            self.accepted.append(number)

    def play(self) -> None:
        """Run the step to interrupt."""
        it, first = self.it, self.it.partitions[0]
        match self.step:
            case "add":
                self.add(100)
            case "add a large one":
                self.add(100, size=LARGE)
            case "alias":
                self.add(100, alias=True)
            case "announce":
                self.announce()
            case "look":
                self.loop.wake(first)
                self.loop.look(first)
            case "take":
                first.due = True
                self.loop.lingering.add(0)
                self.flying = it.take(first)
            case "barrier":
                self.wake_all()
                self.barriers.append(it.barrier())
            case "abandon":
                it.abandon(LossReason.CLOSED)
            case _:
                self.simple_step()

    def announce(self) -> None:
        """Append a line as a call that has read `append` before, and notify the loop."""
        first, late = self.it.partitions[0], line(100, self.uids[0], SIZE)
        try:
            first.pending.append(late)
            self.it.announce(first, late)
        except AgentClosed:
            return
        except BaseException:
            self.unsure.append(100)
            self.it.wake(first)
            raise
        self.accepted.append(100)

    def simple_step(self) -> None:
        it, batch = self.it, self.flying
        steps: dict[str, Callable[[], object]] = {
            "collect": lambda: it.collect(it.partitions[0]),
            "seal": lambda: it.seal(it.partitions[0]),
            "quieten": lambda: it.quieten(it.partitions[0]),
            "displace": it.displace,
            "close": it.close,
            "counts": lambda: self.check_law(),
            "fill": it.fill,
        }
        if batch is not None:
            steps |= {
                "settle": lambda: it.settle(batch),
                "lose": lambda: it.settle(batch, LossReason.REJECTED),
                "put_back": lambda: it.put_back(batch),
                "split": lambda: it.split(batch),
                "search": lambda: it.split(batch, searching=True),
            }
        steps[self.step]()

    def check_law(self) -> None:
        assert law_holds(self.it.counts())

    def check_counts(self) -> None:
        """Check the law, and that nothing accepted is missing: a call that is under way may be counted already."""
        counts = self.it.counts()
        assert law_holds(counts)
        assert len(self.accepted) <= counts.accepted <= len(self.accepted) + len(self.unsure) + 1
        assert min(counts.queued, counts.queued_bytes, counts.in_flight, counts.delivered) >= 0

    def check_wakes(self) -> None:
        """Check that the loop looks again wherever a call may append without notifying it."""
        for partition in self.it.partitions:
            if partition.pending and partition.notice.at > 0:
                assert partition.index in self.loop.woken | self.loop.lingering or partition.due

    def finish(self) -> None:
        """Let the loop go on without any further call, then check that everything has exactly one outcome."""
        it = self.it
        self.check_counts()
        self.check_wakes()
        if self.step in ("settle", "lose") and self.flying is not None and it.partitions[0].in_flight is None:
            self.settled.append(self.flying)
        # The rest of a step that a sender repeats after an interruption, as `Sender.look` and its task do.
        self.wake_all() if self.step in ("collect", "seal", "look", "take", "abandon", "quieten", "displace") else None
        if self.flying is not None:
            self.loop.wake(it.partitions[0])
        self.loop.run()
        displaced = [batch for _, batch in it.displaced]
        batches = [*self.settled, *self.loop.delivered, *displaced]
        found = Counter(numbers(*batches))
        left = [partition.index for partition in it.partitions if partition.pending or partition.lines]
        assert not left, "stranded"
        assert max(found.values(), default=1) == 1
        assert set(self.accepted) <= set(found) <= {*self.accepted, *self.unsure}
        for batch in batches:
            assert 1 <= batch.count == len(batch.messages()) <= BATCH
            assert batch.body_size <= 6 * SIZE
        counts = it.counts()
        assert law_holds(counts)
        assert counts.accepted == len(found)
        assert (counts.queued, counts.queued_bytes, counts.in_flight) == (0, 0, 0)
        lost = sum(batch.count for batch in displaced) + (
            sum(batch.count for batch in self.settled) if self.step == "lose" else 0
        )
        assert counts.lost.total() == lost
        for partition in it.partitions:
            assert (partition.unsettled, partition.unsettled_bytes) == (0, 0)
            assert partition.large_bytes == 0
        for barrier in self.barriers:
            report = it.report(barrier)
            assert report == Report(delivered=report.delivered, lost=report.lost, pending=0), (
                "a barrier that is never passed"
            )
            assert report.delivered + sum(report.lost.values()) == barrier.accepted

    def check_order(self) -> None:
        """Check that what was added in turns is delivered in order, in each partition."""
        for index in range(len(self.uids)):
            mine = [batch for batch in self.loop.delivered if batch.partition == index]
            early = [number for number in numbers(*mine) if number < 100]
            assert early == sorted(early)


STEPS: Final = [
    "add",
    "add a large one",
    "alias",
    "announce",
    "collect",
    "quieten",
    "seal",
    "look",
    "take",
    "put_back",
    "split",
    "search",
    "settle",
    "lose",
    "displace",
    "abandon",
    "barrier",
    "close",
    "counts",
    "fill",
]
PLACES: Final = [
    pytest.param(
        partitions,
        overflow,
        queue,
        held,
        id=f"{partitions}-{overflow.value}-{held} of {queue}",
        marks=[pytest.mark.slow] if partitions > 1 else [],
    )
    for partitions, (overflow, queue, held) in product(
        [1, 3], [(Overflow.DROP_NEWEST, FAR, 11), *((overflow, NEAR, 13) for overflow in Overflow)]
    )
]


def at_every_point(make: Callable[[], Scene], inner: Callable[[Scene], object]) -> None:
    """Play a fresh scene for each point of its step, with *inner* at this point; then check it."""
    point = 0
    while True:
        point += 1
        scene = make()
        if not interrupted(scene.play, lambda: inner(scene), point):  # noqa: B023
            break
        try:
            scene.finish()
            scene.check_order()
        except AssertionError as exc:
            raise AssertionError(f"at point {point}: {exc}") from exc
    assert point > 1


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("partitions", "overflow", "queue", "held"), PLACES)
class TestEveryPoint:
    """Each step, interrupted once at each of its points."""

    def test_by_calls(self, step: str, partitions: int, overflow: Overflow, queue: int, held: int) -> None:
        """Each interruption tracks short lines, a long one and an alias, in the same partition and in another."""

        def inner(scene: Scene) -> None:
            for number in range(200, 206):
                scene.add(number, index=number % partitions)
            scene.add(300, size=LARGE)
            scene.add(301, alias=True)

        at_every_point(lambda: Scene(step, partitions, overflow, queue, held), inner)

    def test_by_a_close(self, step: str, partitions: int, overflow: Overflow, queue: int, held: int) -> None:
        """Accepted messages are delivered after the close, and an interrupted call is accepted or is not."""

        def inner(scene: Scene) -> None:
            scene.it.close()
            scene.wake_all()
            scene.add(200)
            assert 200 not in scene.accepted

        at_every_point(lambda: Scene(step, partitions, overflow, queue, held), inner)

    def test_by_a_snapshot(self, step: str, partitions: int, overflow: Overflow, queue: int, held: int) -> None:
        """The law holds in it, and the number of accepted messages is right."""
        at_every_point(lambda: Scene(step, partitions, overflow, queue, held), Scene.check_counts)

    # What is raised where a generator is thrown away is reported as unraisable, and swallowed.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_by_an_exception(self, step: str, partitions: int, overflow: Overflow, queue: int, held: int) -> None:
        """The step has happened or has not, and is repeated as the sender repeats it."""

        def inner(_scene: Scene) -> None:
            raise Interruption

        at_every_point(lambda: Scene(step, partitions, overflow, queue, held), inner)

    def test_by_calls_at_all_points(
        self, step: str, partitions: int, overflow: Overflow, queue: int, held: int
    ) -> None:
        """A handler tracks at every point of a step, as for a signal that arrives again and again."""
        scene = Scene(step, partitions, overflow, queue, held)

        def inner(point: int) -> None:
            if point <= 300:  # `abandon`, which comes after a close, ends when the calls do
                scene.add(1000 + point, index=point % partitions)

        interrupted_always(scene.play, inner)
        scene.finish()
        scene.check_order()


class Finaliser:
    """Garbage that makes calls when it is collected."""

    def __init__(self, scene: Scene, number: int) -> None:
        self.itself = self
        self.scene = scene
        self.number = number

    def __del__(self) -> None:
        self.scene.add(self.number, index=self.number % len(self.scene.uids))
        assert law_holds(self.scene.it.counts())


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("step", STEPS)
def test_by_the_garbage_collector(step: str, partitions: int) -> None:
    """CPython 3.11 collects wherever an object is allocated, also between two statements that call nothing."""
    for number in range(1000, 1015):
        scene = Scene(step, partitions, Overflow.DROP_NEWEST, FAR, 11)
        before = gc.get_threshold()
        gc.freeze()  # only what is new is looked at, which takes no time
        gc.set_threshold(number % 7 + 1)
        try:
            Finaliser(scene, number)
            scene.play()
        finally:
            gc.set_threshold(*before)
            gc.collect()
            gc.unfreeze()
        scene.finish()
        scene.check_order()


@pytest.mark.parametrize("step", ["seal", "settle", "lose", "displace", "barrier", "take", "split"])
@pytest.mark.parametrize("place", ["of_lines", "loose_bytes", "_After", "deque"])
def test_without_memory(monkeypatch: pytest.MonkeyPatch, step: str, place: str) -> None:
    """A step that finds no memory has not happened; it is repeated when there is some."""
    scene = Scene(step, 1, Overflow.DROP_OLDEST, NEAR, 14)
    scene.add(99)
    scene.add(100)

    def no_memory(*_arguments: object, **_options: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        if place in ("of_lines", "loose_bytes"):
            patch.setattr(Batch if place == "of_lines" else Partition, place, no_memory)
        else:
            patch.setattr(module, place, no_memory)
        with suppress(MemoryError):
            scene.play()
    scene.wake_all()
    scene.finish()


def test_a_line_taken_back_while_the_loop_collects() -> None:
    """A call of another thread that finds the agent closed takes its line back in the middle of a look."""
    point = 0
    met = True
    while met:
        point += 1
        it = accumulator()
        (partition,) = it.partitions
        add_line(it, line(1))
        late = line(2)
        partition.pending.append(late)
        it.close()
        withdrawn: list[bool] = []

        def take_back(it: Accumulator = it, late: bytes = late, withdrawn: list[bool] = withdrawn) -> None:
            try:
                it.announce(it.partitions[0], late)
            except AgentClosed:
                withdrawn.append(True)

        met = interrupted(it.barrier, take_back, point)
        assert it.counts().accepted == 2 - len(withdrawn)
        assert not partition.pending


@pytest.mark.parametrize("step", ["collect", "look"])
def test_a_call_during_a_look_raises_no_number_for_the_lines_that_it_takes_off(step: str) -> None:
    """The loop was blocked, so many lines are pending; after the look no more than a batch is appended unseen."""
    point = 0
    met = True
    while met:
        point += 1
        it = accumulator(BATCH, queue=100)
        (partition,) = it.partitions
        for number in range(80):
            add_line(it, line(number))
        loop = Loop(it)
        outer = (lambda: it.collect(partition)) if step == "collect" else (lambda: loop.look(partition))  # noqa: B023
        met = interrupted(outer, lambda: add_line(it, line(200)), point)  # noqa: B023
        assert partition.notice.at <= len(partition.pending) + BATCH
