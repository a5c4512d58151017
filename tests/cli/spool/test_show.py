"""`salesmachine spool show`."""

import json
from pathlib import Path

import orjson
import pytest

from salesmachine_async._spool.pieces import ALIAS, LogPiece
from tests.cli.spool.conftest import HOSTILE, Writer, event
from tests.support.cli_inside import invoke
from tests.support.terminals import in_terminal


async def test_messages_in_order(path: Path, write: Writer) -> None:
    """Each message is one object, the oldest directory first; --limit bounds their number."""
    write(*(event(number) for number in range(5)), now_ms=1000).die()
    write(event(9), now_ms=2000)
    ended = await invoke("spool", "show", str(path))
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.status == 0
    assert [line["message"]["params"]["n"] for line in lines] == [0, 1, 2, 3, 4, 9]
    assert [line["number"] for line in lines] == [0, 1, 2, 3, 4, 0]
    assert lines[0]["written_at"] == "1970-01-01T00:00:01.000Z"
    assert lines[0]["message"] == orjson.loads(event(0))
    assert not {"\x9b", "\u202e", "\u2028"} & set(ended.out)
    ended = await invoke("spool", "show", str(path), "--limit", "2")
    assert ended.out.count("\n") == 2
    assert "There are more than 2" in ended.err


async def test_rejected_messages(path: Path, write: Writer) -> None:
    """Rejected messages are shown with the server's words; a malformed line is passed over."""
    parts = write(event(1))
    rejected = {"rejected_ms": 2000, "status": 422, "error": f"no{HOSTILE}", "message": {"method": "event"}}
    parts.log.reject([orjson.dumps(rejected) + b"\n", b"[]\n", b'{"rejected_ms":"x","message":1}\n', b'{"rej'], 10_000)
    ended = await invoke("spool", "show", str(path), "--rejected")
    [line] = map(json.loads, ended.out.splitlines())
    assert (line["status"], line["error"], line["message"]) == (422, f"no{HOSTILE}", {"method": "event"})
    assert line["rejected_at"] == "1970-01-01T00:00:02.000Z"


async def test_lines_that_no_agent_wrote(path: Path, write: Writer) -> None:
    """Text, JSON of another type and invalid UTF-8 are shown as text."""
    write(b"\xff\x1b[2J", b"[1]", b"{}").die()
    ended = await invoke("spool", "show", str(path))
    assert [json.loads(line)["message"] for line in ended.out.splitlines()] == ["\\xff\x1b[2J", "[1]", {}]


@pytest.mark.slow
async def test_on_a_terminal(path: Path, write: Writer) -> None:
    """A terminal shows one line a message, without control characters."""
    parts = write(event(1), b"\x1b[2Jtext")
    parts.log.commit([LogPiece(0, 2, 1, b'{"contact_uid":"7","alias":"visitor"}', ALIAS)])
    rejected = {"rejected_ms": 0, "status": 400, "error": HOSTILE, "message": {"method": HOSTILE, "contact_uid": "8"}}
    parts.log.reject([orjson.dumps(rejected) + b"\n"], 10_000)
    parts.die()
    extra = {"NO_COLOR": "1", "COLUMNS": "200"}
    status, text = await in_terminal("spool", "show", str(path), extra=extra)
    assert status == 0, text
    first, second, third = text.splitlines()
    assert first.startswith("2023-11-14 22:13:20  event   1  order_paid  ")
    assert second == r"2023-11-14 22:13:20  \x1b[2Jtext"
    assert third == "2023-11-14 22:13:20  alias   7  visitor"
    status, rejected_text = await in_terminal("spool", "show", str(path), "--rejected", extra=extra)
    assert rejected_text.endswith("8  400 \\x1b[2J\\x9b31m\\u202e\\u2028\\x7f\n")
    assert not {"\x1b", "\x9b", "\u202e", "\u2028", "\x7f"} & set(text + rejected_text)
