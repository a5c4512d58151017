"""``salesmachine spool purge``: remove what dead processes left."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING

import click

from salesmachine_async.cli.exit_codes import FAILED, USAGE
from salesmachine_async.cli.options import json_option
from salesmachine_async.cli.spool.directories import age, directory_option, find, path_argument, survey_of, writer
from salesmachine_async.cli.spool.reading import check_readable, read_all
from salesmachine_async.cli.tables import emit_json
from salesmachine_async.cli.terminal import fail, note, warn

if TYPE_CHECKING:
    from salesmachine_async._spool.survey import Found, Survey

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value.strip(), re.ASCII)
    if found is None:
        raise click.BadParameter(f"{value!r} is not an age such as 90m, 12h or 7d")
    return float(found[1]) * _SECONDS[found[2]]


@click.command("purge")
@path_argument
@directory_option
@click.option(
    "--older-than",
    metavar="AGE",
    callback=_seconds,
    help="Directories in which nothing is younger: 90m, 12h, 7d, 2w.",
)
@click.option("--rejected", "only_rejected", is_flag=True, help="Only what is kept of rejected messages.")
@click.option("--all", "everything", is_flag=True, help="All of them, whatever their key, damage or version.")
@click.option("--yes", "-y", is_flag=True, help="Purge without confirmation; required if there is no terminal.")
@json_option
def command(
    path: str | None,
    names: tuple[str, ...],
    *,
    older_than: float | None,
    only_rejected: bool,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """
    Remove what dead processes left: their messages are then lost.

    Only orphans: a directory that a process writes or delivers is never touched.

    \b
      salesmachine spool purge /var/lib/shop/salesmachine --older-than 7d --yes
      salesmachine spool purge --rejected --yes
      salesmachine spool export --directory 3f8a… > kept.ndjson
      salesmachine spool purge --all --directory 3f8a…

    PATH is the spool of the agents; default: SALESMACHINE_SPOOL. Exit status: 0 purged
    or nothing to purge, 1 not confirmed, not removed or not readable, 2 usage error or
    not a spool.
    """
    if (older_than is not None) + only_rejected + everything != 1:
        fail("pass one of --older-than AGE, --rejected and --all", code=USAGE)
    survey = survey_of(path)
    directories = find(survey, names)
    unreadable = [found for found in directories if found.problem]
    chosen = _chosen(directories, older_than, only_rejected=only_rejected)
    messages = _count(survey, chosen, only_rejected=only_rejected)
    if chosen and not yes:
        _confirm(chosen, messages)
    purged = _purge(survey, chosen, only_rejected=only_rejected)
    if as_json:
        emit_json({"purged": purged, "messages": messages})
    else:
        note(f"{len(purged)} directories purged, {messages:,} messages removed." if purged else "Nothing to purge.")
    if kept := [found.name for found in chosen if found.name not in purged]:
        warn(f"left alone, because a process has taken them over: {', '.join(kept)}")
    check_readable(unreadable)


def _chosen(directories: list[Found], older_than: float | None, *, only_rejected: bool) -> list[Found]:
    orphans = [found for found in directories if not found.live and not found.problem]
    if only_rejected:
        return [found for found in orphans if found.rejected_bytes]
    if older_than is None:
        return orphans
    limit = (time.time() - older_than) * 1000
    return [found for found in orphans if found.modified_ms < limit]


def _count(survey: Survey, chosen: list[Found], *, only_rejected: bool) -> int:
    if only_rejected:
        return sum(1 for found in chosen for _ in survey.rejected(found))
    read_all(survey, chosen)
    return sum(found.messages for found in chosen)


def _confirm(chosen: list[Found], messages: int) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        fail("not a terminal: pass --yes to purge without confirmation", code=USAGE)
    for found in chosen:
        ended = age(max(0.0, time.time() - found.modified_ms / 1000))
        note(f"{found.name}  {found.messages:,} messages, written until {ended} ago  {writer(found)}")
    # On stderr, because stdout is for data.
    if not click.confirm(f"Remove {messages:,} messages in {len(chosen)} directories for good?", err=True):
        fail("nothing was purged", code=FAILED)


def _purge(survey: Survey, chosen: list[Found], *, only_rejected: bool) -> list[str]:
    try:
        return survey.purge([found.name for found in chosen], rejected_only=only_rejected)
    except OSError as error:
        fail(f"cannot purge: {error.strerror or error}", code=FAILED)
