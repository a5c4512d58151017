"""The import: reads, sends, watches, stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Generator
from typing import Any

from salesmachine_async import (
    Agent,
    Batching,
    Delivery,
    HttpTransport,
    Loss,
    LossReason,
    QueueLimits,
    Retry,
    State,
    Timeouts,
)
from salesmachine_async._delivery.null_transport import NullTransport
from salesmachine_async.cli import exit_codes
from salesmachine_async.cli.importing.input_progress import InputProgress, clean_up
from salesmachine_async.cli.importing.ledger import Disagreement
from salesmachine_async.cli.importing.mapping import Skip, TrackingCall
from salesmachine_async.cli.importing.models import Ending, ImportPlan, ImportResults
from salesmachine_async.cli.importing.progress import QuietProgress, status_signal
from salesmachine_async.cli.importing.reader import Piece
from salesmachine_async.cli.importing.rejects import RejectsFile
from salesmachine_async.cli.importing.source import DamagedInput, InputProblem
from salesmachine_async.cli.shutdown import stop_requested
from salesmachine_async.errors import DeliveryError, InvalidMessage

# The interval of the watch, and of writing the checkpoint.
TICK_SECONDS = 0.2
SAVE_SECONDS = 1.0
# The time for delivering rows in flight after Ctrl-C.
DRAIN_SECONDS = 10.0
# Rows held until all rows before them are settled; beyond these bounds the reader waits.
MAX_HELD_ROWS = 50_000
MAX_HELD_BYTES = 32 * 2**20


class _Stop(Exception):
    """The import has to end before its inputs do."""

    def __init__(self, ending: Ending, error: str = "") -> None:
        super().__init__(error)
        self.ending = ending


class Importer:
    """
    Runs one import.

    Args:
        plan: The plan.
        progress: The display.
        rejects: The file of rejected rows.

    Raises:
        ConfigError: If the credentials or an option are unusable.
    """

    def __init__(self, plan: ImportPlan, progress: QuietProgress, rejects: RejectsFile | None) -> None:
        self._plan = plan
        self._progress = progress
        self._rejects = rejects
        self._results = ImportResults(dry_run=plan.dry_run, rejects=plan.rejects)
        self._current: InputProgress | None = None
        # Hooks must not raise, so that they record here what stops the import.
        self._broken: Exception | None = None
        # The `last_error` of the agent is None again after a success in another partition.
        self._failed: DeliveryError | None = None
        # Set when rows are settled, for which the reader may wait.
        self._room = asyncio.Event()
        timeouts = Timeouts(request=60.0)
        self._agent = Agent(
            enabled=True,
            spool="",  # the checkpoint says what is left
            batching=Batching(max_messages=plan.batch),
            # Twenty batches for each partition, so that none of them runs dry while the reader waits between the marks.
            queue=QueueLimits(max_messages=max(10_000, 20 * plan.batch * plan.concurrency), max_bytes=MAX_HELD_BYTES),
            retry=Retry(wait_max=15.0),
            timeouts=timeouts,
            concurrency=plan.concurrency,
            on_delivered=self._delivered,
            on_lost=self._lost,
            transport=NullTransport()
            if plan.dry_run
            else HttpTransport(plan.token, plan.secret, base_url=plan.base_url, timeouts=timeouts, **plan.transport),
        )

    async def run(self) -> ImportResults:
        """Import all inputs; return the results, however it ended."""
        begun = time.monotonic()
        results = self._results
        with (
            _library_log_off(),
            stop_requested(until_eof=False) as stop,
            status_signal(self._answer_status),
        ):
            try:
                await self._agent.start()
                await self._until_the_end(stop)
            except _Stop as reason:
                results.ending, results.error = reason.ending, str(reason)
            except InputProblem as problem:
                results.ending, results.error = Ending.UNUSABLE, str(problem)
            except (DamagedInput, Disagreement, OSError) as failure:
                results.ending, results.error = Ending.FAILED, str(failure)
            finally:
                await self._agent.aclose(timeout=0)
        self._conclude()
        results.seconds = time.monotonic() - begun
        return results

    def _answer_status(self) -> None:
        current = self._current
        self._progress.answer(current.status("") if current else None)

    # The tasks.

    async def _until_the_end(self, stop: asyncio.Event) -> None:
        """Read and send until the inputs end, an error is raised, or a signal arrives."""
        feeding, watching = asyncio.create_task(self._feed_all()), asyncio.create_task(self._watch())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((feeding, watching, stopping), return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, feeding):
                if task.done():
                    return task.result()
            stop.clear()
            await _end(feeding, stopping)
            await self._deliver_the_rest(watching, stop)
            raise _Stop(Ending.INTERRUPTED)
        finally:
            await _end(feeding, watching, stopping)

    async def _deliver_the_rest(self, watching: asyncio.Task[None], stop: asyncio.Event) -> None:
        if self._current is None or not self._current.ledger.pending:
            return
        self._progress.say("Interrupted: delivering what was read; press Ctrl-C again to stop at once.", "yellow")
        flushing = asyncio.create_task(self._agent.flush(DRAIN_SECONDS))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((flushing, watching, stopping), return_when=asyncio.FIRST_COMPLETED)
        await _end(flushing, stopping)

    async def _feed_all(self) -> None:
        if not self._plan.dry_run:
            await self._check_server()
        for number in range(len(self._plan.inputs)):
            self._current = current = InputProgress(self._plan, number, self._results, self._rejects)
            self._progress.begin_input(current.name)
            damaged: DamagedInput | None = None
            try:
                await self._feed(current)
            except DamagedInput as error:
                damaged = error  # the rows before it are valid and are delivered
            while current.ledger.held and not self._broken:
                await self._agent.flush()
                # Rows that are still held are parked; `_watch` stops the import then.
                await asyncio.sleep(TICK_SECONDS if current.ledger.held else 0)
            if damaged:
                raise damaged
            self._raise_broken()
            current.finish()

    async def _check_server(self) -> None:
        """Check that the server accepts the key before anything is read."""
        try:
            await self._agent.ping()
        except DeliveryError as error:
            if exit_codes.status_of(error) == exit_codes.REFUSED:
                raise _Stop(Ending.REFUSED, _described(error)) from None
            self._say(f"{error}; trying again for {self._plan.give_up_after:g} s")

    async def _feed(self, current: InputProgress) -> None:
        due = 0.0  # the time at which --rate permits the next piece
        pieces = current.reader.pieces(current.skip_to)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                current.reading(piece)
                if not piece.calls:
                    current.skip(piece)
                    continue
                current.take_over()
                await self._offer(current, piece)
                while current.ledger.held > MAX_HELD_ROWS or current.ledger.held_bytes > MAX_HELD_BYTES:
                    self._room.clear()
                    await self._room.wait()
                await self._agent.drain()
                if self._plan.rate:
                    now = time.monotonic()
                    due = max(due, now) + len(piece.rows) / self._plan.rate
                    await asyncio.sleep(due - now)
            current.take_over()
            if current.changed:
                self._say(f"{current.name} was modified while it was read: the import may mix both versions")

    async def _offer(self, current: InputProgress, piece: Piece) -> None:
        """Pass rows to the agent, and wait until it has room for them."""
        agent, ledger = self._agent, current.ledger
        block = ledger.open(piece.rows)
        for index, converted in enumerate(piece.calls):
            if isinstance(converted, str):
                ledger.reject(block, index, converted)
                continue
            if isinstance(converted, Skip):
                ledger.leave_out(block, index, header=converted is Skip.HEADER)
                continue
            if isinstance(converted, TrackingCall):
                calls = [converted]
            else:
                calls = converted
                ledger.expect(block, index, len(calls))
            for number, call in enumerate(calls):
                try:
                    while not call.send(agent):
                        await agent.drain()
                        await asyncio.sleep(0)
                except InvalidMessage as error:
                    ledger.reject(block, index, str(error), unsent=len(calls) - number)
                    break
                ledger.note_sent(block, index, call.uid, call.message_id)
        ledger.settle()

    async def _watch(self) -> None:
        """Save, show the progress, and raise what stops the import."""
        answered, since, saved, failing = -1, time.monotonic(), time.monotonic(), False
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._raise_broken()
            current, now, stats = self._current, time.monotonic(), self._agent.stats()
            if stats.state is State.PARKED:
                raise self._stopped_by_server()
            if stats.last_error is not None:
                self._failed = stats.last_error
                if not failing:
                    self._say(f"{stats.last_error}; retrying")
            failing = stats.last_error is not None
            if current is None:
                continue
            if current.ledger.answered != answered or not current.ledger.pending:
                answered, since = current.ledger.answered, now
            elif now - since >= self._plan.give_up_after:
                raise self._stopped_by_server()
            if now - saved >= SAVE_SECONDS:
                current.save()
                saved = time.monotonic()
            self._progress.update(current.status(str(stats.last_error or "")))

    # Hooks and handlers.

    def _delivered(self, delivery: Delivery) -> None:
        self._answered(delivery, None)

    def _lost(self, loss: Loss) -> None:
        if loss.reason is LossReason.CLOSED:
            return  # no answer at all
        error = loss.error
        reason = (error.server_message or str(error)) if error else loss.reason.value
        self._answered(loss, f"rejected by the server: {reason}")

    def _answered(self, what: Delivery | Loss, reason: str | None) -> None:
        assert self._current is not None
        ledger = self._current.ledger
        try:
            for batch in what.batches:
                ledger.answer(batch, reason)
            ledger.settle()
        except (Disagreement, OSError) as error:
            self._broken = error
        self._room.set()

    def _say(self, text: str) -> None:
        self._progress.say(text[0].upper() + text[1:], "yellow")

    # The end.

    def _raise_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _stopped_by_server(self) -> _Stop:
        stats = self._agent.stats()
        error = stats.last_error or self._failed
        refused = error is not None and exit_codes.status_of(error) == exit_codes.REFUSED
        if error is None or stats.state is not State.PARKED:
            reason = f"no answer for {self._plan.give_up_after:g} s" + (f": {_described(error)}" if error else "")
        else:
            reason = _described(error)
        return _Stop(Ending.REFUSED if refused else Ending.UNAVAILABLE, reason)

    def _conclude(self) -> None:
        results, current = self._results, self._current
        results.retries = self._agent.stats().retries
        if current is not None:
            results.unanswered = current.ledger.pending
            try:
                current.save()
            except OSError as error:
                if results.ending is Ending.DONE:  # pragma: no cover (the last save was a moment ago)
                    results.ending, results.error = Ending.FAILED, str(error)
        if results.ending is Ending.DONE:
            clean_up(self._plan, results)


@contextlib.contextmanager
def _library_log_off() -> Generator[None]:
    """Do not show the log of the library, whose state `Importer` reports itself."""
    logger = logging.getLogger("salesmachine_async")
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagate


def _described(error: DeliveryError) -> str:
    return f"{error} ({error.server_message})" if error.server_message else str(error)


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
