"""What a benchmark answers: tables, bars and notes, as text, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Bar:
    """
    A figure that was promised, and what it came to.

    Attributes:
        what: The promise in words.
        value: What was measured.
        limit: The bound.
        at_most: Whether the bound is an upper one.
        unit: Of both.
    """

    what: str
    value: float
    limit: float
    at_most: bool = True
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def text(self) -> str:
        """Return it as one line."""
        relation = "at most" if self.at_most else "at least"
        verdict = "met" if self.met else "MISSED"
        return f"{verdict}: {self.what}: {number(self.value)}{self.unit} ({relation} {number(self.limit)}{self.unit})"


@dataclass(frozen=True, slots=True)
class Table:
    """
    Figures in rows.

    Attributes:
        title: What they are.
        columns: Their names; the first column is text.
        rows: A cell is text, a number, or None for what does not apply.
    """

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str | float | None]]

    def cells(self) -> list[list[str]]:
        """Return header and rows as text."""
        return [
            list(self.columns),
            *([cell if isinstance(cell, str) else number(cell) for cell in row] for row in self.rows),
        ]


@dataclass(slots=True)
class Result:
    """
    What one file has to say.

    Attributes:
        name: The file.
        question: The one question.
        method: How it was measured, in a few sentences.
        tables: The figures.
        bars: The promises.
        notes: What else must be said: what was skipped, what is noisy.
        data: The figures for machines, and for the plots.
    """

    name: str
    question: str
    method: str
    tables: list[Table] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "name": self.name,
            "question": self.question,
            "tables": [{"title": table.title, "columns": table.columns, "rows": table.rows} for table in self.tables],
            "bars": [
                {"what": bar.what, "value": bar.value, "limit": bar.limit, "at_most": bar.at_most, "unit": bar.unit}
                | {"met": bar.met}
                for bar in self.bars
            ],
            "notes": self.notes,
            "data": self.data,
        }

    def as_text(self) -> str:
        """Return it for a terminal."""
        parts = [f"{self.name}: {self.question}", self.method]
        parts += [f"{table.title}\n{_aligned(table.cells())}" for table in self.tables]
        parts += ["\n".join(bar.text() for bar in self.bars)] if self.bars else []
        parts += ["\n".join(f"note: {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join(parts) + "\n"

    def as_markdown(self, plots: Iterable[str] = ()) -> str:
        """Return it as a section of a document."""
        parts = [f"## `{self.name}.py`: {self.question}", self.method]
        parts += [f"**{table.title}**\n\n{markdown(table.cells())}" for table in self.tables]
        parts += ["\n".join(f"* {bar.text()}" for bar in self.bars)] if self.bars else []
        parts += ["\n".join(f"* Note: {note}" for note in self.notes)] if self.notes else []
        parts += [f"![{self.question}](plots/{plot})" for plot in plots]
        return "\n\n".join(parts) + "\n"


def number(value: float | None) -> str:
    """Return a figure with as many digits as mean something."""
    if value is None:
        return ""
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    magnitude = abs(value)
    return f"{value:,.0f}" if magnitude >= 1000 else f"{value:.1f}" if magnitude >= 100 else f"{value:.3g}"


def _aligned(cells: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown(cells: list[list[str]]) -> str:
    """Return a header and rows as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "| --- |" + " ---: |" * (len(cells[0]) - 1), *lines[1:]])
