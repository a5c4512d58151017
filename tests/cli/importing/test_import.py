"""`salesmachine import` as a whole, into a real sandbox; in processes of its own for streams and signals."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async.testing import serve
from tests.support.cli_process import command, environment, popen
from tests.support.imports import (
    events,
    feed,
    import_json,
    keys,
    numbers,
    run_import,
    until,
    write,
)


@pytest.mark.slow
def test_several_files_and_forms(tmp_path: Path) -> None:
    """Plain and compressed files with aliases arrive in the order of each contact, also with concurrency."""
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
        ended, result = import_json(first, second, "--concurrency", "4", "--batch", "100", **keys(sandbox))
        assert ended.status == 0, ended
        assert (result["rows"], result["delivered"], result["rejected"], result["unanswered"]) == (2005, 2005, 0, 0)
        assert [each["delivered"] for each in result["files"]] == [5, 2000]
        assert all(each["done"] and each["checkpoint"] is None for each in result["files"])
        assert sandbox.contact("one")["params"] == {"email": "new@b.c", "account_uid": "9"}
        assert sandbox.contact("one")["uids"] == ["1", "one"]
        summary = sandbox.summary()
        assert (summary["events"], summary["duplicates"]) == (2001, 0)
        # The same again: the ids are the same, so nothing is counted twice.
        ended, result = import_json(first, second, **keys(sandbox))
        assert (ended.status, result["delivered"]) == (0, 2005)
        assert (sandbox.summary()["events"], sandbox.summary()["duplicates"]) == (2001, 2004)  # an alias has no id
        ids = [event["message_id"] for event in sandbox.events(limit=100_000)]
        assert len(set(ids)) == 2001


def test_export_of_the_sandbox(tmp_path: Path) -> None:
    """An imported export makes the same contacts, accounts and events; v2 objects are skipped."""
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
        _, result = import_json(exported, "--dry-run")
        assert (result["exit"], result["rejected"], result["skipped"]) == (0, 0, skipped)
        assert result["rows"] == result["sendable"] + skipped == result["files"][0]["rows"]
        assert result["files"][0]["skipped"] == skipped
        for ours, theirs in zip(here.contacts(), there.contacts(), strict=True):
            assert ours == {**theirs, "updated_at": ours["updated_at"]}
        assert here.accounts() == there.accounts()
        volatile = {"seq": 0, "received_at": ""}
        arrived, sent = ([{**event, **volatile} for event in each.events(limit=100)] for each in (here, there))
        assert arrived == sent


def test_the_same_row_of_two_files_is_two_messages(tmp_path: Path) -> None:
    """Equal rows of two files are two messages; those of the same file, also compressed, are one."""
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
def test_csv_on_stdin() -> None:
    """CSV on stdin without --format is an error with advice; with --format ndjson the rows are rejected."""
    people = b"contact_uid,name\n1,Ann\n2,Bob\n"
    for options, status, problem in (
        ((), 2, "stdin: its first row is not a JSON object, so this is not NDJSON; if it is CSV, add --format csv"),
        (("--format", "csv"), 0, "2  can be sent"),
        (("--format", "ndjson"), 3, "line 1 is not JSON"),
    ):
        process = popen("import", "-", "--type", "contact", "--dry-run", *options)
        out, _ = process.communicate(people)
        assert process.returncode == status
        assert problem in out.decode()
        assert ("line 1" in out.decode()) is (status == 3)


def test_dry_run(tmp_path: Path) -> None:
    """A dry run finds rejected rows, sends nothing, needs no key, and leaves no checkpoint."""
    rows: list[dict[str, Any]] = [
        *events(1000),
        {"method": "event"},
        {"method": "contact", "contact_uid": "x" * 600_000},
    ]
    file, rejects = write(tmp_path / "a.ndjson", rows), tmp_path / "r.ndjson"
    ended, result = import_json(file, "--dry-run", "--rejects", rejects)
    assert ended.status == 3, ended
    assert (result["dry_run"], result["sendable"], result["rejected"]) == (True, 1000, 2)
    assert "delivered" not in result
    assert result["files"][0]["sendable"] == 1000
    reasons = [json.loads(line)["reason"] for line in rejects.read_text().splitlines()]
    assert reasons[0] == "contact_uid is missing"
    assert reasons[1].startswith("message: is 600")
    assert not (tmp_path / "a.ndjson.smckpt").exists()
    text = run_import(str(file), "--dry-run")
    assert "1,000  can be sent" in text.out
    assert "Use --rejects FILE" in text.out


@pytest.mark.slow
def test_unwritable_stdout(tmp_path: Path) -> None:
    """The status is that of the import even if stdout cannot be written."""
    file = write(tmp_path / "a.ndjson", [*events(3), {"method": "event"}])

    def run_to(stdout: Any, *option: str) -> tuple[int, bytes]:
        line = command("import", str(file), "--dry-run", *option)
        ended = subprocess.run(line, stdout=stdout, stderr=subprocess.PIPE, env=environment(), check=False)
        return ended.returncode, ended.stderr

    for option in ((), ("--json",)):
        with Path("/dev/full").open("wb") as full:
            assert run_to(full, *option) == (
                3,
                b"salesmachine import: error: cannot write to stdout: No space left on device\n",
            )
        reader, writer = os.pipe()
        os.close(reader)
        assert run_to(writer, *option) == (3, b"")
        os.close(writer)


@pytest.mark.slow
def test_stdin(tmp_path: Path) -> None:
    """With --encoding a slow pipe is imported as it arrives; --format makes it CSV; a named pipe works too."""
    with serve() as sandbox:
        options = ("--format", "csv", "--type", "contact", "--encoding", "utf-8", "--json")
        process = popen("import", "-", *options, **keys(sandbox))
        feed(process, b"contact_uid,name\n1,Ann\n2,B")
        until(sandbox.contacts)
        assert [each["contact_uid"] for each in sandbox.contacts()] == ["1"]
        out, _ = process.communicate(b"ob\n")
        result = json.loads(out)
        assert (process.returncode, result["delivered"], result["files"][0]["file"]) == (0, 2, "stdin")
        pipe = tmp_path / "pipe.ndjson"
        os.mkfifo(pipe)
        process = popen("import", str(pipe), **keys(sandbox))
        write(pipe, events(10))
        process.communicate()
        assert (process.returncode, numbers(sandbox)) == (0, list(range(10)))
    assert list(tmp_path.iterdir()) == [pipe]


def test_empty_inputs(tmp_path: Path) -> None:
    """Empty inputs have no rows and are done."""
    names = {"a.ndjson": "", "b.csv": "", "c.csv": "contact_uid\n", "d.ndjson": "\n\n"}
    for name, text in names.items():
        (tmp_path / name).write_text(text)
    ended, result = import_json(*(tmp_path / name for name in names), "--type", "contact", "--dry-run")
    assert (ended.status, result["rows"]) == (0, 0), ended
    assert all(each["done"] for each in result["files"])


@pytest.mark.slow
def test_status_on_request(tmp_path: Path) -> None:
    """SIGUSR1 prints a line on stderr, --quiet nothing else; --rate is observed."""
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
