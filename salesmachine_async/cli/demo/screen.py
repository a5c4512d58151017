"""What is shown while the demo runs: a live panel on a terminal, plain lines elsewhere. All of it on stderr."""

import dataclasses
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from salesmachine_async.cli.demo.figures import Latency
from salesmachine_async.report import State, Stats

# The screen is drawn in the process that serves the shop: a frame takes about a millisecond, in which no request is
# served. Four a second stay far below the one in a hundred requests that make the p99.
FRAME_SECONDS = 0.25


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DemoStatus:
    """
    The demo right now.

    Attributes:
        side: Which shop is visited: "with tracking", for example.
        share: How much of the round is over, from 0 to 1.
        requests: Requests served in this round.
        trouble: What the sandbox does wrong in it, or "".
        stats: The agent's counts.
    """

    side: str
    share: float
    requests: int
    trouble: str
    stats: Stats


class Screen(Protocol):
    """What the conductor tells."""

    def step(self, text: str) -> None:
        """Say what is being done now."""

    def update(self, moment: DemoStatus) -> None:
        """Show the current figures, if that is possible; called ten times a second."""

    def round_done(self, number: int, side: str, latency: Latency, trouble: str) -> None:
        """Show what one round measured."""


class PlainScreen:
    """
    One line for each thing that happened.

    Args:
        console: Where to write.
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

    def step(self, text: str) -> None:
        """Write a line."""
        self._console.print(f"{text} ...", markup=False, soft_wrap=True)

    def update(self, moment: DemoStatus) -> None:
        """Show nothing: lines can't be taken back."""

    def round_done(self, number: int, side: str, latency: Latency, trouble: str) -> None:
        """Write a line."""
        self._console.print(_round_line(number, side, latency, trouble), soft_wrap=True)


class LiveScreen(PlainScreen):
    """
    The same lines, and below them a panel that follows the figures.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        # No refresh thread: it would take the GIL from the shop at random moments.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._next_frame = 0.0

    def __enter__(self) -> Self:
        """Take over the bottom of the terminal."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back: the panel vanishes, the cursor returns."""
        self._live.stop()

    def update(self, moment: DemoStatus) -> None:
        """Draw the panel, if the last frame is old enough."""
        now = time.monotonic()
        if now >= self._next_frame:
            self._next_frame = now + FRAME_SECONDS
            self._live.update(panel(moment), refresh=True)

    def round_done(self, number: int, side: str, latency: Latency, trouble: str) -> None:
        """Write a line above the panel."""
        super().round_done(number, side, latency, trouble)
        self._next_frame = 0.0


def panel(moment: DemoStatus) -> Group:
    """Draw the figures of one moment."""
    stats = moment.stats
    top = Table.grid(padding=(0, 2))
    top.add_column(width=17, no_wrap=True)
    top.add_column(width=24)
    top.add_column(no_wrap=True)
    bar = ProgressBar(total=1.0, completed=moment.share, width=24, complete_style="cyan", finished_style="cyan")
    top.add_row(Text(moment.side, "bold"), bar, f"{moment.requests:,} requests")
    messages = Text.assemble(
        "messages  ",
        (f"{stats.accepted:,}", "bold"),
        " accepted  ",
        (f"{stats.delivered:,}", "bold green"),
        " delivered  ",
        (f"{stats.queued + stats.in_flight:,}", "bold"),
        " waiting  ",
        (f"{sum(stats.lost.values()):,}", "bold red" if stats.lost else "bold green"),
        " lost",
    )
    answer = f"sandbox   {moment.trouble or 'healthy'}"
    if stats.state in (State.PAUSED, State.PARKED):
        answer += "  (delivery pauses, the shop does not)"
    return Group("", top, messages, Text(answer, "yellow" if moment.trouble else "dim"))


def make_screen(console: Console) -> PlainScreen:
    """Choose the screen that fits *console*."""
    live = console.is_terminal and not console.is_dumb_terminal
    return LiveScreen(console) if live else PlainScreen(console)


def _round_line(number: int, side: str, latency: Latency, trouble: str) -> Text:
    figures = f"{latency.requests:>6,} requests  p50 {latency.p50:5.2f}  p99 {latency.p99:5.2f} ms"
    fault = f"  {trouble}" if trouble else ""
    return Text.assemble((f"  {number}  ", "dim"), f"{side:<17}", figures, (fault, "yellow"))
