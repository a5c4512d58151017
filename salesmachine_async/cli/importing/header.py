"""The header of CSV against what the user said about it."""

from __future__ import annotations

from collections.abc import Iterable

from salesmachine_async.cli.importing.column_options import UIDS, ColumnOptions
from salesmachine_async.cli.importing.source import InputProblem


def check_header(name: str, header: list[str], shape: ColumnOptions) -> None:
    """
    Find columns that are missing, doubled or nameless.

    Raises:
        InputProblem: The rows of the input *name* cannot become messages.
    """
    ours = [column for each in header if (column := shape.names.get(each, each))]
    there = f"it has: {', '.join(header)}"
    if len(header) == 1 and (hint := _other_delimiter(header[0])):
        raise InputProblem(f"{name} has a single column, {header[0]}; are they separated by {hint}? Use --delimiter")
    if "" in header:
        raise InputProblem(f"{name}: column {header.index('') + 1} of the header has no name")
    if twice := _twice(header) or _twice(ours):
        raise InputProblem(f'{name} has two columns for "{twice}"; {there}')
    if missing := [column for column in shape.names if column not in header]:
        raise InputProblem(f'{name} has no column "{missing[0]}" to --map; {there}')
    known = {*ours, *shape.constants}
    if missing := [column for column in shape.types if column != "*" and column not in known]:
        raise InputProblem(f'{name} has no column "{missing[0]}" for --types; {there}')
    if shape.kind is None and "method" not in known:
        raise InputProblem(f"{name}: say what its rows are with --type contact, account, event, pageview or alias")
    if shape.kind is not None and (missing := [uid for uid in UIDS[shape.kind] if uid not in known]):
        say = f"--map COLUMN={missing[0]}" + (", or give all the same with --set" if missing[0] == "event_uid" else "")
        raise InputProblem(f'{name} has no column "{missing[0]}"; say which one it is with {say}; {there}')


def _other_delimiter(column: str) -> str | None:
    return next(
        (told for sign, told in ((";", "';'"), ("\t", "a tab"), ("|", "'|'"), (",", "','")) if sign in column), None
    )


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]
