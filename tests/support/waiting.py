"""Waiting for what is going to happen, however busy the machine is; bounded by the test's own time-out."""

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], object]) -> None:
    """Return once *true* returns something true."""
    while not true():
        await asyncio.sleep(0.001)
