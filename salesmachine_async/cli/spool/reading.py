"""Reading of directories, with a progress bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from salesmachine_async.cli.terminal import err, fail

if TYPE_CHECKING:
    from salesmachine_async._spool.pieces import LogPiece
    from salesmachine_async._spool.survey import Found, Survey


def pieces(survey: Survey, found: Found, progress: Callable[[int], None] | None = None) -> Iterator[LogPiece]:
    """
    Yield the messages of a directory, and add them up in *found*.

    A directory that another process removes during the reading is settled; one that the disk does not give is noted.
    """
    if found.problem:
        return
    try:
        yield from survey.read(found, progress)
    except FileNotFoundError:
        return
    except OSError as error:
        found.problem = error.strerror or type(error).__name__


def read_all(survey: Survey, directories: Sequence[Found]) -> None:
    """Read everything, for the counts."""
    total = sum(found.disk_bytes for found in directories)
    with _bar("reading", total) as advance:
        for found in directories:
            for _ in pieces(survey, found, advance):
                pass


@contextmanager
def _bar(verb: str, total: int) -> Generator[Callable[[int], None]]:
    from rich.progress import DownloadColumn, TransferSpeedColumn  # noqa: PLC0415 - --help does not need it

    from salesmachine_async.cli.live import LiveProgress, is_live  # noqa: PLC0415

    console = err()
    if not total or not is_live(console):
        yield lambda _: None
        return
    with LiveProgress(console, (DownloadColumn(), TransferSpeedColumn()), time.monotonic) as progress:
        task = progress.add_task(verb, total=total)

        def advance(count: int) -> None:
            progress.advance(task, count)
            progress.draw(())

        yield advance


def check_readable(directories: Sequence[Found]) -> None:
    """
    End the command if a directory could not be read.

    Raises:
        click.exceptions.Exit: The first one that could not.
    """
    for found in directories:
        if found.problem:
            fail(f"cannot read directory {found.name}: {found.problem}")
        if found.unreadable:
            fail(f"cannot read segment {found.unreadable[0]} of directory {found.name}")
