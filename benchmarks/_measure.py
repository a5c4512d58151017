"""Clocks and counters: single calls, blocks of calls, CPU, memory, and how to read a series of figures."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = Path("/proc/self/statm")
# For processes that use `warm_heap`: glibc keeps what is freed, and takes large pieces from the heap too.
KEEP_HEAP: Final = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}


class MessageMissing(Exception):
    """A contestant has not delivered what it was given: its figures are worth nothing."""


def require(name: str, what: str, expected: int, found: int) -> None:
    """Raise `MessageMissing` unless *found* is *expected*."""
    if expected != found:
        raise MessageMissing(f"{name}: {what}: expected {expected}, found {found}")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* (0 to 1) of *values* lie: the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and max."""
    return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values)}


def block_of_tracks(call: Callable[..., object], uids: list[str], event: str, params: dict[str, Any]) -> int:
    """Time one call per uid, all together; nanoseconds of the CPU time of this thread."""
    start = time.thread_time_ns()
    for uid in uids:
        call(uid, event, params)
    return time.thread_time_ns() - start


def block_of_contacts(call: Callable[..., object], uids: list[str], _event: str, params: dict[str, Any]) -> int:
    """Time one call per uid, all together; nanoseconds of the CPU time of this thread."""
    start = time.thread_time_ns()
    for uid in uids:
        call(uid, params)
    return time.thread_time_ns() - start


def single_tracks(call: Callable[..., object], uids: list[str], event: str, params: dict[str, Any]) -> list[int]:
    """Time each call by itself; nanoseconds, the timer's own cost included."""
    times: list[int] = []
    note, clock = times.append, time.perf_counter_ns
    for uid in uids:
        start = clock()
        call(uid, event, params)
        note(clock() - start)
    return times


def single_contacts(call: Callable[..., object], uids: list[str], _event: str, params: dict[str, Any]) -> list[int]:
    """Time each call by itself; nanoseconds, the timer's own cost included."""
    times: list[int] = []
    note, clock = times.append, time.perf_counter_ns
    for uid in uids:
        start = clock()
        call(uid, params)
        note(clock() - start)
    return times


def warm_heap(size: int) -> None:
    """Take *size* bytes from the system, touch them and give them back to the heap."""
    ballast = b"x" * size
    del ballast


def timer_cost(rounds: int = 10_000) -> float:
    """Return what two readings of the clock around nothing differ by, in nanoseconds."""
    clock = time.perf_counter_ns
    times: list[int] = []
    for _ in range(rounds):
        start = clock()
        times.append(clock() - start)
    return median(times)


def cpu_seconds() -> float:
    """Return the CPU time of this process, all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_bytes() -> int | None:
    """Return the resident memory of this process now; None where the system does not tell (no /proc)."""
    if not _STATM.exists():
        return None
    gc.collect()
    return int(_STATM.read_text().split()[1]) * _PAGE
