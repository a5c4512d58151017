"""An agent that runs in a thread; it outlives its handle, so that what a forgotten handle holds is delivered."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from salesmachine_async import _process, _uwsgi
from salesmachine_async._delivery.loop_thread import LoopThread, Pending, run_here
from salesmachine_async._log import RateLimitedLogger, describe_exception, log_or_stderr, monotonic
from salesmachine_async.agent import Agent
from salesmachine_async.errors import AgentClosed
from salesmachine_async.report import LossReason, Report

__all__ = ["Background", "Closing", "close_all", "flush_all"]

T = TypeVar("T")

# `Agent.aclose` returns by its deadline and 0.25 s. Beyond this, something (a hook, say) holds the loop itself.
GRACE_SECONDS: Final = 1.0
# After a thread could not be started, calls do not try again for so many seconds.
RETRY_SECONDS: Final = 1.0

# Agents with a thread, which the exit closes. Not weak references, because the thread of a forgotten agent may still
# be delivering.
_running: Final[set[Background]] = set()
_log: Final = RateLimitedLogger()


class Background:
    """
    Runs one agent in a `LoopThread`.

    No call here holds a lock, and only those that return a result wait for the thread: a call may come from a signal
    handler or a finalizer in the middle of any other.

    Args:
        agent: An agent that is not started.
        close_seconds: The default time of a close.

    Attributes:
        process: The process whose thread runs; 0 while none does. Calls compare it with their own.
        report: Set once closed.
    """

    def __init__(self, agent: Agent, close_seconds: float) -> None:
        self.agent = agent
        self.process = 0
        self.report: Report | None = None
        self.close_seconds = close_seconds
        # By process: a forked child finds none of its own.
        self._threads: dict[int, LoopThread] = {}
        self._retry_at = 0.0
        _process.watch(self, Background._after_fork_in_child)

    def ready(self) -> bool:
        """
        Prepare for a call: notice a fork, and start the thread unless it runs. Neither waits nor raises.

        Returns:
            False if the call must be dropped: the process ends, and nothing would deliver it.
        """
        if not self.agent._enabled:  # pyright: ignore[reportPrivateUsage]
            return True
        _process.check_fork()
        if self.report is not None or _process.after_exit():
            return not _process.after_exit()  # else the agent itself says that it is closed
        if monotonic() >= self._retry_at:
            try:
                if _uwsgi.is_about_to_fork():
                    self._bequeath()
                else:
                    self.thread()
            except Exception as exc:  # noqa: BLE001 (the message is kept; a later call, or the end, tries again)
                self._retry_at = monotonic() + RETRY_SECONDS
                line = "no thread could be started to deliver messages (%s); it will be tried again"
                _log("thread", logging.WARNING, line, exc, loud=True)
        return True

    def thread(self) -> LoopThread:
        """
        Return the thread, started.

        Raises:
            RuntimeError: If the thread cannot be started.
        """
        if _uwsgi.is_about_to_fork():
            raise RuntimeError(
                "uWSGI is about to fork this process, and its workers would hang because of a thread: use the agent in"
                " the workers, or start uWSGI with --py-call-uwsgi-fork-hooks or --lazy-apps"
            )
        _process.check_fork()
        self.agent._inherit()  # pyright: ignore[reportPrivateUsage]
        pid = os.getpid()
        # One atomic step: of two threads that come here at the same time, both get the same.
        thread = self._threads.get(pid) or self._threads.setdefault(pid, LoopThread(self.agent.start))
        _running.add(self)
        _process.prepare_exit()
        thread.start()
        if self.process != pid and _uwsgi.runs_no_threads():
            line = "uWSGI runs no threads, so that messages are not delivered. Start it with --enable-threads"
            _log("uwsgi", logging.ERROR, line, loud=True)
        self.process = pid
        return thread

    def submit(self, function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> Pending[T]:
        """
        Run one of the agent's coroutine functions in the thread.

        Raises:
            AgentClosed: If the agent was closed.
            RuntimeError: The call comes from the thread itself, or no thread can be started.
        """
        if self.report is not None:
            raise AgentClosed("the agent is closed")
        return self.thread().submit(function, *args)

    def flush(self, timeout: float | None) -> Report:
        """Wait for what was accepted before; a hook that holds the loop does not hold this beyond *timeout*."""
        try:
            pending = self.submit(self.agent.flush, timeout)
            return pending.result(None if timeout is None else _number(timeout) + GRACE_SECONDS)
        except TimeoutError:
            return self.held()
        except OSError:  # no event loop can be made: the thread says so, and tries again
            return self.pending_report()

    def begin_close(self, timeout: float | None) -> Closing:
        """Begin to close the agent. Raises RuntimeError in the thread itself."""
        return Closing(self, timeout)

    async def aclose(self, timeout: float | None = None) -> Report:
        """Close the agent in the thread; that finishes also where the caller has stopped to wait for it."""
        return self.finish(await self.agent.aclose(timeout))

    async def _close_forgotten(self) -> Report:
        report = await self.aclose()
        if not _process.after_exit():  # else `close_all` logs it
            _log_kept(report.kept)
        return report

    def finish(self, report: Report) -> Report:
        """Note the report of the close, and let the thread end. The first report counts: nothing happens after it."""
        self.report = report = self.report or report
        thread = self._threads.get(os.getpid())
        if thread is not None:
            thread.stop()
        self.process = 0
        _running.discard(self)
        return report

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended."""
        thread = self._threads.get(os.getpid())
        if thread is not None:
            thread.join(timeout)

    def pending_report(self) -> Report:
        """Return the current counts; messages without an outcome are pending."""
        stats = self.agent.stats()
        return Report(delivered=stats.delivered, lost=stats.lost, pending=stats.queued + stats.in_flight)

    def held(self) -> Report:
        """Log that the event loop does not answer, and return the current counts."""
        report = self.pending_report()
        line = "the thread of an agent does not answer, as if a hook held it: %d messages are undelivered"
        _log("held", logging.ERROR, line, report.pending, loud=True)
        return report

    def leave(self) -> None:
        """Do not wait at the exit again for a thread that has not answered a close in time."""
        _running.discard(self)

    def abandon(self) -> None:
        """Deliver what a handle has left that was collected without a close, and end the thread. Does not wait."""
        if self.report is not None or self.process != os.getpid() or _process.after_exit():
            return
        stats = self.agent.stats()
        left = stats.queued + stats.in_flight
        if left:
            line = "a ThreadedAgent was not closed: its last %d messages are being delivered. Use `with` or `close()`"
            log_or_stderr(logging.WARNING, line, left)
        else:
            log_or_stderr(logging.WARNING, "a ThreadedAgent was not closed. Use `with` or `close()`")
        self.thread().post(self._close_forgotten)
        warnings.warn(f"unclosed ThreadedAgent, {left} messages left", ResourceWarning, stacklevel=3)

    def _bequeath(self) -> None:
        """Leave what is accepted before a fork to one of the processes behind it, at its exit at the latest."""
        self.agent._bequeath()  # pyright: ignore[reportPrivateUsage]
        _running.add(self)
        _process.prepare_exit()

    def _after_fork_in_child(self) -> None:
        """Forget the thread, which is the parent's."""
        _process.keep(self._threads)
        self._threads = {}
        self.process, self._retry_at = 0, 0.0
        if not self.agent.stats().queued:  # else the agent, which was renewed before, has inherited
            _running.discard(self)


class Closing:
    """A close in progress; an agent can have several at the same time."""

    def __init__(self, background: Background, timeout: float | None) -> None:
        self.background = background
        # All deadlines run from here, so that several agents that hang are given up together.
        self._deadline = monotonic() + GRACE_SECONDS + _number(background.close_seconds if timeout is None else timeout)
        self._pending: Pending[Report] | None = None
        self._timeout = timeout
        if background.report is None:
            try:
                self._pending = background.thread().submit(background.aclose, timeout)
            except RuntimeError:
                # A hook must not wait for its own thread; else there is no thread, and `finish` does without one.
                if background.process == os.getpid():
                    raise

    def finish(self) -> Report:
        """Wait for the report, at most until the deadline; a report that comes after it is that of a later close."""
        background = self.background
        try:
            return self._wait()
        except TimeoutError:
            background.leave()
            return background.held()
        except (OSError, RuntimeError) as exc:  # it is tried again by a later close, and at the exit
            if background.report is not None:  # another close has ended the thread in the same instant
                return background.report
            report = background.pending_report()
            line = "an agent could not be closed (%s): %d messages are undelivered"
            _log("close", logging.ERROR, line, exc, report.pending, loud=True)
            return report

    def _wait(self) -> Report:
        if self.background.report is not None:
            return self.background.report
        if self._pending is None:
            return run_here(self.background.aclose, self._timeout)
        return self._pending.result(self._deadline - monotonic())

    def join(self) -> None:
        """Wait until the thread has ended, a little beyond the deadline at most."""
        self.background.join(min(GRACE_SECONDS, self._deadline + GRACE_SECONDS - monotonic()))


def _number(seconds: object) -> float:
    """Return a waiting time; the agent itself raises ConfigError for what is no number."""
    return max(0.0, seconds) if isinstance(seconds, int | float) else 0.0


@_process.at_exit
def close_all() -> None:
    """Close all agents with a thread, at the same time, and say on stderr what could not be delivered."""
    closings: list[Closing] = []
    for background in [*_running]:
        with suppress(RuntimeError):
            closings.append(background.begin_close(None))
    reports = [closing.finish() for closing in closings]
    for closing in closings:
        closing.join()
    _log_kept(sum(report.kept for report in reports))
    left = sum(report.lost.get(LossReason.CLOSED, 0) + report.pending for report in reports)
    if left:
        warnings.warn(f"{left} messages were not delivered before the process ended", RuntimeWarning, stacklevel=1)


def _log_kept(kept: int) -> None:
    if kept:
        log_or_stderr(logging.WARNING, "%d messages wait in the spool for the next process", kept)


def flush_all(timeout: float) -> None:
    """Wait until all agents with a thread have delivered what they hold; at most so many seconds."""
    deadline = monotonic() + timeout + GRACE_SECONDS
    flushing: list[Pending[Report]] = []
    for background in [*_running]:
        with suppress(RuntimeError):
            flushing.append(background.submit(background.agent.flush, timeout))
    for pending in flushing:
        try:
            pending.result(deadline - monotonic())
        except Exception as exc:  # noqa: BLE001 (the next one may be well)
            _log("flush", logging.ERROR, "an agent could not be flushed: %s", describe_exception(exc))
