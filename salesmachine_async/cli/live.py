"""A progress bar with lines below it, for the import and the demo."""

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column

FRAME_SECONDS = 0.25


class LiveProgress(Progress):
    """
    A progress bar that is drawn by its caller, at most every `FRAME_SECONDS`.

    rich's own refresh thread would compete with the event loop for the interpreter at random moments.

    Args:
        console: A terminal.
        columns: Further columns after the description and the bar.
        clock: A monotonic clock.
    """

    def __init__(self, console: Console, columns: Sequence[ProgressColumn], clock: Callable[[], float]) -> None:
        self._next_frame = 0.0
        self._lines: Sequence[RenderableType] = ()
        description = TextColumn(
            "{task.description}", style="bold", markup=False, table_column=Column(no_wrap=True, max_width=28)
        )
        bar = BarColumn(24, complete_style="cyan", finished_style="cyan")
        super().__init__(
            description, bar, *columns, console=console, auto_refresh=False, transient=True, get_time=clock
        )

    def draw(self, lines: Sequence[RenderableType], *, now: bool = False) -> None:
        """Draw a frame with *lines* below the bar, if the last frame is old enough or *now*."""
        if now or self.get_time() >= self._next_frame:
            self._next_frame = self.get_time() + FRAME_SECONDS
            self._lines = lines
            self.refresh()

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bar and the lines."""
        return [self.make_tasks_table([task for task in self.tasks if task.visible]), *self._lines]


def is_live(console: Console) -> bool:
    """Whether the console can show a live display."""
    return console.is_terminal and not console.is_dumb_terminal
