"""Rejected rows of an import, and their file."""

from __future__ import annotations

import base64
import csv
import json
import os
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from salesmachine_async.testing import serve
from tests.support.cli_process import run
from tests.support.imports import (
    events,
    import_json,
    keys,
    refuse_after,
    run_import,
    write,
)


def test_rejected_rows_can_be_corrected(tmp_path: Path) -> None:
    """Valid rows are delivered; rejected ones are written with line and reason, and can be corrected and imported."""
    people = tmp_path / "people.csv"
    with people.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "full name", "phone", "mrr", "signed up"])
        out.writerow(["1", "Ann, the one", "0612345678", "9.5", "2026-01-31T12:00:00Z"])
        out.writerow(["", "Nobody", "", "", ""])
        out.writerow(["3", "two\nlines", "", "lots", ""])
        out.writerow(["4", 'say "hi"', "+33", "1", "2026-02-01"])
    rejects = tmp_path / "rejects.ndjson"
    options: tuple[str, ...] = (
        "--type",
        "contact",
        "--map",
        "id=contact_uid",
        "--map",
        "full name=name",
        "--types",
        "mrr=number",
    )
    options += ("--map", "signed up=created_at", "--rejects", str(rejects))
    with serve() as sandbox:
        ended = run_import(str(people), *options, **keys(sandbox))
        assert ended.status == 3, ended
        assert "2  delivered" in ended.out
        assert "line 3 contact_uid is missing" in ended.out
        assert "line 4 mrr: 'lots' is not a number like 1234.5" in ended.out
        assert f"All of them are in {rejects}" in ended.out
        assert ended.err == ""
        assert sandbox.contact("1")["params"] == {"name": "Ann, the one", "phone": "0612345678", "mrr": 9.5}
        assert sandbox.contact("1")["created_at"] == "2026-01-31T12:00:00.000Z"
        assert sandbox.contact("4")["params"] == {"name": 'say "hi"', "phone": "+33", "mrr": 1}
        lines = [json.loads(line) for line in rejects.read_text().splitlines()]
        assert lines[0] == {
            "file": str(people),
            "line": 3,
            "reason": "contact_uid is missing",
            "text": ",Nobody,,,",
            "row": {"full name": "Nobody"},
        }
        assert (lines[1]["line"], lines[1]["text"]) == (4, '3,"two\nlines",,lots,')
        # Mended, with the same options.
        lines[0]["row"]["id"] = "2"
        lines[1]["row"]["mrr"] = "77"
        mended = write(tmp_path / "mended.ndjson", lines)
        ended = run_import(str(mended), *options[:-2], **keys(sandbox))
        assert ended.status == 0, ended
        assert sandbox.contact("2")["params"] == {"name": "Nobody"}
        assert sandbox.contact("3")["params"] == {"name": "two\nlines", "mrr": 77}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mended.ndjson", "people.csv", "rejects.ndjson"]


@pytest.mark.slow
def test_rows_rejected_by_the_server(tmp_path: Path) -> None:
    """A rejected row of a batch is found and named by its line, in any partition; the others are delivered."""
    rows = events(300)
    for guilty in (17, 18, 250):
        rows[guilty]["params"] = {"account_uid": ["no", "uid"]}
    for concurrency in ("1", "3"):
        rejects = tmp_path / f"r{concurrency}.ndjson"
        with serve() as sandbox:
            file = write(tmp_path / "a.ndjson", rows)
            ended, result = import_json(file, "--rejects", rejects, "--concurrency", concurrency, **keys(sandbox))
            assert ended.status == 3, ended
            assert (result["delivered"], result["rejected"]) == (297, 3)
            lines = [json.loads(line) for line in rejects.read_text().splitlines()]
            assert [line["line"] for line in lines] == [18, 19, 251]
            assert all(line["reason"].startswith("rejected by the server: ") for line in lines)
            assert [line["row"] for line in lines] == [rows[17], rows[18], rows[250]]
            assert sandbox.summary()["events"] == 297


@pytest.mark.slow
def test_rejected_rows_are_never_overwritten(tmp_path: Path) -> None:
    """A file of an earlier import is not overwritten: status 2, and the checkpoint stays too."""
    file, rejects = write(tmp_path / "a.ndjson", [{"object": "note"}, *events(99), {}, *events(3000)]), tmp_path / "r"
    with serve() as sandbox:
        refuse_after(sandbox, 3, 403)
        ended, result = import_json(file, "--batch", "100", "--rejects", rejects, **keys(sandbox))
        assert (ended.status, result["rejected"], result["skipped"]) == (4, 1, 1), ended
        kept, checkpoint = rejects.read_bytes(), tmp_path / "a.ndjson.smckpt"
        assert kept
        before = checkpoint.read_bytes()
        ended = run_import(str(file), "--restart", "--rejects", str(rejects), **keys(sandbox))
        assert ended.status == 2
        assert "which may have been corrected; name another file" in ended.err
        assert (rejects.read_bytes(), checkpoint.read_bytes()) == (kept, before)
        sandbox.faults([])
        ended, result = import_json(file, "--resume", "--rejects", rejects, **keys(sandbox))
        assert (ended.status, rejects.read_bytes()) == (3, kept)
        assert (result["rows"], result["delivered"], result["rejected"], result["skipped"]) == (3101, 3099, 1, 1)
        # It is done: there is nothing to go on with, and what is there is only added to.
        ended, _ = import_json(file, "--resume", "--rejects", rejects, **keys(sandbox))
        assert (ended.status, rejects.read_bytes()) == (3, kept * 2)


@pytest.mark.slow
async def test_a_server_that_quotes_the_key(tmp_path: Path) -> None:
    """Keys are removed from server messages on the terminal and in the file of rejected rows."""
    token, secret = "tokentokentoken", "secretsecret"
    both = base64.b64encode(f"{token}:{secret}".encode()).decode()

    refusals = iter((400, 400, 403, 403))

    async def answer(request: web.Request) -> web.Response:
        status = 200 if request.path == "/v1/ping" else next(refusals)
        return web.json_response({"error": f"no: {request.headers['Authorization']} {token}:{secret}"}, status=status)

    server = TestServer(web.Application())
    server.app.router.add_route("*", "/{path:.*}", answer)
    await server.start_server()
    env = {"SALESMACHINE_API_URL": str(server.make_url("")), "SALESMACHINE_API_TOKEN": token}
    file, rejects = write(tmp_path / "a.ndjson", events(1)), tmp_path / "r.ndjson"
    for status in (3, 4):
        for option in ((), ("--json",)):
            rejects.unlink(missing_ok=True)
            arguments = ("import", str(file), "--rejects", str(rejects), "--restart", *option)
            ended = await run(*arguments, **env, SALESMACHINE_API_SECRET=secret)
            assert ended.status == status, ended
            result = ended.out + ended.err + rejects.read_text()
            assert "no: Basic ***== ***:***" in result
            assert not any(key in result for key in (token, secret, both))
    await server.close()


@pytest.mark.slow
def test_rejected_rows_are_kept_until_the_import_is_done(tmp_path: Path) -> None:
    """--resume accepts another name of the file; --dry-run in between cannot overwrite it."""
    bad = {"method": "event", "contact_uid": "", "event_uid": "e"}
    file = write(tmp_path / "a.ndjson", [bad, *events(1000), bad])
    rejects, same = tmp_path / "r.ndjson", tmp_path / "same.ndjson"
    same.symlink_to(rejects)
    with serve() as sandbox:
        refuse_after(sandbox, 5, 403)
        ended, result = import_json(file, "--batch", "100", "--rejects", os.path.relpath(rejects), **keys(sandbox))
        assert (ended.status, result["rejected"]) == (4, 1), ended
        ended = run_import(str(file), "--dry-run", "--rejects", str(rejects))
        assert (ended.status, "is in use by an unfinished import" in ended.err) == (2, True), ended
        sandbox.faults([])
        ended, result = import_json(file, "--resume", "--rejects", same, **keys(sandbox))
        assert (ended.status, result["rejected"]) == (3, 2), ended
    assert [json.loads(line)["line"] for line in rejects.read_text().splitlines()] == [1, 1002]


def test_a_full_disk_under_the_rejected_rows(tmp_path: Path) -> None:
    """A full disk ends the import with an error and its results."""
    file = write(tmp_path / "a.ndjson", [{"method": "event"}] * 3)
    ended, result = import_json(file, "--dry-run", "--rejects", "/dev/full")
    assert (ended.status, result["error"]) == (1, "[Errno 28] No space left on device"), ended
    assert "Traceback" not in ended.err
