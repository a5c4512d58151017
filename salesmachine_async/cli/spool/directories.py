"""The directories below the path of a spool, as the commands select and describe them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.exit_codes import FAILED, USAGE
from salesmachine_async.cli.runner import give_up
from salesmachine_async.cli.terminal import fail

if TYPE_CHECKING:
    # Imported when a command runs, because --help does not need it.
    from salesmachine_async._spool.survey import Found, Survey
    from salesmachine_async.cli.credentials import ApiKeys

path_argument = click.argument("path", metavar="[PATH]", required=False, envvar="SALESMACHINE_SPOOL")
directory_option = click.option(
    "--directory", "names", metavar="NAME", multiple=True, help="Only this one of the directories; can be repeated."
)


def need_path(path: str | None) -> str:
    """
    Return the path of the spool.

    Raises:
        click.exceptions.Exit: No path was given.
    """
    if not path:
        fail("no spool: pass the PATH of its directory, or set SALESMACHINE_SPOOL", code=USAGE)
    return path


def survey_of(path: str | None) -> Survey:
    """
    Return a survey of the spool at *path*.

    Raises:
        click.exceptions.Exit: There is no spool at *path*, or it cannot be used.
    """
    from salesmachine_async._spool.survey import Survey  # noqa: PLC0415
    from salesmachine_async.errors import ConfigError  # noqa: PLC0415

    try:
        return Survey(need_path(path))
    except ConfigError as error:
        give_up(error)


def find(survey: Survey, names: Iterable[str] = ()) -> list[Found]:
    """
    Return the directories of a spool, the oldest first.

    Args:
        survey: The survey.
        names: Which; none: all.

    Raises:
        click.exceptions.Exit: One of *names* is not there, or the disk refuses.
    """
    try:
        found = survey.directories()
    except OSError as error:
        fail(f"cannot read the spool: {error.strerror or error}", code=FAILED)
    wanted = set(names)
    if missing := wanted - {each.name for each in found}:
        fail(f"no directory {min(missing)} in this spool", code=USAGE)
    return [each for each in found if not wanted or each.name in wanted]


def destination_of_keys(keys: ApiKeys | None = None) -> int | None:
    """Return the destination of these keys, by default those in the environment; None without a token."""
    from salesmachine_async._http.config import DEFAULT_URL, check_base_url  # noqa: PLC0415
    from salesmachine_async._spool.destination import destination_of  # noqa: PLC0415
    from salesmachine_async.cli.credentials import load  # noqa: PLC0415
    from salesmachine_async.errors import ConfigError  # noqa: PLC0415

    keys = keys or load(None)
    if not keys.token:
        return None
    try:
        return destination_of(str(check_base_url(keys.base_url or DEFAULT_URL, allow_http=True)), keys.token)
    except ConfigError:
        return None


def fingerprint(destination: int | None) -> str:
    """Return a destination as it is shown, and as ``drain --accept`` takes it; empty if it is unknown."""
    return "" if destination is None else f"{destination:016x}"


def state_of(found: Found, own: int | None) -> str:
    """
    Describe the state of a directory in a few words.

    Args:
        found: The directory, read.
        own: The destination of the keys in the environment; None if there are none.
    """
    if found.problem:
        return "unreadable"
    words = ["live" if found.live else "orphan"]
    if found.newer:
        words.append("newer version")
    if own is not None and found.destination not in {own, None}:
        words.append("other key")
    if is_damaged(found):
        words.append("damaged")
    return ", ".join(words)


def is_damaged(found: Found) -> bool:
    """Whether records are damaged, or segments unreadable; a torn end is no damage."""
    return bool(found.damaged_bytes or found.unreadable or found.kept_bytes or found.problem)


def as_data(found: Found, own: int | None, now: Callable[[], float] = time.time) -> dict[str, Any]:
    """Return a directory as data: sizes in bytes, ages in seconds, times in ISO 8601."""
    oldest = found.oldest_ms
    return {
        "directory": found.name,
        "state": state_of(found, own),
        "live": found.live,
        "newer_version": found.newer,
        "destination": fingerprint(found.destination) or None,
        "own_key": None if own is None or found.destination is None else found.destination == own,
        "messages": found.messages,
        "bytes": found.bytes,
        "oldest_at": None if oldest is None else iso(oldest),
        "oldest_seconds": age_of(oldest, now),
        "disk_bytes": found.disk_bytes,
        "rejected_bytes": found.rejected_bytes,
        "damaged_bytes": found.damaged_bytes,
        "damaged_kept_bytes": found.kept_bytes,
        "torn_bytes": found.torn_bytes,
        "unreadable_segments": list(found.unreadable),
        "problem": found.problem or None,
        "owner": {name: found.owner.get(name) for name in ("pid", "host", "started", "version")},
    }


def age_of(oldest_ms: int | None, now: Callable[[], float] = time.time) -> float:
    """Return an age in seconds; 0 for nothing."""
    return 0.0 if oldest_ms is None else max(0.0, round(now() - oldest_ms / 1000, 3))


def iso(ms: int) -> str:
    """Return a time in ISO 8601; the epoch for one out of range."""
    try:
        moment = datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(seconds: float) -> str:
    """Format an age."""
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def writer(found: Found) -> str:
    """Describe the process that made a directory."""
    pid, host = found.owner.get("pid"), found.owner.get("host")
    return f"{pid} on {host}" if pid is not None and host else ""
