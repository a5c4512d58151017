"""`salesmachine spool export`, and the import of what it gives."""

import json
from pathlib import Path

import orjson
import pytest

from salesmachine_async._spool.pieces import ALIAS, LogPiece
from salesmachine_async.sandbox import Sandbox
from tests.cli.spool.conftest import Writer, event
from tests.support.cli_inside import invoke
from tests.support.cli_process import run
from tests.support.spool import segments


@pytest.mark.slow
async def test_import_takes_it(path: Path, write: Writer, sandbox: Sandbox, keys: dict[str, str]) -> None:
    """An import of the export delivers each kind of message with its id; the export removes nothing."""
    lines = [
        b'{"method":"contact","contact_uid":"1","params":{"name":"Zo\xc3\xa9"},"messageId":"c"}',
        b'{"method":"account","account_uid":"9","params":{},"created_at":"2026-11-29T12:00:00.000Z","messageId":"a"}',
        event(1),
        b'{"method":"event","contact_uid":"1","event_uid":"pageview","params":{"visit_url":"/"},"messageId":"p"}',
    ]
    parts = write(*lines)
    parts.log.commit([LogPiece(0, 4, 1, b'{"contact_uid":"1","alias":"visitor"}', ALIAS)])
    parts.die()
    ended = await invoke("spool", "export", str(path))
    assert (ended.status, ended.err) == (0, "5 messages written.\n")
    assert [orjson.loads(line) for line in ended.out.splitlines()[:4]] == [orjson.loads(line) for line in lines]
    file = path.parent / "waiting.ndjson"
    file.write_text(ended.out)
    imported = await run("import", str(file), **keys)
    assert imported.status == 0, imported
    held = list(sandbox.messages())
    assert [message["message_id"] for message in held if message["method"] != "alias"] == ["c", "a", "id-1", "p"]
    assert [message["method"] for message in held] == ["contact", "account", "event", "event", "alias"]
    assert (await invoke("spool", "export", str(path))).out == ended.out


async def test_rejected_messages_can_be_corrected(path: Path, write: Writer) -> None:
    """--rejected writes the messages without the server's words."""
    parts = write(event(1))
    about = {"rejected_ms": 1, "status": 422, "error": "no"}
    lines = [about | {"message": orjson.loads(event(2))}, about | {"message": {"contact_uid": "1", "alias": "v"}}]
    parts.log.reject([orjson.dumps(line) + b"\n" for line in lines], 10_000)
    ended = await invoke("spool", "export", str(path), "--rejected")
    assert [json.loads(line) for line in ended.out.splitlines()] == [
        orjson.loads(event(2)),
        {"method": "alias", "contact_uid": "1", "alias": "v"},
    ]


async def test_messages_of_running_processes(path: Path, write: Writer) -> None:
    """A warning counts the messages that a running process will deliver as well."""
    write(event(1))
    write(event(2), event(3)).die()
    ended = await invoke("spool", "export", str(path))
    assert ended.out.count("\n") == 3
    assert "warning: 1 of the messages belong to running processes, which deliver them as well" in ended.err


async def test_a_part_that_is_not_readable(path: Path, write: Writer) -> None:
    """Readable messages are written, and the status reports that some are missing."""
    write(event(1), now_ms=1).die()
    write(event(2), now_ms=2).die()
    name = json.loads((await invoke("spool", "ls", str(path), "--json")).out)["directories"][0]["directory"]
    [segment] = [each for each in segments(path) if each.parent.name == name]
    segment.unlink()
    segment.mkdir()
    ended = await invoke("spool", "export", str(path))
    assert ended.status == 1
    assert json.loads(ended.out)["messageId"] == "id-2"
    assert f"cannot read segment 1 of directory {name}" in ended.err


async def test_many_messages(path: Path, write: Writer) -> None:
    """More messages than one write holds are exported in order."""
    write(*(event(number) for number in range(2500))).die()
    ended = await invoke("spool", "export", str(path))
    assert [json.loads(line)["params"]["n"] for line in ended.out.splitlines()] == list(range(2500))
