"""The progress of the demo on stderr: a live display on a terminal, else plain lines."""

import dataclasses
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text

from salesmachine_async.cli.demo.figures import Latency
from salesmachine_async.cli.live import LiveProgress, is_live
from salesmachine_async.report import State, Stats


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DemoStatus:
    """
    The status of the demo.

    Attributes:
        side: The shop that is visited, such as "with tracking".
        share: The completed share of the round, from 0 to 1.
        requests: Requests served in this round.
        fault: The fault of the sandbox in this round; empty if there is none.
        stats: The counts of the agent.
    """

    side: str
    share: float
    requests: int
    fault: str
    stats: Stats


class Screen(Protocol):
    """The display of a run."""

    def step(self, text: str) -> None:
        """Show the current step."""

    def update(self, status: DemoStatus) -> None:
        """Show the current figures; called ten times a second."""

    def round_done(self, number: int, side: str, latency: Latency, fault: str) -> None:
        """Show the results of a round."""


class PlainScreen:
    """
    A line for each event.

    Args:
        console: The console.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        """Enter."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave."""

    def step(self, text: str) -> None:
        """Print a line."""
        self._console.print(f"{text} ...", markup=False, soft_wrap=True)

    def update(self, status: DemoStatus) -> None:
        """Show nothing, because lines cannot be replaced."""

    def round_done(self, number: int, side: str, latency: Latency, fault: str) -> None:
        """Print a line."""
        self._console.print(_round_line(number, side, latency, fault), soft_wrap=True)


class LiveScreen(PlainScreen):
    """
    Prints the lines of `Screen`, and below them a progress bar with figures.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = LiveProgress(console, (TextColumn("{task.fields[requests]:,} requests"),), time.monotonic)
        self._redraw = False
        self._round = self._progress.add_task("", total=1.0, visible=False, requests=0)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar and show the cursor."""
        self._progress.stop()

    def update(self, status: DemoStatus) -> None:
        """Draw the bar and the figures."""
        self._progress.update(
            self._round,
            description=status.side,
            completed=status.share,
            requests=status.requests,
            visible=True,
        )
        self._progress.draw(figures(status), now=self._redraw)
        self._redraw = False

    def round_done(self, number: int, side: str, latency: Latency, fault: str) -> None:
        """Print a line above the bar."""
        super().round_done(number, side, latency, fault)
        self._redraw = True


def figures(status: DemoStatus) -> list[Text]:
    """Return the lines below the bar."""
    stats = status.stats
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
    answer = f"sandbox   {status.fault or 'healthy'}"
    if stats.state in (State.PAUSED, State.PARKED):
        answer += "  (delivery pauses, the shop does not)"
    return [messages, Text(answer, "yellow" if status.fault else "dim")]


def make_screen(console: Console) -> PlainScreen:
    """Return the screen for *console*."""
    return LiveScreen(console) if is_live(console) else PlainScreen(console)


def _round_line(number: int, side: str, latency: Latency, fault: str) -> Text:
    figures = f"{latency.requests:>6,} requests  p50 {latency.p50:5.2f}  p99 {latency.p99:5.2f} ms"
    shown_fault = f"  {fault}" if fault else ""
    return Text.assemble((f"  {number}  ", "dim"), f"{side:<17}", figures, (shown_fault, "yellow"))
