"""The background: binds an agent's senders to an event loop, wakes them, waits for them, ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from contextvars import Context
from copy import copy
from enum import Enum
from functools import partial
from threading import get_ident
from typing import Final

import anyio

from salesmachine_async._core.accumulator import EVICTED, HIGH_WATER, LOW_WATER, OPENED, SEALED, Accumulator
from salesmachine_async._core.barrier import Barrier
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._delivery.hooks import Hooks, raised_by_callback
from salesmachine_async._delivery.sender import Sender, SenderContext, Traffic, send_guarded
from salesmachine_async._delivery.throttle import Throttle
from salesmachine_async._delivery.transport import Transport
from salesmachine_async._log import RateLimitedLogger, describe_exception
from salesmachine_async.errors import Unauthorized, WrongLoop
from salesmachine_async.policy import Batching, Retry
from salesmachine_async.report import LossReason, Report

__all__ = ["Flusher", "State"]

# A sender that ended by itself is restarted after this; not at once, because a loop that is shutting down cancels all
# tasks and must not find new ones.
RESTART_SECONDS: Final = 0.05
# What senders and connections get to end in, when the deadline of a close has come.
GRACE_SECONDS: Final = 0.1


# The ends of forgotten agents; the event loop itself holds tasks only weakly.
_endings: Final[set[asyncio.Future[None]]] = set()


class State(Enum):
    """Where an agent is in its life."""

    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Flusher:
    """
    Runs the senders of one agent. It knows the agent's rooms but not the agent, so that a forgotten agent is collected.

    Its coroutines belong to the event loop that `start` was called in; `notify` may be called from any thread.

    Args:
        accumulator: Where the messages wait.
        transport: What carries them.
        batching: For the linger.
        retry: For the senders.
        hooks: Who is told of outcomes.
        log: For troubles.

    Attributes:
        state: Where in its life the agent is.
        traffic: What went over the wire.
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
    ) -> None:
        self.state = State.NEW
        self.traffic = Traffic()
        self._accumulator = accumulator
        self._transport = transport
        self._linger = batching.linger
        self._retry = retry
        self._hooks = hooks
        self._log = log
        # Set by `start`, and again when a new loop takes over from a dead one.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._throttle: Throttle | None = None
        self._senders: tuple[Sender, ...] = ()
        self._tasks: dict[Sender, asyncio.Task[None]] = {}
        # Who waits: for a barrier to be settled, for the queue to fall to the low-water mark.
        self._flushes: dict[Barrier, asyncio.Event] = {}
        self._drained: asyncio.Event | None = None
        # The end, once begun; shared by all who call `aclose`.
        self._closing: asyncio.Task[Report] | None = None
        self._deadline = float("inf")
        # While it drains: brought forward by an `aclose` with an earlier deadline.
        self._draining: asyncio.Timeout | None = None

    @property
    def paused(self) -> bool:
        """Whether something holds sending back: the throttle, or a sender that is parked."""
        return (self._throttle is not None and self._throttle.left > 0) or any(
            sender.parked for sender in self._senders
        )

    @property
    def condition(self) -> str:
        """The state in a word, for people: also what holds an open agent back."""
        if self.state is State.OPEN and self.paused:
            return "parked" if any(sender.parked for sender in self._senders) else "paused"
        return self.state.value

    def start(self) -> None:
        """
        Bind to the running event loop and begin to deliver. Does nothing if that is done, or if closed.

        Raises:
            WrongLoop: It is bound to another loop, which is running.
        """
        loop = asyncio.get_running_loop()
        if self.state is State.CLOSED or (self._loop is loop and self._tasks):
            return
        self._check_loop(loop)
        for sender in self._senders:
            sender.retire()  # of a loop that is no more, or does not run
        self._tasks.clear()
        self._flushes.clear()
        self._drained = None
        self._loop, self._thread = loop, get_ident()
        self._throttle = Throttle(loop.time)
        around = SenderContext(
            accumulator=self._accumulator,
            transport=self._transport,
            throttle=self._throttle,
            retry=self._retry,
            hooks=self._hooks,
            traffic=self.traffic,
            log=self._log,
            clock=loop.time,
            on_progress=self._progress,
        )
        self._senders = tuple(Sender(partition, around) for partition in self._accumulator.partitions)
        for sender in self._senders:
            self._spawn(sender)
            # What was tracked before has waited long enough.
            self._accumulator.seal_open(sender.partition)
        if self.state is State.NEW:
            self.state = State.OPEN

    def notify(self, partition: Partition, flags: int) -> None:
        """Tell the loop what a call has brought about. Safe in any thread; never raises."""
        loop = self._loop
        if loop is None:
            return  # `start` will look at everything
        # Without a current task this may be a signal handler in the middle of the loop's sleep, which nothing but a
        # wake-up ends.
        if get_ident() == self._thread and asyncio.current_task(loop) is not None:
            self._notified(loop, partition.index, flags)
        else:
            with suppress(RuntimeError):  # the loop was closed; what waits, waits for another
                loop.call_soon_threadsafe(self._notified, loop, partition.index, flags)

    async def flush(self, timeout: float | None) -> Report:
        """Wait until everything accepted so far has its outcome, or is parked, or *timeout* seconds have passed."""
        barrier = self._accumulator.barrier()
        try:
            if not barrier.settled():
                self.start()
                self._wake_all()
                if timeout is not None:
                    for sender in self._senders:
                        sender.hurry()
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await self._settled(barrier)
            return barrier.report()
        finally:
            self._release(barrier)

    async def drain(self) -> None:
        """Wait, above the high-water mark, for the low one."""
        if self._accumulator.fill() < HIGH_WATER or self.state is State.CLOSED:
            return
        self.start()
        for sender in self._senders:
            self._accumulator.seal_open(sender.partition)
        self._wake_all()
        if self._drained is None:
            self._drained = asyncio.Event()
        await self._drained.wait()

    async def aclose(self, timeout: float) -> Report:
        """
        Deliver what can be delivered in *timeout* seconds, give up the rest, and end.

        Cancelled meanwhile, it still ends like that, and then raises the cancellation.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            self.start()  # takes over from a loop that is no more
        self._accumulator.close()
        deadline = loop.time() + timeout
        closing = self._closing
        if closing is None or closing.cancelled() or (closing.get_loop() is not loop and not closing.done()):
            closing = self._begin_close(loop, deadline)
        elif deadline < self._deadline:
            self._deadline = deadline
            if self._draining is not None and not self._draining.expired():
                self._draining.reschedule(deadline)
                self._progress()
        caller = asyncio.current_task()
        cancellation: asyncio.CancelledError | None = None
        # The scope keeps out the cancellations of anyio, which come again and again; asyncio's come once and are kept.
        with anyio.CancelScope(shield=True):
            while not closing.done():
                try:
                    await asyncio.shield(closing)
                except asyncio.CancelledError as exc:
                    if caller is not None and caller.cancelling():
                        cancellation = exc
                if closing.cancelled():
                    # Before its first step, by somebody who cancels all tasks (`asyncio.run` does at its end).
                    closing = self._begin_close(loop, deadline)
        if cancellation is not None:
            raise cancellation
        return closing.result()

    def _begin_close(self, loop: asyncio.AbstractEventLoop, deadline: float) -> asyncio.Task[Report]:
        barrier = self._accumulator.barrier()
        if not barrier.settled():
            self.start()
        self._deadline = deadline
        closing = self._closing = loop.create_task(self._close(barrier), name="salesmachine-close")
        return closing

    async def ping(self) -> None:
        """Send a ping now, past the senders; raises what went wrong."""
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
            # A copy: raising hangs a traceback on it, and `Stats.last_error` must not hold frames.
            raise copy(outcome.error)

    def orphan(self) -> None:
        """End the tasks of an agent that is gone. Safe in any thread, and when the loop is gone too."""
        self.state = State.CLOSED
        if self._loop is not None:
            with suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(self._end_orphaned)

    def _check_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None and self._loop is not loop and self._loop.is_running():
            raise WrongLoop("the agent is running in another event loop")

    async def _ping_once(self) -> Outcome:
        self.traffic.requests += 1
        outcome = await send_guarded(self._transport, Batch.ping(), self._log)
        self.traffic.last_error = outcome.error
        return outcome

    def _end_orphaned(self) -> None:
        ending = asyncio.ensure_future(self._end_alone())
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)

    async def _end_alone(self) -> None:
        await self._end_senders()
        await self._end_transport()

    # In the loop's thread.

    def _spawn(self, sender: Sender) -> None:
        task = asyncio.get_running_loop().create_task(
            sender.run(),
            name=f"salesmachine-sender-{sender.partition.index}",
            # Of its own: started within a request, it would keep that request's trace and context for ever.
            context=Context(),
        )
        self._tasks[sender] = task
        task.add_done_callback(partial(self._sender_ended, sender))

    def _sender_ended(self, sender: Sender, task: asyncio.Task[None]) -> None:
        """Start a sender again that has ended by itself or by somebody else's hand."""
        exc = None if task.cancelled() else task.exception()
        if self.state not in (State.OPEN, State.CLOSING) or self._tasks.get(sender) is not task:
            return
        why = "was cancelled from outside" if exc is None else f"failed: {describe_exception(exc)}"
        self._log("sender", logging.ERROR, "a delivery task %s; nothing is lost, it will be started again", why)
        task.get_loop().call_later(RESTART_SECONDS, self._restart, sender, task)

    def _restart(self, sender: Sender, task: asyncio.Task[None]) -> None:
        if self.state in (State.OPEN, State.CLOSING) and self._tasks.get(sender) is task:
            self._spawn(sender)

    def _notified(self, loop: asyncio.AbstractEventLoop, index: int, flags: int) -> None:
        if loop is not self._loop:
            return  # meant for senders of a loop that is no more
        if flags & EVICTED:
            self._wake_all()  # displacing may have sealed the open batch of any sender
            self._progress()  # and is an outcome
        sender = self._senders[index]
        if flags & OPENED:
            sender.linger_due = loop.time() + self._linger
            # One timer per sender: a batch that is full before its time leaves it armed for the next.
            if sender.linger_timer is None:
                sender.linger_timer = loop.call_at(sender.linger_due, self._linger_over, loop, sender)
        if flags & SEALED:
            sender.sealed.set()

    def _linger_over(self, loop: asyncio.AbstractEventLoop, sender: Sender) -> None:
        sender.linger_timer = None
        if sender.linger_due > loop.time():
            sender.linger_timer = loop.call_at(sender.linger_due, self._linger_over, loop, sender)
        else:
            self._accumulator.seal_open(sender.partition)
            # Also for what was sealed by a call that a signal handler broke off before it could tell.
            sender.sealed.set()

    def _wake_all(self) -> None:
        for sender in self._senders:
            sender.sealed.set()

    def _progress(self) -> None:
        """Wake those whose waiting is over."""
        if self._flushes:
            stuck = self._stuck_senders()
            for barrier, settled in self._flushes.items():
                if barrier.settled(stuck):
                    settled.set()
        if self._drained is not None and self._accumulator.fill() <= LOW_WATER:
            self._drained.set()
            self._drained = None

    def _stuck_senders(self) -> Collection[int]:
        """Return the senders not worth waiting for: parked, or, when closing, paused beyond the deadline."""
        return {
            sender.partition.index
            for sender in self._senders
            if sender.parked or (self._hopeless and not sender.sending)
        }

    @property
    def _hopeless(self) -> bool:
        return self._throttle is not None and self._throttle.until > self._deadline

    async def _settled(self, barrier: Barrier) -> None:
        while not barrier.settled(self._stuck_senders()):
            event = self._flushes.setdefault(barrier, asyncio.Event())
            event.clear()
            await event.wait()

    def _release(self, barrier: Barrier) -> None:
        if self._accumulator.release(barrier):
            self._flushes.pop(barrier, None)

    async def _close(self, barrier: Barrier) -> Report:
        """Drain until the deadline, then end all. Cancelling it only brings the end nearer."""
        self.state = State.CLOSING
        self._wake_all()
        for sender in self._senders:
            sender.hurry_now()
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout_at(self._deadline) as self._draining:
                await self._settled(barrier)
        self._draining = None
        self.state = State.CLOSED  # before anything is awaited: a flush meanwhile must not start senders again
        await self._end_senders()
        # Displaced by a call that a signal handler broke off before it could tell.
        self._hooks.lost(LossReason.QUEUE_FULL, None, self._accumulator.take_evicted())
        abandoned = self._accumulator.abandon(LossReason.CLOSED)
        self._progress()
        self._hooks.lost(LossReason.CLOSED, self.traffic.last_error, abandoned)
        await self._end_transport()
        self._release(barrier)
        return barrier.report()

    async def _end_senders(self) -> None:
        tasks, self._tasks = tuple(self._tasks.values()), {}
        for sender in self._senders:
            sender.cancel_timers()
        for task in tasks:
            task.cancel()
        if tasks:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        for sender in self._senders:
            sender.retire()  # of a transport that does not let itself be cancelled

    async def _end_transport(self) -> None:
        try:
            ending = asyncio.ensure_future(self._transport.aclose())
        except BaseException as exc:  # a carrier may be the user's
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
