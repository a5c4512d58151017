"""`salesmachine spool check`."""

import json
from pathlib import Path

import pytest

from tests.cli.spool.conftest import Writer, event
from tests.support.cli_inside import invoke
from tests.support.spool import segments
from tests.support.terminals import in_terminal


async def test_no_damage(path: Path, write: Writer) -> None:
    """An intact spool is status 0, even while a process writes to it."""
    write(event(1), event(2)).die()
    write(event(3))
    ended = await invoke("spool", "check", str(path))
    assert ended.status == 0
    assert ended.err == "No damage: 3 messages in 2 directories.\n"
    assert [json.loads(line)["damaged_bytes"] for line in ended.out.splitlines()] == [0, 0]


@pytest.mark.slow
async def test_every_flipped_bit_is_found(path: Path, write: Writer) -> None:
    """A flipped bit anywhere in a record is status 1, and the check changes nothing."""
    parts = write(event(1))
    parts.queue.lines[0].append(event(2))
    parts.commit()
    parts.die()
    [segment] = segments(path)
    data = segment.read_bytes()
    used = len(data.rstrip(b"\0"))
    for bit in range(0, used * 8, 97):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        segment.write_bytes(changed)
        ended = await invoke("spool", "check", str(path), "--json")
        found = json.loads(ended.out)
        [row] = found["directories"]
        # A bit of the last record's mark or length makes it look cut off.
        assert row["damaged_bytes"] + row["torn_bytes"] > 0 or row["messages"] == 2, bit
        assert ended.status == (1 if row["damaged_bytes"] else 0)
        assert found["ok"] is (ended.status == 0)
        assert segment.read_bytes() == changed
    assert not list(path.glob("*/damaged"))


async def test_a_torn_end_is_no_damage(path: Path, write: Writer) -> None:
    """An unfinished record of a killed process is counted, and status 0."""
    write(event(1)).die()
    [segment] = segments(path)
    data = segment.read_bytes()
    segment.write_bytes(data[: len(data.rstrip(b"\0")) - 10])
    ended = await invoke("spool", "check", str(path), "--json")
    [row] = json.loads(ended.out)["directories"]
    assert ended.status == 0
    assert (row["messages"], row["damaged_bytes"]) == (0, 0)
    assert row["torn_bytes"] > 100


async def test_kept_spans_and_unreadable_segments_are_damage(path: Path, write: Writer) -> None:
    """Damage kept by an agent is reported, and a segment that is not a file is named."""
    write(event(1), now_ms=1).die()
    write(event(2), now_ms=2).die()
    for each in segments(path):
        (each.parent / "damaged").mkdir(mode=0o700)
        (each.parent / "damaged" / "00000001-28.bin").write_bytes(b"xyz")
    ended = await invoke("spool", "check", str(path), "--json")
    rows = json.loads(ended.out)["directories"]
    assert ended.status == 1
    assert [row["damaged_kept_bytes"] for row in rows] == [3, 3]
    assert "damage in 2 of 2 directories: " in ended.err
    name = rows[0]["directory"]
    segment = path / name / "00000001.seg"
    segment.unlink()
    segment.symlink_to("/etc/passwd")
    ended = await invoke("spool", "check", str(path), "--directory", name, "--json")
    [row] = json.loads(ended.out)["directories"]
    assert (ended.status, row["messages"]) == (1, 0)
    assert row["unreadable_segments"] == [1]


async def test_an_unknown_directory(path: Path, write: Writer) -> None:
    """An unknown directory name is a usage error."""
    write(event(1)).die()
    ended = await invoke("spool", "check", str(path), "--directory", "../other")
    assert ended.status == 2
    assert "no directory ../other in this spool" in ended.err


@pytest.mark.slow
async def test_on_a_terminal(path: Path, write: Writer) -> None:
    """A terminal shows progress, then a table and one line."""
    write(*(event(number) for number in range(50))).die()
    status, text = await in_terminal("spool", "check", str(path), extra={"COLUMNS": "100"})
    assert status == 0, text
    assert "reading" in text
    assert "MB" in text
    assert text.endswith("No damage: 50 messages in 1 directories.\n")
