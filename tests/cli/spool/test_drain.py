"""`salesmachine spool drain`."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from salesmachine_async._http.config import check_base_url
from salesmachine_async._spool.destination import destination_of
from salesmachine_async._spool.pieces import ALIAS, LogPiece
from salesmachine_async._spool.record import encode_head
from salesmachine_async.sandbox import Fault, Sandbox
from tests.cli.conftest import SECRET, TOKEN
from tests.cli.spool.conftest import Writer, event
from tests.support.cli_process import environment, run, start
from tests.support.spool import segments
from tests.support.terminals import in_terminal

pytestmark = [pytest.mark.slow, pytest.mark.one_python]

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def own(sandbox: Sandbox) -> int:
    """The destination of the sandbox's keys."""
    return destination_of(str(check_base_url(sandbox.url)), TOKEN)


def uids(sandbox: Sandbox) -> list[str]:
    """Return the ids of the messages that arrived, in order."""
    return [message["message_id"] for message in sandbox.messages()]


def left(path: Path) -> set[str]:
    """Return the names of the remaining directories."""
    return {each.name for each in path.iterdir() if each.is_dir()}


@contextmanager
def writing(path: Path, keys: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run three processes with agents that only write, for the contacts a, b and c."""
    command = [sys.executable, "-m", "tests.support.spool_writer", str(path)]
    pipe, env = subprocess.PIPE, environment(**keys)
    writers = [
        subprocess.Popen([*command, name], stdin=pipe, stdout=pipe, env=env, cwd=ROOT) for name in ("a", "b", "c")
    ]
    try:
        yield writers
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


async def test_everything_is_delivered_in_order(
    path: Path, write: Writer, own: int, sandbox: Sandbox, keys: dict[str, str]
) -> None:
    """Directories are delivered oldest first, each message with its id; a second drain finds none."""
    write(*(event(number) for number in range(300, 400)), destination=own, now_ms=2000).die()
    first = write(*(event(number) for number in range(300)), destination=own, now_ms=1000)
    first.log.commit([LogPiece(0, 300, 1, b'{"contact_uid":"1","alias":"visitor"}', ALIAS)])
    first.die()
    ended = await run("spool", "drain", str(path), "--json", **keys)
    found = json.loads(ended.out)
    assert ended.status == 0, ended
    assert (found["ok"], found["delivered"], found["lost"], found["left"]) == (True, 401, {}, [])
    expected = [f"id-{number}" for number in range(400)]
    assert [uid for uid in uids(sandbox) if uid] == expected
    assert [message["method"] for message in sandbox.messages()].index("alias") == 300
    assert left(path) == set()
    ended = await run("spool", "drain", str(path), **keys)
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.startswith("0 messages delivered")
    assert TOKEN not in ended.err + found.__repr__()
    assert SECRET not in ended.err + found.__repr__()


async def test_a_refused_key(path: Path, write: Writer) -> None:
    """A refused key is status 4 at once, and every message stays."""
    async with Sandbox(tokens=["good"]) as sandbox:
        keys = {"SALESMACHINE_API_URL": sandbox.url, "SALESMACHINE_API_TOKEN": "bad", "SALESMACHINE_API_SECRET": "x"}
        write(*map(event, range(10)), destination=destination_of(sandbox.url, "bad")).die()
        ended = await run("spool", "drain", str(path), **keys)
        assert ended.status == 4, ended
        assert "delivery is parked: " in ended.err
        assert len(segments(path)) == 1
        shown = await run("spool", "ls", str(path), "--json", **keys)
        assert json.loads(shown.out)["messages"] == 10


async def test_a_server_that_is_away(path: Path, write: Writer, own: int, keys: dict[str, str]) -> None:
    """An unreachable server is status 5 at the timeout, and every message stays."""
    write(event(1), destination=destination_of("http://127.0.0.1:1", TOKEN)).die()
    away = keys | {"SALESMACHINE_API_URL": "http://127.0.0.1:1"}
    ended = await run("spool", "drain", str(path), "--wait", "0.5", "--json", **away)
    found = json.loads(ended.out)
    assert ended.status == 5, ended
    assert (found["ok"], found["delivered"]) == (False, 0)
    assert found["left"] == [
        {"directory": next(iter(left(path))), "messages": 1, "destination": found["left"][0]["destination"]}
    ]
    assert "not all was delivered within 0.5 s: the connection failed" in ended.err
    assert own


async def test_another_key(path: Path, write: Writer, own: int, sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Messages for another key stay, unless an option delivers them with the present key."""
    write(event(1), destination=own).die()
    write(event(2), event(3), destination=77).die()
    write(event(4), destination=77).die()
    ended = await run("spool", "drain", str(path), **keys)
    assert ended.status == 0, ended
    assert uids(sandbox) == ["id-1"]
    [warning] = [line for line in ended.err.splitlines() if "warning" in line]
    assert warning.endswith(f"3 messages are for another key; to deliver them with this one: --accept {77:016x}")
    ended = await run("spool", "drain", str(path), "--accept", f"{77:016x}", "--accept", f"{own:016x}", **keys)
    assert ended.status == 0, ended
    assert ended.err.startswith("3 messages delivered")
    assert sorted(uids(sandbox)) == ["id-1", "id-2", "id-3", "id-4"]
    assert left(path) == set()
    for wrong in ("77", "g" * 16, "A" * 16):
        ended = await run("spool", "drain", str(path), "--accept", wrong, **keys)
        assert ended.status == 2


async def test_a_rejected_message(path: Path, write: Writer, own: int, sandbox: Sandbox, keys: dict[str, str]) -> None:
    """A rejected message is kept with the server's words, shown and exported; the others are delivered."""
    poison = orjson.dumps({"method": "event", "contact_uid": "1", "event_uid": "", "params": {}, "messageId": "bad"})
    write(event(1), poison, event(2), destination=own).die()
    ended = await run("spool", "drain", str(path), "--json", **keys)
    assert ended.status == 0, ended
    found = json.loads(ended.out)
    assert (found["delivered"], found["lost"], found["rejected_kept"]) == (2, {"rejected": 1}, 1)
    assert uids(sandbox) == ["id-1", "id-2"]
    shown = await run("spool", "show", str(path), "--rejected")
    [line] = map(json.loads, shown.out.splitlines())
    assert line["message"]["messageId"] == "bad"
    assert line["status"] in {400, 422}
    assert not segments(path)


async def test_several_drains_at_once(
    path: Path, write: Writer, own: int, sandbox: Sandbox, keys: dict[str, str]
) -> None:
    """Concurrent drains take different directories, so that no message is sent twice."""
    for number in range(6):
        write(*(event(number * 1000 + each) for each in range(500)), destination=own).die()
    sandbox.faults([Fault(times=None, latency=0.02)])
    drains = [await start("spool", "drain", str(path), **keys) for _ in range(4)]
    for drain in drains:
        _, error = await drain.communicate(b"")
        assert drain.returncode == 0, error
    counts = Counter(uids(sandbox))
    assert counts == Counter(f"id-{number * 1000 + each}" for number in range(6) for each in range(500))
    assert left(path) == set()


async def test_writers_go_on_while_drains_run(path: Path, sandbox: Sandbox, keys: dict[str, str]) -> None:
    """
    Nothing is lost, and nothing is sent twice.

    The file consumers of analytics-php #49 and salesmachine-php lose what is written while the file is sent.
    """
    path.mkdir(mode=0o700)
    with writing(path, keys) as (killed, *others):
        # Each writer leaves its directory every five seconds.
        while len({event["contact_uid"] for event in sandbox.events()}) < 3:
            ended = await run("spool", "drain", str(path), **keys)
            assert ended.status == 0, ended
        killed.kill()
        counts: dict[str, int] = {}
        for writer, name in zip(others, ("b", "c"), strict=True):
            out, _ = await asyncio.to_thread(writer.communicate, b"")
            counts[name] = int(out)
    ended = await run("spool", "drain", str(path), **keys)
    assert ended.status == 0, ended
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for each in sandbox.events():  # all of them: the log of messages keeps only the latest
        seen[each["contact_uid"]].append(each["params"]["n"])
    for name, count in counts.items():
        assert seen[name] == list(range(count))
    # The killed one may have lost what it had not committed; what arrived has no gap.
    assert seen["a"] == list(range(len(seen["a"])))
    assert seen["a"]
    assert left(path) == set()


async def test_a_drain_that_is_killed(
    path: Path, write: Writer, own: int, sandbox: Sandbox, keys: dict[str, str]
) -> None:
    """A drain after a killed one delivers the rest, and a repeated message has the same id."""
    write(*(event(number) for number in range(3000)), destination=own).die()
    sandbox.faults([Fault(times=None, latency=0.05)])
    drain = await start("spool", "drain", str(path), **keys)
    while len(list(sandbox.messages())) < 500:
        await asyncio.sleep(0.01)
    drain.kill()
    await drain.communicate()
    sandbox.faults([])
    assert left(path) != set()
    ended = await run("spool", "drain", str(path), **keys)
    assert ended.status == 0, ended
    assert set(uids(sandbox)) == {f"id-{number}" for number in range(3000)}
    assert left(path) == set()


async def test_on_a_terminal(path: Path, write: Writer, own: int, keys: dict[str, str]) -> None:
    """A terminal shows a progress bar, and no key."""
    write(*(event(number) for number in range(2000)), destination=own).die()
    status, text = await in_terminal("spool", "drain", str(path), extra=keys | {"COLUMNS": "100"})
    assert status == 0, text
    assert "delivering" in text
    assert "2000" in text
    assert "2,000 messages delivered in " in text.splitlines()[-1]
    assert TOKEN not in text


async def test_usage(path: Path, write: Writer, keys: dict[str, str]) -> None:
    """A missing key or path is named in the error, and nothing is created."""
    write(event(1)).die()
    ended = await run("spool", "drain", str(path))
    assert ended.status == 2
    assert "no API token" in ended.err
    ended = await run("spool", "drain", str(path / "missing"), **keys)
    assert ended.status == 2
    assert not (path / "missing").exists()


async def test_a_segment_that_cannot_be_read(
    path: Path, write: Writer, own: int, sandbox: Sandbox, keys: dict[str, str]
) -> None:
    """An unreadable segment is status 1 and is named, and the rest is delivered."""
    write(event(1), destination=own).die()
    parts: Any = write(event(2), destination=own)
    parts.die()
    [other] = [each for each in segments(path) if event(2) in each.read_bytes()]
    (other.parent / "00000002.seg").mkdir()
    ended = await run("spool", "drain", str(path), "--json", **keys)
    assert ended.status == 1, ended
    assert json.loads(ended.out)["ok"] is False
    assert f"error: not readable: {other.parent.name}; see `salesmachine spool check`" in ended.err
    assert sorted(uids(sandbox)) == ["id-1", "id-2"]


async def test_a_newer_version(path: Path, write: Writer, own: int, sandbox: Sandbox, keys: dict[str, str]) -> None:
    """What a newer version wrote for the key is status 1; for another key it is only a warning."""
    write(event(1), destination=own).die()
    for destination, status in ((77, 0), (own, 1)):
        write(event(2), destination=destination).die()
        [segment] = [each for each in segments(path) if event(2) in each.read_bytes()]
        head = encode_head(destination, 5, version=2)
        segment.write_bytes(head + segment.read_bytes()[len(head) :])
        ended = await run("spool", "drain", str(path), **keys)
        assert ended.status == status, ended
        assert segment.parent.name in ended.err
        assert uids(sandbox) == ["id-1"]
        segment.write_bytes(b"")
        segment.unlink()


async def test_the_bar_counts_what_can_be_delivered(path: Path, write: Writer, own: int, keys: dict[str, str]) -> None:
    """Messages for another key are not in the total of the bar."""
    write(*map(event, range(20)), destination=own).die()
    write(*map(event, range(400)), destination=77).die()
    status, text = await in_terminal("spool", "drain", str(path), extra=keys | {"COLUMNS": "100", "NO_COLOR": "1"})
    assert status == 0, text
    assert "/20" in text
    assert "/420" not in text


async def test_an_interrupted_drain(path: Path, write: Writer, keys: dict[str, str]) -> None:
    """Ctrl-C is status 130, and what was not delivered stays."""
    write(event(1), destination=destination_of("http://127.0.0.1:1", TOKEN)).die()
    away = keys | {"SALESMACHINE_API_URL": "http://127.0.0.1:1"}
    drain = await start("spool", "drain", str(path), **away)
    assert drain.stderr is not None
    assert b"trying again" in await drain.stderr.readline()
    drain.send_signal(signal.SIGINT)
    _, error = await drain.communicate(b"")
    assert drain.returncode == 130
    assert b"Interrupted: what was not delivered is still in the spool" in error
    assert len(segments(path)) == 1
