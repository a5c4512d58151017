"""What several of these tests need: strict JSON, lines of a known size, interruptions, a crash-proof place to run."""

from __future__ import annotations

import gc
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
from salesmachine_async._core.partition import partition_of
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
    """Return one encoded message that names its uid and number; padded to *size* bytes."""
    bare = f'{{"u":"{uid}","n":{number},"p":""}}'
    assert not size or size >= len(bare), "too short to be padded"
    return f'{{"u":"{uid}","n":{number},"p":"{"x" * max(0, size - len(bare))}"}}'.encode()


def uid_for(partition: int, partitions: int) -> str:
    """Return a uid whose messages go to that partition."""
    return next(uid for uid in map(str, count()) if partition_of(uid, partitions) == partition)


def numbers(*batches: Batch) -> list[int]:
    """Return the numbers of their messages, in order."""
    return [message["n"] for batch in batches for message in batch.messages()]


def law_holds(counts: Counts) -> bool:
    """Every message accepted or put in is delivered, lost, kept, queued or in flight; none is two of these."""
    came = counts.accepted + counts.recovered
    return came == counts.delivered + counts.lost.total() + counts.kept + counts.queued + counts.in_flight


def accumulator(
    batch: int = 100,
    batch_bytes: int = PLENTY,
    queue: int = PLENTY,
    queue_bytes: int = 1000 * PLENTY,
    overflow: Overflow = Overflow.DROP_NEWEST,
    partitions: int = 1,
) -> Accumulator:
    """Return one with roomy bounds, but for those that are given."""
    return Accumulator(
        Batching(max_messages=batch, max_bytes=batch_bytes),
        QueueLimits(max_messages=queue, max_bytes=queue_bytes, overflow=overflow),
        partitions,
    )


def add(it: Accumulator, number: int, uid: str = "a", size: int = 0) -> bool:
    """Add one message as a call of the agent does."""
    return add_line(it, line(number, uid, size), uid)


def add_alias(it: Accumulator, number: int, uid: str = "a") -> bool:
    """Add one alias as a call of the agent does."""
    return it.add(it.partition_for(uid), it.alias_line(line(number, uid)))


def add_line(it: Accumulator, encoded: bytes, uid: str = "a") -> bool:
    """Do what `Agent.track` does with an encoded message."""
    partition = it.partition_for(uid)
    if len(encoded) <= it.long and partition.append(encoded) is None:
        return True if len(partition.pending) < partition.notice.at else it.announce(partition, encoded)
    return it.add(partition, encoded)


def add_all(it: Accumulator, *which: int, uid: str = "a", size: int = 0) -> list[bool]:
    """Add messages of these numbers; returns what each call returned."""
    return [add(it, number, uid, size) for number in which]


def everything(it: Accumulator) -> list[Batch]:
    """Take and settle all that is queued, in the order of its sealing."""
    for partition in it.partitions:
        it.seal(partition)
    batches: list[Batch] = []
    for partition in it.partitions:
        while (batch := it.take(partition)) is not None:
            batches.append(batch)
            it.settle(batch)
    return sorted(batches, key=lambda batch: batch.number)


def interrupted(outer: Callable[[], object], inner: Callable[[], object], point: int) -> bool:
    """Run *outer*, and *inner* in the middle of it, at the point of this number; returns whether there was one."""

    def at_its_point(now: int) -> None:
        if now == point:
            inner()

    return interrupted_always(outer, at_its_point) >= point


def interrupted_always(outer: Callable[[], object], inner: Callable[[int], object]) -> int:
    """
    Run *outer*, and *inner* with its number at every point where CPython runs signal handlers and other threads.

    That is where a Python function begins, and where a built-in one has returned. Returns how many points there were,
    also if *inner* raises.
    """
    passed = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal passed
        if event in ("call", "c_return"):
            passed += 1
            inner(passed)

    before = sys.getprofile()
    collects = gc.isenabled()
    gc.disable()  # or the agents of earlier tests would be collected, and their finalisers interrupted
    sys.setprofile(profile)
    try:
        outer()
    except Interruption:
        pass
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    return passed


class Interruption(BaseException):
    """Raised by a signal handler, as KeyboardInterrupt is."""


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
