"""The progress of one input: its rows and its checkpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path

from salesmachine_async.cli.importing import checkpoint
from salesmachine_async.cli.importing.checkpoint import Checkpoint
from salesmachine_async.cli.importing.ledger import Ledger, Settled
from salesmachine_async.cli.importing.models import SHOWN, ImportPlan, ImportResults, InputResult
from salesmachine_async.cli.importing.progress import ImportStatus
from salesmachine_async.cli.importing.reader import Piece, Reader
from salesmachine_async.cli.importing.rejects import RejectsFile
from salesmachine_async.cli.importing.rows import InputRow
from salesmachine_async.cli.importing.source import InputProblem


class InputProgress:
    """
    One input from its opening to its end.

    Args:
        plan: The plan of the import.
        number: The index of the input.
        results: The results to update.
        rejects: The file of rejected rows.

    Attributes:
        name: The name of the input.
        reader: The reader of the input.
        ledger: The state of the rows.
        skip_to: The offset up to which it was imported before.

    Raises:
        InputProblem: If its checkpoint cannot be read.
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
        # The offset of the reader in the uncompressed text.
        self._read_to = 0
        results.inputs.append(self._result)

    def skip(self, piece: Piece) -> None:
        """Skip rows of an earlier run."""
        self.ledger.skip(piece.rows)

    def take_over(self) -> None:
        """
        Take over the counts of an earlier run after its rows were skipped; the second call does nothing.

        Raises:
            InputProblem: If the skipped rows are others than those of the earlier run.
        """
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            return
        if not self.ledger.resume(resumed.settled):
            raise InputProblem(
                f"{self.name} changed before line {resumed.settled.line} since the checkpoint was written; cannot "
                "resume. Use --restart to start over"
            )

    @property
    def changed(self) -> bool:
        """Whether the file was modified while it was read."""
        return self.reader.opened is not None and self.reader.opened.source.changed

    def reading(self, piece: Piece) -> None:
        """Note the position of the reader."""
        self._read_to = piece.rows[-1].end

    def save(self) -> None:
        """
        Settle rows, and write the checkpoint if it has changed.

        Raises:
            OSError: If it cannot be written.
        """
        self.ledger.settle()
        settled = self.ledger.snapshot()
        if self._resumed is not None or settled.rows == self._saved:
            return
        self._note(settled)
        # The rejected rows are written first, because the checkpoint records the size of their file.
        rejects_bytes = self._rejects.sync() if self._rejects else 0
        self._saved = settled.rows
        if self._path is None or not settled.rows:
            return
        self._write(self._path, settled, rejects_bytes)
        self._result.checkpoint = self._path

    def _write(self, path: Path, settled: Settled, rejects_bytes: int) -> None:
        # An absolute path also serves from another directory. A pipe cannot be resumed.
        rejects = str(self._rejects.path.resolve()) if self._rejects and self._rejects.regular else ""
        found = Checkpoint(
            settled=settled, options=self._options, url=self._url, rejects=rejects, rejects_bytes=rejects_bytes
        )
        checkpoint.save(path, found)

    def _note(self, settled: Settled) -> None:
        result = self._result
        result.delivered, result.rejected = settled.delivered, settled.rejected
        result.skipped, result.headers = settled.skipped, settled.headers

    def finish(self) -> None:
        """Note that all rows are settled."""
        self.save()
        self._result.done = True

    def status(self, note: str) -> ImportStatus:
        """Return the current status."""
        ledger, opened = self.ledger, self.reader.opened
        share = None
        if opened is not None and opened.source.size:
            share = min(1.0, opened.source.position / opened.source.size)
            if self._read_to and self._resumed is None:
                # Rows that were read ahead are not done yet.
                share *= ledger.settled.end / self._read_to
        skipping = self._resumed is not None
        return ImportStatus(
            name=self.name,
            rows=ledger.answered,
            delivered=ledger.answered - ledger.rejected - ledger.skipped,
            rejected=ledger.rejected,
            waiting=ledger.held,
            share=share,
            note="skipping rows of an earlier run" if skipping else note,
            verb="valid" if self._results.dry_run else "delivered",
        )

    def _rejected(self, row: InputRow, reason: str) -> None:
        if len(self._results.shown) < SHOWN:
            self._results.shown.append((self.name, row.line, reason))
        if self._rejects and self.reader.opened:
            if self._saved < 0 and self._path is not None:
                # The checkpoint names the file before it has content, so that --resume can append to it.
                self._write(self._path, Ledger(1, self._rejected).snapshot(), self._rejects.sync())
                self._saved = 0
            self._rejects.add(self.name, row, self.reader.opened.record(row), reason)


def options_of(plan: ImportPlan, number: int) -> str:
    """Return the digest of the options for a checkpoint."""
    return plan.reading.digest(plan.inputs[number]).hex()


def clean_up(plan: ImportPlan, results: ImportResults) -> None:
    """Remove the checkpoints of a complete import."""
    for path in plan.checkpoints:
        if path is not None:
            with contextlib.suppress(OSError):
                checkpoint.remove(path)
    for each in results.inputs:
        each.checkpoint = None
