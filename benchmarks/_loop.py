"""An application's event loop: how long it is held, and a steady producer on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from benchmarks._measure import spread

# An event becomes due so often.
DUE_SECONDS = 0.0005


class _Waits:
    """The waits of events that become due at regular times of one clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due = clock()
        self.waits: list[float] = []

    def turn(self) -> None:
        """Note those that have become due since the last turn."""
        now = self._clock()
        while self._due <= now:
            self.waits.append(now - self._due)
            self._due += DUE_SECONDS

    def milliseconds(self) -> dict[str, float]:
        """Return p50, p99 and max."""
        return {key: value * 1000 for key, value in spread(self.waits or [0.0]).items()}


class LagMeter:
    """
    Tells how long an event that becomes due at any moment waits until the loop gets to it.

    The loop is kept turning without a sleep, so that the resolution of the system's timers is not measured: a wait is
    the time for which a callback held the loop. It is measured twice: on the wall clock, which goes on while the
    system gives the processor to others or another thread has the interpreter; and on the clock of the CPU time of
    the loop's own thread, which does not.
    """

    def __init__(self) -> None:
        self._wall = _Waits(time.perf_counter)
        self._busy = _Waits(time.thread_time)
        self._running = True
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._wall.turn()
        self._busy.turn()
        if self._running:
            self._loop.call_soon(self._turn)

    def stop(self) -> dict[str, dict[str, float]]:
        """End; returns p50, p99 and max of the waits in milliseconds, ``wall`` and ``busy``."""
        self._running = False
        return {"wall": self._wall.milliseconds(), "busy": self._busy.milliseconds()}


async def produce(call: Callable[[int], object], rate: float, seconds: float, slice_seconds: float = 0.001) -> int:
    """
    Call *call* with 0, 1, 2, … at *rate* per second, in slices between which the loop turns.

    Returns:
        How many calls were made. Where it has fallen behind, it makes up for at most two slices at once.
    """
    started = time.perf_counter()
    made = 0
    most = max(1, int(2 * rate * slice_seconds))
    while (elapsed := time.perf_counter() - started) < seconds:
        for _ in range(min(int(rate * elapsed) - made, most)):
            call(made)
            made += 1
        await asyncio.sleep(slice_seconds)
    return made
