"""No file is written, replaced or removed that the import did not make."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from salesmachine_async.cli import files
from salesmachine_async.testing import serve
from tests.support.cli_process import command, environment
from tests.support.imports import events, import_json, keys, refuse_after, run_import, write

NOTES = "Dear diary\n"


def test_files_beside_the_checkpoint_survive(tmp_path: Path) -> None:
    """A symbolic link or file with the name of an earlier temporary file is neither followed nor removed."""
    file = write(tmp_path / "people.ndjson", events(10))
    notes = tmp_path / "notes.txt"
    notes.write_text(NOTES)
    link = tmp_path / "people.ndjson.smckpt.new"
    link.symlink_to(notes)
    (tmp_path / "state.new").write_text(NOTES)
    with serve() as sandbox:
        assert run_import(str(file), **keys(sandbox)).status == 0
        assert run_import(str(file), "--checkpoint", str(tmp_path / "state"), **keys(sandbox)).status == 0
    assert notes.read_text() == NOTES
    assert link.is_symlink()
    assert (tmp_path / "state.new").read_text() == NOTES
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "notes.txt",
        "people.ndjson",
        "people.ndjson.smckpt.new",
        "state.new",
    ]


@pytest.mark.parametrize("option", ["--restart", "--resume", "--quiet"])
@pytest.mark.parametrize("content", [NOTES, "", "{}", '{"version": 1}', "[1, 2]"])
def test_a_checkpoint_is_never_another_file(tmp_path: Path, option: str, content: str) -> None:
    """--checkpoint with a file that is not a checkpoint is a usage error; the file stays."""
    file, notes = write(tmp_path / "a.ndjson", events(3)), tmp_path / "notes.txt"
    notes.write_text(content)
    with serve() as sandbox:
        ended = run_import(str(file), option, "--checkpoint", str(notes), **keys(sandbox))
        assert ended.status == 2, ended
        assert "is not a checkpoint" in ended.err
        assert sandbox.events() == []
    assert notes.read_text() == content


def test_a_checkpoint_is_no_link(tmp_path: Path) -> None:
    """A symbolic link in the place of the checkpoint is a usage error, whatever it leads to."""
    file, target = write(tmp_path / "a.ndjson", events(3)), tmp_path / "target"
    (tmp_path / "a.ndjson.smckpt").symlink_to(target)
    ended = run_import(str(file), SALESMACHINE_API_TOKEN="t", SALESMACHINE_API_URL="http://127.0.0.1:9")
    assert ended.status == 2
    assert not target.exists()


def test_a_file_that_replaces_the_checkpoint_survives(tmp_path: Path) -> None:
    """A file that takes the place of the checkpoint during the import is neither replaced nor removed."""
    checkpoint = tmp_path / "kept"
    files.replace(checkpoint, b"ours", b"ours".__eq__, "ours")
    checkpoint.write_text(NOTES)
    with pytest.raises(files.ForeignFile, match="exists and is not ours"):
        files.replace(checkpoint, b"ours", b"ours".__eq__, "ours")
    with pytest.raises(files.ForeignFile):
        files.remove(checkpoint, b"ours".__eq__, "ours")
    assert [each.read_text() for each in tmp_path.iterdir()] == [NOTES]


def test_a_pipe_that_takes_the_place_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that appears between the two looks at a file does not block the command, and is not replaced."""
    pipe, regular = tmp_path / "pipe", tmp_path / "regular"
    os.mkfifo(pipe)
    regular.touch()
    monkeypatch.setattr(Path, "lstat", lambda _: os.lstat(regular))
    with pytest.raises(files.ForeignFile):
        files.replace(pipe, b"", lambda _: True, "a file")


def test_temporary_files_are_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary file never opens an existing one, even if its random name is guessed."""
    target = tmp_path / "target"
    target.write_text(NOTES)
    (tmp_path / ".kept.guess").symlink_to(target)
    monkeypatch.setattr("secrets.token_hex", lambda _: "guess")
    with pytest.raises(FileExistsError):
        files.replace(tmp_path / "kept", b"ours", b"ours".__eq__, "ours")
    assert target.read_text() == NOTES


def test_rejects_never_follow_a_dangling_link(tmp_path: Path) -> None:
    """--rejects with a link to nothing is a usage error; a link to other text is one too."""
    file, link = write(tmp_path / "a.ndjson", [*events(3), {}]), tmp_path / "r.ndjson"
    link.symlink_to(tmp_path / "target")
    ended = run_import(str(file), "--dry-run", "--rejects", str(link))
    assert (ended.status, "symbolic link to a file that does not exist" in ended.err) == (2, True), ended
    (tmp_path / "target").write_text(NOTES)
    ended = run_import(str(file), "--dry-run", "--rejects", str(link))
    assert (ended.status, "is not a file of rejected rows" in ended.err) == (2, True), ended
    assert (tmp_path / "target").read_text() == NOTES


@pytest.mark.slow
def test_rejects_to_a_device_or_a_pipe(tmp_path: Path) -> None:
    """--rejects may be /dev/null or a pipe; an import that stops early can be resumed with them."""
    file = write(tmp_path / "a.ndjson", [{"method": "event", "contact_uid": ""}, *events(300)])
    with serve() as sandbox:
        refuse_after(sandbox, 1, 403)
        ended, result = import_json(file, "--batch", "100", "--rejects", "/dev/null", **keys(sandbox))
        assert (ended.status, result["rejected"]) == (4, 1), ended
        sandbox.faults([])
        ended, result = import_json(file, "--resume", "--rejects", "/dev/null", **keys(sandbox))
        assert (ended.status, result["delivered"]) == (3, 300), ended
        line = command("import", str(file), "--quiet", "--rejects", "/dev/stdout")
        ran = subprocess.run(line, capture_output=True, env=environment(**keys(sandbox)), check=False)
        assert (ran.returncode, ran.stderr) == (3, b"")
        assert json.loads(ran.stdout)["line"] == 1
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_deeply_nested_row_is_rejected(tmp_path: Path) -> None:
    """A row that can be read and not written again is rejected with its text, and costs no other row."""
    nested = '{"method": "contact", "contact_uid": "1", "params": ' + '{"a": ' * 300 + "1" + "}" * 300 + "}"
    file, rejects = tmp_path / "a.ndjson", tmp_path / "r.ndjson"
    file.write_text(nested + "\n" + json.dumps(events(1)[0]) + "\n")
    with serve() as sandbox:
        ended, result = import_json(file, "--rejects", rejects, **keys(sandbox))
        assert (ended.status, result["delivered"], result["rejected"]) == (3, 1, 1), ended
    (line,) = map(json.loads, rejects.read_text().splitlines())
    assert line["text"] == nested
    assert "row" not in line


def test_checkpoints_have_the_usual_permissions(tmp_path: Path) -> None:
    """A checkpoint has the permissions of the umask, as other files that a user makes."""
    before = os.umask(0o027)
    try:
        files.replace(tmp_path / "kept", b"ours", b"ours".__eq__, "ours")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o640
