"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from salesmachine_async._log import describe_exception, logger

__all__ = ["LoopThread", "in_loop_thread"]

T = TypeVar("T")

_here = threading.local()


class LoopThread:
    """
    A thread that runs an event loop.

    Not anyio's blocking portal: that waits for the loop before it returns a future, and again when it is stopped, both
    without a bound. A hook that holds the loop would hold the end of the process.
    """

    def __init__(self) -> None:
        ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        # A daemon: the interpreter waits for all other threads before it runs what ends this one.
        self._thread = threading.Thread(target=_serve, args=(ready,), name="salesmachine", daemon=True)
        self._thread.start()
        self._loop, self._stopping = ready.result()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """
        Begin to run a coroutine.

        Raises:
            RuntimeError: In the thread itself, where waiting for the result would be waiting for oneself; or it has
                ended.
        """
        try:
            if threading.current_thread() is self._thread:
                raise RuntimeError("a hook must not wait for its agent: it runs in the agent's own thread")
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()  # or it would warn that nobody awaited it
            raise

    def stop(self, timeout: float) -> None:
        """End the thread, or leave it behind if its loop is held for longer than *timeout* seconds."""
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout)


def in_loop_thread() -> bool:
    """Return whether this is such a thread, where no signal handler runs; after a fork it is another's main thread."""
    return getattr(_here, "process", None) == os.getpid()


def _serve(ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    """Run an event loop until it is told to stop."""

    async def main() -> None:
        stopping = asyncio.Event()
        ready.set_result((asyncio.get_running_loop(), stopping))
        await stopping.wait()

    _here.process = os.getpid()
    try:
        with asyncio.Runner() as runner:
            _run_on(runner.get_loop(), main())
    except BaseException as exc:
        if ready.done():
            raise
        ready.set_exception(exc)


def _run_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a coroutine to its end, whatever else ends.

    A ``sys.exit()`` in any task or callback (a transport's, say) breaks off the loop. It would end no program from
    here, only all that is delivered here.
    """
    task = loop.create_task(coroutine)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as exc:
            if not in_loop_thread():
                raise
            logger.error("the thread of an agent goes on after %s", describe_exception(exc))
