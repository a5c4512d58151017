"""One ordered partition of batches: take, send, decide, do, report."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._core.retry import (
    AskPing,
    Decision,
    Deliver,
    GiveUp,
    Park,
    Pause,
    RetryNow,
    RetryState,
    Split,
    Wait,
    decide,
)
from salesmachine_async._delivery.hooks import Hooks, raised_by_callback
from salesmachine_async._delivery.throttle import Throttle
from salesmachine_async._delivery.transport import Transport
from salesmachine_async._http.backoff import Backoff
from salesmachine_async._log import RateLimitedLogger, describe_exception
from salesmachine_async.errors import ConnectionFailed, DeliveryError
from salesmachine_async.policy import Retry
from salesmachine_async.report import LossReason

# Seconds after which an outage is told even where logging is not configured.
LONG_OUTAGE: Final = 30.0

# Seconds by which an event loop may call back early.
TICK: Final = 0.001

__all__ = ["Sender", "SenderContext", "Traffic", "send_guarded"]


@dataclass(slots=True)
class Traffic:
    """What went over the wire; the names are those of `Stats`."""

    requests: int = 0
    retries: int = 0
    bytes_sent: int = 0
    last_error: DeliveryError | None = None


@dataclass(frozen=True, slots=True)
class SenderContext:
    """
    What all senders of an agent share.

    Attributes:
        accumulator: Where the messages wait.
        transport: What carries them.
        throttle: The pause shared by all senders.
        retry: The policy.
        hooks: Who is told.
        traffic: What is counted.
        log: For troubles.
        clock: The event loop's time in seconds.
        linger: Seconds that an open batch waits for more messages.
        on_progress: Called when a batch is settled or what a sender waits for changes.
        on_displaced: Called when messages were displaced.
    """

    accumulator: Accumulator
    transport: Transport
    throttle: Throttle
    retry: Retry
    hooks: Hooks
    traffic: Traffic
    log: RateLimitedLogger
    clock: Callable[[], float]
    linger: float
    on_progress: Callable[[], None]
    on_displaced: Callable[[], None]


class Sender:
    """
    Delivers the batches of one partition, strictly one after the other.

    Attributes:
        partition: Its queue.
        parked: Whether it keeps everything and only probes, because the server refuses for a reason that lies in no
            message.
        sending: Whether a request is under way.
        looks: Number of looks that have begun.
    """

    def __init__(self, partition: Partition, around: SenderContext) -> None:
        self.partition = partition
        self.parked = False
        self.sending = False
        self.looks = 0
        # Set by callbacks of the loop alone: a signal handler may run in the middle of its `wait`.
        self._ready = asyncio.Event()
        # Runs while a batch is open and not due, perhaps for longer.
        self._linger_timer: asyncio.TimerHandle | None = None
        self._linger_spare: asyncio.TimerHandle | None = None
        self._linger_due = 0.0
        self._linger_over = False
        self._around = around
        # In flight; None once it has its outcome, or went back.
        self._batch: Batch | None = None
        self._stopped = False
        # That of the task that may take batches. An interrupted start may have left another task.
        self._run = object()
        self._hurry = asyncio.Event()
        self._hurry_timer: asyncio.TimerHandle | None = None
        self._last_attempt = float("-inf")
        self._backoff = Backoff(around.retry)

    async def run(self) -> None:
        """Deliver until cancelled. What is in flight then returns to the front of the queue."""
        self.recover()  # what a task before this one may have left, interrupted at its end
        run = self._run = object()
        try:
            while self._run is run and not self._stopped:
                self._ready.clear()  # before the look, so that what becomes ready after it is not missed
                self._batch = self._around.accumulator.take(self.partition)
                if self._batch is None:
                    await self._ready.wait()
                else:
                    await self._deliver(self._batch)
        finally:
            if self._run is run:
                self.recover()

    def look(self) -> None:
        """Collect what calls have appended, and see what is to be done. Runs as a callback of the event loop."""
        if self._stopped:
            return
        try:
            self._look()
        except BaseException:
            # A signal handler raised in the middle. Calls may have been quietened, so look again.
            asyncio.get_running_loop().call_soon(self.look)
            raise

    def look_if_missed(self, looks: int) -> None:
        """Look, unless a look has begun since there were so many: a signal handler raised before `look` began."""
        if self.looks == looks:
            self.look()

    def wake(self) -> None:
        """Let the task run if there is something to take; else it is, once the linger is over."""
        if self.partition.lines and not self.partition.due and not self._linger_runs():
            self._start_linger_timer()
        if self.partition.sealed or self.partition.due:
            self._ready.set()

    def end_linger(self) -> None:
        """Let everything that was accepted before be sent now, before its batch is full."""
        self._linger_over = True
        self.look()

    def recover(self) -> None:
        """Return the batch in flight to the queue, because this sender no longer works on it."""
        self._batch = None
        self.sending = False
        batch = self.partition.in_flight
        if batch is not None and not self._stopped:
            self._around.accumulator.put_back(batch)

    def stop(self) -> None:
        """Recover, cancel the timers and take no other batch, should the task live on."""
        self.recover()
        self._stopped = True
        for timer in (self._linger_timer, self._linger_spare, self._hurry_timer):
            if timer is not None:
                timer.cancel()
        with suppress(RuntimeError):  # its loop is closed
            self._ready.set()

    def hurry(self) -> None:
        """Barrier a backoff short, but keep the distance of a first backoff from the last attempt."""
        if self._hurry_timer is None:
            soonest = self._last_attempt + self._around.retry.wait_initial
            self._hurry_timer = asyncio.get_running_loop().call_at(soonest, self._hurry_up)

    def hurry_now(self) -> None:
        """Barrier a backoff short and begin a fresh one: there is little time left."""
        self._backoff = Backoff(self._around.retry)
        self._hurry.set()

    def _look(self) -> None:
        around, partition = self._around, self.partition
        self.looks += 1
        if around.accumulator.collect(partition):
            self._linger_due = around.clock() + around.linger
        if self._linger_over:
            partition.due = bool(partition.lines)
            self._linger_over = False
        self.wake()
        if partition.lines:
            around.accumulator.quieten(partition)
        around.accumulator.displace()
        if around.accumulator.displaced:  # by this look or by one that was interrupted
            around.on_displaced()

    def _linger_runs(self) -> bool:
        # The event loop may call back a little early, and the timer has then run out.
        return self._linger_timer is not None and self._linger_timer.when() > self._around.clock() + TICK

    def _start_linger_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._linger_timer = loop.call_at(self._linger_due, self._linger_timed_out)
        # Twice, because a signal handler may raise before the first statement of the callback.
        self._linger_spare = loop.call_at(self._linger_due, self._linger_timed_out)

    def _linger_timed_out(self) -> None:
        if self._stopped or not self.partition.lines or self.partition.due or self._linger_runs():
            return
        if self._linger_due > self._around.clock():
            self._start_linger_timer()  # the batch for which it was started became full before its time
        else:
            self.end_linger()

    def _hurry_up(self) -> None:
        self._hurry_timer = None
        self._hurry.set()

    async def _deliver(self, batch: Batch) -> None:
        """Send a batch until it has its outcome, or its halves are queued in its place."""
        if batch.suspected and batch.count > 1:
            self._split(batch, searching=True)
            return
        at_once = 0
        while self._batch is batch:
            await self._throttle_open()
            outcome, seconds = await self._attempt(batch)
            outcome, decision = await self._judge(batch, outcome, at_once)
            if self._batch is not batch:
                return  # taken back meanwhile
            at_once = at_once + 1 if isinstance(decision, RetryNow) else 0
            await self._do(decision, batch, outcome, seconds)
            _obey_cancellation()

    async def _attempt(self, batch: Batch) -> tuple[Outcome, float]:
        """Send once; returns the outcome and how many seconds it took."""
        around, traffic = self._around, self._around.traffic
        traffic.requests += 1
        traffic.retries += batch.attempts > 0
        traffic.bytes_sent += batch.body_size
        batch.attempts += 1
        started = self._last_attempt = around.clock()
        self.sending = True
        try:
            outcome = await send_guarded(around.transport, batch, around.log)
        finally:
            self.sending = False
        traffic.last_error = outcome.error
        return outcome, around.clock() - started

    async def _judge(self, batch: Batch, outcome: Outcome, at_once: int) -> tuple[Outcome, Decision]:
        """Decide what to do, asking ping where that decides; returns the outcome that decided."""
        if outcome.verdict is Verdict.DELIVERED:
            return outcome, Deliver()  # as `decide` would, without making up a situation for it
        decision = self._decide(batch, outcome, at_once)
        if not isinstance(decision, AskPing):
            return outcome, decision
        await self._throttle_open()  # another sender may have been told to pause meanwhile
        answer, _ = await self._attempt(Batch.ping())
        match answer.verdict:
            case Verdict.DELIVERED:
                return outcome, self._decide(batch, outcome, key_accepted=True)
            case Verdict.REJECTED | Verdict.PARKED | Verdict.TOO_LARGE:
                return answer, Park(self._around.retry.wait_max)
            case _:
                # No answer to the question yet: as if the batch itself had met this.
                return answer, self._decide(batch, answer, at_once)

    def _decide(self, batch: Batch, outcome: Outcome, at_once: int = 0, *, key_accepted: bool = False) -> Decision:
        now = self._around.clock()
        if outcome.verdict in (Verdict.PAUSE, Verdict.RETRY, Verdict.STALE) and batch.failing_since is None:
            batch.failing_since = now
        situation = RetryState(
            count=batch.count,
            failing_for=0.0 if batch.failing_since is None else now - batch.failing_since,
            searching=batch.searching,
            key_accepted=key_accepted,
            repeated_at_once=at_once,
            connections=len(self._around.accumulator.partitions),
        )
        return decide(outcome, situation, self._around.retry)

    async def _do(self, decision: Decision, batch: Batch, outcome: Outcome, seconds: float) -> None:
        around = self._around
        if self.parked and not isinstance(decision, Park):
            self.parked = False
            around.log("unparked", logging.WARNING, "the server no longer refuses: sending is not parked any more")
        match decision:
            case Deliver():
                self._backoff = Backoff(self._around.retry)
                self._settle(batch)
                around.hooks.delivered(batch, status=outcome.status, seconds=seconds)
            case Split():
                self._split(batch, searching=outcome.verdict is Verdict.REJECTED)
            case GiveUp(reason, pause):
                if pause is not None:
                    self._pause_all(batch, pause, outcome)
                self._settle(batch, reason)
                around.hooks.lost(reason, outcome.error, [batch])
            case Pause():
                self._pause_all(batch, decision, outcome)
            case Wait():
                self._log_failure(batch, outcome, "trying again")
                await self._sleep(self._backoff.seconds(decision))
            case Park(probe_after):
                batch.failing_since = None  # a person mends this one; what follows is another trouble
                await self._park(outcome, probe_after)
            case _:  # RetryNow: the loop goes on. AskPing was answered in _judge.
                pass

    def _settle(self, batch: Batch, reason: LossReason | None = None) -> None:
        self._batch = None
        self._around.accumulator.settle(batch, reason)
        if reason is LossReason.REJECTED:
            batch.found_guilty()
        self._around.on_progress()

    def _split(self, batch: Batch, *, searching: bool) -> None:
        self._batch = None
        self._around.accumulator.split(batch, searching=searching)

    def _pause_all(self, batch: Batch, pause: Pause, outcome: Outcome) -> None:
        self._log_failure(batch, outcome, "pausing")
        self._around.throttle.pause(self._backoff.seconds(pause))
        self._around.on_progress()

    async def _throttle_open(self) -> None:
        while (left := self._around.throttle.left) > 0:  # noqa: ASYNC110 (a pause may be prolonged, never ended)
            await asyncio.sleep(left)

    async def _sleep(self, seconds: float) -> None:
        self._hurry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    async def _park(self, outcome: Outcome, probe_after: float) -> None:
        around = self._around
        if not self.parked:
            self.parked = True
            around.log(
                "parked",
                logging.ERROR,
                "sending is parked, messages are kept: %s. Trying again every %g s",
                outcome.error,
                probe_after,
                loud=True,  # most web servers configure no logging but their own, and a wrong key must not be a riddle
            )
            around.on_progress()
        await asyncio.sleep(probe_after)

    def _log_failure(self, batch: Batch, outcome: Outcome, verb: str) -> None:
        around = self._around
        since = batch.failing_since
        # An address that has never answered is probably a wrong one, and an outage must be seen before messages are
        # lost by it: also under a web server that configures no logging but its own.
        silent = outcome.status is None and not around.accumulator.counts().delivered
        loud = silent or (since is not None and around.clock() - since >= LONG_OUTAGE)
        kind = f"failing-{outcome.verdict.value}"
        around.log(kind, logging.WARNING, "%s; %s", outcome.error, verb, loud=loud)


async def send_guarded(transport: Transport, batch: Batch, log: RateLimitedLogger) -> Outcome:
    """Send by a carrier that may be the user's: whatever it raises, or returns, is a broken connection."""
    try:
        outcome: Any = await transport.send(batch)
    except asyncio.CancelledError:
        _obey_cancellation()
        # Nobody cancels this task: it is something of the carrier's own that was cancelled.
        log("transport", logging.ERROR, "the transport raised CancelledError")
        return Outcome.failed(ConnectionFailed("the transport raised CancelledError"))
    except BaseException as exc:
        if isinstance(exc, GeneratorExit) or not raised_by_callback(exc):  # it is this coroutine that is closed
            raise
        log("transport", logging.ERROR, "the transport raised %s", describe_exception(exc))
        return Outcome.failed(ConnectionFailed(f"the transport raised {type(exc).__name__}"))
    if not isinstance(outcome, Outcome):
        log("transport", logging.ERROR, "the transport returned %s, not an Outcome", type(outcome).__name__)
        return Outcome.failed(ConnectionFailed(f"the transport returned {type(outcome).__name__}"))
    return outcome


def _obey_cancellation() -> None:
    """Raise the cancellation that a transport held back to report that the server had answered."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
