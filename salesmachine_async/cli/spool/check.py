"""``salesmachine spool check``: read a spool completely, and report damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from salesmachine_async.cli.exit_codes import FAILED
from salesmachine_async.cli.options import json_option
from salesmachine_async.cli.spool.directories import (
    as_data,
    destination_of_keys,
    directory_option,
    find,
    is_damaged,
    path_argument,
    state_of,
    survey_of,
)
from salesmachine_async.cli.spool.reading import read_all
from salesmachine_async.cli.tables import print_rows
from salesmachine_async.cli.terminal import fail, note

if TYPE_CHECKING:
    from salesmachine_async._spool.survey import Found

HEADERS = ("DIRECTORY", "STATE", " MESSAGES", " DAMAGED", " KEPT", " TORN", "UNREADABLE")


@click.command("check")
@path_argument
@directory_option
@json_option
def command(path: str | None, names: tuple[str, ...], *, as_json: bool) -> None:
    """
    Read a spool completely, verify every checksum, and report damage.

    It changes nothing. Damaged bytes are records that something has changed; agents skip
    them, count them and keep them in the directory's damaged/. Torn bytes are the record
    that a process was writing when it was killed: they are no damage.

    \b
      salesmachine spool check /var/lib/shop/salesmachine && echo whole
      salesmachine spool check --json | jq '.directories[] | select(.damaged_bytes > 0)'

    PATH is the spool of the agents; default: SALESMACHINE_SPOOL. Exit status: 0 no
    damage, 1 damage, 2 usage error or not a spool.
    """
    survey = survey_of(path)
    directories = find(survey, names)
    read_all(survey, directories)
    own = destination_of_keys()
    damaged = [found for found in directories if is_damaged(found)]
    documents = [as_data(found, own) for found in directories]
    rows = ((found.name, state_of(found, own), *_counts(found)) for found in directories)
    whole = {"ok": not damaged, "directories": documents}
    if directories or as_json:
        print_rows(HEADERS, rows, documents, whole=whole if as_json else None)
    messages = sum(found.messages for found in directories)
    if damaged:
        names_of = ", ".join(found.name for found in damaged)
        fail(f"damage in {len(damaged)} of {len(directories)} directories: {names_of}", code=FAILED)
    note(f"No damage: {messages:,} messages in {len(directories)} directories.")


def _counts(found: Found) -> tuple[str, ...]:
    unreadable = found.problem or ", ".join(f"segment {number}" for number in found.unreadable)
    counts = (found.messages, found.damaged_bytes, found.kept_bytes, found.torn_bytes)
    return (*(f"{count:,}" for count in counts), unreadable)
