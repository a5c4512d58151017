"""``salesmachine relay dead``: the messages that Salesmachine has rejected."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.exit_codes import FAILED, USAGE
from salesmachine_async.cli.options import json_option
from salesmachine_async.cli.relay.options import engine_options
from salesmachine_async.cli.runner import run
from salesmachine_async.cli.tables import emit_json, print_rows
from salesmachine_async.cli.terminal import fail, note

if TYPE_CHECKING:
    from salesmachine_async.engines.redis import RedisEngine
    from salesmachine_async.relay import DeadLetter

HEADERS = ("ID", "STORED", "REASON", " STATUS", "MESSAGE", "SERVER SAID")
# More than the partitions of a queue can keep.
ALL = 10_000_000
# Its numbers are those that the engine can read.
_IDENTIFIER = re.compile(r"(\d{1,3}):(\d{1,19}-\d{1,19})", re.ASCII)

ids_argument = click.argument("ids", metavar="ID...", nargs=-1)
all_option = click.option("--all", "everything", is_flag=True, help="All dead letters of the queue.")


@click.group("dead", no_args_is_help=True)
def command() -> None:
    """
    Look after rejected messages.

    List, show, retry or purge the messages that Salesmachine has rejected.

    The engine comes from --engine or SALESMACHINE_ENGINE.

    \b
      salesmachine relay dead ls
      salesmachine relay dead show 3:1764460800000-0
      salesmachine relay dead retry --all
    """


@command.command("ls")
@engine_options
@click.option(
    "--count", metavar="N", type=click.IntRange(1), default=100, help="At most N, oldest first; default: 100."
)
@json_option
def list_(open_engine: Callable[[], RedisEngine], *, count: int, as_json: bool) -> None:
    """
    List dead letters, oldest first.

    Prints a table on a terminal, in a pipe one JSON object per letter, with the message.

    \b
      salesmachine relay dead ls | jq -r .message.contact_uid

    Exit status: 0 listed, 2 usage error, 4 the engine refuses access, 5 it was not
    reached.
    """
    letters = run(_read(open_engine(), count))
    documents = [as_data(letter) for letter in letters]
    print_rows(HEADERS, map(_row, letters), documents, whole={"dead": documents} if as_json else None)


@command.command("show")
@engine_options
@click.argument("identifier", metavar="ID")
def show(open_engine: Callable[[], RedisEngine], identifier: str) -> None:
    """
    Print one dead letter, with its message, as a JSON object.

    \b
      salesmachine relay dead show 3:1764460800000-0

    Exit status: 0 shown, 1 there is none with this ID, 2 usage error, 4 the engine
    refuses access, 5 it was not reached.
    """
    (letter,) = run(_find(open_engine(), [identifier]))
    emit_json(as_data(letter))


@command.command("retry")
@ids_argument
@engine_options
@all_option
def retry(ids: tuple[str, ...], open_engine: Callable[[], RedisEngine], *, everything: bool) -> None:
    """
    Move dead letters back to the end of their partitions.

    Relays deliver them again: correct the cause of the rejection first. The messages keep their messageIds.

    \b
      salesmachine relay dead retry 3:1764460800000-0
      salesmachine relay dead retry --all

    Exit
    status: 0 moved, 1 one was not found, 2 usage error, 4 the engine refuses access,
    5 it was not reached.
    """
    _check_choice(ids, everything=everything)
    moved = run(_change(open_engine(), ids, lambda engine, letters: engine.retry_dead(letters)))
    note(f"{moved:,} dead letters moved back." if moved else "There are no dead letters.")


@command.command("purge")
@ids_argument
@engine_options
@all_option
@click.option("--yes", "-y", is_flag=True, help="Purge without confirmation; required if there is no terminal.")
def purge(ids: tuple[str, ...], open_engine: Callable[[], RedisEngine], *, everything: bool, yes: bool) -> None:
    """
    Delete dead letters: their messages are then lost.

    \b
      salesmachine relay dead ls > kept.ndjson
      salesmachine relay dead purge --all --yes

    Exit status: 0 purged, 1 not confirmed or not found, 2 usage error, 4 the engine
    refuses access, 5 it was not reached.
    """
    _check_choice(ids, everything=everything)
    if not yes:
        _confirm("all dead letters" if everything else f"{len(ids)} dead letters")
    deleted = run(_change(open_engine(), ids, lambda engine, letters: engine.purge_dead(letters)))
    note(f"{deleted:,} dead letters deleted." if deleted else "There are no dead letters.")


def as_data(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as a JSON object; what is not JSON in it is text."""
    try:
        message: Any = letter.message()
    except ValueError:
        message = letter.line.decode(errors="replace")
    return {
        "id": identifier_of(letter),
        "stored_at": _time(letter),
        "reason": letter.reason,
        "status": letter.status,
        "error": letter.error,
        "server_message": letter.server_message,
        "endpoint": letter.endpoint.value,
        "relay": letter.relay,
        "message": message,
    }


def identifier_of(letter: DeadLetter) -> str:
    """Return the ID of a dead letter on the command line: its partition and its position there."""
    return f"{letter.partition}:{letter.id}"


def _time(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row(letter: DeadLetter) -> tuple[str, ...]:
    status = "" if letter.status is None else str(letter.status)
    words = letter.server_message or letter.error
    stored = _time(letter)[:19].replace("T", " ")
    return identifier_of(letter), stored, letter.reason, status, _summary(letter), words


def _summary(letter: DeadLetter) -> str:
    """Return a short description of the message; `show` prints all of it."""
    try:
        message: Any = letter.message()
        uid = message.get("contact_uid") or message.get("account_uid")
        return f"{message.get('event_uid') or message.get('method') or letter.endpoint.value} of {uid}"
    except (ValueError, AttributeError):
        return letter.line.decode(errors="replace")


def _check_choice(ids: Sequence[str], *, everything: bool) -> None:
    if bool(ids) == everything:
        fail("pass the IDs of dead letters, or --all", code=USAGE)


def _confirm(what: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        fail("not a terminal: pass --yes to purge without confirmation", code=USAGE)
    if not click.confirm(f"Delete {what} for good?", err=True):
        fail("nothing was purged", code=FAILED)


async def _read(engine: RedisEngine, count: int) -> Sequence[DeadLetter]:
    try:
        await engine.start()
        return await engine.dead_letters(count=count)
    finally:
        await engine.aclose()


async def _find(engine: RedisEngine, identifiers: Sequence[str]) -> list[DeadLetter]:
    """Return the named dead letters; exits with 1 if one is not there."""
    try:
        await engine.start()
        return [await _one(engine, identifier) for identifier in identifiers]
    finally:
        await engine.aclose()


async def _one(engine: RedisEngine, identifier: str) -> DeadLetter:
    found = _IDENTIFIER.fullmatch(identifier)
    if found is None:
        fail(f"{identifier!r} is not the ID of a dead letter, such as 3:1764460800000-0", code=USAGE)
    letter = await engine.dead_letter(int(found[1]), found[2])
    if letter is None:
        fail(f"there is no dead letter {identifier}", code=FAILED)
    return letter


async def _change(
    engine: RedisEngine,
    identifiers: Sequence[str],
    change: Callable[[RedisEngine, Sequence[DeadLetter]], Coroutine[Any, Any, int]],
) -> int:
    """Retry or purge the named dead letters, or all that there are now; returns how many."""
    try:
        await engine.start()
        if identifiers:
            return await change(engine, [await _one(engine, each) for each in identifiers])
        return await change(engine, await engine.dead_letters(count=ALL))
    finally:
        await engine.aclose()
