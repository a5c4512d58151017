"""The conductor of an import: what happens when."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from salesmachine_async import Agent, Batching, Delivery, HttpTransport, Loss, LossReason, QueueLimits, Retry, Timeouts
from salesmachine_async.cli import exit_codes
from salesmachine_async.cli.credentials import ApiKeys
from salesmachine_async.cli.importing.input_progress import InputProgress, clean_up
from salesmachine_async.cli.importing.ledger import Disagreement
from salesmachine_async.cli.importing.models import Ending, ImportPlan, ImportResults
from salesmachine_async.cli.importing.progress import Meter, Quiet
from salesmachine_async.cli.importing.reader import Piece
from salesmachine_async.cli.importing.rejects import RejectsFile
from salesmachine_async.cli.importing.sending import Nowhere, track
from salesmachine_async.cli.importing.source import DamagedInput, InputProblem
from salesmachine_async.cli.importing.status_signal import asked_for_status
from salesmachine_async.cli.importing.troubles import hear_troubles
from salesmachine_async.cli.shutdown import stop_requested
from salesmachine_async.errors import DeliveryError, InvalidMessage

# How often the import is looked at, and its checkpoint written.
TICK_SECONDS = 0.2
SAVE_SECONDS = 1.0
# What is under way is delivered for so long after Ctrl-C.
DRAIN_SECONDS = 10.0
# Rows held until those before them are answered for: beyond it the reader waits.
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
        plan: What is to be done.
        progress: Shows how it is getting on.
        rejects: Where rejected rows go.

    Raises:
        ConfigError: The credentials or an option are unusable.
    """

    def __init__(self, plan: ImportPlan, progress: Quiet, rejects: RejectsFile | None) -> None:
        self._plan = plan
        self._keys = ApiKeys(token=plan.token, secret=plan.secret, base_url=plan.base_url, access_token="")
        self._progress = progress
        self._rejects = rejects
        self._results = ImportResults(dry_run=plan.dry_run, rejects=plan.rejects)
        self._current: InputProgress | None = None
        self._meter = Meter()
        # What stops the import, set where nothing may be raised: in hooks and log handlers.
        self._parked = False
        self._broken: Exception | None = None
        # The agent's own `last_error` is gone as soon as another partition succeeds.
        self._failed: DeliveryError | None = None
        # Set when rows are settled: the reader may have waited for that.
        self._room = asyncio.Event()
        timeouts = Timeouts(request=60.0)
        self._agent = Agent(
            batching=Batching(max_messages=plan.batch),
            # Twenty batches for each partition, so that none of them runs dry while the reader waits between the marks.
            queue=QueueLimits(max_messages=max(10_000, 20 * plan.batch * plan.concurrency), max_bytes=MAX_HELD_BYTES),
            retry=Retry(wait_max=15.0),
            timeouts=timeouts,
            concurrency=plan.concurrency,
            on_delivered=self._delivered,
            on_lost=self._lost,
            transport=Nowhere()
            if plan.dry_run
            else HttpTransport(plan.token, plan.secret, base_url=plan.base_url, timeouts=timeouts, **plan.transport),
        )

    async def run(self) -> ImportResults:
        """Import all; returns what came of it, however it ended."""
        begun = time.monotonic()
        results = self._results
        with (
            hear_troubles(self._note_parked, self._note_failed, self._say),
            stop_requested(until_eof=False) as stop,
            asked_for_status(lambda: self._progress.answer(self.status())),
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

    def status(self) -> str:
        """Tell in one line how it is getting on."""
        return self._current.moment(self._meter, "").told() if self._current else "not begun"

    # The tasks.

    async def _until_the_end(self, stop: asyncio.Event) -> None:
        """Feed until the inputs end, something stops it (which is raised), or somebody does."""
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
        self._progress.say("Interrupted: delivering what was read; once more stops at once.", "yellow")
        flushing = asyncio.create_task(self._agent.flush(DRAIN_SECONDS))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((flushing, watching, stopping), return_when=asyncio.FIRST_COMPLETED)
        await _end(flushing, stopping)

    async def _feed_all(self) -> None:
        if not self._plan.dry_run:
            await self._knock()
        for number in range(len(self._plan.inputs)):
            self._current = current = InputProgress(self._plan, number, self._results, self._rejects)
            self._meter.restart()
            damaged: DamagedInput | None = None
            try:
                await self._feed(current)
            except DamagedInput as error:
                damaged = error  # what came before it is good, and delivered
            while current.ledger.held and not self._broken:
                await self._agent.flush()
                # Not settled after all: it is parked, which is seen to by `_watch`.
                await asyncio.sleep(TICK_SECONDS if current.ledger.held else 0)
            if damaged:
                raise damaged
            self._raise_broken()
            current.finish()

    async def _knock(self) -> None:
        """Find out whether there is a server that accepts the key, before anything is read."""
        try:
            await self._agent.ping()
        except DeliveryError as error:
            if exit_codes.status_of(error) == exit_codes.REFUSED:
                raise _Stop(Ending.REFUSED, self._told(error)) from None
            self._say(f"{error}; trying again for {self._plan.give_up_after:g} s")

    async def _feed(self, current: InputProgress) -> None:
        due = 0.0  # when --rate allows the next piece
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
                self._say(f"{current.name} changed while it was read: what was imported may be half of each")

    async def _offer(self, current: InputProgress, piece: Piece) -> None:
        """Give rows to the agent, however long it takes to have room for them."""
        agent, ledger = self._agent, current.ledger
        block = ledger.open(piece.rows)
        for index, call in enumerate(piece.calls):
            if call is None:
                ledger.leave_out(block, index)
                continue
            if isinstance(call, str):
                ledger.reject(block, index, call)
                continue
            try:
                while not track(agent, call):
                    await agent.drain()
                    await asyncio.sleep(0)
            except InvalidMessage as error:
                ledger.reject(block, index, str(error))
            else:
                ledger.note_sent(block, index, call.uid, call.message_id)
        ledger.settle()

    async def _watch(self) -> None:
        """Look after the import until something stops it."""
        answered, since, saved = -1, time.monotonic(), time.monotonic()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._raise_broken()
            current, now = self._current, time.monotonic()
            if self._parked:
                raise self._stopped_by_server()
            if current is None:
                continue
            if current.ledger.answered != answered or not current.ledger.pending:
                answered, since = current.ledger.answered, now
            elif now - since >= self._plan.give_up_after:
                raise self._stopped_by_server()
            if now - saved >= SAVE_SECONDS:
                current.save()
                saved = time.monotonic()
            error = self._agent.stats().last_error
            self._progress.update(current.moment(self._meter, str(error) if error else ""))

    # What hooks and handlers call.

    def _delivered(self, delivery: Delivery) -> None:
        self._answered(delivery, None)

    def _lost(self, loss: Loss) -> None:
        if loss.reason is LossReason.CLOSED:
            return  # no answer at all
        error = loss.error
        told = (self._words(error) or str(error)) if error else loss.reason.value
        self._answered(loss, f"the server refused it: {told}")

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

    def _note_parked(self) -> None:
        self._parked = True

    def _note_failed(self, error: DeliveryError) -> None:
        self._failed = error

    def _say(self, text: str) -> None:
        self._progress.say(text[0].upper() + text[1:], "yellow")

    # The end.

    def _raise_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _stopped_by_server(self) -> _Stop:
        error = self._agent.stats().last_error or self._failed
        refused = error is not None and exit_codes.status_of(error) == exit_codes.REFUSED
        if error is None or not self._parked:
            told = f"no answer for {self._plan.give_up_after:g} s" + (f": {self._told(error)}" if error else "")
        else:
            told = self._told(error)
        return _Stop(Ending.REFUSED if refused else Ending.UNAVAILABLE, told)

    def _told(self, error: DeliveryError) -> str:
        words = self._words(error)
        return f"{error} ({words})" if words else str(error)

    def _words(self, error: DeliveryError) -> str:
        """Return what the server said, which may quote the request, without its keys: it is shown, and kept."""
        return self._keys.hide(error.server_message or "")

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


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
