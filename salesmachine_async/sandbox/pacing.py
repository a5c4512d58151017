"""
Cooperative scheduling of long work on the event loop.

Work whose cost grows with a body, a table or a log is a generator that yields between short steps. A handler runs it by
`paced`, so that other requests are served in between; the methods of `Sandbox` run it by `at_once`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]

# Longest run of steps without a turn for other tasks.
SLICE_SECONDS = 0.01
# Number of cheap operations in one step.
STRIDE = 200


def at_once(steps: Steps[T]) -> T:
    """Run all steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def paced(steps: Steps[T]) -> T:
    """Run all steps, and give other tasks a turn after each slice of time."""
    pace = Pace()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await pace.turn()


class Pace:
    """Gives other tasks a turn when a slice of time is over."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + SLICE_SECONDS

    async def turn(self) -> None:
        """Give other tasks a turn if the slice is over."""
        if time.perf_counter() >= self._end:
            await asyncio.sleep(0)
            self._end = time.perf_counter() + SLICE_SECONDS


def strides(items: Iterable[T], size: int = STRIDE) -> Iterator[list[T]]:
    """Split *items* into lists of *size*."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
