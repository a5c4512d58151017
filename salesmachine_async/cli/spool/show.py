"""``salesmachine spool show``: print messages of a spool."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import click

from salesmachine_async.cli.message_text import message_text
from salesmachine_async.cli.spool.directories import directory_option, find, iso, path_argument, survey_of
from salesmachine_async.cli.spool.messages import SpooledMessage, rejected, waiting
from salesmachine_async.cli.spool.reading import check_readable
from salesmachine_async.cli.tables import emit_json
from salesmachine_async.cli.terminal import harmless, note, on_terminal, out, reader_left

if TYPE_CHECKING:
    from rich.text import Text


@click.command("show")
@path_argument
@directory_option
@click.option("--rejected", "only_rejected", is_flag=True, help="Those that the server rejected, with its reason.")
@click.option("--limit", metavar="N", type=click.IntRange(1), default=20, help="Print at most N; default: 20.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, as in a pipe.")
def command(path: str | None, names: tuple[str, ...], *, only_rejected: bool, limit: int, as_json: bool) -> None:
    """
    Print the waiting messages, the oldest directory first.

    One line each on a terminal, one JSON object each in a pipe, with directory,
    partition, number and the time of writing. They are personal data of your users.

    \b
      salesmachine spool show /var/lib/shop/salesmachine
      salesmachine spool show --rejected --limit 100 | jq .error

    PATH is the spool of the agents; default: SALESMACHINE_SPOOL. Exit status: 0 printed,
    1 a part of it is not readable, 2 usage error or not a spool.
    """
    survey = survey_of(path)
    directories = find(survey, names)
    found = (rejected if only_rejected else waiting)(survey, directories)
    plain = as_json or not on_terminal()
    for message in itertools.islice(found, limit):
        _print(message, plain=plain)
    if next(found, None) is not None:
        note(f"There are more than {limit}; --limit prints more, `salesmachine spool export` all.")
    check_readable(directories)


def _print(message: SpooledMessage, *, plain: bool) -> None:
    content = _decoded(message.line)
    if plain:
        emit_json(_as_data(message, content))
        return
    try:
        out().print(_text(message, content), soft_wrap=True)
    except BrokenPipeError:
        reader_left()


def _decoded(line: bytes) -> dict[str, Any] | str:
    """Decode a message; one that is not a JSON object is returned as text."""
    import orjson  # noqa: PLC0415 - --help does not need it

    try:
        found: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        return cast("dict[str, Any]", found)
    return line.decode(errors="backslashreplace")


def _as_data(message: SpooledMessage, content: dict[str, Any] | str) -> dict[str, Any]:
    about: dict[str, Any] = {"directory": message.directory}
    if message.partition is not None:
        about |= {"partition": message.partition, "number": message.number, "written_at": iso(message.at_ms)}
    else:
        about |= {"rejected_at": iso(message.at_ms), "status": message.status, "error": message.error}
    return about | {"message": content}


def _text(message: SpooledMessage, content: dict[str, Any] | str) -> Text:
    from rich.text import Text  # noqa: PLC0415

    time = iso(message.at_ms)[:19].replace("T", " ")
    if isinstance(content, str):
        return Text(f"{time}  {harmless(content)}")
    line = message_text(time, "alias" if message.alias else str(content.get("method")), content)
    if message.partition is None:
        line.append(f"  {message.status or ''} {harmless(message.error or '')}".rstrip(), "red")
    return line
