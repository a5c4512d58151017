"""Errors that are found before anything is sent."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.support.imports import (
    events,
    run_import,
    write,
)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["good.ndjson", "missing.ndjson"], "cannot read missing.ndjson: No such file or directory"),
        (["good.ndjson", "."], ". is a directory; name the files in it"),
        (["good.ndjson", "./good.ndjson"], "good.ndjson is named twice"),
        (["-", "-"], "stdin (-) is named twice"),
        (["good.ndjson", "what.txt"], "what.txt has no known suffix; use --format"),
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
def test_usage_errors(arguments: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A usage error has status 2 and one line of advice; nothing is sent and no file changes."""
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
