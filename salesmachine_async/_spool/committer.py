"""Daemon thread that does all file work of a spool."""

from __future__ import annotations

import logging
import os
import threading
import time
from _queue import (  # not from `queue`, where gevent replaces it: greenlets and threads share this one
    Empty,
    SimpleQueue,
)
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol, TypeVar

from salesmachine_async._green import allocate_lock, shares_locks, start_thread, switches_greenlets
from salesmachine_async._log import RateLimitedLogger, be_brief, describe_exception
from salesmachine_async._spool.pieces import LogPiece
from salesmachine_async.errors import SpoolFailed

__all__ = ["Committer", "QueueView"]

T = TypeVar("T")

# Interval in seconds at which a waiting greenlet polls for its result; other greenlets run in between.
POLL_SECONDS: Final = 0.002


class _Result(Future[T]):
    """
    A `Future` for a thread of the operating system, also where gevent or eventlet have replaced locks by their own.

    Those are not for two threads. A greenlet that waits for the result lets others run.
    """

    def __init__(self) -> None:
        super().__init__()
        if switches_greenlets():
            self._condition = threading.Condition(allocate_lock())

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result, as `Future.result`."""
        return super().result(_let_greenlets_run(self, timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the exception, as `Future.exception`."""
        return super().exception(_let_greenlets_run(self, timeout))


def _let_greenlets_run(future: Future[T], timeout: float | None) -> float | None:
    """Wait by polling where threads are greenlets; returns the rest of *timeout*."""
    if not switches_greenlets():
        return timeout
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    while not future.done() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)  # the patched function, which lets other greenlets run
    return 0


class QueueView(Protocol):
    """
    View of the queues for a spool. Its methods are called from the spool's thread and take nothing off a queue.

    Messages of a partition are numbered in the order in which they were accepted, from 0. A message that leaves the
    memory because it is on disk has no outcome.
    """

    def waiting(self, partition: int) -> list[range]:
        """Return the numbers of the messages without an outcome, in no order; the last range has no end."""
        ...

    def unwritten(self, partition: int, written: int) -> list[LogPiece]:
        """
        Return what is in memory and has a number of at least *written*, oldest first.

        The first piece may begin before *written*: the rest of it is written. What is in flight belongs to it.
        """
        ...


class Committer:
    """
    Runs one function periodically and others on demand, one at a time, in a daemon thread.

    Where no thread can be started (interpreter shutdown, no memory) they run in the thread that submits them.

    Args:
        tick: The function to run.
        interval: Seconds between two runs.
        log: For what *tick* raises.
    """

    __slots__ = (
        "_claims",
        "_ident",
        "_interval",
        "_log",
        "_running",
        "_stopped",
        "_tasks",
        "_thread",
        "_tick",
        "_token",
    )

    def __init__(self, tick: Callable[[], None], interval: float, log: RateLimitedLogger) -> None:
        self._tick = tick
        self._interval = interval
        self._log = log
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Whether the thread was started and has not ended; and what it takes, so that there is one at most.
        self._running = False
        self._token = deque([None])
        self._thread: threading.Thread | None = None
        self._ident: int | None = None
        # The claim to start the thread or to work in its place: at most one token. A lock would deadlock a signal
        # handler that interrupts its holder.
        self._claims: dict[str, object] = {}
        self._stopped = False

    def start(self) -> None:
        """Begin."""
        self.submit(lambda: None)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """
        Run *function* in the thread, behind those submitted before.

        What it raises is the future's exception; an `OSError` as `SpoolFailed`.
        """
        future: Future[T] = _Result()
        future.set_running_or_notify_cancel()  # the function must run even if its future is cancelled
        if threading.get_ident() == self._ident:  # a logging handler of the application, called by the thread
            future.set_exception(SpoolFailed("the thread of the spool cannot wait for itself"))
            return future
        if self._stopped:
            future.set_exception(SpoolFailed("the spool is closed"))
            return future
        self._tasks.put(lambda: _resolve(future, function))
        self._ensure_progress()
        return future

    def _ensure_progress(self) -> None:
        """Run the tasks in the spool's thread, or in the calling one if none can be started."""
        while not self._running and not self._tasks.empty():
            token = object()
            try:
                if self._claims.setdefault("start", token) is not token:
                    return  # the holder of the claim checks the tasks again after releasing it
                self._start_or_run()
            finally:
                if self._claims.get("start") is token:
                    del self._claims["start"]

    def _start_or_run(self) -> None:
        try:
            start_thread(self._run, "salesmachine-spool")
            self._running = True
        except RuntimeError as exc:
            self._log("spool thread", logging.ERROR, "the spool's thread cannot be started: %s", exc, loud=True)
            while not self._tasks.empty():
                task = self._tasks.get()
                if task is not None:
                    task()

    def stop(self) -> None:
        """End the thread after the functions submitted before; later ones are rejected."""
        self._stopped = True
        self._tasks.put(None)

    def _run(self) -> None:
        try:
            self._token.pop()
        except IndexError:
            return  # a signal handler raised right after the thread was started
        self._thread = threading.current_thread()
        self._ident = threading.get_ident()
        self._running = True
        be_brief(apart=not shares_locks())
        try:
            self._work()
        finally:
            self._running = False
            self._ident = None
            self._token.append(None)

    def _work(self) -> None:
        pid = os.getpid()
        due = time.monotonic() + self._interval
        while True:
            left = due - time.monotonic()
            if left <= 0:  # also when one task follows the other
                self._guarded_tick()
                due = time.monotonic() + self._interval
                continue
            try:
                task = self._tasks.get(timeout=left)
            except Empty:
                continue
            if task is None or os.getpid() != pid:
                return
            task()

    def _guarded_tick(self) -> None:
        try:
            self._tick()
        except Exception as exc:  # noqa: BLE001  an error here must not end the thread
            self._log("spool tick", logging.ERROR, "the spool's thread: %s", describe_exception(exc), loud=True)


def _resolve(future: Future[T], function: Callable[[], T]) -> None:
    try:
        result = function()
    except OSError as exc:
        failed = SpoolFailed(f"the spool cannot be written or read: {exc.strerror or type(exc).__name__}")
        failed.__cause__ = exc
        future.set_exception(failed)
    except BaseException as exc:  # noqa: BLE001  becomes the future's exception
        future.set_exception(exc)
    else:
        future.set_result(result)
