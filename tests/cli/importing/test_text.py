"""Encodings, decimal commas, dates, `sep=` lines and repeated headers."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from salesmachine_async.testing import serve
from tests.support.cli_process import popen
from tests.support.imports import import_json, keys, run_import

pytestmark = pytest.mark.one_python

LATIN = "contact_uid,name\n" + "".join(f"{number},Ann\n" for number in range(100)) + "100,Zoé\n"


@pytest.mark.parametrize("name", ["people.csv", "people.csv.gz"])
def test_another_encoding_is_found_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    """A latin-1 file is a usage error that names the line; nothing is sent."""
    file = tmp_path / name
    data = LATIN.encode("latin-1")
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with serve() as sandbox:
        ended = run_import(str(file), "--type", "contact", **keys(sandbox))
        assert ended.status == 2
        assert f"{file} is not valid UTF-8: line 102 holds the byte 0xe9" in ended.err
        assert "--encoding cp1252 or latin-1" in ended.err
        assert sandbox.requests() == []
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_the_whole_first_megabyte_is_checked(tmp_path: Path) -> None:
    """A byte at the end of the first megabyte is found; one beyond it costs its row."""
    row = "7,{}\n".format("x" * 93)
    for rows, status in ((9000, 2), (14_000, 3)):
        file = tmp_path / f"{rows}.csv"
        file.write_bytes(b"contact_uid,name\n" + (row * rows).encode() + b"7,Zo\xe9\n")
        ended = run_import(str(file), "--type", "contact", "--dry-run")
        assert ended.status == status, ended
    assert "is not valid UTF-8 (byte 5 is 0xe9)" in ended.out


def test_ndjson_is_checked_too(tmp_path: Path) -> None:
    """NDJSON in another encoding is a usage error as well."""
    file = tmp_path / "a.ndjson"
    file.write_bytes('{"method": "contact", "contact_uid": "1", "params": {"name": "Zoé"}}\n'.encode("latin-1"))
    assert run_import(str(file), "--dry-run").status == 2
    assert run_import(str(file), "--dry-run", "--encoding", "utf-8").status == 3
    assert run_import(str(file), "--dry-run", "--encoding", "latin-1").status == 0


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "cp037"])
def test_encoding(tmp_path: Path, encoding: str) -> None:
    """--encoding converts the text, also across the borders of chunks."""
    file = tmp_path / "people.csv"
    names = [f"Zoé {number}" for number in range(40_000)]
    text = "contact_uid,name\n" + "".join(f"{number},{name}\n" for number, name in enumerate(names))
    file.write_bytes(text.encode(encoding))
    with serve() as sandbox:
        options = ("--type", "contact", "--encoding", encoding, "--batch", "10000")
        ended, result = import_json(file, *options, **keys(sandbox))
        assert (ended.status, result["delivered"]) == (0, 40_000), ended
        assert sandbox.contact("39999")["params"]["name"] == "Zoé 39999"


def test_a_byte_that_the_encoding_lacks_costs_its_row(tmp_path: Path) -> None:
    """Only the row with an undefined byte is rejected."""
    file = tmp_path / "people.csv"
    file.write_bytes(b"contact_uid,name\n1,Zo\xe9\n2,\x81\n")
    ended, result = import_json(file, "--type", "contact", "--encoding", "cp1252", "--dry-run")
    assert (ended.status, result["sendable"], result["rejected"]) == (3, 1, 1)


def test_unknown_encoding(tmp_path: Path) -> None:
    """A codec that is unknown, or not of text, is a usage error."""
    file = tmp_path / "people.csv"
    file.write_text("contact_uid\n1\n")
    for name in ("latin-99", "hex"):
        ended = run_import(str(file), "--type", "contact", "--encoding", name, "--dry-run")
        assert (ended.status, f"--encoding {name}: unknown encoding" in ended.err) == (2, True), ended


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True], ids=["stdin", "fifo"])
def test_nothing_of_a_pipe_is_sent_before_its_first_megabyte_is_checked(tmp_path: Path, named: bool) -> None:
    """A pipe is written piece by piece; the byte at 900 kB stops the import with status 2, and no row was sent."""
    fifo = tmp_path / "people.csv"
    os.mkfifo(fifo)
    row = b"%d," + b"x" * 90 + b"\n"
    options = ("--format", "csv", "--type", "contact", "--batch", "100")
    with (
        serve() as sandbox,
        popen("import", str(fifo) if named else "-", *options, **keys(sandbox)) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        with fifo.open("wb", buffering=0) if named else process.stdin as pipe:
            pipe.write(b"contact_uid,name\n")
            for first in range(0, 9000, 1000):
                # The pipe holds 64 kB, so that most of this was read before the next piece is written.
                pipe.write(b"".join(row % number for number in range(first, first + 1000)))
                pipe.flush()
            pipe.write(b"9000,Zo\xe9\n")
        assert b"is not valid UTF-8: line 9002 holds the byte 0xe9" in process.stdout.read()
        assert process.wait() == 2
        assert {request["path"] for request in sandbox.requests()} == {"/v1/ping"}


def test_a_text_that_ends_within_a_character(tmp_path: Path) -> None:
    """A short latin-1 file whose last byte is the only one above ASCII is found, too."""
    file = tmp_path / "people.csv"
    file.write_bytes(b"contact_uid,name\n1,Ann\n2,Zo\xe9")
    ended = run_import(str(file), "--type", "contact", "--dry-run")
    assert ended.status == 2, ended
    assert "line 3 holds the byte 0xe9" in ended.err


def test_decimal_commas_and_dates(tmp_path: Path) -> None:
    """--types reads decimal commas, and dates with the day or the month first."""
    file = tmp_path / "people.csv"
    file.write_text(
        "sep=;\ncontact_uid;price;born;us;created_at\n"
        "1;1.234,5;31.12.1999;12/31/1999 23:59;01/02/2026 10:30\n"
        "2;-7;1/2/2000;2-1-2000;2026-02-01\n"
        "3;1,234.5;;;\n4;;31.2.2000;;\n5;;;;13/13/2026\n"
    )
    types = "price=decimal-comma,born=day-first,us=month-first,created_at=day-first"
    rejects = tmp_path / "r"
    with serve() as sandbox:
        ended = run_import(str(file), "--type", "contact", "--types", types, "--rejects", str(rejects), **keys(sandbox))
        assert ended.status == 3, ended
        first, second = sandbox.contact("1"), sandbox.contact("2")
    assert first["params"] == {"price": 1234.5, "born": "1999-12-31", "us": "1999-12-31T23:59:00"}
    assert first["created_at"] == "2026-02-01T10:30:00.000Z"
    assert second["params"] == {"price": -7, "born": "2000-02-01", "us": "2000-02-01"}
    assert second["created_at"] == "2026-02-01T00:00:00.000Z"
    assert [json.loads(line)["reason"] for line in rejects.read_text().splitlines()] == [
        "price: '1,234.5' is not a number with a decimal comma like 1.234,5",
        "born: '31.2.2000' is not a date like 31.12.2026 or 31/12/2026 23:59",
        "created_at: '13/13/2026' is not a date like 31.12.2026 or 31/12/2026 23:59",
    ]


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;\r", "\ufeffsep=;"])
def test_separator_line(tmp_path: Path, line: str) -> None:
    """The line in which Excel names the delimiter is read, and counted as a line."""
    file = tmp_path / "people.csv"
    file.write_text(f"{line}\ncontact_uid;name\n1;Ann\n;Bob\n", encoding="utf-8")
    ended = run_import(str(file), "--type", "contact", "--dry-run")
    assert ended.status == 3
    assert "1  can be sent" in ended.out
    assert "line 4 contact_uid is missing" in ended.out


def test_repeated_headers(tmp_path: Path) -> None:
    """The header of joined files is left out and counted, with a byte order mark or a sep= line before it too."""
    file = tmp_path / "all.csv"
    part = "contact_uid,name\n{0},Ann\n"
    file.write_text(part.format(1) + part.format(2) + "\ufeff" + part.format(3) + "sep=,\n" + part.format(4), "utf-8")
    with serve() as sandbox:
        ended = run_import(str(file), "--type", "contact", **keys(sandbox))
        assert ended.status == 0, ended
        assert "4  skipped: the header again, as in joined files" in ended.out
        assert "users, notes" not in ended.out
        assert sorted(each["contact_uid"] for each in sandbox.contacts()) == ["1", "2", "3", "4"]
    _, result = import_json(file, "--type", "contact", "--dry-run")
    assert (result["rows"], result["skipped"], result["repeated_headers"]) == (8, 4, 4)


def test_a_row_like_the_header(tmp_path: Path) -> None:
    """A row that differs from the header in one cell is a row."""
    file = tmp_path / "all.csv"
    file.write_text("contact_uid,name\ncontact_uid,Ann\n")
    _, result = import_json(file, "--type", "contact", "--dry-run")
    assert (result["sendable"], result["skipped"]) == (1, 0)
