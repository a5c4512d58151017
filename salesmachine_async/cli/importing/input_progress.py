"""The input that is being imported: its rows, its checkpoint, what is known of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from salesmachine_async.cli.importing import checkpoint
from salesmachine_async.cli.importing.checkpoint import Checkpoint
from salesmachine_async.cli.importing.ledger import Ledger, Settled
from salesmachine_async.cli.importing.models import SHOWN, ImportPlan, ImportResults, InputResult
from salesmachine_async.cli.importing.progress import ImportStatus, Meter
from salesmachine_async.cli.importing.reader import Piece, Reader
from salesmachine_async.cli.importing.rejects import RejectsFile
from salesmachine_async.cli.importing.rows import InputRow
from salesmachine_async.cli.importing.source import InputProblem


class InputProgress:
    """
    One input from its opening to its end.

    Args:
        plan: What is to be done.
        number: Which of its inputs.
        results: Where to note what came of it.
        rejects: Where its rejected rows go.

    Attributes:
        name: What it is called.
        reader: What reads it.
        ledger: Its rows.
        skip_to: Where its checkpoint ends; 0 without one.

    Raises:
        InputProblem: Its checkpoint cannot be read.
    """

    def __init__(self, plan: ImportPlan, number: int, results: ImportResults, rejects: RejectsFile | None) -> None:
        what = plan.inputs[number]
        self.name = what.name
        self._results = results
        self._rejects = rejects
        self._path = plan.checkpoints[number]
        self._options = options_of(plan, number)
        self._url = plan.base_url or ""
        self._resumed = checkpoint.load(self._path) if plan.resume and self._path is not None else None
        self.skip_to = self._resumed.settled.end if self._resumed else 0
        self.reader = Reader(what, plan.reading)
        self.ledger = Ledger(plan.concurrency, self._rejected)
        self._result = InputResult(name=what.name)
        self._saved = -1
        if self._resumed:
            before = self._resumed.settled
            self._note(before)
            self._result.resumed = self._saved = before.rows
            self._result.checkpoint = self._path
        # Where the reader is in the unzipped text.
        self._read_to = 0
        results.inputs.append(self._result)

    def skip(self, piece: Piece) -> None:
        """Pass over rows of an earlier run."""
        self.ledger.skip(piece.rows)

    def take_over(self) -> None:
        """
        Add what an earlier run has done, when its rows are passed over; does nothing the second time.

        Raises:
            InputProblem: They are not the ones it has seen.
        """
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            return
        if not self.ledger.resume(resumed.settled):
            raise InputProblem(
                f"{self.name} has changed before line {resumed.settled.line}, up to where it was imported: it cannot "
                "be gone on with; --restart imports it from its beginning"
            )

    @property
    def changed(self) -> bool:
        """Whether the file was another at its end than at its beginning."""
        return self.reader.opened is not None and self.reader.opened.source.changed

    def reading(self, piece: Piece) -> None:
        """Note how far the reader is."""
        self._read_to = piece.rows[-1].end

    def save(self) -> None:
        """
        Settle what can be, and write the checkpoint if there is something new in it.

        Raises:
            OSError: It cannot be written.
        """
        self.ledger.settle()
        settled = self.ledger.snapshot()
        if self._resumed is not None or settled.rows == self._saved:
            return
        self._note(settled)
        # First the rejected rows, then the checkpoint that says they are there.
        rejects_bytes = self._rejects.sync() if self._rejects else 0
        self._saved = settled.rows
        if self._path is None or not settled.rows:
            return
        self._write(self._path, settled, rejects_bytes)
        self._result.checkpoint = self._path

    def _write(self, path: Path, settled: Settled, rejects_bytes: int) -> None:
        # Absolute: it may be called otherwise next time, by its whole path or from another directory.
        rejects = str(self._rejects.path.resolve()) if self._rejects else ""
        found = Checkpoint(
            settled=settled, options=self._options, url=self._url, rejects=rejects, rejects_bytes=rejects_bytes
        )
        checkpoint.save(path, found)

    def _note(self, settled: Settled) -> None:
        result = self._result
        result.delivered, result.rejected, result.skipped = settled.delivered, settled.rejected, settled.skipped

    def finish(self) -> None:
        """Note that all of it is answered for."""
        self.save()
        self._result.done = True

    def moment(self, meter: Meter, note: str) -> ImportStatus:
        """Show it as it is now."""
        ledger, opened = self.ledger, self.reader.opened
        share = None
        if opened is not None and opened.source.size:
            share = min(1.0, opened.source.position / opened.source.size)
            if self._read_to and self._resumed is None:
                # What is read ahead is not done yet.
                share *= ledger.settled.end / self._read_to
        passing = self._resumed is not None
        rate, left = meter.read(ledger.answered, share)
        return ImportStatus(
            name=self.name,
            rows=ledger.answered,
            delivered=ledger.answered - ledger.rejected - ledger.skipped,
            rejected=ledger.rejected,
            waiting=ledger.held,
            rate=rate,
            share=share,
            seconds_left=None if passing else left,
            note="reading again what was imported before" if passing else note,
            verb="good" if self._results.dry_run else "delivered",
        )

    def _rejected(self, row: InputRow, reason: str) -> None:
        if len(self._results.shown) < SHOWN:
            self._results.shown.append((self.name, row.line, reason))
        if self._rejects and self.reader.opened:
            if self._saved < 0 and self._path is not None:
                # Whose the file is must be known before it holds anything, or --resume could not go on with it.
                self._write(self._path, Ledger(1, self._rejected).snapshot(), self._rejects.sync())
                self._saved = 0
            self._rejects.add(self.name, row, self.reader.opened.record(row), reason)


def options_of(plan: ImportPlan, number: int) -> str:
    """Digest how an input is read, for its checkpoint."""
    return plan.reading.digest(plan.inputs[number]).hex()


def clean_up(plan: ImportPlan, results: ImportResults) -> None:
    """Remove the checkpoints of an import that is done."""
    for path in plan.checkpoints:
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    for each in results.inputs:
        each.checkpoint = None
