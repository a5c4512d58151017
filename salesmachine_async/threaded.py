"""The agent for programs without an event loop: the same calls, the loop in a thread of its own."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict, TypeVar
from weakref import WeakSet

from salesmachine_async._delivery.loop_thread import LoopThread
from salesmachine_async._log import describe_exception, log_or_stderr, logger
from salesmachine_async.agent import Agent
from salesmachine_async.policy import Batching, Invalid, QueueLimits, Retry, Timeouts
from salesmachine_async.report import Delivery, Loss, LossReason, Report, Stats
from salesmachine_async.tracker import Tracker

if TYPE_CHECKING:
    from typing import Unpack

    from salesmachine_async._delivery.transport import Transport

__all__ = ["Options", "ThreadedAgent", "close_all", "flush_all"]

T = TypeVar("T")

# `Agent.aclose` returns by its deadline and 0.25 s. Beyond this, something (a hook, say) holds the loop itself.
GRACE_SECONDS: Final = 1.0

# All of them: told of a fork.
_agents: WeakSet[ThreadedAgent] = WeakSet()
# Those with a running thread: closed when the interpreter exits. Not weak: what was tracked and then forgotten is
# delivered all the same.
_running: set[ThreadedAgent] = set()
# What forked children keep unused: collecting an event loop may touch the selector, which is the parent's too.
_inherited: list[object] = []


class Options(TypedDict, total=False):
    """The keyword arguments of `Agent`, which describes them."""

    base_url: str | None
    batching: Batching
    queue: QueueLimits
    retry: Retry
    timeouts: Timeouts
    concurrency: int
    on_invalid: Invalid
    params: Mapping[str, Any] | None
    enabled: bool | None
    debug: bool | None
    on_delivered: Callable[[Delivery], None] | None
    on_lost: Callable[[Loss], None] | None
    before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None
    transport: Transport | None


class ThreadedAgent:
    """
    An `Agent` for synchronous programs: scripts, WSGI applications, Celery tasks.

    Its event loop runs in a thread that the first call starts. Use it as ``with ThreadedAgent() as agent:``, or keep
    one for the whole process: when the interpreter exits, it delivers what is left within `Timeouts.close`, or says on
    stderr how much it could not. After a fork the child begins empty and starts a thread of its own. Children of
    multiprocessing and Celery's workers deliver at their end too; another that ends by ``os._exit`` must `close` first.

    Hooks run in that thread. What they raise is logged there, SystemExit too: it would end nothing but the delivery.

    Args:
        token: As of `Agent`.
        secret: As of `Agent`.
        options: As of `Agent`.

    Raises:
        ConfigError: As `Agent`.
    """

    def __init__(self, token: str | None = None, secret: str | None = None, **options: Unpack[Options]) -> None:
        self._agent = Agent(token, secret, **options)
        self._close_seconds = options.get("timeouts", Timeouts()).close
        self._lock = threading.RLock()  # re-entrant: a finaliser may track in the middle of a start
        # Set while its thread runs.
        self._thread: LoopThread | None = None
        # Set once it is closed.
        self._report: Report | None = None
        _agents.add(self)

    def __repr__(self) -> str:
        """Show the live state, as `Agent` does."""
        return repr(self._agent).replace("Agent", "ThreadedAgent", 1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # The calls.

    def contact(
        self,
        contact_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Create or update a contact; see `Agent.contact`."""
        self._need_thread()
        return self._agent.contact(contact_uid, params, created_at=created_at, message_id=message_id)

    def account(
        self,
        account_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Create or update an account; see `Agent.account`."""
        self._need_thread()
        return self._agent.account(account_uid, params, created_at=created_at, message_id=message_id)

    def track(
        self,
        contact_uid: str | int,
        event_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Record an event; see `Agent.track`."""
        self._need_thread()
        return self._agent.track(contact_uid, event_uid, params, created_at=created_at, message_id=message_id)

    def pageview(
        self,
        contact_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Record that a contact loaded a page; see `Agent.pageview`."""
        self._need_thread()
        return self._agent.pageview(contact_uid, params, created_at=created_at, message_id=message_id)

    def alias(self, contact_uid: str | int, alias: str | int, *, message_id: str | None = None) -> bool:
        """Merge two contacts; see `Agent.alias`."""
        self._need_thread()
        return self._agent.alias(contact_uid, alias, message_id=message_id)

    def bind(self, contact_uid: str | int, account_uid: str | int | None = None, **params: Any) -> Tracker:
        """Return the calls for one contact; see `Agent.bind`."""
        return Tracker(self, contact_uid, account_uid, params)

    # Life and waiting.

    def start(self) -> None:
        """
        Start the thread; the first call does it too.

        Raises:
            AgentClosed: It was closed.
        """
        self._begin(self._agent.start).result()

    def flush(self, timeout: float | None = None) -> Report:
        """
        Wait until everything accepted before has an outcome; see `Agent.flush`.

        A hook that holds the thread's event loop does not hold this longer than *timeout* and a second.
        """
        flushing = self._begin(self._agent.flush, timeout)
        return flushing.result() if timeout is None else self._report_within(timeout, flushing)

    def drain(self) -> None:
        """Hold the producer back while the queue is nearly full; see `Agent.drain`."""
        self._begin(self._agent.drain).result()

    def ping(self) -> None:
        """Ask the server whether it is there and accepts the API key; see `Agent.ping`."""
        self._begin(self._agent.ping).result()

    def stats(self) -> Stats:
        """Return a snapshot of all counts; see `Agent.stats`."""
        return self._agent.stats()

    def close(self, timeout: float | None = None) -> Report:
        """
        Refuse further calls, deliver what is left, give up what cannot be delivered in time, and end the thread.

        Args:
            timeout: Seconds to deliver; default: `Timeouts.close`.

        Returns:
            What became of all messages; later calls return the same.

        Raises:
            RuntimeError: It was called by a hook, in the thread it is to end.
        """
        # Asked first: at the interpreter's end there are no more threads to ask the agent in.
        return self._report or self._finish_closing(self._begin_closing(timeout), timeout)

    def _begin_closing(self, timeout: float | None) -> Future[Report]:
        return self._begin(self._agent.aclose, timeout)

    def _finish_closing(self, closing: Future[Report], timeout: float | None) -> Report:
        report = self._report_within(self._close_seconds if timeout is None else timeout, closing)
        with self._lock:
            thread, self._thread = self._thread, None
            # The first one counts: after it nothing happens any more.
            self._report = report = self._report or report
            _running.discard(self)
        if thread is not None:
            thread.stop(GRACE_SECONDS)
        return report

    def _report_within(self, seconds: float, reporting: Future[Report]) -> Report:
        """Wait for a report that the agent gives after at most *seconds*, unless something holds its loop."""
        try:
            return reporting.result(min(max(0.0, seconds) + GRACE_SECONDS, threading.TIMEOUT_MAX))
        except TimeoutError:
            stats = self._agent.stats()
            left = stats.queued + stats.in_flight
            logger.error("the thread of an agent is held by a hook: %d messages are undelivered", left)
            return Report(delivered=stats.delivered, lost=stats.lost, pending=left)

    # The thread.

    def _need_thread(self) -> None:
        """Start the thread, unless it runs, or the agent is closed, or the interpreter is past starting any."""
        if self._thread is None and self._report is None:  # not _needs_thread(): each call of everybody comes here
            try:
                self._start_thread()
            except RuntimeError as exc:
                logger.warning("no thread could be started to deliver messages: %s", exc)

    def _needs_thread(self) -> bool:
        return self._thread is None and self._report is None

    def _start_thread(self) -> None:
        with self._lock:
            if not self._needs_thread():
                return
            thread = LoopThread()
            try:
                # A signal handler may have been here meanwhile; the lock lets it in.
                if self._needs_thread():
                    # Known before the agent starts: a hook that tracks must not start another.
                    self._thread = thread
                    _running.add(self)
                    _call_at_exit()
                    thread.submit(self._agent.start()).result()
            except BaseException:
                if self._thread is thread:
                    self._thread = None
                    _running.discard(self)
                raise
            finally:
                if self._thread is not thread:
                    thread.stop(GRACE_SECONDS)

    def _begin(self, function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> Future[T]:
        """Begin one of the agent's coroutines in the thread; once closed, in another that ends with it."""
        with self._lock:  # so that nobody ends the thread in between
            self._start_thread()
            if self._thread is not None:
                return self._thread.submit(function(*args))
        thread = LoopThread()
        try:
            done = thread.submit(function(*args))
            wait([done])
            return done
        finally:
            thread.stop(GRACE_SECONDS)

    def _after_fork_in_child(self) -> None:
        """Forget the thread: it is the parent's."""
        self._lock = threading.RLock()
        _inherited.append(self._thread)
        self._thread = None


def _call_at_exit() -> None:
    """Have all closed when this process exits. Done per start: a child of multiprocessing forgets its parent's."""
    atexit.unregister(close_all)
    atexit.register(close_all)
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        # Before Python 3.13 its forked children run no atexit callbacks, only these.
        util.Finalize(None, close_all, exitpriority=0)
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        # Its worker processes end by os._exit, right after this.
        signals.worker_process_shutdown.connect(_worker_ends, weak=False, dispatch_uid="salesmachine_async")


def _worker_ends(**_: object) -> None:
    close_all()


def close_all() -> None:
    """Close all agents with a running thread, at the same time, and say on stderr what could not be delivered."""
    left = 0
    for agent, closing in _begin_all(lambda agent: agent._begin_closing(None)):  # pyright: ignore[reportPrivateUsage]
        with _sparing_the_others(agent):
            report = agent._finish_closing(closing, None)  # pyright: ignore[reportPrivateUsage]
            left += report.lost.get(LossReason.CLOSED, 0) + report.pending
    if left:
        warnings.warn(f"{left} messages were not delivered before the process ended", RuntimeWarning, stacklevel=1)


def flush_all(timeout: float) -> None:
    """Wait until all agents with a running thread have delivered what they hold; at most so many seconds."""
    for agent, flushing in _begin_all(
        lambda agent: agent._begin(agent._agent.flush, timeout)  # pyright: ignore[reportPrivateUsage]
    ):
        with _sparing_the_others(agent):
            agent._report_within(timeout, flushing)  # pyright: ignore[reportPrivateUsage]


def _begin_all(begin: Callable[[ThreadedAgent], Future[Report]]) -> list[tuple[ThreadedAgent, Future[Report]]]:
    """Begin something with all agents at the same time."""
    begun: list[tuple[ThreadedAgent, Future[Report]]] = []
    for agent in list(_running):
        with _sparing_the_others(agent):
            begun.append((agent, begin(agent)))
    return begun


@contextmanager
def _sparing_the_others(agent: ThreadedAgent) -> Generator[None]:
    """Tell of an agent that is broken (its event loop has ended, say), and go on with the next."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001
        stats = agent.stats()
        told = "an agent is broken (%s): %d messages are undelivered"
        log_or_stderr(logging.ERROR, told, describe_exception(exc), stats.queued + stats.in_flight)


def _all_after_fork_in_child() -> None:
    _running.clear()
    for agent in list(_agents):
        agent._after_fork_in_child()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_all_after_fork_in_child)
