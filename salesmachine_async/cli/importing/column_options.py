"""What the user said about the rows: what they are, and what their columns are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# What each kind of row must name besides its params.
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
    How rows become messages: what the user said about them.

    Attributes:
        kind: What all rows are (``--type``); None: each says so itself.
        names: What columns are called: from the input's name to ours; "" leaves the column out (``--map``).
        constants: What rows have besides, where they have none of that name (``--set``).
        types: How the texts of a column are read (``--types``), by our name; ``*`` stands for all others.
    """

    kind: str | None = None
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    constants: Mapping[str, str] = field(default_factory=dict[str, str])
    types: Mapping[str, str] = field(default_factory=dict[str, str])
