"""``salesmachine spool export``: write the messages of a spool as ``salesmachine import`` takes them."""

from __future__ import annotations

import itertools

import click

from salesmachine_async.cli.spool.directories import directory_option, find, path_argument, survey_of
from salesmachine_async.cli.spool.messages import rejected, waiting
from salesmachine_async.cli.spool.reading import check_readable
from salesmachine_async.cli.tables import safe_json
from salesmachine_async.cli.terminal import emit, note, warn

# Messages that are written at once.
_CHUNK = 1000


@click.command("export")
@path_argument
@directory_option
@click.option("--rejected", "only_rejected", is_flag=True, help="Those that the server rejected, to be corrected.")
def command(path: str | None, names: tuple[str, ...], *, only_rejected: bool) -> None:
    """
    Write the waiting messages as NDJSON, as `import` takes them.

    One message per line, with its id: a server that knows ids counts a message
    once that is both imported and delivered from the spool. Nothing is removed.

    \b
      salesmachine spool export /var/lib/shop/salesmachine > waiting.ndjson
      salesmachine spool export --rejected > rejected.ndjson
      salesmachine import waiting.ndjson

    PATH is the spool of the agents; default: SALESMACHINE_SPOOL. Exit status: 0 written,
    1 a part of it is not readable, 2 usage error or not a spool.
    """
    survey = survey_of(path)
    directories = find(survey, names)
    messages = (rejected if only_rejected else waiting)(survey, directories)
    count = 0
    while chunk := list(itertools.islice(messages, _CHUNK)):
        count += len(chunk)
        emit(safe_json("\n".join(message.importable.decode(errors="replace") for message in chunk)))
    if live := sum(found.messages for found in directories if found.live):
        warn(f"{live:,} of the messages belong to running processes, which deliver them as well")
    note(f"{count:,} messages written.")
    check_readable(directories)
