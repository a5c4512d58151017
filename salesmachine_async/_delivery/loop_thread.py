"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar, cast

from salesmachine_async._green import acquire, allocate_lock, shares_locks, start_thread, switches_greenlets
from salesmachine_async._log import RateLimitedLogger, be_brief, describe_exception

__all__ = ["LoopThread", "Pending", "in_loop_thread", "run_here"]

T = TypeVar("T")

# Seconds until a thread that could not make its event loop (no descriptors are left, say) tries again.
RETRY_SECONDS: Final = 1.0
# Seconds until a loop is run again that has failed itself.
BROKEN_SECONDS: Final = 0.01

_here = threading.local()
_log: Final = RateLimitedLogger()


class Pending(Generic[T]):
    """
    The result of a coroutine that runs in another thread, for one waiting thread.

    Not `concurrent.futures.Future`: setting its result takes a lock that the waiting thread holds for an instant. If a
    signal handler interrupted it there and waited for the same thread, neither could continue.
    """

    __slots__ = ("_done", "_exception", "_latch", "_value")

    def __init__(self) -> None:
        self._latch = _latch()
        self._done = False
        self._value: T | None = None
        self._exception: BaseException | None = None

    def result(self, timeout: float | None = None) -> T:
        """
        Wait for the result.

        Raises:
            TimeoutError: If the loop does not exist after *timeout* seconds.
        """
        if not self._done:
            seconds = -1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
            if not acquire(self._latch, seconds) and not self._done:
                raise TimeoutError
        if self._exception is not None:
            raise self._exception
        return cast("T", self._value)

    def settle(self, value: T | None, exception: BaseException | None = None) -> None:
        """Set the result, once."""
        self._value, self._exception = value, exception
        self._done = True
        self._latch.release()


class LoopThread:
    """
    A thread that runs an event loop until it is stopped.

    Neither making nor starting it waits for the thread, and nothing here holds a lock: a call may come from a logging
    handler, a signal handler or a finalizer. anyio's blocking portal waits for its loop at both ends without a bound.

    Args:
        first: Awaited before everything that is submitted; what it raises is logged.
    """

    def __init__(self, first: Callable[[], Awaitable[None]] | None = None) -> None:
        self._first = first
        # The one token that the thread takes: when two callers have started a thread each, the second ends at once.
        self._token = deque([None])
        # With what a caller waits on; None if no caller does.
        self._inbox: deque[tuple[Callable[[], Coroutine[Any, Any, Any]], Pending[Any] | None]] = deque()
        # The thread that has taken the token.
        self._thread: threading.Thread | None = None
        self._ident: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Locks that are released once, not events: an event's own lock is held for an instant by the thread that waits,
        # and a signal handler that waits again in that thread would wait for it for ever.
        # `_attention` ends the wait of a thread that could not make its event loop.
        self._attention, self._ending = _latch(), _latch()
        self._started = self._stop = self.ended = False

    def start(self) -> None:
        """
        Start the thread, unless that is done.

        Raises:
            RuntimeError: No thread can be started.
        """
        if not self._started:
            start_thread(self._serve, "salesmachine")
            self._started = True

    def submit(self, function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> Pending[T]:
        """
        Run a coroutine function in the thread.

        Raises:
            RuntimeError: The call comes from the thread itself, where waiting for the result would never end.
        """
        if threading.get_ident() == self._ident:
            raise RuntimeError("a hook must not wait for its agent: it runs in the agent's own thread")
        pending: Pending[T] = Pending()
        self._inbox.append((lambda: function(*args), pending))
        self._wake()
        if self.ended:
            self._refuse(RuntimeError("the thread has ended"))
        return pending

    def post(self, function: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine function in the thread as soon as that has its event loop. No caller waits for the end."""
        self._inbox.append((function, None))
        self._wake()

    def stop(self) -> None:
        """End the thread when it has begun all that was submitted. Does not wait."""
        self._stop = True
        self._wake()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, at most *timeout* seconds; a hook may hold it for longer."""
        seconds = min(max(0.0, timeout), threading.TIMEOUT_MAX)
        if self._started and acquire(self._ending, seconds):
            self._ending.release()
            if self._thread is not None and not switches_greenlets():
                self._thread.join(seconds)

    def _wake(self) -> None:
        loop = self._loop  # set before the thread looks at the inbox for the first time
        with suppress(RuntimeError):  # the loop is closed, or attention was called for before
            if loop is None:
                self._attention.release()
            else:
                loop.call_soon_threadsafe(self._arrived.set)

    def _refuse(self, exc: BaseException) -> None:
        """Settle with an exception what callers wait for; the rest stays."""
        posted: list[tuple[Callable[[], Coroutine[Any, Any, Any]], None]] = []
        while True:
            try:
                function, pending = self._inbox.popleft()
            except IndexError:
                break
            if pending is None:
                posted.append((function, None))
            else:
                pending.settle(None, exc)
        self._inbox.extend(posted)

    # In the thread.

    def _serve(self) -> None:
        try:
            self._token.pop()
        except IndexError:
            return
        self._thread = threading.current_thread()
        self._ident, _here.process = threading.get_ident(), os.getpid()
        be_brief(apart=not shares_locks())
        try:
            runner = self._make_runner()
            if runner is not None:
                with runner:
                    run_on(runner.get_loop(), self._main())
        finally:
            self.ended = True
            self._refuse(RuntimeError("the thread has ended"))
            self._ending.release()

    def _make_runner(self) -> asyncio.Runner | None:
        """
        Make the event loop, as soon as that is possible; None: the thread is stopped before that.

        A failure is the answer to all callers that wait; the next one is answered by a try of its own, at once.
        """
        while True:
            runner = asyncio.Runner()
            try:
                _try_descriptors()
                runner.get_loop()
            except Exception as exc:  # noqa: BLE001
                line = "no event loop could be made to deliver messages (%s); it will be tried again"
                _log("loop", logging.ERROR, line, exc, loud=True)
                self._refuse(exc)
                if self._stop:
                    return None
                self._attention.acquire(timeout=RETRY_SECONDS)
            else:
                return runner

    async def _main(self) -> None:
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        running: set[asyncio.Task[None]] = set()
        if self._first is not None:
            await _guarded(self._first)
        while True:
            while self._inbox:
                task = self._loop.create_task(_settle(*self._inbox.popleft()))
                running.add(task)
                task.add_done_callback(running.discard)
            if self._stop:
                break
            with suppress(asyncio.CancelledError):  # a hook may cancel all tasks; only `stop` ends this one
                await self._arrived.wait()
            self._arrived.clear()
        await asyncio.sleep(0)  # what was submitted before the stop begins at least, as it would have without one


def _latch() -> Any:
    """Return a lock that is held."""
    lock = allocate_lock()
    lock.acquire()
    return lock


def _try_descriptors() -> None:
    """
    Make what an event loop is made of, try it, and close it.

    asyncio leaves half a loop behind when descriptors run out, and writes a traceback when that is collected. Where a
    test has replaced `socket.socket`, it makes a loop that nothing can wake.

    Raises:
        OSError: There are not enough descriptors, or the sockets carry nothing.
    """
    with selectors.DefaultSelector():
        ours, other = socket.socketpair()
        with ours, other:
            other.send(b"1")
            if ours.recv(1) != b"1":
                raise OSError("sockets carry nothing")


def in_loop_thread() -> bool:
    """Return whether this is such a thread, where no signal handler runs; after a fork it is a main thread."""
    return getattr(_here, "process", None) == os.getpid()


def run_here(function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T:
    """
    Run a coroutine function in this thread, where no other can be started any more.

    Raises:
        RuntimeError: An event loop runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner() as runner:
            return runner.run(function(*args))
    raise RuntimeError("an event loop runs in this thread: use an Agent there")


async def _guarded(function: Callable[[], Awaitable[object]]) -> None:
    try:
        await function()
    except Exception as exc:  # noqa: BLE001
        line = "an agent could not be started or ended: %s"
        _log("start", logging.ERROR, line, describe_exception(exc), loud=True)


async def _settle(function: Callable[[], Coroutine[Any, Any, T]], pending: Pending[T] | None) -> None:
    if pending is None:
        await _guarded(function)
        return
    try:
        value = await function()
    except BaseException as exc:  # noqa: BLE001 (an exit, too: it ends the caller, not the thread)
        pending.settle(None, exc)
    else:
        pending.settle(value)


def run_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a coroutine to its end, whatever else ends the loop before.

    A ``sys.exit()`` in any task or callback (a transport's, say) breaks off the loop, and so does a hook that stops it,
    or a clock that a test has replaced. That would end no program from here, only all that is delivered here.
    """
    task = loop.create_task(coroutine)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except BaseException as exc:
            if not in_loop_thread() or task.done():
                raise
            line = "the event loop of an agent was broken off by %s; it is run again"
            _log("broken off", logging.ERROR, line, describe_exception(exc))
            if isinstance(exc, Exception):  # perhaps at once again
                _latch().acquire(timeout=BROKEN_SECONDS)
