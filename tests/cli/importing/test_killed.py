"""An import that is killed at random moments and resumed loses nothing and counts nothing twice."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from tests.support.cli_process import end, environment, start

pytestmark = [pytest.mark.slow, pytest.mark.one_python]

ROWS = 4000
# Each is a row that no server would take, so that rejected rows are counted through all kills too.
BAD = range(100, ROWS, 997)
KILLS = 4
# So many rows at most, and a moment, before each kill: it must not be through by then.
MOST = 500


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("seed", "concurrency"), [(1, 1), (2, 4)])
async def test_killed_and_resumed_until_it_is_done(tmp_path: Path, seed: int, concurrency: int) -> None:
    """
    SIGKILL at random moments, while the server errs, drops connections and loses answers.

    At the end every row has arrived, what came twice came with the same messageId, and the counts and the file of
    rejected rows are those of an import that was never killed.
    """
    rng = random.Random(seed)
    file, rejects = tmp_path / "a.ndjson", tmp_path / "r.ndjson"
    with file.open("w") as out:
        for number in range(ROWS):
            uid = "" if number in BAD else f"c{number % 40}"
            row = {"method": "event", "contact_uid": uid, "event_uid": "e", "params": {"n": number}}
            out.write(json.dumps(row) + "\n")
    faults = [
        Fault(latency=0.02, probability=0.7, times=None, seed=seed, path="/v1/batch"),
        Fault(status=500, probability=0.05, times=None, seed=seed + 1, path="/v1/batch"),
        Fault(drop="after", probability=0.05, times=None, seed=seed + 2, path="/v1/batch"),
    ]
    options = (
        "--batch",
        "40",
        "--concurrency",
        str(concurrency),
        "--rate",
        "4000",
        "--rejects",
        str(rejects),
        "--json",
    )
    kills = 0
    async with Sandbox() as sandbox:
        await asyncio.to_thread(sandbox.faults, faults)
        env = {"SALESMACHINE_API_URL": sandbox.url, "SALESMACHINE_API_TOKEN": "token"}
        while True:
            before = sandbox.summary()["accepted"]
            process = await start("import", str(file), "--resume", *options, **env)
            if kills < KILLS:
                # At some moment of its work, which begins whenever the machine lets it.
                wanted = before + rng.randrange(1, MOST)
                while sandbox.summary()["accepted"] < wanted and process.returncode is None:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(rng.random() * 0.1)
                process.kill()
                kills += 1
            ended = await end(process)
            if ended.status != -9:
                break
        summary = sandbox.summary()
        arrived = await asyncio.to_thread(sandbox.events, limit=ROWS)
    result = json.loads(ended.out)
    assert ended.status == 3, ended
    assert (result["rows"], result["delivered"], result["rejected"]) == (ROWS, ROWS - len(BAD), len(BAD))
    assert [json.loads(line)["line"] for line in rejects.read_text().splitlines()] == [number + 1 for number in BAD]
    assert sorted(event["params"]["n"] for event in arrived) == [n for n in range(ROWS) if n not in BAD]
    assert len({event["message_id"] for event in arrived}) == summary["events"] == ROWS - len(BAD)
    assert kills == KILLS
    # Some did come twice, or this would have tested nothing.
    assert summary["duplicates"] > 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.ndjson", "r.ndjson"]


def peak_kib(file: Path) -> int:
    """Import *file* without a server, in a process; return its peak memory."""
    code = (
        "import resource, sys; from salesmachine_async.cli import main\n"
        f"sys.argv = ['salesmachine', 'import', {str(file)!r}, '--dry-run', '--quiet']\n"
        "try: main()\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True, timeout=50
    )
    return int(done.stdout)


@pytest.mark.usefixtures("untraced")  # coverage would add to what is measured
@pytest.mark.skipif(not hasattr(resource, "getrusage") or sys.platform != "linux", reason="ru_maxrss in KiB")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Six times the rows need no more memory, except for the noise of the allocator."""
    line = json.dumps({"method": "event", "contact_uid": "1", "event_uid": "e", "params": {"text": "x" * 150}}) + "\n"
    small, large = tmp_path / "small.ndjson", tmp_path / "large.ndjson"
    small.write_text(line * 10_000)
    large.write_text(line * 60_000)
    assert peak_kib(large) - peak_kib(small) < 6 * 1024
