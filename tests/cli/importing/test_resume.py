"""Imports that end early, and their checkpoints."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.testing import serve
from tests.support.cli_process import popen, run
from tests.support.imports import (
    events,
    feed,
    import_json,
    interrupted,
    keys,
    numbers,
    refuse_after,
    run_import,
    until,
    write,
)

pytestmark = pytest.mark.one_python


@pytest.mark.slow
def test_stdin_resumes_from_a_named_checkpoint(tmp_path: Path) -> None:
    """The same stream from its beginning is resumed after the settled rows."""
    kept = tmp_path / "kept"
    text = b"".join(json.dumps(row).encode() + b"\n" for row in events(3000))
    with serve() as sandbox:
        refuse_after(sandbox, 10, 401)
        statuses = []
        for _ in range(2):
            process = popen("import", "-", "--checkpoint", str(kept), "--resume", "--batch", "100", **keys(sandbox))
            process.communicate(text)
            statuses.append((process.returncode, kept.exists()))
            sandbox.faults([])
        assert statuses == [(4, True), (0, False)]
        assert numbers(sandbox) == list(range(3000))
        assert sandbox.summary()["duplicates"] == 0


@pytest.mark.slow
def test_stopped_while_skipping(tmp_path: Path) -> None:
    """An import that stops while it skips rows keeps its checkpoint and its advice."""
    file = write(tmp_path / "a.ndjson", events(3000))
    with serve() as sandbox:
        refuse_after(sandbox, 10, 401)
        assert (run_import(str(file), "--batch", "100", **keys(sandbox))).status == 4
        before = (tmp_path / "a.ndjson.smckpt").read_text()
        ended, result = import_json(file, "--resume", "--batch", "100", **keys(sandbox))
        assert (ended.status, result["delivered"], result["resumed"]) == (4, 1000, 1000), ended
        assert (tmp_path / "a.ndjson.smckpt").read_text() == before


@pytest.mark.slow
async def test_rejected_key(tmp_path: Path) -> None:
    """A rejected key has status 4 and leaves no file; a missing one has status 2."""
    file = write(tmp_path / "a.ndjson", events(10))
    async with Sandbox(tokens=["good"]) as sandbox:
        ended = await run("import", str(file), **keys(sandbox, "bad"))
        assert ended.status == 4, ended
        assert "Stopped: rejected by the server" in ended.out
        assert "check SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET" in ended.out
        assert "bad" not in ended.out + ended.err
    assert run_import(str(file), SALESMACHINE_API_URL="http://127.0.0.1:9").status == 2
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_key_revoked_during_the_import(tmp_path: Path) -> None:
    """A revoked key stops the import with 4 and a checkpoint; --resume delivers the rest once."""
    file = write(tmp_path / "a.ndjson", events(3000))
    with serve() as sandbox:
        refuse_after(sandbox, 10, 401)
        ended, result = import_json(file, "--batch", "100", **keys(sandbox))
        assert ended.status == 4, ended
        assert (result["status"], result["delivered"]) == ("refused", 1000)
        assert result["unanswered"] > 0
        assert result["files"][0]["checkpoint"] == f"{file}.smckpt"
        assert ended.err.startswith("salesmachine import: error: the server answered 401")
        sandbox.faults([])
        # Without --resume nothing happens by mistake.
        ended = run_import(str(file), "--batch", "100", **keys(sandbox))
        assert ended.status == 2
        assert "1,000 rows of" in ended.err
        assert "continue with --resume, or start over with --restart" in " ".join(ended.err.split())
        ended, result = import_json(file, "--resume", **keys(sandbox))
        assert ended.status == 0, ended
        assert (result["rows"], result["delivered"], result["resumed"]) == (3000, 3000, 1000)
        assert numbers(sandbox) == list(range(3000))
        assert sandbox.summary()["duplicates"] == 0
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_unreachable_server(tmp_path: Path) -> None:
    """Requests are retried until --give-up-after, then the status is 5; a server that recovers gets all rows."""
    file = write(tmp_path / "a.ndjson", events(10))
    with serve() as sandbox:
        env = keys(sandbox)
    ended = run_import(str(file), "--give-up-after", "0.5", **env)
    assert ended.status == 5, ended
    assert "Stopped: the server does not answer" in ended.out
    assert "no answer for 0.5 s: the connection failed" in ended.out
    assert "trying again for 0.5 s" in ended.err
    with serve() as sandbox:
        sandbox.faults([Fault(status=503, times=4), Fault(drop="after")])
        ended, result = import_json(file, **keys(sandbox))
        assert (ended.status, result["delivered"]) == (0, 10), ended
        assert result["retries"] > 0
        assert numbers(sandbox) == list(range(10))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """A signal stops reading, delivers what was read, and prints advice; --resume sends exactly the rest."""
    file = write(tmp_path / "a.ndjson", events(10_000))
    with serve() as sandbox:
        sandbox.faults([Fault(latency=0.01, times=None)])
        process = interrupted(sandbox, file, "--rate", "2500")
        process.send_signal(number)
        out, err = (each.decode() for each in process.communicate())
        assert process.returncode == 130, (out, err)
        assert "Interrupted: delivering what was read; press Ctrl-C again to stop at once." in err
        assert f"with --resume (checkpoint: {file}.smckpt)" in " ".join(out.split())
        assert "not answered" not in out
        arrived = numbers(sandbox)
        assert arrived == list(range(len(arrived)))
        assert len(arrived) < 10_000
        kept = json.loads((tmp_path / "a.ndjson.smckpt").read_text())["settled"]
        assert (kept["line"], kept["delivered"]) == (len(arrived), len(arrived))
        sandbox.faults([])
        ended, result = import_json(file, "--resume", **keys(sandbox))
        assert ended.status == 0, ended
        assert (result["delivered"], result["resumed"]) == (10_000, len(arrived))
        assert numbers(sandbox) == list(range(10_000))
        assert sandbox.summary()["duplicates"] == 0


@pytest.mark.slow
def test_interrupted_twice(tmp_path: Path) -> None:
    """The second Ctrl-C stops at once; rows without an answer are counted and sent again with the same ids."""
    file = write(tmp_path / "a.ndjson", events(3000))
    with serve() as sandbox:
        sandbox.faults([Fault(path="/v1/batch", times=5), Fault(path="/v1/batch", latency=60, times=None)])
        process = interrupted(sandbox, file)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert b"Interrupted" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        # Long before the answer to what is under way, and before the ten seconds that the first one would wait.
        out, err = process.communicate(timeout=9)
        assert process.returncode == 130, (out, err)
        assert b"sent, but not answered" in out
        sandbox.faults([])
        ended, result = import_json(file, "--resume", **keys(sandbox))
        assert (ended.status, result["delivered"]) == (0, 3000), ended
        # Five batches were taken; the answer to the last may have been under way still.
        assert result["resumed"] in (200, 250)
        assert numbers(sandbox) == list(range(3000))


@pytest.mark.slow
@pytest.mark.parametrize("checked", [False, True])
def test_a_silent_pipe_can_be_interrupted(checked: bool) -> None:
    """An import that waits for stdin ends at once on a signal, also before the encoding is known."""
    options = () if checked else ("--encoding", "utf-8")
    with serve() as sandbox, popen("import", "-", *options, **keys(sandbox)) as process:
        feed(process, b"".join(json.dumps(row).encode() + b"\n" for row in events(10)))
        until(lambda: sandbox.requests() if checked else sandbox.summary()["events"] == 10)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130


@pytest.mark.slow
def test_resume_rejects_a_changed_input(tmp_path: Path) -> None:
    """A changed input, other options or another server have status 2; --restart starts over."""
    file = write(tmp_path / "a.ndjson", events(3000))
    kept = tmp_path / "a.ndjson.smckpt"
    with serve() as sandbox, serve() as other:
        refuse_after(sandbox, 10, 401)
        assert (run_import(str(file), "--batch", "100", **keys(sandbox))).status == 4
        sandbox.faults([])
        ended = run_import(str(file), "--resume", "--types", "auto", **keys(sandbox))
        assert (ended.status, "with other options" in ended.err) == (2, True), ended
        ended = run_import(str(file), "--resume", **keys(other))
        assert (ended.status, f"went to {sandbox.url}, not to {other.url}" in ended.err) == (2, True), ended
        # What comes behind may change: it is mended, or it grows.
        rows = events(3001)
        rows[1500]["params"]["mended"] = True
        write(file, rows)
        text = file.read_text()
        for changed in (text.replace('"n": 5}', '"n": 6}', 1), "\n" + text, text[: len(text) // 10]):
            file.write_text(changed)
            ended = run_import(str(file), "--resume", **keys(sandbox))
            assert ended.status == 2, ended
            assert "changed before line 1000" in ended.out
            assert json.loads(kept.read_text())["settled"]["delivered"] == 1000
        assert sandbox.summary()["events"] == 1000
        file.write_text(text)
        ended, result = import_json(file, "--resume", **keys(sandbox))
        assert (ended.status, result["delivered"]) == (0, 3001), ended
        assert numbers(sandbox) == list(range(3001))
        assert not kept.exists()
        refuse_after(sandbox, 10, 401)
        assert run_import(str(file), "--batch", "100", **keys(sandbox)).status == 4
        assert kept.exists()
        sandbox.faults([])
        assert (run_import(str(file), "--restart", **keys(sandbox))).status == 0
        assert not kept.exists()


@pytest.mark.slow
def test_resume_with_several_files_and_rejects(tmp_path: Path) -> None:
    """Finished files are not sent again; the file of rejected rows is continued."""
    bad = {"method": "event", "contact_uid": "", "event_uid": "e"}
    files = [
        write(tmp_path / f"{name}.ndjson.gz", [*events(1000, 1000 * index), bad]) for index, name in enumerate("abc")
    ]
    rejects = tmp_path / "r.ndjson"
    arguments = (*files, "--batch", "100", "--rejects", rejects)
    with serve() as sandbox:
        refuse_after(sandbox, 15, 403)
        ended, result = import_json(*arguments, **keys(sandbox))
        assert (ended.status, result["delivered"], result["rejected"]) == (4, 1500, 1), ended
        with rejects.open("a") as file:
            file.write("what a killed import had written after its last checkpoint\n")
        sandbox.faults([])
        ended, result = import_json(*arguments, "--resume", **keys(sandbox))
        assert (ended.status, result["delivered"], result["rejected"], result["resumed"]) == (3, 3000, 3, 1501), ended
        assert numbers(sandbox) == list(range(3000))
        assert sandbox.summary()["duplicates"] == 0
        lines = [json.loads(line) for line in rejects.read_text().splitlines()]
        assert [(Path(line["file"]).name, line["line"]) for line in lines] == [(f"{n}.ndjson.gz", 1001) for n in "abc"]
    assert not list(tmp_path.glob("*.smckpt"))


@pytest.mark.slow
def test_truncated_gzip(tmp_path: Path) -> None:
    """The rows before the truncation are delivered with status 1; --resume continues with the whole file."""
    whole = write(
        tmp_path / "whole.ndjson.gz", [{**event, "messageId": os.urandom(12).hex()} for event in events(9000)]
    )
    file = tmp_path / "a.ndjson.gz"
    file.write_bytes(whole.read_bytes()[:-20_000])
    with serve() as sandbox:
        ended, result = import_json(file, **keys(sandbox))
        assert ended.status == 1, ended
        assert "breaks off in the middle of its gzip data" in result["error"]
        arrived = numbers(sandbox)
        assert arrived == list(range(result["delivered"]))
        assert 0 < len(arrived) < 9000
        file.write_bytes(whole.read_bytes())
        ended, result = import_json(file, "--resume", **keys(sandbox))
        assert (ended.status, result["delivered"]) == (0, 9000), ended
        assert numbers(sandbox) == list(range(9000))
