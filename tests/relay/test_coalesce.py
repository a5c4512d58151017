"""Entries become full requests, in order."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async import Batching
from salesmachine_async._core.batch import Batch
from salesmachine_async.relay.coalesce import Coalescer, batch_of
from salesmachine_async.relay.engine import Entry
from salesmachine_async.report import Endpoint


def entry(number: int, count: int, *, endpoint: Endpoint = Endpoint.BATCH, size: int = 1) -> Entry:
    """An entry with so many messages of so many bytes each; 0: a damaged one."""
    line = b'{"n":%d,"x":"%s"}' % (number, b"x" * size)
    body = line if endpoint is Endpoint.ALIAS or not count else Batch.of_lines([line] * count).body()
    return Entry(f"{number}-0", endpoint, count, body)


def groups(entries: list[Entry], **limits: int) -> list[list[str]]:
    """The ids of the entries of each group, the open one last."""
    coalescer = Coalescer(Batching(**limits))
    complete = [group for each in entries for group in coalescer.add(each)]
    return [[each.id for each in group] for group in [*complete, *coalescer.close()]]


def test_small_entries_share_a_request() -> None:
    """Entries are put together until the next would not fit."""
    assert groups([entry(i, 3) for i in range(5)], max_messages=7) == [["0-0", "1-0"], ["2-0", "3-0"], ["4-0"]]


def test_a_full_group_is_complete_at_once() -> None:
    """A group with as many messages as allowed does not wait for another entry."""
    coalescer = Coalescer(Batching(max_messages=4))
    assert [*coalescer.add(entry(0, 3))] == []
    assert [len(group) for group in coalescer.add(entry(1, 1))] == [2]
    assert len(coalescer) == 0


def test_bytes_are_bounded() -> None:
    """A request with several entries is at most as long as the limit."""
    assert groups([entry(i, 1, size=200) for i in range(3)], max_bytes=500) == [["0-0", "1-0"], ["2-0"]]


def test_a_larger_entry_goes_alone() -> None:
    """An entry larger than the limits, as of an agent with other limits, is sent unchanged and alone."""
    assert groups([entry(0, 1), entry(1, 9), entry(2, 1)], max_messages=5) == [["0-0"], ["1-0"], ["2-0"]]


def test_an_alias_goes_alone_and_in_its_place() -> None:
    """An alias is a request of its own, after all entries published before it."""
    entries = [entry(0, 1), entry(1, 1, endpoint=Endpoint.ALIAS), entry(2, 1), entry(3, 1)]
    assert groups(entries) == [["0-0"], ["1-0"], ["2-0", "3-0"]]
    assert batch_of([entries[1]]).endpoint is Endpoint.ALIAS


def test_a_damaged_entry_goes_alone() -> None:
    """An entry without messages shares no request."""
    assert groups([entry(0, 1), entry(1, 0), entry(2, 1)]) == [["0-0"], ["1-0"], ["2-0"]]


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 10))
def test_nothing_is_lost_or_reordered(counts: list[int], most: int) -> None:
    """The groups hold all entries in order, and none exceeds the limit but a single larger entry."""
    entries = [entry(i, count) for i, count in enumerate(counts)]
    found = groups(entries, max_messages=most)
    assert [*chain(*found)] == [each.id for each in entries]
    by_id = {each.id: each.count for each in entries}
    assert all(len(group) == 1 or sum(map(by_id.__getitem__, group)) <= most for group in found)


def test_a_batch_holds_the_messages_of_its_entries() -> None:
    """The body is the one that an agent would send."""
    entries = [entry(0, 2), entry(1, 1), entry(2, 3)]
    batch = batch_of(entries)
    assert batch.count == 6
    assert [message["n"] for message in batch.messages()] == [0, 0, 1, 2, 2, 2]
    assert batch.body() == Batch.of_lines(batch.lines()).body()
