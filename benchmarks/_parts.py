"""What a call is made of: the price of each of its promises by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks._messages import EVENT, SMALL

CALLS: Final = 20_000
ROUNDS: Final = 7


def parts() -> dict[str, float]:
    """Return nanoseconds of CPU time for each part, the least of some rounds."""
    numbers = iter(range(10**9))
    names = ["100000001"] * 2
    params, clock = SMALL, time.time

    def checked(contact_uid: Any = "1", event_uid: Any = EVENT, params: Any = SMALL) -> bool:
        return (
            type(contact_uid) is not str
            or type(event_uid) is not str
            or not contact_uid
            or not event_uid
            or (type(params) is not dict and params is not None)
        )

    def with_keywords(_uid: str, _event: str, _params: Any = None, *, _at: Any = None, _id: Any = None) -> None:
        pass

    # Each in a function, whose own cost is taken off again.
    timed: dict[str, Callable[[], object]] = {
        "one function more, with keyword-only arguments": lambda: with_keywords("1", EVENT, SMALL),
        "checking the arguments": checked,
        "an id": lambda: names[0] + names[1] if next(numbers) else None,
        "a copy of the params": lambda: params.copy(),
        "the clock": lambda: clock(),
    }
    nothing = _least(_empty)
    return {name: max(0.0, _least(part) - nothing) for name, part in timed.items()}


def _empty() -> None:
    pass


def _least(part: Callable[[], object]) -> float:
    rounds: list[float] = []
    for _ in range(ROUNDS):
        started = time.thread_time_ns()
        for _ in range(CALLS):
            part()
        rounds.append((time.thread_time_ns() - started) / CALLS)
    return min(rounds)
