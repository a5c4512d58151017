"""`salesmachine spool ls`."""

import json
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async._spool.record import encode_head
from tests.cli.spool.conftest import HOSTILE, KEYS, OWN, TOKEN, Writer, event
from tests.support.cli_inside import invoke
from tests.support.spool import segments
from tests.support.terminals import in_terminal


async def listed(path: Path, **keys: str) -> list[dict[str, Any]]:
    """Return the rows of a listing."""
    ended = await invoke("spool", "ls", str(path), **keys)
    assert ended.status == 0, ended
    return [json.loads(line) for line in ended.out.splitlines()]


@pytest.mark.slow
async def test_states(path: Path, write: Writer) -> None:
    """Live, orphaned, foreign and damaged directories are distinguished."""
    live = write(event(1), event(2), now_ms=4000)
    write(event(3), now_ms=3000).die()
    write(event(4), destination=99, now_ms=2000).die()
    damaged = write(event(5), event(6), now_ms=1000)
    damaged.queue.lines[0].append(event(7))
    damaged.commit()
    damaged.die()
    first, *_ = segments(path)
    [segment] = [each for each in segments(path) if each.parent.name == (await listed(path))[0]["directory"]]
    data = segment.read_bytes()
    segment.write_bytes(data[:200] + b"\0" + data[201:])
    rows = await listed(path, **KEYS)
    assert [row["state"] for row in rows] == ["orphan, damaged", "orphan, other key", "orphan", "live"]
    assert [row["messages"] for row in rows] == [1, 1, 1, 2]
    assert [row["own_key"] for row in rows] == [True, False, True, True]
    assert rows[1]["destination"] == f"{99:016x}"
    assert rows[3]["oldest_at"] == "1970-01-01T00:00:04.000Z"
    assert rows[3]["bytes"] == len(event(1)) * 2 + 1
    assert rows[0]["damaged_bytes"] > 0
    # Looking has changed nothing.
    live.queue.lines[0].append(event(8))
    live.commit()
    assert (await listed(path, **KEYS))[3]["messages"] == 3
    assert first.exists()


async def test_without_keys_no_directory_belongs_to_another(path: Path, write: Writer) -> None:
    """Without a token in the environment, destinations are shown and not compared."""
    write(event(1), destination=99).die()
    [row] = await listed(path)
    assert (row["state"], row["own_key"], row["destination"]) == ("orphan", None, f"{99:016x}")


async def test_one_object(path: Path, write: Writer) -> None:
    """--json prints one object with the totals, for an alert."""
    write(event(1)).die()
    write(event(2), now_ms=1_600_000_000_000)
    ended = await invoke("spool", "ls", str(path), "--json")
    found = json.loads(ended.out)
    assert (found["messages"], len(found["directories"])) == (2, 2)
    assert found["oldest_seconds"] == max(each["oldest_seconds"] for each in found["directories"]) > 1e8
    assert found["disk_bytes"] > 2**22


async def test_a_newer_version(path: Path, write: Writer) -> None:
    """A directory of a newer version is listed as such, and not read."""
    write(event(1)).die()
    [segment] = segments(path)
    head = encode_head(OWN, 5, version=2)
    segment.write_bytes(head + segment.read_bytes()[len(head) :])
    [row] = await listed(path, **KEYS)
    assert (row["state"], row["messages"], row["newer_version"]) == ("orphan, newer version", 0, True)


async def test_a_directory_that_cannot_be_read_does_not_hide_the_others(path: Path, write: Writer) -> None:
    """A lock that is a symbolic link is not followed, and the other directories are listed."""
    write(event(1), now_ms=1000).die()
    write(event(2), now_ms=2000).die()
    [first, second] = await listed(path)
    lock = path / first["directory"] / "lock"
    lock.unlink()
    lock.symlink_to("/etc/hostname")
    rows = await listed(path)
    assert [row["state"] for row in rows] == ["unreadable", "orphan"]
    assert rows[0]["problem"]
    assert rows[1]["directory"] == second["directory"]


async def test_the_path(path: Path, write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path comes from the argument or the environment, and a missing one is not created."""
    write(event(1)).die()
    assert (await invoke("spool", "ls", SALESMACHINE_SPOOL=str(path))).out.count("\n") == 1
    ended = await invoke("spool", "ls")
    assert ended.status == 2
    assert "error: no spool: pass the PATH of its directory, or set SALESMACHINE_SPOOL" in ended.err
    ended = await invoke("spool", "ls", str(path / "missing"))
    assert ended.status == 2
    assert ended.err.startswith("salesmachine spool ls: error: Spool.path ")
    assert not (path / "missing").exists()
    monkeypatch.chdir(path.parent)
    (path.parent / "empty").mkdir(mode=0o700)
    ended = await invoke("spool", "ls", "empty", "--json")
    assert json.loads(ended.out)["directories"] == []


@pytest.mark.slow
async def test_on_a_terminal(path: Path, write: Writer) -> None:
    """A terminal shows a table without control characters from the disk and without a token."""
    write(event(1)).die()
    [owner] = path.glob("*/owner.json")
    owner.write_text(json.dumps({"pid": 12, "host": f"shop{HOSTILE}", "started": HOSTILE}))
    extra = KEYS | {"NO_COLOR": "1", "COLUMNS": "120"}
    status, text = await in_terminal("spool", "ls", str(path), extra=extra)
    assert status == 0, text
    assert "orphan" in text
    assert r"12 on shop\x1b[2J\x9b31m\u202e\u2028\x7f" in text.replace("\n", "")
    assert "\x1b[2J" not in text
    assert not {"\x9b", "\u202e", "\u2028", "\x7f"} & set(text)
    assert TOKEN not in text
    empty = path / "empty"
    empty.mkdir(mode=0o700)
    status, text = await in_terminal("spool", "ls", str(empty), extra=extra)
    assert (status, text) == (0, "Nothing waits in this spool.\n")
