"""``salesmachine spool drain``: deliver what dead processes left."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.exit_codes import FAILED, UNAVAILABLE, status_of
from salesmachine_async.cli.options import ServerOptions, json_option, server_options
from salesmachine_async.cli.runner import explained, run
from salesmachine_async.cli.spool.directories import destination_of_keys, find, fingerprint, path_argument, survey_of
from salesmachine_async.cli.spool.reading import read_all
from salesmachine_async.cli.tables import emit_json
from salesmachine_async.cli.terminal import err, fail, note, warn

if TYPE_CHECKING:
    from salesmachine_async._spool.survey import Found, Survey
    from salesmachine_async.cli.spool.delivery import DrainResult

LINE_SECONDS = 10.0
_INTERRUPTED = "Interrupted: what was not delivered is still in the spool; some of it may be sent twice."


def _destinations(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    for value in values:
        if not re.fullmatch(r"[0-9a-f]{16}", value, re.ASCII):
            raise click.BadParameter(f"{value!r} is not the fingerprint of a key, as `salesmachine spool ls` shows it")
    return tuple(int(value, 16) for value in values)


@click.command("drain")
@path_argument
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 86_400),
    default=60.0,
    help="Give up after so many seconds, retries included; default: 60.",
)
@click.option(
    "--accept",
    metavar="KEY",
    multiple=True,
    callback=_destinations,
    help="Deliver the messages for this key too, with the key of the environment; as `ls` shows it. Can be repeated.",
)
@server_options
@json_option
def command(path: str | None, *, wait: float, accept: tuple[int, ...], server: ServerOptions, as_json: bool) -> None:
    """
    Deliver what dead processes, and agents with deliver=False, left.

    Agents may continue to write: messages written after the last read are left to the next drain.
    Nothing is removed that was not delivered or rejected; rejected messages are kept.

    \b
      salesmachine spool drain /var/lib/shop/salesmachine
      salesmachine spool drain --wait 600 --credentials production.env
      salesmachine spool drain --accept 44c2ef1e4c55b93a       # after a change of the key

    PATH is the spool of the agents; default: SALESMACHINE_SPOOL. Needs SALESMACHINE_API_TOKEN
    and SALESMACHINE_API_SECRET. Exit status: 0 nothing is left for this key, 1 a part of it
    is not readable, 2 usage error or not a spool, 4 rejected by the server, 5 server not
    reached or time over.
    """
    survey = survey_of(path)
    keys = server.keys()
    keys.need_token()
    from salesmachine_async.cli.spool.delivery import drain  # noqa: PLC0415 - --help does not need it

    destinations = {destination_of_keys(keys), *accept}
    with _progress(survey, destinations) as advance:
        result = run(
            drain(survey.path, keys, server.transport(), accept=accept, wait=wait, progress=advance),
            interrupted=_INTERRUPTED,
        )
    left = _left(survey)
    unread = [found for found in left if _is_unread(found, destinations)]
    if as_json:
        emit_json(_as_data(result, left, ok=result.complete and not unread))
    else:
        note(f"{result.delivered:,} messages delivered in {result.seconds:.1f} s.")
    if lost := sum(result.lost.values()):
        reasons = ", ".join(f"{count:,} {reason.value}" for reason, count in result.lost.items() if count)
        warn(
            f"{lost:,} messages are lost: {reasons}. `salesmachine spool show --rejected` has {result.rejected_kept:,}"
        )
    if result.complete:
        _report_left([found for found in left if found not in unread])
    _check(result, wait)
    if unread:
        fail(f"not readable: {', '.join(found.name for found in unread)}; see `salesmachine spool check`", code=FAILED)


def _left(survey: Survey) -> list[Found]:
    """Return the directories that still hold messages and belong to no running process."""
    left = [found for found in find(survey) if not found.live]
    read_all(survey, left)
    return [found for found in left if found.messages or found.unreadable or found.problem or found.newer]


def _is_unread(found: Found, destinations: Collection[int | None]) -> bool:
    """Whether a directory has messages for these keys, or may have some, that cannot be read."""
    return bool(found.unreadable or found.problem or (found.newer and found.destination in destinations))


def _report_left(left: Sequence[Found]) -> None:
    others: Counter[str] = Counter()
    for found in left:
        key = fingerprint(found.destination)
        if found.newer or not key:
            warn(f"directory {found.name} is left alone; see `salesmachine spool ls`")
        else:
            others[key] += found.messages
    for key, messages in others.items():
        warn(f"{messages:,} messages are for another key; to deliver them with this one: --accept {key}")


def _check(result: DrainResult, wait: float) -> None:
    """Exit with the status of *result*, unless it is 0."""
    if result.complete:
        return
    if result.error is not None and result.parked:
        fail(f"delivery is parked: {explained(result.error)}. What is left is kept", code=status_of(result.error))
    if result.error is not None or result.delivered:
        problem = f": {explained(result.error)}" if result.error is not None else ""
        fail(f"not all was delivered within {wait:g} s{problem}. What is left is kept", code=UNAVAILABLE)
    fail(f"the spool could not be read within {wait:g} s; see `salesmachine spool check`", code=FAILED)


def _as_data(result: DrainResult, left: Sequence[Found], *, ok: bool) -> dict[str, Any]:
    return {
        "ok": ok,
        "delivered": result.delivered,
        "lost": {reason.value: count for reason, count in result.lost.items() if count},
        "rejected_kept": result.rejected_kept,
        "left": [
            {"directory": found.name, "messages": found.messages, "destination": fingerprint(found.destination) or None}
            for found in left
        ],
        "error": explained(result.error) if result.error is not None and not result.complete else None,
        "seconds": round(result.seconds, 3),
    }


@contextmanager
def _progress(survey: Survey, destinations: Collection[int | None]) -> Generator[Callable[[int], None]]:
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn  # noqa: PLC0415 - --help does not need it

    from salesmachine_async.cli.live import LiveProgress, is_live  # noqa: PLC0415

    console = err()
    if not is_live(console):
        yield _lines()
        return
    orphans = [found for found in find(survey) if not found.live and found.destination in destinations]
    read_all(survey, orphans)
    columns = (MofNCompleteColumn(), TimeRemainingColumn())
    with LiveProgress(console, columns, time.monotonic) as progress:
        task = progress.add_task("delivering", total=sum(found.messages for found in orphans))

        def advance(count: int) -> None:
            progress.update(task, completed=count)
            progress.draw(())

        yield advance


def _lines() -> Callable[[int], None]:
    """Return a callback that prints a line every ten seconds, for logs."""
    due = time.monotonic() + LINE_SECONDS

    def advance(count: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_SECONDS
            note(f"{count:,} messages delivered so far")

    return advance
