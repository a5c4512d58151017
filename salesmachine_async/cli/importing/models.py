"""What an import is to do, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from salesmachine_async.cli import exit_codes
from salesmachine_async.cli.importing.reader import Input, Reading

# Rejected rows that are shown; all of them are in the file of --rejects.
SHOWN = 10


class Ending(Enum):
    """How an import ended."""

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
    What an import is to do.

    Attributes:
        inputs: In this order.
        reading: How to read them.
        token: As of the agent.
        secret: As of the agent.
        base_url: As of the agent.
        transport: Further arguments of `HttpTransport`.
        batch: Messages in a request, at most.
        concurrency: Requests at once.
        rate: Rows a second at most; None: as fast as the server takes them.
        give_up_after: Seconds without an answer.
        dry_run: Whether to send nothing.
        checkpoints: For each input where its checkpoint is; None: it has none.
        resume: Whether to go on where the checkpoints say.
        rejects: Where the rejected rows go; None: nowhere.
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
    What came of one input, the runs before this one included.

    Attributes:
        name: Which.
        delivered: Rows the server has taken.
        rejected: Rows that will never arrive.
        skipped: Rows that are nothing the tracking API has.
        resumed: Those of all three that an earlier run had settled.
        checkpoint: Where it can be gone on from; None: it is done, or cannot.
        done: Whether all of it is answered for.
    """

    name: str
    delivered: int = 0
    rejected: int = 0
    skipped: int = 0
    resumed: int = 0
    checkpoint: Path | None = None
    done: bool = False

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.delivered + self.rejected + self.skipped


@dataclass(slots=True, kw_only=True)
class ImportResults:
    """
    What an import came to.

    Attributes:
        dry_run: Whether nothing was sent: "delivered" then means that it could be.
        inputs: Those that were begun.
        ending: How it ended.
        error: Why, unless it is done.
        unanswered: Rows that were sent and have no answer; `--resume` sends them again, with the same ids.
        seconds: How long it took.
        retries: Requests that were repeated.
        rejects: The file of the rejected rows; None without one.
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
        """Rows that are answered for."""
        return sum(each.rows for each in self.inputs)

    @property
    def delivered(self) -> int:
        """Rows the server has taken."""
        return sum(each.delivered for each in self.inputs)

    @property
    def rejected(self) -> int:
        """Rows that will never arrive."""
        return sum(each.rejected for each in self.inputs)

    @property
    def skipped(self) -> int:
        """Rows that are nothing the tracking API has."""
        return sum(each.skipped for each in self.inputs)

    @property
    def resumed(self) -> int:
        """Rows that an earlier run had settled."""
        return sum(each.resumed for each in self.inputs)

    @property
    def status(self) -> int:
        """The exit status."""
        return STATUS.get(self.ending, exit_codes.SOME_REJECTED if self.rejected else exit_codes.DONE)
