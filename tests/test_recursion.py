"""Calls near the recursion limit, and starts under an eager task factory."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from functools import partial

import pytest

from salesmachine_async import Agent, Batching
from tests.support.carriers import Carrier
from tests.support.waiting import until


def with_frames_left(frames: int, call: Callable[[], bool]) -> bool:
    """
    Run *call* where so many more frames fit on the stack; returns False where that raises RecursionError.

    Not a collection of garbage: the finalisers of what other tests have left would fail here, too.
    """

    def dive(levels: int) -> bool:
        return call() if levels == 0 else dive(levels - 1)

    depth = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back
    gc.disable()
    try:
        return dive(sys.getrecursionlimit() - depth - frames - 2)
    except RecursionError:
        return False
    finally:
        gc.enable()


def delivered_more(agent: Agent, than: int) -> bool:
    return agent.stats().delivered > than


async def test_what_is_accepted_near_the_recursion_limit_is_delivered() -> None:
    """A call that cannot notify the loop does not return True, and accepted messages need no further call."""
    carrier = Carrier()
    async with Agent(transport=carrier, batching=Batching(linger=0.001)) as agent:
        seen: set[bool] = set()
        for frames in range(60):
            before = agent.stats().delivered
            accepted = with_frames_left(frames, partial(agent.track, "u", str(frames)))
            seen.add(accepted)
            if accepted:
                async with asyncio.timeout(20):
                    await until(partial(delivered_more, agent, before))
            await agent.flush()
        assert seen == {True, False}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has no eager task factory before 3.12")
def test_what_was_tracked_before_an_eager_start_is_delivered() -> None:
    """The sender's first look, in the middle of the start, finds nothing yet."""

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        carrier = Carrier()
        agent = Agent(transport=carrier, batching=Batching(linger=60))
        agent.track("u", "before")
        await agent.start()
        async with asyncio.timeout(20):
            await until(lambda: carrier.delivered)
        await agent.aclose()

    asyncio.run(main())
