"""The bytes of the log: what is written is read again, whatever happens to other bytes."""

from __future__ import annotations

import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._spool import ages, pieces, record, settled_ranges
from salesmachine_async._spool.record import (
    SEGMENT_HEAD_BYTES,
    Cursor,
    Gap,
    LogRecord,
    decode_cursor,
    decode_head,
    encode,
    encode_cursor,
    encode_head,
    scan,
)
from tests._core.test_purity import offences
from tests.support.spool import message

HEAD = encode_head(7, 8)


def one(first: int, messages: int = 2, partition: int = 0, size: int = 0) -> bytes:
    """Return a record of some messages."""
    lines = b"\n".join(message(partition, number, size) for number in range(first, first + messages))
    head = encode([lines], partition=partition, kind=0, first=first, messages=messages, written_ms=9)
    return head + lines


def found(data: bytes) -> tuple[list[int], list[Gap]]:
    """Return the first numbers of all readable records, and the gaps; checks that the records hold what they say."""
    firsts, gaps = [], []
    for item in scan(data):
        if isinstance(item, Gap):
            gaps.append(item)
        else:
            expected = b"\n".join(message(item.partition, item.first + at) for at in range(item.messages))
            assert data[item.start : item.end] == expected
            firsts.append(item.first)
    return firsts, gaps


LOG = [one(first) for first in range(0, 12, 2)]
WHOLE = HEAD + b"".join(LOG)
# Where each record begins, and where the last one ends.
EDGES = [len(HEAD) + sum(map(len, LOG[:at])) for at in range(len(LOG) + 1)]


@given(
    st.lists(
        st.tuples(
            st.lists(st.binary(min_size=1).map(lambda raw: b"{" + raw.replace(b"\xf5", b"") + b"}"), min_size=1),
            st.integers(0, 2**16 - 1),
            st.integers(0, 1),
            st.integers(0, 2**64 - 100),
            st.integers(0, 2**64 - 1),
        )
    ),
    st.integers(0, 5000),
)
def test_what_is_encoded_is_scanned(records: list[tuple[list[bytes], int, int, int, int]], zeros: int) -> None:
    """A scan finds every encoded record, whatever their count, numbers and trailing room."""
    data = HEAD
    expected = []
    for parts, partition, kind, first, written_ms in records:
        head = encode(parts, partition=partition, kind=kind, first=first, messages=len(parts), written_ms=written_ms)
        start = len(data) + len(head)
        data += head + b"".join(parts)
        expected.append(LogRecord(partition, kind, first, len(parts), written_ms, start, len(data)))
    assert list(scan(data + bytes(zeros))) == expected


def test_a_log_cut_at_any_byte_loses_what_was_cut_and_nothing_else() -> None:
    """A cut costs the records behind it; the rest of the last record is torn, not damaged."""
    for cut in range(len(HEAD), len(WHOLE) + 1):
        whole = sum(edge <= cut for edge in EDGES) - 1
        for data in (WHOLE[:cut], WHOLE[:cut] + bytes(4096)):
            firsts, gaps = found(data)
            assert firsts == list(range(0, 2 * whole, 2)), cut
            assert all(gap.torn for gap in gaps)
            left = data[EDGES[whole] : cut].rstrip(b"\0")
            assert sum(gap.end - gap.start for gap in gaps) == len(left)


def test_any_flipped_bit_costs_at_most_the_record_it_is_in() -> None:
    """A flipped bit in a length costs nothing at all; one that costs a record is seen."""
    spared = 0
    for bit in range(8 * len(HEAD), 8 * len(WHOLE)):
        data = bytearray(WHOLE)
        data[bit // 8] ^= 1 << bit % 8
        hit = sum(edge <= bit // 8 for edge in EDGES) - 1
        firsts, gaps = found(bytes(data))
        missing = set(range(0, 12, 2)) - set(firsts)
        assert missing <= {2 * hit}
        assert firsts == sorted(firsts)
        if missing:
            [gap] = gaps
            assert not gap.torn
            assert (gap.start, gap.end) == (EDGES[hit], EDGES[hit + 1])
        else:
            assert not gaps
            spared += 1
    assert spared == len(LOG) * 32  # the length has 32 bits


@given(st.integers(0, len(WHOLE)), st.integers(1, 300), st.binary(min_size=0, max_size=20))
def test_an_overwritten_span_costs_what_it_touches(start: int, length: int, new: bytes) -> None:
    """An overwritten span, as of a page that was never written, costs only the records in it."""
    data = bytearray(WHOLE + one(12))
    end = min(start + length, len(WHOLE))
    start = max(start, len(HEAD))
    data[start:end] = (new * 300)[: max(0, end - start)].ljust(max(0, end - start), b"\0")
    firsts, gaps = found(bytes(data))
    untouched = {2 * at for at in range(len(LOG)) if EDGES[at + 1] <= start or EDGES[at] >= end} | {12}
    assert untouched <= set(firsts)
    assert firsts == sorted(firsts)
    assert set(firsts) == {*range(0, 14, 2)} or gaps


@given(st.binary(max_size=400), st.lists(st.sampled_from([b"\xf5rec", b"\xf5", bytes(4), *LOG[:2]]), max_size=8))
def test_anything_is_scanned_to_its_end(noise: bytes, parts: list[bytes]) -> None:
    """A scan of arbitrary bytes ends, and its items are contiguous."""
    data = HEAD + noise.join([b"", *parts, b""])
    position = SEGMENT_HEAD_BYTES
    for item in scan(data):
        start = item.start - record.RECORD_HEAD_BYTES if isinstance(item, LogRecord) else item.start
        assert start >= position
        assert item.end > start
        position = item.end


def test_the_head_says_whose_messages_they_are() -> None:
    """The head holds the destination, the mark of a repetition, and the version."""
    assert decode_head(HEAD) == (1, 7, 8, False)
    assert decode_head(encode_head(2**64 - 1, 0, restarted=True, version=9)) == (9, 2**64 - 1, 0, True)


def test_a_damaged_head_is_unreadable() -> None:
    """A flipped bit anywhere in the head makes it unreadable."""
    for bit in range(8 * len(HEAD)):
        data = bytearray(HEAD)
        data[bit // 8] ^= 1 << bit % 8
        assert decode_head(bytes(data)) is None
    for cut in range(len(HEAD)):
        assert decode_head(HEAD[:cut]) is None


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_a_cursor_is_read_again(generation: int, settled: list[int]) -> None:
    """A cursor is decoded whatever bytes follow it."""
    slot = encode_cursor(generation, 7, settled)
    assert decode_cursor(slot.ljust(4096, b"x")) == Cursor(generation, 7, tuple(settled))


def test_a_damaged_cursor_is_unreadable() -> None:
    """A flipped bit or a cut anywhere makes a cursor unreadable."""
    slot = encode_cursor(3, 7, [5, 6])
    for bit in range(8 * len(slot)):
        data = bytearray(slot)
        data[bit // 8] ^= 1 << bit % 8
        assert decode_cursor(bytes(data)) is None
    for cut in range(len(slot)):
        assert decode_cursor(slot[:cut]) is None


def test_scanning_is_fast(untraced: None) -> None:
    """Recovery scans at least 300 MB a second of CPU time, also where records are small; the best of seven."""
    parts = [one(first, 20, size=200) for first in range(0, 20 * 2000, 20)]
    data = HEAD + b"".join(parts)
    rates = []
    for _ in range(7):
        began = time.thread_time()
        items = list(scan(data))
        rates.append(len(data) / 1e6 / (time.thread_time() - began))
    assert len(items) == 2000
    assert max(rates) > 300, rates


def test_the_format_is_pure() -> None:
    """The format imports no files, clock or randomness, as `_core` does not."""
    for module in (record, pieces, settled_ranges, ages):
        assert list(offences(Path(str(module.__file__)).read_text())) == []
