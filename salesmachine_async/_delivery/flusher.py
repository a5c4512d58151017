"""The background: binds an agent's senders to an event loop, wakes them, waits for them, ends them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import Context
from copy import copy
from functools import partial
from threading import get_ident
from typing import Final

import anyio

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.barrier import Barrier
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async._core.receipt import RejectedLine
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._delivery.hooks import Hooks, raised_by_callback
from salesmachine_async._delivery.sender import Sender, set_again
from salesmachine_async._delivery.sender_context import SenderContext, Traffic
from salesmachine_async._delivery.spool_feed import SpoolFeed
from salesmachine_async._delivery.throttle import Throttle
from salesmachine_async._delivery.transport import Transport, send_guarded
from salesmachine_async._log import RateLimitedLogger, describe_exception
from salesmachine_async._spool.spooler import Spooler
from salesmachine_async.errors import DeliveryError, Unauthorized, WrongLoop
from salesmachine_async.policy import Batching, QueueLimits, Retry, Spool
from salesmachine_async.report import LossReason, Report, State

__all__ = ["Flusher"]

HIGH_WATER: Final = 0.8
LOW_WATER: Final = 0.5
# A sender that ended by itself is restarted after this many seconds; not at once, because a loop that is shutting down
# cancels all tasks and must not find new ones.
RESTART_SECONDS: Final = 0.05
# Grace period of senders and connections after the deadline of a close.
GRACE_SECONDS: Final = 0.1
# The part of the time of a close that is the disk's, and its maximum: what was not delivered is written then.
DISK_SHARE: Final = 0.2
DISK_SECONDS: Final = 1.0

# The ends of forgotten agents, because the event loop itself holds tasks only weakly.
_endings: Final[set[asyncio.Future[None]]] = set()


class Flusher:
    """
    Runs the senders of one agent. It does not know the agent, so that a forgotten agent can be collected.

    Its coroutines belong to the event loop that `start` was called in; `wake` may be called from any thread.

    Each coroutine begins with one turn of the loop. With an eager task factory a signal handler may begin it in the
    middle of another step of the loop's thread, and these steps must not run within each other.

    Args:
        accumulator: The queue.
        transport: Carries the batches.
        batching: For the linger.
        retry: For the senders.
        hooks: Called with outcomes.
        log: For failures.
        spool: The spool, its policy, and the bounds of the queue; None: without one. The last partition of the
            accumulator is then for what dead processes left.

    Attributes:
        stage: `State.NEW`, `OPEN`, `CLOSING` or `CLOSED`; `state` also says whether sending is paused or parked.
        traffic: Counts of what went over the wire.
    """

    def __init__(
        self,
        accumulator: Accumulator,
        transport: Transport,
        *,
        batching: Batching,
        retry: Retry,
        hooks: Hooks,
        log: RateLimitedLogger,
        spool: tuple[Spooler, Spool, QueueLimits] | None = None,
    ) -> None:
        self.stage = State.NEW
        self.traffic = Traffic()
        self._accumulator = accumulator
        self._transport = transport
        self._linger = batching.linger
        self._retry = retry
        self._hooks = hooks
        self._log = log
        self._spooler = spool[0] if spool else None
        self._feed: SpoolFeed | None = None
        if spool is not None:
            self._feed = SpoolFeed(
                accumulator,
                *spool[:2],
                batching=batching,
                limits=spool[2],
                log=log,
                on_displaced=self._report_displaced,
                on_progress=self._progress,
                on_released=self._release,
            )
        # Set by `start`, and again when a new loop takes over from one that has ended.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._throttle: Throttle | None = None
        self._senders: tuple[Sender, ...] = ()
        self._tasks: dict[Sender, asyncio.Task[None]] = {}
        # Those that wait: for a barrier to be passed, for the queue to fall to the low-water mark.
        self._flushes: dict[asyncio.Event, Barrier] = {}
        self._drained: asyncio.Event | None = None
        # The end, once it has begun; shared by all calls of `aclose`.
        self._closing: asyncio.Task[Report] | None = None
        self._deadline = float("inf")
        # While the end drains: brought forward by an `aclose` with an earlier deadline.
        self._draining: asyncio.Timeout | None = None

    @property
    def state(self) -> State:
        """The stage, and for an open agent whether something holds sending back."""
        if self.stage is State.OPEN:
            if any(sender.parked for sender in self._senders):
                return State.PARKED
            if self._throttle is not None and self._throttle.left > 0:
                return State.PAUSED
        return self.stage

    def start(self) -> None:
        """
        Bind to the running event loop and begin to deliver. Does nothing if that is done, or if closed.

        Raises:
            WrongLoop: If the agent is bound to another loop, which is running.
        """
        loop = asyncio.get_running_loop()
        if self.stage is State.CLOSED:
            return
        if self._loop is not loop:
            self._check_loop(loop)
            self._bind(loop)
        feed = self._feed
        if feed is not None and not feed.is_running():
            feed.start()
        for sender in self._senders:
            task = self._tasks.get(sender)
            if task is None or task.done():  # at the start, or after an interruption
                if feed is None or feed.delivers:
                    self._spawn(sender)
                sender.end_linger()  # what was tracked before the start has waited long enough
        if self.stage is State.NEW:
            self.stage = State.OPEN

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the senders of *loop*; those of a loop that has ended are stopped."""
        for sender in self._senders:
            sender.stop()
        self._tasks.clear()
        self._flushes.clear()
        self._drained = None
        self._throttle = Throttle(loop.time)
        context = SenderContext(
            accumulator=self._accumulator,
            transport=self._transport,
            throttle=self._throttle,
            retry=self._retry,
            hooks=self._hooks,
            traffic=self.traffic,
            log=self._log,
            clock=loop.time,
            linger=self._linger,
            on_progress=self._progress,
            on_displaced=self._report_displaced,
            on_rejected=self._keep_rejected,
        )
        self._senders = tuple(Sender(partition, context) for partition in self._accumulator.partitions)
        if self._feed is not None:
            self._feed.stop()
            for sender in self._senders[:-1]:
                sender.held = self._feed.recovers
        self._accumulator.wake = _waker(loop, self._senders)
        self._loop = loop  # last: an interrupted call has not bound it

    async def flush(self, timeout: float | None) -> Report:
        """Wait until everything accepted so far has its outcome, or is parked, or *timeout* seconds have passed."""
        await asyncio.sleep(0)  # see the class
        if self._accumulator.fill() > 0:
            self.start()
        with self._following() as (barrier, progress):
            if timeout is not None:
                until = asyncio.get_running_loop().time() + timeout
                for sender in self._senders:
                    sender.expedite(until)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._passed(barrier, progress)
            return self._accumulator.report(barrier)

    async def drain(self) -> None:
        """Wait, above the high-water mark, for the low one."""
        if self._accumulator.fill() < HIGH_WATER or self.stage is State.CLOSED:
            return
        await asyncio.sleep(0)  # see the class
        self.start()
        for sender in self._senders:
            sender.end_linger()
        if self._drained is None:
            self._drained = asyncio.Event()
        drained = self._drained
        self._progress()  # with an eager task factory, all may have been delivered by now
        await drained.wait()

    async def aclose(self, timeout: float) -> Report:
        """
        Deliver what can be delivered in *timeout* seconds, give up the rest, and end.

        When it is cancelled, it still ends like that, and then raises the cancellation.
        """
        loop = asyncio.get_running_loop()
        if self.stage is not State.CLOSED:
            self._check_loop(loop)
        self._accumulator.close()
        if self.stage is not State.CLOSED:
            self.stage = State.CLOSING
        deadline = loop.time() + timeout
        closing = self._closing
        if closing is None or _has_failed(closing) or (closing.get_loop() is not loop and not closing.done()):
            closing = self._begin_close(loop, deadline)
        elif deadline < self._deadline:
            self._deadline = deadline
            loop.call_soon(self._bring_forward)
        return await self._closed(closing)

    def _bring_forward(self) -> None:
        """Let the end wait no longer than until the deadline, which is an earlier one now."""
        if self._draining is not None and not self._draining.expired():
            self._draining.reschedule(self._deadline - self._for_the_disk())
        self._progress()

    async def _closed(self, closing: asyncio.Task[Report]) -> Report:
        """Wait for the end, whatever is cancelled; the cancellation of the caller is raised afterwards."""
        caller = asyncio.current_task()
        cancellation: asyncio.CancelledError | None = None
        # The scope keeps out the cancellations of anyio, which are delivered again and again; those of asyncio are
        # delivered once, and are kept.
        with anyio.CancelScope(shield=True):
            while not closing.done():
                try:
                    await asyncio.shield(closing)
                except asyncio.CancelledError as exc:
                    if caller is not None and caller.cancelling():
                        cancellation = exc
                if closing.cancelled():
                    # Before its first step, as `asyncio.run` cancels all tasks at its end.
                    closing = self._begin_close(closing.get_loop(), self._deadline)
        if cancellation is not None:
            raise cancellation
        return closing.result()

    async def ping(self) -> None:
        """Send a ping now, past the senders; raises the failure."""
        self._check_loop(asyncio.get_running_loop())
        outcome = await self._ping_once()
        if outcome.verdict is Verdict.STALE:
            outcome = await self._ping_once()
        if outcome.error is not None and outcome.status == 400:
            # Ping carries no message that could be wrong; the documents give 400 for a wrong or missing key.
            raise Unauthorized(
                "the server answered 400 to ping: check the API token and secret",
                status=400,
                server_message=outcome.error.server_message,
            )
        if outcome.error is not None:
            # A copy, because raising attaches a traceback, and `Stats.last_error` must not keep frames alive.
            raise copy(outcome.error)

    def abandon(self) -> None:
        """End the tasks of an agent that was collected. Safe in any thread, and after the loop has ended."""
        self.stage = State.CLOSED
        if self._loop is not None:
            with suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(self._end_abandoned)

    def has_ended(self) -> bool:
        """Return whether the event loop that it was bound to is closed."""
        return self._loop is not None and self._loop.is_closed()

    def leave_to_parent(self) -> None:
        """In a forked child: send nothing more, because the parent sends it."""
        self.stage = State.CLOSED
        for sender in self._senders:
            sender.leave_to_parent()

    def _check_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None and self._loop is not loop and self._loop.is_running():
            raise WrongLoop("the agent is running in another event loop")

    async def _ping_once(self) -> Outcome:
        self.traffic.requests += 1
        outcome = await send_guarded(self._transport, Batch.ping(), self._log)
        self.traffic.last_error = outcome.error
        return outcome

    def _end_abandoned(self) -> None:
        ending = asyncio.ensure_future(self._end_senders_and_transport())
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)

    async def _end_senders_and_transport(self) -> None:
        if self._feed is not None:
            self._feed.stop()
        await self._end_senders()
        await self._end_transport()

    # In the loop's thread.

    def _spawn(self, sender: Sender) -> None:
        # In a context of its own, or a task started within a request would keep that request's context. The context is
        # entered, not passed on, because task factories of old have no parameter for it.
        loop = asyncio.get_running_loop()
        task = Context().run(loop.create_task, sender.run())
        task.set_name(f"salesmachine-sender-{sender.partition.index}")
        self._tasks[sender] = task
        task.add_done_callback(partial(self._sender_ended, sender))

    def _sender_ended(self, sender: Sender, task: asyncio.Task[None]) -> None:
        """Restart a sender whose task failed, or was cancelled from outside."""
        exc = None if task.cancelled() else task.exception()
        if self.stage not in (State.OPEN, State.CLOSING) or sender not in self._tasks:
            return
        why = "was cancelled from outside" if exc is None else f"failed: {describe_exception(exc)}"
        self._log("sender", logging.ERROR, "a delivery task %s; it is restarted, and nothing is lost", why)
        task.get_loop().call_later(RESTART_SECONDS, self._restart, sender, task)

    def _restart(self, sender: Sender, task: asyncio.Task[None]) -> None:
        if self.stage in (State.OPEN, State.CLOSING) and self._tasks.get(sender) is task:
            self._spawn(sender)
            sender.look()
            # It may have ended between an outcome and the reports of it.
            self._accumulator.answer_receipts()
            self._progress()

    @contextmanager
    def _following(self) -> Generator[tuple[Barrier, asyncio.Event]]:
        """Draw a barrier; yield it, and what is set when there is no more to wait for."""
        for partition in self._accumulator.partitions:
            self._accumulator.wake(partition)  # first, so that what is sealed is sent, even if this is interrupted
        barrier, progress = self._accumulator.barrier(), asyncio.Event()
        self._flushes[progress] = barrier
        try:
            yield barrier, progress
        finally:
            self._flushes.pop(progress, None)

    async def _passed(self, barrier: Barrier, progress: asyncio.Event) -> None:
        while not self._is_over(barrier):
            progress.clear()
            await progress.wait()

    def _release(self) -> None:
        """Let the senders send that were held back."""
        for sender in self._senders:
            sender.held = False
            sender.wake()

    def _keep_rejected(self, batch: Batch, error: DeliveryError | None) -> None:
        if self._spooler is not None:
            self._spooler.reject([RejectedLine(line, error) for line in batch.lines()])

    def _progress(self) -> None:
        """Wake those whose waiting is over."""
        if self._feed is not None:
            self._feed.settled()
        for progress, barrier in tuple(self._flushes.items()):
            if self._is_over(barrier):
                set_again(progress)
        if self._drained is not None and self._accumulator.fill() <= LOW_WATER:
            set_again(self._drained)
            self._drained = None

    def _is_over(self, barrier: Barrier) -> bool:
        """Return whether everything before *barrier* has an outcome, or is not worth waiting for."""
        return all(
            self._accumulator.passed(barrier, partition) or self._is_stuck(partition.index)
            for partition in self._accumulator.partitions
        )

    def _is_stuck(self, index: int) -> bool:
        """Return whether a partition is parked, or paused beyond the deadline of a close."""
        if not self._senders or self._throttle is None:
            return False
        sender = self._senders[index]
        return sender.parked or (self._throttle.required_until > self._deadline and not sender.sending)

    def _report_displaced(self) -> None:
        """Call the hook with what was displaced or abandoned."""
        for reason in dict.fromkeys(reason for reason, _ in self._accumulator.displaced):
            self._report_lost(reason)
        for sender in self._senders:
            sender.wake()  # to make room, the open batch of any partition may have been sealed
        self._progress()

    def _report_lost(self, reason: LossReason) -> None:
        """Call the hook with what was displaced or abandoned for *reason*."""
        displaced = self._accumulator.displaced
        batches = [batch for each, batch in displaced if each is reason]
        self._accumulator.reporting_thread = get_ident()
        try:
            error = self.traffic.last_error if reason is LossReason.CLOSED else None
            self._hooks.lost(reason, error, batches)
            # Last: rather twice than never, should a signal handler raise in the middle.
            self._accumulator.displaced = deque(entry for entry in displaced if entry[0] is not reason)
        finally:
            self._accumulator.reporting_thread = 0

    # The end.

    def _begin_close(self, loop: asyncio.AbstractEventLoop, deadline: float) -> asyncio.Task[Report]:
        self._deadline = deadline
        closing = self._closing = loop.create_task(self._close())
        closing.set_name("salesmachine-close")
        return closing

    async def _close(self) -> Report:
        """Drain until the deadline, then end all. Cancelling it only brings the end nearer."""
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # see the class
        if self._accumulator.fill() > 0 or self._loop is not None:
            self.start()  # also to take over from a loop that has ended
        with self._following() as (barrier, progress):
            for sender in self._senders:
                sender.expedite(self._deadline, at_once=True)
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout_at(self._deadline - self._for_the_disk()) as self._draining:
                    if self.stage is not State.CLOSED:  # else an end before this one was interrupted
                        await self._passed(barrier, progress)
            self._draining = None
            self.stage = State.CLOSED  # before the next wait: a flush during it must not start senders again
            await self._end_senders()
            if self._feed is not None:
                left = self._deadline - asyncio.get_running_loop().time()
                await self._feed.close(max(GRACE_SECONDS, left))
            self._accumulator.abandon(LossReason.CLOSED)
            self._report_displaced()
            await self._end_transport()
            return self._accumulator.report(barrier)

    def _for_the_disk(self) -> float:
        """Return how many of the seconds that are left belong to the disk."""
        if self._feed is None:
            return 0.0
        return min(DISK_SECONDS, DISK_SHARE * max(0.0, self._deadline - asyncio.get_running_loop().time()))

    async def _end_senders(self) -> None:
        tasks, self._tasks = tuple(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        if tasks:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        for sender in self._senders:
            sender.stop()  # for a transport that does not let itself be cancelled

    async def _end_transport(self) -> None:
        try:
            ending = asyncio.ensure_future(self._transport.aclose())
        except BaseException as exc:  # a transport may be the user's
            if not raised_by_callback(exc):
                raise
            self._log("transport", logging.ERROR, "the transport raised %s while closing", describe_exception(exc))
            return
        with suppress(asyncio.CancelledError):
            await asyncio.wait({ending}, timeout=GRACE_SECONDS)
        if not ending.done():
            ending.cancel()
        elif not ending.cancelled() and (failure := ending.exception()) is not None:
            self._log("transport", logging.ERROR, "the transport raised %s while closing", describe_exception(failure))


def _has_failed(closing: asyncio.Task[Report]) -> bool:
    """Return whether the end was cancelled before its first step, or interrupted by a signal handler that raised."""
    return closing.cancelled() or (closing.done() and closing.exception() is not None)


def _waker(loop: asyncio.AbstractEventLoop, senders: tuple[Sender, ...]) -> Callable[[Partition], None]:
    """Return a function for any thread that has *loop*, which runs in this one, look at a partition."""
    thread = get_ident()

    def wake(partition: Partition) -> None:
        sender = senders[partition.index]
        looks = sender.looks
        try:
            # Within a task of the loop, `call_soon` does. Without one this may be a signal handler in the middle of
            # the loop's sleep, which only a byte on the loop's own socket ends.
            in_task = get_ident() == thread and asyncio.current_task(loop) is not None
            schedule = loop.call_soon if in_task else loop.call_soon_threadsafe
            # Two callbacks, because a signal handler may raise before the first statement of `look`.
            schedule(sender.look, context=Context())
            schedule(sender.look_if_missed, looks, context=Context())
        except RuntimeError:
            if not loop.is_closed():  # else what waits is for another loop
                raise

    return wake
