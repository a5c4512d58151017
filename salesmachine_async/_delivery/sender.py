"""
One ordered partition of batches: take, send, decide, do, report.

An exception that a signal handler raises in the middle of this ends the sender's task, a callback, or the run of the
event loop. Where the loop goes on, or runs again, so does the delivery: the task puts the batch in flight back as it
ends, and the flusher restarts it; a look is made again (`Sender.look`); timers and notifications are scheduled twice,
because a handler may raise before the first statement of a callback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._core.retry import (
    AskPing,
    Decision,
    Defer,
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
from salesmachine_async._delivery.sender_context import SenderContext
from salesmachine_async._delivery.transport import obey_cancellation, send_guarded
from salesmachine_async._http.backoff import Backoff
from salesmachine_async._log import free_handlers, logger
from salesmachine_async._process import check_fork
from salesmachine_async.errors import DeliveryError, RequestTimeout
from salesmachine_async.report import Endpoint, LossReason

# Seconds after which an outage is shown even where logging is not configured.
LONG_OUTAGE: Final = 30.0
# Seconds between two failures that count against a message, at least: a policy may have tiny waits.
LEAST_FULL_WAIT: Final = 1.0
# How much larger the size limit gets with a delivery: an uplink that is too slow for a batch twice as large times out
# for one in about 45.
SIZE_GROWTH: Final = 1 + 1 / 64

# Seconds by which an event loop may call back early.
TICK: Final = 0.001

debug_log: Final = logger.getChild("delivery")

__all__ = ["Sender", "set_again"]


class Sender:
    """
    Delivers the batches of one partition, strictly one after the other.

    Attributes:
        partition: The queue of this sender.
        parked: Whether it keeps everything and only probes, because the server refuses for a reason that lies in no
            message.
        held: Whether it takes nothing yet, because older messages of an earlier process come first.
        sending: Whether a request is under way.
        looks: Number of looks that have begun.
    """

    def __init__(self, partition: Partition, around: SenderContext) -> None:
        self.partition = partition
        self.parked = False
        self.held = False
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
        # Identifies the task that may take batches. An interrupted start may have left another task.
        self._run = object()
        self._backoff = Backoff(around.retry)
        # Bytes up to which a batch is sent whole: half of one that timed out; it grows with each delivery.
        self._size_limit = inf
        # When a failure was last counted against a message.
        self._counted_at = -inf
        self._last_attempt = -inf
        self._expedited_until = -inf
        self._expedited = asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled. What is in flight then returns to the front of the queue."""
        self.recover()  # what a task before this one may have left, interrupted at its end
        run = self._run = object()
        try:
            while self._run is run and not self._stopped:
                self._ready.clear()  # before the look, so that what becomes ready after it is not missed
                self._batch = None if self.held else self._around.accumulator.take(self.partition)
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
            set_again(self._ready)

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
        """Recover, cancel the timer and take no other batch, should the task live on."""
        self.recover()
        self._stopped = True
        for timer in (self._linger_timer, self._linger_spare):
            if timer is not None:
                timer.cancel()
        with suppress(RuntimeError):  # its loop is closed
            self._ready.set()

    def expedite(self, until: float, *, at_once: bool = False) -> None:
        """
        Cut backoffs short, those to come too: attempts begin a first backoff after the last one.

        Args:
            until: On the event loop's clock: until when.
            at_once: Whether the next attempt begins now and the backoff anew, because little time is left.
        """
        self._expedited_until = max(self._expedited_until, until)
        if at_once:
            self._backoff = Backoff(self._around.retry)
            self._last_attempt = -inf
        self._expedited.set()

    def leave_to_parent(self) -> None:
        """Take no other batch, and touch nothing of the event loop, which may be the parent's."""
        self._stopped = True

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

    async def _deliver(self, batch: Batch) -> None:
        """Send a batch until it has its outcome, or goes back to the queue, whole or in halves."""
        self._debug("%r is taken", batch)
        too_large = batch.size > self._size_limit and not batch.lasting  # a lasting one is halved when it fails itself
        if batch.count > 1 and (batch.suspected or too_large):
            self._split(batch, searching=batch.suspected)
            return
        at_once = timeouts = 0
        while self._batch is batch:
            await self._throttle_open()
            outcome, seconds = await self._attempt(batch)
            timeouts = timeouts + 1 if _timed_out(outcome) else 0
            outcome, decision = await self._judge(batch, outcome, at_once, timeouts)
            if self._batch is not batch:
                return  # it was recovered
            self._debug("%s", decision)
            at_once = at_once + 1 if isinstance(decision, RetryNow) else 0
            await self._do(decision, batch, outcome, seconds)
            obey_cancellation()

    async def _attempt(self, batch: Batch) -> tuple[Outcome, float]:
        """Send once; returns the outcome and how many seconds it took."""
        check_fork()
        if self._stopped:
            raise asyncio.CancelledError  # in a forked child: the parent sends this batch
        around, traffic = self._around, self._around.traffic
        traffic.requests += 1
        traffic.retries += batch.attempts > 0
        traffic.bytes_sent += batch.body_size
        batch.attempts += 1
        self._debug("attempt %d of %r", batch.attempts, batch)
        started = self._last_attempt = around.clock()
        self.sending = True
        try:
            outcome = await send_guarded(around.transport, batch, around.log)
        finally:
            self.sending = False
        traffic.last_error = outcome.error
        seconds = around.clock() - started
        self._debug("%s after %.3f s: status %s, %s", outcome.verdict.value, seconds, outcome.status, outcome.error)
        return outcome, seconds

    async def _judge(self, batch: Batch, outcome: Outcome, at_once: int, timeouts: int) -> tuple[Outcome, Decision]:
        """Decide what to do, sending a ping where that decides; returns the outcome that decided."""
        if outcome.verdict is Verdict.DELIVERED:
            return outcome, Deliver()  # as `decide` would: the usual case needs no state
        decision = self._decide(batch, outcome, at_once, timeouts)
        if not isinstance(decision, AskPing):
            return outcome, decision
        await self._throttle_open()  # another sender may have begun a pause
        answer, _ = await self._attempt(Batch.ping())
        match answer.verdict:
            case Verdict.DELIVERED:
                return outcome, self._decide(batch, outcome, key_accepted=True)
            case Verdict.REJECTED | Verdict.PARKED | Verdict.TOO_LARGE:
                return answer, Park(self._around.retry.wait_max)
            case _:
                # The ping decides nothing: its failure counts as the batch's own.
                return answer, self._decide(batch, answer, at_once, timeouts)

    def _decide(
        self, batch: Batch, outcome: Outcome, at_once: int = 0, timeouts: int = 0, *, key_accepted: bool = False
    ) -> Decision:
        now = self._around.clock()
        lone_failures = 0
        failed = outcome.verdict in (Verdict.PAUSE, Verdict.RETRY, Verdict.STALE)
        if batch.failing_since is None and (failed or outcome.verdict is Verdict.UNREACHABLE):
            batch.failing_since = now
        if failed:
            batch.lasting = batch.lasting or self._backoff.at_max
            if batch.lasting and batch.count == 1:
                lone_failures = self._count_lone_failure(batch, now)
        state = RetryState(
            count=batch.count,
            failing_for=0.0 if batch.failing_since is None else now - batch.failing_since,
            searching=batch.searching,
            key_accepted=key_accepted,
            repeated_at_once=at_once,
            connections=len(self._around.accumulator.partitions),
            timeouts=timeouts,
            lasting=batch.lasting,
            lone_failures=lone_failures,
        )
        return decide(outcome, state, self._around.retry)

    def _count_lone_failure(self, batch: Batch, now: float) -> int:
        """Count the failure of a single message; see `RetryState.lone_failures`."""
        failures = batch.lone_failures
        full_wait = 0.999 * max(self._around.retry.wait_max, LEAST_FULL_WAIT)  # a timer may fire a little early
        began = now if batch.failing_since is None else batch.failing_since
        if now - max(self._counted_at, began) < full_wait:
            return 0
        self._counted_at = now
        since = failures[-1] if failures else -inf
        if not self._around.accumulator.others_wait(batch):
            since = began
        batch.lone_failures = (*failures, now) if self._delivered_since(since, batch) else (now,)
        return len(batch.lone_failures)

    def _delivered_since(self, moment: float, batch: Batch) -> bool:
        """Return whether any sender has delivered after this moment what *batch* is judged by."""
        at = self._around.traffic.delivered_at
        return any(at.get(endpoint, -inf) > moment for endpoint in (Endpoint.BATCH, batch.endpoint))

    async def _do(self, decision: Decision, batch: Batch, outcome: Outcome, seconds: float) -> None:
        around = self._around
        if self.parked and not isinstance(decision, Park):
            self.parked = False
            around.log("unparked", logging.WARNING, "the server no longer refuses: sending is not parked any more")
        match decision:
            case Deliver():
                self._backoff = Backoff(around.retry)
                self._size_limit = max(self._size_limit, batch.size) * SIZE_GROWTH
                around.traffic.delivered_at[batch.endpoint] = around.clock()
                self._settle(batch)
                around.hooks.delivered(batch, status=outcome.status, seconds=seconds)
            case Split() | Defer():
                await self._rearrange(decision, batch, outcome)
            case GiveUp(reason, pause):
                if pause is not None:
                    self._pause_all(batch, pause, outcome)
                # Before it is settled: where an exception interrupts, rather kept twice than never.
                if reason in (LossReason.REJECTED, LossReason.TOO_LARGE) and batch.receipt is None:
                    around.on_rejected(batch, outcome.error)
                self._settle(batch, reason, outcome.error)
                around.hooks.lost(reason, outcome.error, [batch])
            case Pause():
                self._pause_all(batch, decision, outcome)
            case Wait():
                await self._back_off(batch, decision, outcome)
            case Park(probe_after):
                # Reset: the next failure is unrelated.
                batch.failing_since, batch.lasting, batch.lone_failures = None, False, ()
                await self._park(outcome, probe_after)
            case _:  # RetryNow: the loop repeats it. AskPing was answered in _judge.
                pass

    async def _rearrange(self, decision: Split | Defer, batch: Batch, outcome: Outcome) -> None:
        """Queue the halves in place of a batch, or another message before it."""
        in_flight = decision.after is None or await self._back_off(batch, decision.after, outcome)
        batch.lasting |= in_flight and decision.after is not None
        if in_flight and isinstance(decision, Split):
            if _timed_out(outcome):
                self._size_limit = min(self._size_limit, batch.size / 2)
            self._split(batch, searching=outcome.verdict is Verdict.REJECTED)
        elif (
            in_flight
            and not self._delivered_since(batch.lone_failures[-1], batch)
            and self._around.accumulator.defer(batch)
        ):
            self._batch = None

    def _settle(self, batch: Batch, reason: LossReason | None = None, error: DeliveryError | None = None) -> None:
        self._batch = None
        if reason is LossReason.REJECTED:
            self._backoff = Backoff(self._around.retry)  # reset: the server accepts other messages
        self._around.accumulator.settle(batch, reason, error)
        self._around.on_progress()

    def _split(self, batch: Batch, *, searching: bool = False) -> None:
        self._batch = None
        self._around.accumulator.split(batch, searching=searching)

    def _pause_all(self, batch: Batch, pause: Pause, outcome: Outcome) -> None:
        self._log_failure(batch, outcome, "pausing")
        seconds = self._backoff.seconds(pause)
        self._debug("pause of all partitions for %.3f s", seconds)
        self._around.throttle.pause(seconds, required=pause.at_least)
        self._around.on_progress()

    async def _throttle_open(self) -> None:
        throttle = self._around.throttle
        await self._wait_until(lambda: self._no_later(throttle.until, throttle.required_until))

    async def _back_off(self, batch: Batch, wait: Wait, outcome: Outcome) -> bool:
        """Wait; return whether the batch is still in flight afterwards."""
        self._log_failure(batch, outcome, "trying again")
        seconds = self._backoff.seconds(wait)
        self._debug("wait of %.3f s", seconds)
        due = self._around.clock() + seconds
        await self._wait_until(lambda: self._no_later(due))
        return self._batch is batch

    def _no_later(self, due: float, at_least: float = -inf) -> float:
        """Return when a wait until *due* ends if it is expedited; not before *at_least*."""
        soonest = max(self._last_attempt + self._around.retry.wait_initial, at_least)
        return min(due, soonest) if max(soonest, self._around.clock()) < self._expedited_until else due

    async def _wait_until(self, due: Callable[[], float]) -> None:
        """Wait until a moment that may be changed by `expedite` and by the pauses of other senders."""
        while (end := due()) > self._around.clock():
            self._expedited.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await self._expedited.wait()

    def _debug(self, text: str, *args: object) -> None:
        if debug_log.isEnabledFor(logging.DEBUG):
            # A handler or filter of the application that raises must not end the sender.
            with free_handlers(debug_log) as free, suppress(Exception):
                if free:
                    debug_log.debug(f"partition %d: {text}", self.partition.index, *args)

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
                loud=True,  # a wrong key must be visible without logging configured, as under most web servers
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


def _timed_out(outcome: Outcome) -> bool:
    return outcome.status is None and isinstance(outcome.error, RequestTimeout)


def set_again(event: asyncio.Event) -> None:
    """Set *event*, and notify those that wait, also if a signal handler raised in the middle of a `set` before."""
    event.clear()
    event.set()
