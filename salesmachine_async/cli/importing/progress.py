"""The progress of an import on stderr: a bar on a terminal, else a line every ten seconds, and one on SIGUSR1."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, Task, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from salesmachine_async.cli.live import LiveProgress, is_live
from salesmachine_async.cli.signal_handlers import signal_handlers
from salesmachine_async.cli.terminal import harmless

LINE_SECONDS = 10.0
# The window of the rate, which shows the speed of the server now and not before an outage.
WINDOW_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportStatus:
    """
    The status of an import.

    Attributes:
        name: The input.
        rows: Rows with an answer, including earlier runs.
        delivered: Rows that were delivered.
        rejected: Rows that were rejected.
        waiting: Rows without an answer.
        share: The completed share of the file, from 0 to 1; None for a pipe.
        note: The reason of a delay; empty if there is none.
        verb: The word for delivered rows.
    """

    name: str
    rows: int
    delivered: int
    rejected: int
    waiting: int
    share: float | None
    note: str = ""
    verb: str = "delivered"


class QuietProgress:
    """
    Prints nothing except the status on request.

    Args:
        console: The console.
        clock: A monotonic clock.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        # Measures the rate and the time left; only ProgressBar shows it.
        self._progress = self._make_progress()
        self._progress.speed_estimate_period = WINDOW_SECONDS
        self._rows = self._progress.add_task("rows", total=None, visible=False)
        self._share = self._progress.add_task("", total=None)

    def _make_progress(self) -> Progress:
        return Progress(console=self._console, auto_refresh=False, get_time=self._clock, disable=True)

    def __enter__(self) -> Self:
        """Enter."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave."""

    def begin_input(self, name: str) -> None:
        """Forget the rate and the time left of the input before."""
        self._progress.reset(self._rows)
        self._progress.reset(self._share, description=harmless(name), total=None)

    def measure(self, status: ImportStatus) -> None:
        """Update the rate and the time left."""
        self._progress.update(self._rows, completed=status.rows)
        if status.share is not None:
            self._progress.update(self._share, total=1.0, completed=status.share)

    def say(self, text: str, style: str = "") -> None:
        """Print an event."""

    def answer(self, status: ImportStatus | None) -> None:
        """Print the status on request."""
        text = "the import has not begun" if status is None else self.line(status)
        self._console.print(Text(harmless(text)), soft_wrap=True)

    def update(self, status: ImportStatus) -> None:
        """Show the status; called several times a second."""
        self.measure(status)

    def line(self, status: ImportStatus) -> str:
        """Return the status in one line."""
        parts = [f"{status.name}: {status.rows:,} rows", f"{self.rate:,.0f} rows/s", f"{status.rejected:,} rejected"]
        if status.share is not None:
            parts.append(f"{status.share:.0%}")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join(parts + [status.note] * bool(status.note))

    @property
    def rate(self) -> float:
        """Rows per second, measured over the last seconds."""
        return self._task(self._rows).speed or 0.0

    @property
    def seconds_left(self) -> float | None:
        """The estimated time left; None if unknown."""
        return self._task(self._share).time_remaining

    def _task(self, number: TaskID) -> Task:
        return self._progress.tasks[self._progress.task_ids.index(number)]


class LineProgress(QuietProgress):
    """
    Prints a line every ten seconds, for logs and pipes.

    Args:
        console: The console.
        clock: A monotonic clock.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock)
        self._next = clock() + LINE_SECONDS

    def say(self, text: str, style: str = "") -> None:
        """Print a line."""
        self._console.print(Text(harmless(text), style), soft_wrap=True)

    def update(self, status: ImportStatus) -> None:
        """Print a line if the last one is old enough."""
        self.measure(status)
        if self._clock() >= self._next:
            self._next = self._clock() + LINE_SECONDS
            self.say(self.line(status))


class ProgressBar(LineProgress):
    """A bar at the bottom of the terminal; events are printed above it."""

    _progress: LiveProgress

    def _make_progress(self) -> LiveProgress:
        columns = (TaskProgressColumn(), TextColumn("{task.fields[left]}"))
        return LiveProgress(self._console, columns, self._clock)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.update(self._share, left="")
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar and show the cursor."""
        self._progress.stop()

    def update(self, status: ImportStatus) -> None:
        """Draw the bar."""
        self.measure(status)
        left = "" if self.seconds_left is None else f"{duration(self.seconds_left)} left"
        self._progress.update(self._share, left=left)
        counts = Text.assemble(
            (f"{status.rows:,}", "bold"),
            f" rows  {self.rate:,.0f} rows/s  ",
            (f"{status.delivered:,}", "bold green"),
            f" {status.verb}  ",
            (f"{status.rejected:,}", "bold red" if status.rejected else "bold green"),
            " rejected  ",
            f"{status.waiting:,} waiting",
        )
        self._progress.draw([counts, *([Text(harmless(status.note), "yellow")] if status.note else [])])


def duration(seconds: float) -> str:
    """Format a duration."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def make_progress(console: Console, *, quiet: bool) -> QuietProgress:
    """Return the display for *console*."""
    if quiet:
        return QuietProgress(console)
    return ProgressBar(console) if is_live(console) else LineProgress(console)


@contextlib.contextmanager
def status_signal(answer: Callable[[], None]) -> Generator[None]:
    """Call *answer* on SIGUSR1, and on SIGINFO (Ctrl-T) where it exists."""
    numbers = [number for name in ("SIGUSR1", "SIGINFO") if (number := getattr(signal, name, None)) is not None]
    with signal_handlers(numbers, lambda _: answer()):
        yield
