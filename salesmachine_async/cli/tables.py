"""Rows of a command: a table on a terminal, else one JSON object for each, or one for all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from salesmachine_async.cli.terminal import (
    ascii_json,
    emit,
    harmless,
    harmless_json,
    on_terminal,
    out,
    reader_left,
    takes_unicode,
)


def emit_json(document: Any) -> None:
    """Print data as one line of JSON that cannot control a terminal."""
    emit(safe_json(json.dumps(document, ensure_ascii=False)))


def safe_json(text: str) -> str:
    """Escape what could control a terminal, or what stdout cannot show, within encoded JSON."""
    return harmless_json(text) if takes_unicode() else ascii_json(text)


def print_rows(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    documents: Iterable[Mapping[str, Any]],
    *,
    whole: Mapping[str, Any] | None = None,
) -> None:
    """
    Print rows.

    Args:
        headers: Of the columns; those that begin with a blank are aligned to the right. A column whose cells are all
            empty is left out.
        rows: The cells of the rows, for a terminal.
        documents: The rows as data, for a pipe or a file.
        whole: One object with everything, printed in place of both; None if ``--json`` was not given.
    """
    if whole is not None:
        emit_json(whole)
    elif on_terminal():
        _print_table(headers, rows)
    else:
        for document in documents:
            emit_json(document)


def _print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - --help does not need it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = [[harmless(cell) for cell in row] for row in rows]
    used = [number for number in range(len(headers)) if number == 0 or any(row[number] for row in shown)]
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    for number in used:
        right = headers[number].startswith(" ")
        # A part of a name, of a fingerprint or of a number is useless; text gives way.
        no_wrap = right or not any(" " in row[number] for row in shown)
        table.add_column(headers[number].strip(), justify="right" if right else "left", no_wrap=no_wrap)
    for row in shown:
        table.add_row(*(Text(row[number]) for number in used))
    try:
        out().print(table)
    except BrokenPipeError:
        reader_left()
