"""The tasks of a spool interrupted at every point, as by signal handlers that raise; on real files and virtual time."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final

import pytest

from salesmachine_async import Agent, Batching, LossReason, QueueLimits, Retry, Spool
from salesmachine_async._delivery import spool_feed
from salesmachine_async._spool import committer, pieces
from tests.support.carriers import BROKEN, Carrier, Hanging
from tests.support.core import Interruption, law_holds
from tests.support.virtual import VirtualLoop, run

FILES: Final = ("_delivery/spool_feed.py", "_delivery/recovered.py")
OLD: Final = 10
NEW: Final = 40
MAX_AGE: Final = 60.0
# How often each place in the code is a point: the tasks look again and again.
TIMES: Final = 2


class TimeLimit(Exception):
    """An exception that the loops of the tasks catch, unlike `Interruption`."""


def no_thread(*_: object) -> None:
    """Refuse a thread: the spool then works in the thread of the loop, one step after the other."""
    raise RuntimeError("on purpose")


@pytest.fixture(scope="module", autouse=True)
def in_the_loop() -> Iterator[None]:
    """Let the spool work in the loop's thread, a few messages at a time, so that each play is the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(committer, "start_thread", no_thread)
        patch.setattr(pieces, "_RECORD_BYTES", 400)
        patch.setattr(spool_feed, "READ_BACK_BYTES", 500)
        patch.setattr(spool_feed, "RECOVER_BYTES", 1000)
        patch.setattr(spool_feed, "UPKEEP_SECONDS", 0.5)
        patch.setattr(spool_feed, "RECOVER_SECONDS", 3.0)
        yield


@pytest.fixture
def memory() -> Iterator[Path]:
    """Give a directory that need not reach a disk."""
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


async def leave(path: Path) -> None:
    """Leave messages, each in a record of its own."""
    async with Agent(transport=Carrier(), spool=Spool(path, deliver=False)) as agent:
        for number in range(OLD):
            agent.track("u", "e", {"n": number})
            await agent.sync()


class Play:
    """
    The life of one agent that delivers what another has left, and what has left its memory in an outage.

    Args:
        path: Its spool.
        raises: What is raised at the point.
        point: The number of the point, among those of the tasks and of what they call.
        expires: Whether nothing is delivered, and all but what is in flight expires.
    """

    def __init__(self, path: Path, raises: type[BaseException], point: int, *, expires: bool) -> None:
        self.raises = raises
        self.point = point
        self.passed = 0
        self.places: Counter[object] = Counter()
        self.away = False
        self.lost: list[int] = []
        self.expires = expires
        self.carrier = Hanging() if expires else Carrier(decide=lambda _: BROKEN if self.away else None)
        self.agent = Agent(
            transport=self.carrier,
            spool=Spool(path, recover_first=5.0, max_age=MAX_AGE),
            batching=Batching(max_messages=4, linger=1),
            queue=QueueLimits(max_messages=32),
            retry=Retry(wait_initial=0.1, wait_max=0.2),
            on_lost=lambda loss: self.lost.extend(message["params"]["n"] for message in loss.messages),
        )

    def profile(self, frame: FrameType, event: str, _argument: object) -> None:
        if event not in ("call", "c_return") or asyncio.current_task() is self.main:
            return
        caller = frame.f_back
        if not any(each and each.f_code.co_filename.endswith(FILES) for each in (frame, caller)):
            return
        place = (event, frame.f_code, frame.f_lineno, caller and caller.f_lineno)
        self.places[place] += 1
        if self.places[place] > TIMES:
            return
        self.passed += 1
        if self.passed == self.point:
            sys.setprofile(None)
            raise self.raises

    async def scenario(self) -> None:
        """Recover, track more than the memory holds, then let the server come back, or what waits expire."""
        self.main = asyncio.current_task()
        sys.setprofile(self.profile)
        try:
            await self.agent.start()
            await asyncio.sleep(5)
            self.away = True
            for number in range(OLD, OLD + NEW):
                assert self.agent.track("u", "e", {"n": number})
                if number % 4 == 3:
                    await self.agent.sync()
                    await asyncio.sleep(2)  # longer than a task waits after an exception
            self.away = False
            await asyncio.sleep(MAX_AGE / 2 if not self.expires else 2 * MAX_AGE)
        finally:
            sys.setprofile(None)
        stats = self.agent.stats()
        assert law_holds(self.agent._accumulator.counts())
        assert (stats.accepted, stats.recovered) == (NEW, OLD)
        if self.expires:
            flying = {message["params"]["n"] for _, _, messages in self.carrier.attempts for message in messages}
            assert set(stats.lost) == {LossReason.EXPIRED}
            assert {*self.lost} | flying == {*range(OLD + NEW)}
            assert len(self.lost) == stats.lost[LossReason.EXPIRED] == len({*self.lost})
        else:
            assert (stats.delivered, stats.queued, dict(stats.lost)) == (OLD + NEW, 0, {})
            numbers = [message["params"]["n"] for message in self.carrier.delivered]
            assert sorted(numbers) == [*range(OLD + NEW)]
            assert [each for each in numbers if each < OLD] == [*range(OLD)]
            assert [each for each in numbers if each >= OLD] == [*range(OLD, OLD + NEW)]
        await self.agent.aclose()


@pytest.mark.slow
@pytest.mark.one_python
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("raises", [Interruption, TimeLimit])
@pytest.mark.parametrize("expires", [False, True])
def test_interrupted_at_every_point(memory: Path, raises: type[BaseException], expires: bool, untraced: None) -> None:
    """Nothing is lost, repeated, disordered or left, and the law holds."""
    point, met = 0, True
    while met:
        point += 1
        path = memory / f"{point}"
        run(leave(path))
        play = Play(path, raises, point, expires=expires)
        try:
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                runner.get_loop().set_exception_handler(lambda _loop, _context: None)
                runner.run(play.scenario())
        except BaseException as exc:
            raise AssertionError(f"at point {point}") from exc
        finally:
            shutil.rmtree(path)
        met = play.passed >= point
    assert point > 100
