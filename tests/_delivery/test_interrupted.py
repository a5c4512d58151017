"""The senders and the flusher interrupted at every point, as by signal handlers, on virtual time."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final

import pytest

from salesmachine_async import Agent, Batching, QueueLimits, Retry
from tests.support.carriers import BROKEN, Carrier
from tests.support.core import law_holds
from tests.support.virtual import VirtualLoop

FILES: Final = (
    "_delivery/flusher.py",
    "_delivery/sender.py",
    "_core/accumulator.py",
    "_core/bounds.py",
    "asyncio/locks.py",
)
# An hour of virtual time: whatever is not delivered by then waits for a further call.
HOUR: Final = 3600.0
EAGER: Final[Any] = getattr(asyncio, "eager_task_factory", None)  # since CPython 3.12
FACTORIES: Final = [None, EAGER] if EAGER is not None else [None]


class TimeLimit(Exception):
    """An exception as raised by the signal handler of a time limit; the event loop survives it."""


class Play:
    """
    The life of one agent, with an interruption at one point.

    Args:
        inner: Runs at the point.
        point: Its number, among those where CPython runs signal handlers within `FILES`.
        background: Whether only points outside the test's own task count.
        concurrency: Number of senders.
    """

    def __init__(self, inner: Callable[[Play], object], point: int, *, background: bool, concurrency: int) -> None:
        self.inner = inner
        self.point = point
        self.background = background
        self.passed = 0
        self.accepted: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.carrier = Carrier([BROKEN], takes=0.1)
        self.agent = Agent(
            transport=self.carrier,
            concurrency=concurrency,
            batching=Batching(max_messages=2, linger=1),
            queue=QueueLimits(max_messages=20),
            retry=Retry(wait_initial=0.1, wait_max=0.2),
        )
        self.main: asyncio.Task[None] | None = None

    def run(self, factory: Any = None) -> None:
        """Play it through; the loop's reports of what the interruption raised are expected."""
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            loop = runner.get_loop()
            loop.set_exception_handler(lambda _loop, _context: None)
            loop.set_task_factory(factory)
            runner.run(self.scenario())

    def track(self, uid: str = "u") -> None:
        if self.agent.track(uid, "e"):
            self.accepted.append(uid)

    def start_task(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))

    def profile(self, frame: FrameType, event: str, _argument: object) -> None:
        if event not in ("call", "c_return") or not frame.f_code.co_filename.endswith(FILES):
            return
        if self.background and asyncio.current_task() is self.main:
            return
        self.passed += 1
        if self.passed == self.point:
            sys.setprofile(None)
            self.inner(self)

    async def scenario(self) -> None:
        """Track before the start, while a timer runs, in the middle of a request, and for a flush."""
        self.main = asyncio.current_task()
        self.track()
        sys.setprofile(self.profile)
        try:
            await self.agent.start()
            for number in range(3):
                self.track(str(number))
            await asyncio.sleep(0.15)
            self.track()
            await asyncio.sleep(HOUR)
            self.track()
            flushed = await self.agent.flush()
        finally:
            sys.setprofile(None)
        assert flushed.pending == 0
        await asyncio.sleep(HOUR)
        delivered = self.agent.stats().delivered
        report = await self.agent.aclose()
        await asyncio.gather(*self.tasks)
        assert delivered == len(self.accepted) == report.delivered, "stranded"
        assert law_holds(self.agent._accumulator.counts())
        ids = [message["messageId"] for message in self.carrier.delivered]
        assert len(set(ids)) == len(self.accepted)


def at_every_point(
    inner: Callable[[Play], object], *, background: bool = False, concurrency: int = 1, factory: Any = None
) -> None:
    """Play for each point that there is."""
    gc.collect()
    gc.freeze()  # what is collected after each play is then little
    try:
        _play_all(inner, background, concurrency, factory)
    finally:
        gc.unfreeze()


def _play_all(inner: Callable[[Play], object], background: bool, concurrency: int, factory: Any) -> None:
    point = 0
    while True:
        point += 1
        gc.collect()  # or the agents of plays before this one would be collected in the middle of it
        play = Play(inner, point, background=background, concurrency=concurrency)
        try:
            play.run(factory)
        except BaseException as exc:
            raise AssertionError(f"at point {point}") from exc
        if play.passed < point:
            break
    assert point > 100


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("factory", FACTORIES)
class TestEveryPoint:
    """The life of an agent, with one interruption at each point of its background."""

    def test_by_calls(self, concurrency: int, factory: Any) -> None:
        """Messages tracked by an interruption are delivered without a further call."""

        def inner(play: Play) -> None:
            for number in range(3):
                play.track(str(number))

        at_every_point(inner, concurrency=concurrency, factory=factory)

    def test_by_tasks_that_wait(self, concurrency: int, factory: Any) -> None:
        """A flush and a drain; with an eager task factory they begin within the interrupted step."""

        def inner(play: Play) -> None:
            play.track()
            play.start_task(play.agent.flush())
            play.start_task(play.agent.drain())
            play.start_task(play.agent.start())

        at_every_point(inner, concurrency=concurrency, factory=factory)

    def test_by_an_exception(self, concurrency: int, factory: Any) -> None:
        """An interrupted task of a sender, look or timer is repeated."""

        def inner(_play: Play) -> None:
            raise TimeLimit

        at_every_point(inner, background=True, concurrency=concurrency, factory=factory)


@pytest.mark.slow
@pytest.mark.parametrize("factory", FACTORIES)
def test_closes_at_every_point_of_a_close(factory: Any) -> None:
    """A handler that closes with less time brings the end forward, and both get the same report."""

    async def scenario(point: int) -> bool:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=Carrier(takes=1.0), batching=Batching(max_messages=2, linger=1))
        for number in range(4):
            agent.track(str(number), "e")
        await agent.start()
        passed = 0
        others: list[asyncio.Task[Any]] = []

        def profile(frame: FrameType, event: str, _argument: object) -> None:
            nonlocal passed
            if event in ("call", "c_return") and frame.f_code.co_filename.endswith(FILES):
                passed += 1
                if passed == point:
                    sys.setprofile(None)
                    others.append(loop.create_task(agent.aclose(0.5)))

        sys.setprofile(profile)
        try:
            async with asyncio.timeout(60):
                report = await agent.aclose(10)
        finally:
            sys.setprofile(None)
        assert report.pending == 0
        assert report.delivered + sum(report.lost.values()) == 4
        assert [await other for other in others] in ([], [report])
        return passed >= point

    point, met = 0, True
    while met:
        point += 1
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.get_loop().set_task_factory(factory)
            met = runner.run(scenario(point))
    assert point > 100
