"""Options that describe rows, and the header of CSV checked against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from salesmachine_async.cli.importing.source import InputProblem

# The uids of each kind of row.
UIDS: dict[str, tuple[str, ...]] = {
    "contact": ("contact_uid",),
    "account": ("account_uid",),
    "event": ("contact_uid", "event_uid"),
    "pageview": ("contact_uid",),
    "alias": ("contact_uid", "alias"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnOptions:
    """
    The options that convert rows to messages.

    Attributes:
        kind: The kind of all rows (``--type``); None if each row says its own.
        names: New names of columns; an empty one leaves the column out (``--map``).
        constants: Values for rows without one (``--set``).
        types: The conversion of each column, by its new name; ``*`` is all other columns (``--types``).
        sdk: The SDK whose records the rows are (``--from``); None for messages of this API.
    """

    kind: str | None = None
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    constants: Mapping[str, str] = field(default_factory=dict[str, str])
    types: Mapping[str, str] = field(default_factory=dict[str, str])
    sdk: str | None = None


def check_header(name: str, header: list[str], options: ColumnOptions) -> None:
    """
    Find columns that are missing, duplicate or without a name.

    Raises:
        InputProblem: If the rows of the input *name* cannot become messages.
    """
    renamed = [column for each in header if (column := options.names.get(each, each))]
    found = f"it has: {', '.join(header)}"
    if len(header) == 1 and (hint := _other_delimiter(header[0])):
        raise InputProblem(f"{name} has a single column, {header[0]}; are they separated by {hint}? Use --delimiter")
    if "" in header:
        raise InputProblem(f"{name}: column {header.index('') + 1} of the header has no name")
    if duplicate := _duplicate(header) or _duplicate(renamed):
        raise InputProblem(f'{name} has two columns for "{duplicate}"; {found}')
    if missing := [column for column in options.names if column not in header]:
        raise InputProblem(f'{name} has no column "{missing[0]}" to --map; {found}')
    known = {*renamed, *options.constants}
    if missing := [column for column in options.types if column != "*" and column not in known]:
        raise InputProblem(f'{name} has no column "{missing[0]}" for --types; {found}')
    if options.kind is None and "method" not in known:
        raise InputProblem(f"{name}: name the kind of its rows with --type contact, account, event, pageview or alias")
    if options.kind is not None and (missing := [uid for uid in UIDS[options.kind] if uid not in known]):
        fix = f"--map COLUMN={missing[0]}" + (", or give all the same with --set" if missing[0] == "event_uid" else "")
        raise InputProblem(f'{name} has no column "{missing[0]}"; name one with {fix}; {found}')


def _other_delimiter(column: str) -> str | None:
    return next(
        (hint for sign, hint in ((";", "';'"), ("\t", "a tab"), ("|", "'|'"), (",", "','")) if sign in column), None
    )


def _duplicate(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
