"""`salesmachine import` as a whole, into a real sandbox; in processes of its own where streams and signals count."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.testing import serve
from tests.support.cli_inside import invoke_here
from tests.support.cli_process import Ended, command, environment, popen, run


def keys(sandbox: Sandbox, token: str = "token") -> dict[str, str]:
    return {"SALESMACHINE_API_URL": sandbox.url, "SALESMACHINE_API_TOKEN": token}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def events(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"method": "event", "contact_uid": f"c{number % 50}", "event_uid": "e", "params": {"n": number}}
        for number in range(first, first + count)
    ]


def refuse_after(sandbox: Sandbox, batches: int, status: int) -> None:
    spared = Fault(path="/v1/batch", times=batches)
    sandbox.faults([spared, Fault(path="/v1/batch", status=status, times=None)])


def numbers(sandbox: Sandbox) -> list[int]:
    return sorted(event["params"]["n"] for event in sandbox.events(limit=100_000))


def run_import(*arguments: str, **env: str) -> Ended:
    return invoke_here("import", *arguments, **env)


def import_json(*arguments: object, **env: str) -> tuple[Ended, dict[str, Any]]:
    ended = run_import("--json", *map(str, arguments), **env)
    assert ended.out.count("\n") == 1, ended
    return ended, json.loads(ended.out)


def test_csv_with_mistakes(tmp_path: Path) -> None:
    """What is good arrives as it was written; what is not is kept with its line and why, to be mended and imported."""
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


def test_several_files_and_forms(tmp_path: Path) -> None:
    """Plain and zipped, concurrency, aliases in their place: all of it arrives, in the order of each contact."""
    first = write(
        tmp_path / "a.ndjson.gz",
        [
            {"method": "account", "account_uid": "9", "params": {"name": "Tesla"}},
            {"method": "contact", "contact_uid": "1", "params": {"email": "a@b.c", "account_uid": "9"}},
            {"method": "alias", "contact_uid": "1", "alias": "one"},
            {"method": "event", "contact_uid": "one", "event_uid": "login"},
            {"method": "contact", "contact_uid": "1", "params": {"email": "new@b.c"}},
        ],
    )
    second = write(tmp_path / "b.jsonl", events(2000))
    with serve() as sandbox:
        ended, told = import_json(first, second, "--concurrency", "4", "--batch", "100", **keys(sandbox))
        assert ended.status == 0, ended
        assert (told["rows"], told["delivered"], told["rejected"], told["unanswered"]) == (2005, 2005, 0, 0)
        assert [each["delivered"] for each in told["files"]] == [5, 2000]
        assert all(each["done"] and each["checkpoint"] is None for each in told["files"])
        assert sandbox.contact("one")["params"] == {"email": "new@b.c", "account_uid": "9"}
        assert sandbox.contact("one")["uids"] == ["1", "one"]
        summary = sandbox.summary()
        assert (summary["events"], summary["duplicates"]) == (2001, 0)
        # The same again: the ids are the same, so nothing is counted twice.
        ended, told = import_json(first, second, **keys(sandbox))
        assert (ended.status, told["delivered"]) == (0, 2005)
        assert (sandbox.summary()["events"], sandbox.summary()["duplicates"]) == (2001, 2004)  # an alias has no id
        ids = [event["message_id"] for event in sandbox.events(limit=100_000)]
        assert len(set(ids)) == 2001


def test_what_the_sandbox_exports_comes_back(tmp_path: Path) -> None:
    """An export imported elsewhere makes the same contacts, accounts and events; v2 objects are skipped."""
    rows: list[dict[str, Any]] = [
        {"method": "account", "account_uid": "9", "params": {"name": "Tesla"}, "created_at": "2020-01-01T00:00:00Z"},
        {"method": "contact", "contact_uid": "1", "params": {"account_uid": "9"}, "created_at": "2020-01-01T00:00:00Z"},
        {"method": "alias", "contact_uid": "1", "alias": "one"},
        *({**event, "created_at": "2026-01-31T12:00:00.123Z"} for event in events(20)),
    ]
    with serve() as there, serve() as here:
        assert run_import(str(write(tmp_path / "a.ndjson", rows)), **keys(there)).status == 0
        exported = tmp_path / "exported.ndjson"
        exported.write_bytes(b"".join(there.export("token")))
        skipped = sum(b'"object":' in line for line in exported.read_bytes().splitlines())
        assert skipped
        ended = run_import(str(exported), **keys(here))
        assert ended.status == 0, ended
        assert f"{skipped}  skipped: users, notes, activities and tasks, which the tracking API" in ended.out
        assert "rejected" not in ended.out
        _, told = import_json(exported, "--dry-run")
        assert (told["exit"], told["rejected"], told["skipped"]) == (0, 0, skipped)
        assert told["rows"] == told["sendable"] + skipped == told["files"][0]["rows"]
        assert told["files"][0]["skipped"] == skipped
        for ours, theirs in zip(here.contacts(), there.contacts(), strict=True):
            assert ours == {**theirs, "updated_at": ours["updated_at"]}
        assert here.accounts() == there.accounts()
        volatile = {"seq": 0, "received_at": ""}
        arrived, sent = ([{**event, **volatile} for event in each.events(limit=100)] for each in (here, there))
        assert arrived == sent


def test_rows_that_the_server_refuses(tmp_path: Path) -> None:
    """The one guilty row of a batch is found, named by its line, and the others arrive; in any partition."""
    rows = events(300)
    for guilty in (17, 18, 250):
        rows[guilty]["params"] = {"account_uid": ["no", "uid"]}
    for concurrency in ("1", "3"):
        rejects = tmp_path / f"r{concurrency}.ndjson"
        with serve() as sandbox:
            file = write(tmp_path / "a.ndjson", rows)
            ended, told = import_json(file, "--rejects", rejects, "--concurrency", concurrency, **keys(sandbox))
            assert ended.status == 3, ended
            assert (told["delivered"], told["rejected"]) == (297, 3)
            lines = [json.loads(line) for line in rejects.read_text().splitlines()]
            assert [line["line"] for line in lines] == [18, 19, 251]
            assert all(line["reason"].startswith("rejected by the server: ") for line in lines)
            assert [line["row"] for line in lines] == [rows[17], rows[18], rows[250]]
            assert sandbox.summary()["events"] == 297


def test_the_same_row_of_two_files_is_two_messages(tmp_path: Path) -> None:
    """On the same line of Monday's and of Tuesday's file; the same file imported again, also packed, is the same."""
    monday, tuesday = (write(tmp_path / f"{day}.ndjson", events(2)) for day in ("mon", "tue"))
    packed = tmp_path / "packed" / "mon.ndjson.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(monday.read_bytes()))
    with serve() as sandbox:
        for file, arrived, doubled in ((monday, 2, 0), (tuesday, 4, 0), (monday, 4, 2), (packed, 4, 4)):
            assert import_json(file, **keys(sandbox))[0].status == 0
            summary = sandbox.summary()
            assert (summary["events"], summary["duplicates"]) == (arrived, doubled)


@pytest.mark.slow
def test_rejected_rows_are_never_overwritten(tmp_path: Path) -> None:
    """What an earlier import rejected is somebody's work by now: status 2, and the checkpoint stays too."""
    file, rejects = write(tmp_path / "a.ndjson", [{"object": "note"}, *events(99), {}, *events(3000)]), tmp_path / "r"
    with serve() as sandbox:
        refuse_after(sandbox, 3, 403)
        ended, told = import_json(file, "--batch", "100", "--rejects", rejects, **keys(sandbox))
        assert (ended.status, told["rejected"], told["skipped"]) == (4, 1, 1), ended
        kept, checkpoint = rejects.read_bytes(), tmp_path / "a.ndjson.smckpt"
        assert kept
        before = checkpoint.read_bytes()
        ended = run_import(str(file), "--restart", "--rejects", str(rejects), **keys(sandbox))
        assert ended.status == 2
        assert "which may have been corrected; name another file" in ended.err
        assert (rejects.read_bytes(), checkpoint.read_bytes()) == (kept, before)
        sandbox.faults([])
        ended, told = import_json(file, "--resume", "--rejects", rejects, **keys(sandbox))
        assert (ended.status, rejects.read_bytes()) == (3, kept)
        assert (told["rows"], told["delivered"], told["rejected"], told["skipped"]) == (3101, 3099, 1, 1)
        # It is done: there is nothing to go on with, and what is there is only added to.
        ended, _ = import_json(file, "--resume", "--rejects", rejects, **keys(sandbox))
        assert (ended.status, rejects.read_bytes()) == (3, kept * 2)


@pytest.mark.slow
def test_csv_on_stdin() -> None:
    """Rows that are no JSON on stdin: one line that says what to do; said to be NDJSON, they are rejected."""
    people = b"contact_uid,name\n1,Ann\n2,Bob\n"
    for options, status, told in (
        ((), 2, "stdin: its first row is not a JSON object, so this is not NDJSON; if it is CSV, add --format csv"),
        (("--format", "csv"), 0, "2  can be sent"),
        (("--format", "ndjson"), 3, "line 1 is not JSON"),
    ):
        process = popen("import", "-", "--type", "contact", "--dry-run", *options)
        out, _ = process.communicate(people)
        assert process.returncode == status
        assert told in out.decode()
        assert ("line 1" in out.decode()) is (status == 3)


@pytest.mark.slow
async def test_a_server_that_quotes_the_key(tmp_path: Path) -> None:
    """Neither the terminal nor the file of rejected rows, which others get to mend, learns it."""
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
            told = ended.out + ended.err + rejects.read_text()
            assert "no: Basic [key] [key]" in told
            assert not any(key in told for key in (token, secret, both))
    await server.close()


def test_rejected_rows_are_kept_until_the_import_is_done(tmp_path: Path) -> None:
    """Whatever the file is called by --resume; and a --dry-run in between writes elsewhere."""
    bad = {"method": "event", "contact_uid": "", "event_uid": "e"}
    file = write(tmp_path / "a.ndjson", [bad, *events(1000), bad])
    rejects, same = tmp_path / "r.ndjson", tmp_path / "same.ndjson"
    same.symlink_to(rejects)
    with serve() as sandbox:
        refuse_after(sandbox, 5, 403)
        ended, told = import_json(file, "--batch", "100", "--rejects", os.path.relpath(rejects), **keys(sandbox))
        assert (ended.status, told["rejected"]) == (4, 1), ended
        ended = run_import(str(file), "--dry-run", "--rejects", str(rejects))
        assert (ended.status, "is in use by an unfinished import" in ended.err) == (2, True), ended
        sandbox.faults([])
        ended, told = import_json(file, "--resume", "--rejects", same, **keys(sandbox))
        assert (ended.status, told["rejected"]) == (3, 2), ended
    assert [json.loads(line)["line"] for line in rejects.read_text().splitlines()] == [1, 1002]


def test_a_full_disk_under_the_rejected_rows(tmp_path: Path) -> None:
    """It ends the import with a line that says so, and with what it came to."""
    file = write(tmp_path / "a.ndjson", [{"method": "event"}] * 3)
    ended, told = import_json(file, "--dry-run", "--rejects", "/dev/full")
    assert (ended.status, told["error"]) == (1, "[Errno 28] No space left on device"), ended
    assert "Traceback" not in ended.err


def test_dry_run(tmp_path: Path) -> None:
    """It finds what would be rejected, sends nothing, needs no key, and leaves no checkpoint."""
    rows: list[dict[str, Any]] = [
        *events(1000),
        {"method": "event"},
        {"method": "contact", "contact_uid": "x" * 600_000},
    ]
    file, rejects = write(tmp_path / "a.ndjson", rows), tmp_path / "r.ndjson"
    ended, told = import_json(file, "--dry-run", "--rejects", rejects)
    assert ended.status == 3, ended
    assert (told["dry_run"], told["sendable"], told["rejected"]) == (True, 1000, 2)
    assert "delivered" not in told
    assert told["files"][0]["sendable"] == 1000
    reasons = [json.loads(line)["reason"] for line in rejects.read_text().splitlines()]
    assert reasons[0] == "contact_uid is missing"
    assert reasons[1].startswith("message: is 600")
    assert not (tmp_path / "a.ndjson.smckpt").exists()
    text = run_import(str(file), "--dry-run")
    assert "1,000  can be sent" in text.out
    assert "Use --rejects FILE" in text.out


@pytest.mark.slow
def test_stdout_that_takes_nothing(tmp_path: Path) -> None:
    """The status stays that of the import: it is done, whoever wants to read of it or not."""
    file = write(tmp_path / "a.ndjson", [*events(3), {"method": "event"}])

    def told(stdout: Any, *option: str) -> tuple[int, bytes]:
        line = command("import", str(file), "--dry-run", *option)
        ended = subprocess.run(line, stdout=stdout, stderr=subprocess.PIPE, env=environment(), check=False)
        return ended.returncode, ended.stderr

    for option in ((), ("--json",)):
        with Path("/dev/full").open("wb") as full:
            assert told(full, *option) == (
                3,
                b"salesmachine import: error: cannot write to stdout: No space left on device\n",
            )
        reader, writer = os.pipe()
        os.close(reader)
        assert told(writer, *option) == (3, b"")
        os.close(writer)


@pytest.mark.slow
def test_stdin(tmp_path: Path) -> None:
    """A pipe that dawdles is imported as it comes; with --format it may be CSV; a named pipe is one too."""
    with serve() as sandbox:
        process = popen("import", "-", "--format", "csv", "--type", "contact", "--json", **keys(sandbox))
        feed(process, b"contact_uid,name\n1,Ann\n2,B")
        until(sandbox.contacts)
        assert [each["contact_uid"] for each in sandbox.contacts()] == ["1"]
        out, _ = process.communicate(b"ob\n")
        told = json.loads(out)
        assert (process.returncode, told["delivered"], told["files"][0]["file"]) == (0, 2, "stdin")
        pipe = tmp_path / "pipe.ndjson"
        os.mkfifo(pipe)
        process = popen("import", str(pipe), **keys(sandbox))
        write(pipe, events(10))
        process.communicate()
        assert (process.returncode, numbers(sandbox)) == (0, list(range(10)))
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.slow
def test_stdin_goes_on_from_a_checkpoint_that_was_named(tmp_path: Path) -> None:
    """Fed the same from its beginning, it passes over what was answered for."""
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


def test_interrupted_while_it_passes_over(tmp_path: Path) -> None:
    """The checkpoint stays as it was, and the end still says how to go on."""
    file = write(tmp_path / "a.ndjson", events(3000))
    with serve() as sandbox:
        refuse_after(sandbox, 10, 401)
        assert (run_import(str(file), "--batch", "100", **keys(sandbox))).status == 4
        before = (tmp_path / "a.ndjson.smckpt").read_text()
        ended, told = import_json(file, "--resume", "--batch", "100", **keys(sandbox))
        assert (ended.status, told["delivered"], told["resumed"]) == (4, 1000, 1000), ended
        assert (tmp_path / "a.ndjson.smckpt").read_text() == before


def test_empty_inputs(tmp_path: Path) -> None:
    """Nothing is nothing, and that is fine."""
    names = {"a.ndjson": "", "b.csv": "", "c.csv": "contact_uid\n", "d.ndjson": "\n\n"}
    for name, text in names.items():
        (tmp_path / name).write_text(text)
    ended, told = import_json(*(tmp_path / name for name in names), "--type", "contact", "--dry-run")
    assert (ended.status, told["rows"]) == (0, 0), ended
    assert all(each["done"] for each in told["files"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["good.ndjson", "missing.ndjson"], "cannot read missing.ndjson: No such file or directory"),
        (["good.ndjson", "."], ". is a directory; name the files in it"),
        (["good.ndjson", "./good.ndjson"], "good.ndjson is named twice"),
        (["-", "-"], "stdin (-) is named twice"),
        (["good.ndjson", "what.txt"], "what.txt does not tell its format; use --format"),
        (["good.ndjson", "array.json"], "array.json is a JSON array; convert it to one object per line: jq -c '.[]'"),
        (["good.ndjson", "flat.ndjson"], 'flat.ndjson: its first row has no "method"; name the kind of the rows with'),
        (["good.ndjson", "cut.ndjson.gz"], "cut.ndjson.gz breaks off in the middle of its gzip data"),
        (["good.ndjson", "wide.csv", "--type", "contact"], "is UTF-16"),
        (["good.ndjson", "people.csv", "--type", "contact"], 'people.csv has no column "contact_uid"'),
        (["good.ndjson", "--rejects", "good.ndjson"], "good.ndjson is an input"),
        (["good.ndjson", "--rejects", "people.csv"], "people.csv exists and is not a file of rejected rows"),
        (["good.ndjson", "--rejects", "mended.ndjson"], "mended.ndjson holds the rejected rows of an earlier import"),
        (["good.ndjson", "--rejects", "mended.ndjson", "--restart"], "name another file with --rejects, or delete it"),
        (["good.ndjson", "--resume", "--restart"], "exclude each other"),
        (["good.ndjson", "people.csv", "--checkpoint", "c"], "--checkpoint is for one file"),
        (["good.ndjson", "--map", "x"], "--map x: write it as NAME=NAME"),
        (["people.csv", "--delimiter", ";;"], "--delimiter must be one character"),
        (["-", "--credentials", "-"], "stdin cannot be both"),
        (["good.ndjson", "--checkpoint", "no/where"], "cannot keep a checkpoint in no/where"),
        (["good.ndjson", "--checkpoint", "good.ndjson", "--restart"], "the checkpoint must be another file"),
        (["good.ndjson", "--checkpoint", "linked.ndjson", "--restart"], "the checkpoint must be another file"),
        (["good.ndjson", "--checkpoint", "c", "--rejects", "./c"], "cannot be both the checkpoint and the file"),
        (["good.ndjson", "--rejects", "good.ndjson.smckpt"], "cannot be both the checkpoint and the file"),
    ],
)
def test_used_wrongly(arguments: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 2, one line that says what to do, and nothing is sent: not even what comes first and is good."""
    monkeypatch.chdir(tmp_path)
    write(Path("good.ndjson"), events(3))
    Path("what.txt").write_text("hello")
    Path("array.json").write_text('[{"method": "event"}]')
    write(Path("flat.ndjson"), [{"contact_uid": "1"}])
    Path("cut.ndjson.gz").write_bytes(gzip.compress(b"{}\n")[:12])
    Path("wide.csv").write_text("a,b\n", encoding="utf-16")
    Path("people.csv").write_text("id,name\n1,Ann\n")
    Path("mended.ndjson").write_text('{"file": "f", "line": 1, "reason": "r", "text": "t", "row": {"mended": 1}}\n')
    Path("people.new").write_text("contact_uid,name\n1,Ann\n")
    Path("linked.ndjson").hardlink_to("good.ndjson")
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    # Nobody listens there: whatever is sent makes it another status.
    ended = run_import(*arguments, SALESMACHINE_API_URL="http://127.0.0.1:9", SALESMACHINE_API_TOKEN="token")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("salesmachine import: error: ")
    assert len(ended.err.splitlines()) == 1
    assert why in ended.err
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


async def test_the_key_is_refused(tmp_path: Path) -> None:
    """A wrong key is told at once, with status 4, and nothing is left behind; without any it is 2."""
    file = write(tmp_path / "a.ndjson", events(10))
    async with Sandbox(tokens=["good"]) as sandbox:
        ended = await run("import", str(file), **keys(sandbox, "bad"))
        assert ended.status == 4, ended
        assert "Stopped: rejected by the server" in ended.out
        assert "check SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET" in ended.out
        assert "bad" not in ended.out + ended.err
    assert run_import(str(file), SALESMACHINE_API_URL="http://127.0.0.1:9").status == 2
    assert list(tmp_path.iterdir()) == [file]


def test_the_key_is_revoked_in_the_middle(tmp_path: Path) -> None:
    """The import stops with 4 rather than to hang, keeps its checkpoint, and --resume delivers the rest, once."""
    file = write(tmp_path / "a.ndjson", events(3000))
    with serve() as sandbox:
        refuse_after(sandbox, 10, 401)
        ended, told = import_json(file, "--batch", "100", **keys(sandbox))
        assert ended.status == 4, ended
        assert (told["status"], told["delivered"]) == ("refused", 1000)
        assert told["unanswered"] > 0
        assert told["files"][0]["checkpoint"] == f"{file}.smckpt"
        assert ended.err.startswith("salesmachine import: error: the server answered 401")
        sandbox.faults([])
        # Without --resume nothing happens by mistake.
        ended = run_import(str(file), "--batch", "100", **keys(sandbox))
        assert ended.status == 2
        assert "1,000 rows of" in ended.err
        assert "continue with --resume, or start over with --restart" in " ".join(ended.err.split())
        ended, told = import_json(file, "--resume", **keys(sandbox))
        assert ended.status == 0, ended
        assert (told["rows"], told["delivered"], told["resumed"]) == (3000, 3000, 1000)
        assert numbers(sandbox) == list(range(3000))
        assert sandbox.summary()["duplicates"] == 0
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_the_server_is_not_there(tmp_path: Path) -> None:
    """It is tried again until --give-up-after, then the status is 5; when it comes back in time all is well."""
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
        ended, told = import_json(file, **keys(sandbox))
        assert (ended.status, told["delivered"]) == (0, 10), ended
        assert told["retries"] > 0
        assert numbers(sandbox) == list(range(10))


def feed(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Write to its stdin, and leave it open."""
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def until(something: Callable[[], object]) -> None:
    """Wait for it; the time limit of the test ends this."""
    while not something():
        time.sleep(0.02)


def interrupted(sandbox: Sandbox, file: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start an import, and wait until some of it has arrived."""
    process = popen("import", str(file), "--batch", "50", *arguments, **keys(sandbox))
    until(lambda: sandbox.summary()["events"] >= 200)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """It stops reading, delivers what was read, and says how to go on; --resume sends exactly the rest."""
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
        ended, told = import_json(file, "--resume", **keys(sandbox))
        assert ended.status == 0, ended
        assert (told["delivered"], told["resumed"]) == (10_000, len(arrived))
        assert numbers(sandbox) == list(range(10_000))
        assert sandbox.summary()["duplicates"] == 0


@pytest.mark.slow
def test_interrupted_twice(tmp_path: Path) -> None:
    """The second Ctrl-C stops at once; rows without an answer are told of, and sent again with the same ids."""
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
        ended, told = import_json(file, "--resume", **keys(sandbox))
        assert (ended.status, told["delivered"]) == (0, 3000), ended
        # Five batches were taken; the answer to the last may have been under way still.
        assert told["resumed"] in (200, 250)
        assert numbers(sandbox) == list(range(3000))


@pytest.mark.slow
def test_a_silent_pipe_can_be_interrupted() -> None:
    """Waiting for stdin does not hold up the end."""
    with serve() as sandbox, popen("import", "-", **keys(sandbox)) as process:
        feed(process, b"".join(json.dumps(row).encode() + b"\n" for row in events(10)))
        until(lambda: sandbox.summary()["events"] == 10)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130


@pytest.mark.slow
def test_resume_refuses_what_is_not_the_same(tmp_path: Path) -> None:
    """A changed beginning, other options, another server: status 2, and the checkpoint stays; --restart begins anew."""
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
        ended, told = import_json(file, "--resume", **keys(sandbox))
        assert (ended.status, told["delivered"]) == (0, 3001), ended
        assert numbers(sandbox) == list(range(3001))
        assert not kept.exists()
        refuse_after(sandbox, 10, 401)
        assert run_import(str(file), "--batch", "100", **keys(sandbox)).status == 4
        assert kept.exists()
        sandbox.faults([])
        assert (run_import(str(file), "--restart", **keys(sandbox))).status == 0
        assert not kept.exists()


def test_resume_with_several_files_and_rejects(tmp_path: Path) -> None:
    """Files that are done are not sent again; the file of rejected rows goes on where it was."""
    bad = {"method": "event", "contact_uid": "", "event_uid": "e"}
    files = [
        write(tmp_path / f"{name}.ndjson.gz", [*events(1000, 1000 * index), bad]) for index, name in enumerate("abc")
    ]
    rejects = tmp_path / "r.ndjson"
    arguments = (*files, "--batch", "100", "--rejects", rejects)
    with serve() as sandbox:
        refuse_after(sandbox, 15, 403)
        ended, told = import_json(*arguments, **keys(sandbox))
        assert (ended.status, told["delivered"], told["rejected"]) == (4, 1500, 1), ended
        with rejects.open("a") as file:
            file.write("what a killed import had written after its last checkpoint\n")
        sandbox.faults([])
        ended, told = import_json(*arguments, "--resume", **keys(sandbox))
        assert (ended.status, told["delivered"], told["rejected"], told["resumed"]) == (3, 3000, 3, 1501), ended
        assert numbers(sandbox) == list(range(3000))
        assert sandbox.summary()["duplicates"] == 0
        lines = [json.loads(line) for line in rejects.read_text().splitlines()]
        assert [(Path(line["file"]).name, line["line"]) for line in lines] == [(f"{n}.ndjson.gz", 1001) for n in "abc"]
    assert not list(tmp_path.glob("*.smckpt"))


@pytest.mark.slow
def test_a_zipped_file_that_breaks_off(tmp_path: Path) -> None:
    """What can be read arrives, the status is 1, and with the whole file --resume goes on."""
    whole = write(
        tmp_path / "whole.ndjson.gz", [{**event, "messageId": os.urandom(12).hex()} for event in events(9000)]
    )
    file = tmp_path / "a.ndjson.gz"
    file.write_bytes(whole.read_bytes()[:-20_000])
    with serve() as sandbox:
        ended, told = import_json(file, **keys(sandbox))
        assert ended.status == 1, ended
        assert "breaks off in the middle of its gzip data" in told["error"]
        arrived = numbers(sandbox)
        assert arrived == list(range(told["delivered"]))
        assert 0 < len(arrived) < 9000
        file.write_bytes(whole.read_bytes())
        ended, told = import_json(file, "--resume", **keys(sandbox))
        assert (ended.status, told["delivered"]) == (0, 9000), ended
        assert numbers(sandbox) == list(range(9000))


@pytest.mark.slow
def test_how_it_is_getting_on(tmp_path: Path) -> None:
    """SIGUSR1 is answered by a line on stderr; --quiet says nothing else; the rows per second are held."""
    file = write(tmp_path / "a.ndjson", events(400))
    with serve() as sandbox:
        begun = time.monotonic()
        process = popen("import", str(file), "--quiet", "--rate", "400", **keys(sandbox))
        until(lambda: sandbox.summary()["events"] >= 50)
        process.send_signal(signal.SIGUSR1)
        out, err = (each.decode() for each in process.communicate())
        assert time.monotonic() - begun >= 0.8
        assert (process.returncode, out) == (0, "")
        assert err.startswith(f"{file}: ")
        assert " rows/s, 0 rejected, " in err
        assert len(err.splitlines()) == 1
