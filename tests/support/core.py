"""What several of these tests need: strict JSON, lines of a known size, interruptions, a crash-proof place to run."""

from __future__ import annotations

import dis
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType
from typing import Any, Final

from salesmachine_async._core.accumulator import Accumulator, Counts
from salesmachine_async._core.batch import Batch
from salesmachine_async.policy import Batching, Overflow, QueueLimits

PLENTY: Final = 10**6


def strict_loads(text: bytes | str) -> Any:
    """Parse JSON as the standard says it: no NaN, no repeated key, no lone surrogate."""
    raw = text.encode() if isinstance(text, str) else text
    return json.loads(raw.decode(), parse_constant=_no_constant, object_pairs_hook=_no_repeated_key)


def _no_constant(name: str) -> object:
    raise AssertionError(f"{name} is no JSON")


def _no_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    assert len(result) == len(pairs), "a repeated key"
    return result


def line(number: int = 0, uid: str = "a", size: int = 0) -> bytes:
    """Return one line that names its uid and number; padded to *size* bytes, the newline included."""
    bare = f'{{"u":"{uid}","n":{number},"p":""}}\n'
    assert not size or size >= len(bare), "too short to be padded"
    return f'{{"u":"{uid}","n":{number},"p":"{"x" * max(0, size - len(bare))}"}}\n'.encode()


def uid_in_partition(accumulator: Accumulator, partition: int) -> str:
    """Return a uid whose messages go to that partition."""
    return next(uid for uid in map(str, count()) if accumulator.partition_of(uid).index == partition)


def numbers(*batches: Batch) -> list[int]:
    """Return the numbers of their messages, in order."""
    return [message["n"] for batch in batches for message in batch.messages()]


def law_holds(counts: Counts) -> bool:
    """Every accepted message is delivered, lost, queued or in flight; none is two of these."""
    return counts.accepted == counts.delivered + counts.lost.total() + counts.queued + counts.in_flight


def accumulator(
    batch: int = 100,
    batch_bytes: int = PLENTY,
    queue: int = PLENTY,
    queue_bytes: int = 10 * PLENTY,
    overflow: Overflow = Overflow.DROP_NEWEST,
    partitions: int = 1,
) -> Accumulator:
    """Return one with roomy bounds, but for those that are given."""
    return Accumulator(
        Batching(max_messages=batch, max_bytes=batch_bytes),
        QueueLimits(max_messages=queue, max_bytes=queue_bytes, overflow=overflow),
        partitions,
    )


def add_all(it: Accumulator, *which: int, uid: str = "a", size: int = 0) -> list[int]:
    """Add messages of these numbers; returns the flags of each."""
    return [it.add(uid, line(number, uid, size)) for number in which]


def interrupted(outer: Callable[[], object], inner: Callable[[], object], point: int) -> bool:
    """Run *outer*, and *inner* in the middle of it, at the so-manieth point; returns whether there was such a point."""

    def at_its_point(now: int) -> None:
        if now == point:
            inner()

    return interrupted_always(outer, at_its_point) >= point


def interrupted_always(outer: Callable[[], object], inner: Callable[[int], object]) -> int:
    """
    Run *outer*, and *inner* with its number at every point where CPython looks for signals and other threads.

    That is where a Python function begins, and where a built-in one has returned. Returns how many there were.
    """
    passed = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal passed
        if event in ("call", "c_return"):
            passed += 1
            inner(passed)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        outer()
    finally:
        sys.setprofile(before)
    return passed


# Where the interpreter looks whether it is another thread's turn, and what may run code of any kind.
_SWITCHING: Final = ("CALL", "PRECALL", "RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "SEND", "YIELD", "FOR_")


def switches(function: Callable[..., object], first: str, last: str) -> list[str]:
    """Return at which instructions CPython may switch threads between the first look at an attribute and a store."""
    steps = [(each.opname, each.argval) for each in dis.get_instructions(function)]
    start = min(at for at, (_, value) in enumerate(steps) if value == first)
    end = max(at for at, step in enumerate(steps) if step == ("STORE_ATTR", last))
    between = [name for name, _ in steps[start:end]]
    assert {"LOAD_ATTR", "STORE_ATTR", "COMPARE_OP", "BINARY_OP"} <= set(between)
    return [name for name in between if name.startswith(_SWITCHING)]


@contextmanager
def switching_often() -> Iterator[None]:
    """Let threads alternate as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run a snippet in a process of its own: one that may crash, or must import afresh."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
