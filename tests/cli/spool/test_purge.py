"""`salesmachine spool purge`."""

import json
import os
import time
from pathlib import Path

import pytest

from tests.cli.spool.conftest import OWN, Writer, event
from tests.support.cli_inside import invoke
from tests.support.spool import Parts, segments
from tests.support.terminals import Press, in_terminal


def names(path: Path) -> set[str]:
    """Return the names of the directories."""
    return {each.name for each in path.iterdir() if each.is_dir()}


def only(path: Path, before: set[str]) -> str:
    """Return the name of the directory created since."""
    [name] = names(path) - before
    return name


async def test_orphans_only(path: Path, write: Writer) -> None:
    """--all removes the directories of dead processes, whatever their key, and none of a running one."""
    live = write(event(1))
    kept = names(path)
    write(event(2)).die()
    write(event(3), destination=99).die()
    ended = await invoke("spool", "purge", str(path), "--all", "--yes", "--json")
    found = json.loads(ended.out)
    assert (ended.status, found["messages"], len(found["purged"])) == (0, 2, 2)
    assert names(path) == kept
    live.queue.lines[0].append(event(4))
    assert live.commit()
    ended = await invoke("spool", "purge", str(path), "--all", "--yes")
    assert (ended.status, ended.err) == (0, "Nothing to purge.\n")


async def test_older_than(path: Path, write: Writer) -> None:
    """--older-than removes a directory if nothing in it is younger."""
    write(event(1)).die()
    old = only(path, set())
    week = time.time() - 8 * 86_400
    os.utime(path / old / "00000001.seg", (week, week))
    write(event(2)).die()
    young = only(path, {old})
    ended = await invoke("spool", "purge", str(path), "--older-than", "7d", "--yes")
    assert (ended.status, names(path)) == (0, {young})
    assert ended.err == "1 directories purged, 1 messages removed.\n"


async def test_rejected(path: Path, write: Writer) -> None:
    """--rejected removes the rejected messages, and no waiting one."""
    parts = write(event(1))
    parts.log.reject([b'{"rejected_ms":1,"message":{"method":"event"}}\n'], 10_000)
    parts.die()
    ended = await invoke("spool", "purge", str(path), "--rejected", "--yes", "--json")
    assert json.loads(ended.out)["messages"] == 1
    assert not list(path.glob("*/rejected.ndjson"))
    assert len(segments(path)) == 1


async def test_one_directory(path: Path, write: Writer) -> None:
    """--directory removes one directory only."""
    write(event(1)).die()
    first = only(path, set())
    write(event(2)).die()
    ended = await invoke("spool", "purge", str(path), "--all", "--directory", first, "--yes")
    assert ended.status == 0
    assert first not in names(path)
    assert len(names(path)) == 1


async def test_a_directory_that_cannot_be_read(path: Path, write: Writer) -> None:
    """A directory that cannot be read is left alone and named; the others are purged."""
    write(event(1)).die()
    name = only(path, set())
    write(event(2)).die()
    lock = path / name / "lock"
    lock.unlink()
    lock.symlink_to("/etc/hostname")
    for choice in (["--all"], ["--older-than", "0s"], ["--rejected"]):
        ended = await invoke("spool", "purge", str(path), *choice, "--yes")
        assert ended.status == 1
        assert f"cannot read directory {name}" in ended.err
    assert names(path) == {name}


async def test_confirmation(path: Path, write: Writer) -> None:
    """Without a terminal --yes is required; one of the three choices always is."""
    write(event(1)).die()
    ended = await invoke("spool", "purge", str(path), "--all")
    assert (ended.status, len(segments(path))) == (2, 1)
    assert "not a terminal: pass --yes" in ended.err
    for options in ([], ["--all", "--rejected"], ["--older-than", "1d", "--all"]):
        ended = await invoke("spool", "purge", str(path), "--yes", *options)
        assert ended.status == 2
        assert "pass one of --older-than AGE, --rejected and --all" in ended.err
    for age in ("7", "d", "-1d", "7 d", "\u0667d"):
        ended = await invoke("spool", "purge", str(path), f"--older-than={age}", "--yes")
        assert ended.status == 2
        assert "is not an age such as 90m, 12h or 7d" in ended.err
    assert len(segments(path)) == 1


@pytest.mark.slow
async def test_on_a_terminal(path: Path, write: Writer) -> None:
    """The prompt names what will be lost; a process that adopts the directory in that moment keeps it."""
    write(event(1), event(2)).die()
    extra = {"NO_COLOR": "1", "COLUMNS": "200"}
    question = "Remove 2 messages in 1 directories for good? [y/N]: "
    status, text = await in_terminal("spool", "purge", str(path), "--all", extra=extra, press=[(question, "n\n")])
    assert (status, len(segments(path))) == (1, 1)
    assert "nothing was purged" in text
    taken: list[Parts] = []

    def take_over(_: int) -> None:
        taken.append(write())
        assert taken[0].root.adopt({OWN})

    press: list[tuple[str, Press]] = [("[y/", take_over), ("N]: ", "y\n")]
    status, text = await in_terminal("spool", "purge", str(path), "--all", extra=extra, press=press)
    assert len(segments(path)) == 1
    assert "left alone, because a process has taken them over" in text
    taken[0].die()
    status, text = await in_terminal("spool", "purge", str(path), "--all", extra=extra, press=[(question, "y\n")])
    assert (status, segments(path)) == (0, [])
