"""Memory of events."""

from __future__ import annotations

import gc
import tracemalloc
import uuid
from collections.abc import Sequence

import pytest

from salesmachine_async.sandbox.messages import ParsedMessage, parse_message
from salesmachine_async.sandbox.storage.apply import apply
from salesmachine_async.sandbox.storage.store import Store

EVENTS = 1000
# Stated in the documentation of `Sandbox`.
MAX_OVERHEAD_BYTES = 300
SIZES = [11, 400, 699, 700, 711, 900, 1000, 1001, 2000, 2049, 4000, 4097, 8191, 20_000, 33_000]


def events(count: int, size: int) -> Sequence[ParsedMessage]:
    """Return events whose params have *size* bytes as JSON."""
    return [
        parse_message(
            "event",
            {
                "contact_uid": str(number % 100),
                "event_uid": "order_created",
                "messageId": str(uuid.uuid4()),
                "params": {"text": "x" * (size - len('{"text":""}'))},
            },
        )
        for number in range(count)
    ]


def sqlite_bytes(store: Store) -> int:
    (count,) = store.one("PRAGMA page_count")
    (size,) = store.one("PRAGMA page_size")
    return int(count) * int(size)


@pytest.mark.slow
@pytest.mark.parametrize(
    "size", [11, 400, 699, 700, 711, 900, 1000, 1001, 2000, 2049, 4000, 4097, 8191, 20_000, 33_000]
)
def test_an_event_takes_its_params_and_300_bytes(size: int) -> None:
    """The overhead of an event is bounded at every size of its params, also around the sizes of pages."""
    store = Store()
    apply(store, "w", events(100, size), 0)
    before = sqlite_bytes(store)
    tracemalloc.start()
    try:
        for _ in range(EVENTS // 100):
            apply(store, "w", events(100, size), 0)
        gc.collect()
        python, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (python + sqlite_bytes(store) - before) / EVENTS <= size + MAX_OVERHEAD_BYTES
    store.close()


def test_params_of_every_size_are_kept_and_evicted() -> None:
    """Large and small params are returned unchanged, and released with their events."""
    store = Store()
    sizes = [20, 699, 700, 701, 5000] * 200
    messages = [events(1, size)[0] for size in sizes]
    apply(store, "w", messages, 0, max_events=300)
    workspace = store.workspace("w")
    kept = store.events(workspace, 1, 10_000, limit=-1, newest_first=False, equal={})
    assert [row.params for row in kept] == [message.text for message in messages[-300:]]
    assert len(store._large_params._blocks[workspace]) <= 3
    store.delete_workspace(workspace)
    assert store._large_params._blocks == {}
    store.close()
