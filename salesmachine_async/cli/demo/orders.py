"""
The side of a child process in which the demo's workers run (see `children`).

A worker reads one order from stdin, carries it out, and writes JSON lines to stdout.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Order = TypeVar("Order")


def emit(line: dict[str, Any]) -> None:
    """Write a line at once: what a killed process holds in a buffer is lost."""
    os.write(sys.stdout.fileno(), json.dumps(line).encode() + b"\n")


def obey(kind: Callable[..., Order], work: Callable[[Order], Coroutine[Any, Any, None]]) -> None:
    """
    Read an order, carry it out, and end; end at once if the parent process does.

    Args:
        kind: The class of the order, a dataclass.
        work: Carries it out.
    """
    # The pipe is broken when the parent process has ended.
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_obey(kind, work))


async def _obey(kind: Callable[..., Order], work: Callable[[Order], Coroutine[Any, Any, None]]) -> None:
    order = kind(**json.loads(await asyncio.to_thread(sys.stdin.readline)))
    working = asyncio.create_task(work(order))
    # The end of stdin is the end of the parent process.
    stdin = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait((working, stdin), return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
    os._exit(0)  # another thread may still read stdin
