"""The plan of an import, and its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from salesmachine_async.cli import exit_codes
from salesmachine_async.cli.importing.reader import Input, Reading

# Rejected rows in the summary; the file of --rejects has all of them.
SHOWN = 10


class Ending(Enum):
    """The reason for the end of an import."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNUSABLE = "unusable"
    FAILED = "failed"


STATUS = {
    Ending.INTERRUPTED: exit_codes.INTERRUPTED,
    Ending.REFUSED: exit_codes.REFUSED,
    Ending.UNAVAILABLE: exit_codes.UNAVAILABLE,
    Ending.UNUSABLE: exit_codes.USAGE,
    Ending.FAILED: exit_codes.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """
    The inputs of an import and its options.

    Attributes:
        inputs: The inputs, in order.
        reading: The options for reading them.
        token: The token of the agent.
        secret: The secret of the agent.
        base_url: The URL of the API; None for the default.
        transport: Further arguments of `HttpTransport`.
        batch: The largest number of messages in a request.
        concurrency: The number of requests at once.
        rate: The largest number of rows per second; None for no limit.
        give_up_after: Seconds without an answer before giving up.
        dry_run: Whether to send nothing.
        checkpoints: The checkpoint of each input; None for an input without one.
        resume: Whether to continue from the checkpoints.
        rejects: The file of rejected rows; None for none.
    """

    inputs: tuple[Input, ...]
    reading: Reading
    token: str = field(repr=False)
    secret: str = field(repr=False)
    base_url: str | None
    transport: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    batch: int
    concurrency: int
    rate: float | None
    give_up_after: float
    dry_run: bool
    checkpoints: tuple[Path | None, ...]
    resume: bool
    rejects: Path | None


@dataclass(slots=True, kw_only=True)
class InputResult:
    """
    The result of one input, including earlier runs.

    Attributes:
        name: The name of the input.
        delivered: Rows that were delivered.
        rejected: Rows that were rejected.
        skipped: Rows that were skipped.
        headers: Repeated headers among the skipped rows.
        resumed: Rows that an earlier run had settled.
        checkpoint: The checkpoint to resume from; None if there is none.
        done: Whether all rows are settled.
    """

    name: str
    delivered: int = 0
    rejected: int = 0
    skipped: int = 0
    headers: int = 0
    resumed: int = 0
    checkpoint: Path | None = None
    done: bool = False

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.delivered + self.rejected + self.skipped


@dataclass(slots=True, kw_only=True)
class ImportResults:
    """
    The result of an import.

    Attributes:
        dry_run: Whether nothing was sent; "delivered" then counts the valid rows.
        inputs: The inputs that were begun.
        ending: The reason for the end.
        error: The reason for an early end; empty without one.
        unanswered: Messages that were sent and have no answer; `--resume` sends them again with the same ids.
        seconds: The duration.
        retries: The number of repeated requests.
        rejects: The file of rejected rows; None without one.
        shown: The first rejected rows of this run: input, line, reason.
    """

    dry_run: bool
    inputs: list[InputResult] = field(default_factory=list[InputResult])
    ending: Ending = Ending.DONE
    error: str = ""
    unanswered: int = 0
    seconds: float = 0.0
    retries: int = 0
    rejects: Path | None = None
    shown: list[tuple[str, int, str]] = field(default_factory=list[tuple[str, int, str]])

    @property
    def rows(self) -> int:
        """Rows that are settled."""
        return sum(each.rows for each in self.inputs)

    @property
    def delivered(self) -> int:
        """Rows that were delivered."""
        return sum(each.delivered for each in self.inputs)

    @property
    def rejected(self) -> int:
        """Rows that were rejected."""
        return sum(each.rejected for each in self.inputs)

    @property
    def skipped(self) -> int:
        """Rows that were skipped."""
        return sum(each.skipped for each in self.inputs)

    @property
    def headers(self) -> int:
        """Repeated headers among the skipped rows."""
        return sum(each.headers for each in self.inputs)

    @property
    def resumed(self) -> int:
        """Rows that an earlier run had settled."""
        return sum(each.resumed for each in self.inputs)

    @property
    def status(self) -> int:
        """The exit status."""
        return STATUS.get(self.ending, exit_codes.SOME_REJECTED if self.rejected else exit_codes.DONE)
