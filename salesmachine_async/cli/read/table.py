"""A table printed row by row, in constant memory."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from salesmachine_async.access.objects import Record, Ref, Stage
from salesmachine_async.cli.terminal import harmless, reader_left

# For each list the header and the path of the value; "data.x" is a field of the application.
COLUMNS: Mapping[str, Sequence[tuple[str, str]]] = {
    "contacts": (
        ("ID", "id"),
        ("UID", "unique_id"),
        ("EMAIL", "data.email"),
        ("NAME", "data.name"),
        ("STAGE", "stage"),
        ("CREATED", "created_at"),
    ),
    "accounts": (
        ("ID", "id"),
        ("UID", "unique_id"),
        ("NAME", "data.name"),
        ("MRR", "data.mrr"),
        ("STAGE", "stage"),
        ("CREATED", "created_at"),
    ),
    "notes": (("ID", "id"), ("CREATED", "created_at"), ("AUTHOR", "author"), ("SUBJECT", "subject"), ("BODY", "body")),
    "activities": (
        ("ID", "id"),
        ("TYPE", "type"),
        ("COMPLETED", "completed_at"),
        ("SUBJECT", "subject"),
        ("NOTE", "note"),
    ),
    "tasks": (("ID", "id"), ("TYPE", "type"), ("STATUS", "status"), ("DUE", "due_at"), ("SUBJECT", "subject")),
    "users": (("ID", "id"), ("EMAIL", "email"), ("NAME", "name"), ("ROLE", "role"), ("ENABLED", "enabled")),
}

_GAP = 2
_MIN_WIDTH = 6


class StreamedTable:
    """
    A table whose column widths are those of the first rows.

    Args:
        kind: The list, see `COLUMNS`.
        console: A terminal.

    Attributes:
        shortened: Describes the columns that did not fit; empty when all do.
    """

    def __init__(self, kind: str, console: Console) -> None:
        self._columns = COLUMNS[kind]
        self._console = console
        self._widths: list[int] = []
        self.shortened = ""

    def add(self, items: Sequence[Record]) -> None:
        """
        Print *items*.

        Raises:
            click.exceptions.Exit: The terminal is closed.
        """
        rows = [[_shown(item, path) for _, path in self._columns] for item in items]
        if not rows:
            return
        try:
            if not self._widths:
                headers = [header for header, _ in self._columns]
                self._widths = _fitting([headers, *rows], self._console.width)
                hidden = [header for header, width in zip(headers, self._widths, strict=True) if not width]
                if hidden:
                    self.shortened = f"{self._console.width} columns have no room for {', '.join(hidden)}"
                self._print(headers, "bold")
            for row in rows:
                self._print(row, "")
        except BrokenPipeError:
            reader_left()

    def _print(self, cells: Sequence[str], style: str) -> None:
        line = Text(style=style)
        for cell, width in zip(cells, self._widths, strict=True):
            if not width:
                continue
            text = Text(cell)
            text.truncate(width, overflow="ellipsis", pad=True)
            line.append_text(text)
            line.append(" " * _GAP)
        line.rstrip()
        self._console.print(line, no_wrap=True, overflow="crop")


def _fitting(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the widths of the columns: narrowed from the widest on, and 0 for the last ones that do not fit."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    shown = len(widths)
    # The first column is never narrowed, because a part of an id is useless.
    while shown > 1 and sum(widths[:shown]) + _GAP * (shown - 1) > width:
        widest = max(range(1, shown), key=widths.__getitem__)
        if widths[widest] > _MIN_WIDTH:
            widths[widest] -= 1
        else:
            shown -= 1
            widths[shown] = 0
    return widths


def _shown(item: Record, path: str) -> str:
    head, _, rest = path.partition(".")
    value: Any = getattr(item, head)
    if rest:
        value = value.get(rest)
    match value:
        case None:
            return ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case Stage():
            value = value.name or value.id
        case Ref():
            value = value.id
        case bool():
            value = "yes" if value else "no"
        case _:
            pass
    return harmless(str(value))
