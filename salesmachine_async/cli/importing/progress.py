"""How an import is getting on: on a terminal a bar, elsewhere a line now and then. All of it on stderr."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from salesmachine_async.cli.terminal import harmless

FRAME_SECONDS = 0.25
LINE_SECONDS = 10.0
# The rate is that of the last seconds: what the server does now, not what it did before an outage.
WINDOW_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportStatus:
    """
    The import right now.

    Attributes:
        name: The input.
        rows: Rows answered for, in this run or before.
        delivered: Those the server has taken.
        rejected: Those it never will.
        waiting: Rows under way.
        rate: Rows a second, lately.
        share: How much of the file is done, from 0 to 1; None for a pipe.
        seconds_left: How long the rest will take; None when nobody can know.
        note: What holds it up; empty when nothing does.
        verb: What has become of those that were delivered.
    """

    name: str
    rows: int
    delivered: int
    rejected: int
    waiting: int
    rate: float
    share: float | None
    seconds_left: float | None
    note: str = ""
    verb: str = "delivered"

    def told(self) -> str:
        """Tell it in one line."""
        parts = [f"{self.name}: {self.rows:,} rows", f"{self.rate:,.0f} rows/s", f"{self.rejected:,} rejected"]
        if self.share is not None:
            parts.append(f"{self.share:.0%}")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join(parts + [self.note] * bool(self.note))


class Meter:
    """
    Makes a rate and a forecast of what is counted.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int, float]] = deque()

    def restart(self) -> None:
        """Forget what was counted: another input begins."""
        self._seen.clear()

    def read(self, rows: int, share: float | None) -> tuple[float, float | None]:
        """Return rows a second, and the seconds left."""
        now, seen = self._clock(), self._seen
        seen.append((now, rows, share or 0.0))
        while len(seen) > 2 and now - seen[1][0] >= WINDOW_SECONDS:
            seen.popleft()
        then, rows_then, share_then = seen[0]
        seconds = now - then
        if seconds <= 0:
            return 0.0, None
        rate = max(0.0, (rows - rows_then) / seconds)
        if share is None or share <= share_then:
            return rate, None
        return rate, (1 - share) * seconds / (share - share_then)


class Quiet:
    """
    Shows nothing unless it is asked for.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        """Enter; there is nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; there is nothing to restore."""

    def say(self, text: str, style: str = "") -> None:
        """Tell what happened."""

    def answer(self, text: str) -> None:
        """Tell what somebody has asked for."""
        self._console.print(Text(harmless(text)), soft_wrap=True)

    def update(self, moment: ImportStatus) -> None:
        """Show how it is getting on; called several times a second."""


class Lines(Quiet):
    """
    A line now and then, for logs and pipes.

    Args:
        console: Where to.
        clock: Monotonic seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console)
        self._clock = clock
        self._next = clock() + LINE_SECONDS

    def say(self, text: str, style: str = "") -> None:
        """Write a line."""
        self._console.print(Text(harmless(text), style), soft_wrap=True)

    def update(self, moment: ImportStatus) -> None:
        """Write a line, if the last one is old enough."""
        if self._clock() >= self._next:
            self._next = self._clock() + LINE_SECONDS
            self.say(moment.told())


class Bar(Lines):
    """
    A bar that follows the import; what happens is written above it.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        # No thread that redraws: frames come from the event loop, when there is something new.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._next_frame = 0.0

    def __enter__(self) -> Self:
        """Take over the bottom of the terminal."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back: the bar vanishes, the cursor returns."""
        self._live.stop()

    def update(self, moment: ImportStatus) -> None:
        """Draw it, if the last frame is old enough."""
        now = self._clock()
        if now >= self._next_frame:
            self._next_frame = now + FRAME_SECONDS
            self._live.update(panel(moment), refresh=True)


def panel(moment: ImportStatus) -> Group:
    """Draw one moment."""
    top = Table.grid(padding=(0, 2))
    top.add_column(no_wrap=True, overflow="ellipsis", max_width=28)
    top.add_column(width=24)
    top.add_column(no_wrap=True)
    known = moment.share is not None
    bar = ProgressBar(
        total=1.0 if known else None,
        completed=moment.share or 0.0,
        width=24,
        pulse=not known,
        complete_style="cyan",
        finished_style="cyan",
    )
    left = "" if moment.seconds_left is None else f"{duration(moment.seconds_left)} left"
    top.add_row(Text(harmless(moment.name), "bold"), bar, f"{moment.share:>4.0%}  {left}" if known else "")
    counts = Text.assemble(
        (f"{moment.rows:,}", "bold"),
        f" rows  {moment.rate:,.0f} rows/s  ",
        (f"{moment.delivered:,}", "bold green"),
        f" {moment.verb}  ",
        (f"{moment.rejected:,}", "bold red" if moment.rejected else "bold green"),
        " rejected  ",
        f"{moment.waiting:,} waiting",
    )
    return Group(top, counts, *([Text(harmless(moment.note), "yellow")] if moment.note else []))


def duration(seconds: float) -> str:
    """Tell a time as people do."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def make_progress(console: Console, *, quiet: bool) -> Quiet:
    """Choose what fits *console*."""
    if quiet:
        return Quiet(console)
    return Bar(console) if console.is_terminal and not console.is_dumb_terminal else Lines(console)
