"""``salesmachine spool ls``: list the directories of a spool."""

from __future__ import annotations

import click

from salesmachine_async.cli.options import json_option
from salesmachine_async.cli.spool.directories import (
    age,
    age_of,
    as_data,
    destination_of_keys,
    find,
    fingerprint,
    path_argument,
    state_of,
    survey_of,
    writer,
)
from salesmachine_async.cli.spool.reading import read_all
from salesmachine_async.cli.tables import print_rows
from salesmachine_async.cli.terminal import note, on_terminal

HEADERS = ("DIRECTORY", "STATE", " MESSAGES", " SIZE", " OLDEST", " REJECTED", "KEY", "WRITER")


@click.command("ls")
@path_argument
@json_option
def command(path: str | None, *, as_json: bool) -> None:
    """
    List the directories, with their owners and waiting messages.

    Prints a table on a terminal, in a pipe one JSON object per directory. Each process
    writes to a directory of its own. An orphan is what a dead process left: any agent
    with the same key delivers it, and so does `salesmachine spool drain`.

    \b
      salesmachine spool ls /var/lib/shop/salesmachine
      salesmachine spool ls --json | jq .oldest_seconds       # for an alert

    PATH is the spool of the agents; default: SALESMACHINE_SPOOL. The keys in the
    environment, if any, tell their own directories from those of other keys. Exit
    status: 0 listed, 2 usage error or not a spool.
    """
    _list(path, whole=as_json)


def _list(path: str | None, *, whole: bool) -> None:
    from rich.filesize import decimal  # noqa: PLC0415 - --help does not need it

    survey = survey_of(path)
    directories = find(survey)
    read_all(survey, directories)
    own = destination_of_keys()
    documents = [as_data(found, own) for found in directories]
    rows = (
        (
            found.name,
            state_of(found, own),
            f"{found.messages:,}",
            decimal(found.bytes),
            age(age_of(found.oldest_ms)) if found.messages else "",
            decimal(found.rejected_bytes) if found.rejected_bytes else "",
            "" if found.destination == own else fingerprint(found.destination),
            writer(found),
        )
        for found in directories
    )
    totals = {
        "messages": sum(found.messages for found in directories),
        "bytes": sum(found.bytes for found in directories),
        "disk_bytes": sum(found.disk_bytes for found in directories),
        "oldest_seconds": max((document["oldest_seconds"] for document in documents), default=0.0),
        "directories": documents,
    }
    if not directories and not whole and on_terminal():
        note("Nothing waits in this spool.")
    else:
        print_rows(HEADERS, rows, documents, whole=totals if whole else None)
