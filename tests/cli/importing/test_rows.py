"""Lines and rows, for any division of the bytes and any error in them."""

from __future__ import annotations

import csv
import gzip
import io
import os
import random
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async.cli.importing.lines import MAX_ROW_BYTES, Overlong, cut
from salesmachine_async.cli.importing.rows import TOO_LONG, CsvRows, InputRow, NdjsonRows
from salesmachine_async.cli.importing.source import DamagedInput, InputProblem, Source

SALT = b"s" * 16


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def ndjson(data: bytes, size: int = 7) -> list[InputRow]:
    return [row for rows in NdjsonRows(pieces(data, size), SALT) for row in rows]


def of_csv(data: bytes, size: int = 7, delimiter: str = ",") -> list[InputRow]:
    return [row for rows in CsvRows(pieces(data, size), SALT, delimiter, "x.csv") for row in rows]


def lines_and_cells(rows: list[InputRow]) -> list[tuple[int, object]]:
    return [(row.line, row.problem or row.cells or row.text) for row in rows]


@given(st.binary(max_size=200), st.integers(1, 50))
def test_lines_are_cut_alike_however_the_bytes_come_in(data: bytes, size: int) -> None:
    """The lines together are the bytes; each but the last ends with its only newline."""
    lines = [line for some in cut(pieces(data, size)) for line in some]
    assert b"".join(lines) == data
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines[:-1])


@pytest.mark.parametrize("size", [1, 3, 10, 20])
def test_a_line_beyond_the_bound_is_not_held(size: int) -> None:
    """A line that is too long is its beginning with its length; the lines around it are whole."""
    data = b"a\n" + b"x" * 50 + b"\nb\n" + b"y" * 33
    first, long, after, last = (line for some in cut(pieces(data, size), limit=20) for line in some)
    assert (first, after) == (b"a\n", b"b\n")
    assert isinstance(long, Overlong)
    assert isinstance(last, Overlong)
    assert (long.length, last.length) == (51, 33)
    assert data.startswith(long[:10], 2)


def test_a_hundred_megabytes_in_one_line_need_no_memory() -> None:
    """The row is rejected, and the next one is read."""

    def chunks() -> Iterator[bytes]:
        yield b'{"a": "'
        for _ in range(100):
            yield b"x" * 2**20
        yield b'"}\n{"b": 1}\n'

    tracemalloc.start()
    try:
        rows = [row for some in NdjsonRows(chunks(), SALT) for row in some]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [(row.line, row.problem) for row in rows] == [(1, TOO_LONG), (2, "")]
    assert len(rows[0].text) <= 1000
    assert rows[1].end == 7 + 100 * 2**20 + 3 + len('{"b": 1}\n')
    assert peak < 8 * 2**20


def test_ndjson() -> None:
    """Blank lines are counted and skipped; CRLF, a byte order mark and a missing last newline are fine."""
    assert lines_and_cells(ndjson(b'\xef\xbb\xbf{"a":1}\r\n\r\n  \n{"b":2}\n{"c":3}')) == [
        (1, b'{"a":1}'),
        (4, b'{"b":2}'),
        (5, b'{"c":3}'),
    ]
    assert ndjson(b"") == ndjson(b"\n\n") == []


def test_the_end_of_a_row_is_where_the_next_may_begin() -> None:
    """The text after the end of a row is the remaining rows."""
    data = b'{"a":1}\r\n\n{"b":2}\n{"c":3}'
    for row in ndjson(data)[:-1]:
        assert [later.text for later in ndjson(data[row.end :])] == [r.text for r in ndjson(data) if r.end > row.end]


def test_the_same_text_has_the_same_digest() -> None:
    """The digest depends on the text and the salt, not on the newline or the place."""
    a, b, c = ndjson(b'{"a":1}\n{"a":1}\r\n{"a":2}\n')
    assert a.digest == b.digest != c.digest
    other = next(iter(NdjsonRows(iter([b'{"a":1}']), b"t" * 16)))[0]
    assert other.digest != a.digest


def test_wide_characters_are_refused_whole() -> None:
    """UTF-16 is one error, and not a million rejected rows."""
    for read in (ndjson, of_csv):
        with pytest.raises(InputProblem, match="UTF-16"):
            read("id,name\n1,Ann\n".encode("utf-16"))


def test_csv() -> None:
    """Cells may hold delimiters, quotes and newlines; lines are counted as an editor counts them."""
    data = b'\xef\xbb\xbfid, name\r\n1,"Ann, ""the"" one"\r\n\r\n2,"two\r\nlines"\r\n,\r\n3,5" pipe'
    rows = CsvRows(pieces(data, 5), SALT, ",", "x.csv")
    assert rows.header == ["id", "name"]
    assert lines_and_cells([row for some in rows for row in some]) == [
        (2, ["1", 'Ann, "the" one']),
        (4, ["2", "two\r\nlines"]),
        (7, ["3", '5" pipe']),
    ]


cells = st.lists(
    st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)] * 3)
)


@given(cells, st.sampled_from([",", ";", "\t"]), st.integers(1, 40))
def test_whatever_csv_writes_is_read(rows: list[tuple[str, str, str]], delimiter: str, size: int) -> None:
    """Any cells written by csv are read as they were."""
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([("a", "b", "c"), *rows])
    data = out.getvalue().encode()
    assert [tuple(row.cells or ()) for row in of_csv(data, size, delimiter)] == rows
    assert all(row.end <= len(data) for row in of_csv(data, size, delimiter))


def test_an_open_quotation_mark_costs_one_row() -> None:
    """Reading continues with the next line, and the numbers of lines stay right."""
    data = b'id,name\n1,Ann\n2,"Bob\n3,Cid\n4,"Dora"x\n5,Eve\n6,"F\nG"\n'
    found = lines_and_cells(of_csv(data))
    assert [line for line, _ in found] == [2, 3, 4, 5, 6, 7]
    assert [row for _, row in found if isinstance(row, list)] == [
        ["1", "Ann"],
        ["3", "Cid"],
        ["5", "Eve"],
        ["6", "F\nG"],
    ]
    assert found[1] == (3, "has text after a closing quotation mark, or a quotation mark too many")
    assert of_csv(data)[1].text == b'2,"Bob'


def test_an_open_quotation_mark_at_the_end() -> None:
    """The rows after an open quotation mark are read."""
    found = lines_and_cells(of_csv(b'id,name\n1,"Ann\n2,Bob\n3,Cid'))
    assert found[0] == (2, "has a quotation mark that is never closed")
    assert found[1:] == [(3, ["2", "Bob"]), (4, ["3", "Cid"])]


@pytest.mark.slow
def test_an_open_quotation_mark_in_a_large_file() -> None:
    """The closing quotation mark is searched in one mebibyte only."""
    many = b"".join(b"%d,%b\n" % (number, b"somebody" * 15) for number in range(20_000))
    rows = of_csv(b'id,name\n0,"open\n' + many, 65536)
    assert len(rows) == 20_001
    assert [(row.line, row.problem) for row in rows if row.problem] == [
        (2, "has a quotation mark that is never closed")
    ]
    assert rows[-1].line == 20_002


def test_bytes_that_are_no_text() -> None:
    """A record that is not UTF-8 or holds NUL is rejected as a whole; the rest is read."""
    data = b'id,name\n1,\xff\n2,"two\n\xe9lines"\n3,n\0l\n4,Dora\n'
    assert lines_and_cells(of_csv(data)) == [
        (2, "is not valid UTF-8 (byte 3 is 0xff)"),
        (3, "is not valid UTF-8 (byte 1 is 0xe9)"),
        (5, "holds a NUL byte"),
        (6, ["4", "Dora"]),
    ]
    assert of_csv(data)[1].text == b'2,"two\n\xe9lines"'


def test_a_csv_line_beyond_the_bound() -> None:
    """A line that is too long ends an open record; only these two are rejected."""
    long = b"x" * (MAX_ROW_BYTES + 10)
    assert lines_and_cells(of_csv(b"id,name\n1," + long + b"\n2,Bob\n", 65536)) == [(2, TOO_LONG), (3, ["2", "Bob"])]
    found = lines_and_cells(of_csv(b'id,name\n1,"' + b"a\n" + long + b"\n2,Bob\n", 65536))
    assert [line for line, _ in found] == [2, 3, 4]
    assert found[1:] == [(3, TOO_LONG), (4, ["2", "Bob"])]


def test_a_header_that_is_none() -> None:
    """An unreadable header is an error."""
    with pytest.raises(InputProblem, match=r"x\.csv: its header, line 1, is not valid UTF-8"):
        of_csv(b"id,n\xffme\n1,2\n")
    assert of_csv(b"") == []
    assert CsvRows(iter([b""]), SALT, ",", "x").header == []


def test_the_header_is_part_of_every_row() -> None:
    """The same cells under another header have another digest."""
    assert of_csv(b"a,b\n1,2\n")[0].digest != of_csv(b"a,c\n1,2\n")[0].digest
    assert of_csv(b"a,b\n1,2\n")[0].digest == of_csv(b"a,b\n9,9\n1,2\r\n")[1].digest


def test_source_reads_files(tmp_path: Path) -> None:
    """Files are read plain or uncompressed, whatever their names; the position is that in the file."""
    plain, zipped = tmp_path / "a", tmp_path / "b"
    data = os.urandom(400_000)
    plain.write_bytes(data)
    zipped.write_bytes(gzip.compress(data))
    for path in (plain, zipped):
        source = Source(path, "utf-8")
        assert b"".join(source.chunks()) == data
        assert source.position == source.size == path.stat().st_size
        assert not source.changed
        source.close()


def test_several_gzip_members_and_padding(tmp_path: Path) -> None:
    """Joined gzip files, zeros after them, and an empty member are read."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"") + gzip.compress(b"two\n") + b"\0" * 1000)
    source = Source(path)
    assert b"".join(source.chunks()) == b"one\ntwo\n"
    source.close()


@pytest.mark.slow
def test_short_gzip_members_are_joined(tmp_path: Path) -> None:
    """Members of one row each become few chunks, because each chunk costs as much as hundreds of rows."""
    path = tmp_path / "x.gz"
    path.write_bytes(b"".join(gzip.compress(b"%d\n" % number) for number in range(10_000)))
    source = Source(path)
    chunks = list(source.chunks())
    source.close()
    assert b"".join(chunks) == b"".join(b"%d\n" % number for number in range(10_000))
    assert len(chunks) < 10


@pytest.mark.slow
def test_what_was_packed_extremely_well_is_unzipped_in_parts(tmp_path: Path) -> None:
    """A hundred megabytes of newlines are never in memory at once."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"\n" * 100_000_000))
    source = Source(path)
    assert max(map(len, source.chunks())) <= 256 * 1024
    source.close()


LINES = b"".join(b"%d\n" % random.Random(number).getrandbits(64) for number in range(20_000))


def until_damaged(path: Path) -> tuple[bytes, str]:
    source, got = Source(path), b""
    try:
        for chunk in source.chunks():
            got += chunk
    except DamagedInput as damaged:
        return got, str(damaged)
    finally:
        source.close()
    raise AssertionError("it was whole")


@pytest.mark.parametrize("cut_off", [1, 3, 50, 100_000])
def test_gzip_that_is_cut_off(tmp_path: Path, cut_off: int) -> None:
    """All content before the cut is read, then an error is raised."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(LINES)[:-cut_off])
    got, problem = until_damaged(path)
    assert problem == f"{path} breaks off in the middle of its gzip data"
    assert LINES.startswith(got)
    assert len(got) > len(LINES) // 3


@pytest.mark.parametrize("behind", [b"something else", b"\x1f\x8b nothing zipped"])
def test_something_else_behind_gzip(tmp_path: Path, behind: bytes) -> None:
    """Other bytes after gzip data are an error, because they could be rows."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(LINES) + behind)
    assert until_damaged(path) == (LINES, f"{path} holds damaged gzip data")


def test_unzipping_agrees_with_zlib(tmp_path: Path) -> None:
    """The content is right at every size around that of a chunk."""
    for size in (0, 1, 2**18 - 1, 2**18, 2**18 + 1, 2**19):
        data = b"ab" * (size // 2) + b"c" * (size % 2)
        packer = zlib.compressobj(wbits=31)
        path = tmp_path / "x.gz"
        path.write_bytes(packer.compress(data) + packer.flush())
        source = Source(path)
        assert b"".join(source.chunks()) == data
        source.close()


def test_a_file_that_changes_during_the_read(tmp_path: Path) -> None:
    """A modification during the read is known at the end."""
    path = tmp_path / "x"
    path.write_bytes(b"a" * 300_000)
    source = Source(path, "utf-8")
    chunks = source.chunks()
    next(chunks)
    with path.open("ab") as file:
        file.write(b"more")
    assert len(b"".join(chunks)) == 300_004 - 2**18
    assert source.changed
    source.close()


def test_a_source_that_cannot_be_opened(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    with pytest.raises(InputProblem, match=r"cannot read .*missing: No such file"):
        Source(tmp_path / "missing")
    directory = Source(tmp_path)
    with pytest.raises(DamagedInput, match="Is a directory"):
        list(directory.chunks())
    directory.close()
