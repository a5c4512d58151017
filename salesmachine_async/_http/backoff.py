"""Waits between attempts: exponential backoff with full jitter."""

from __future__ import annotations

from typing import Final

from backoff import expo, full_jitter

from salesmachine_async._core.retry import Pause, Wait
from salesmachine_async.policy import Retry

__all__ = ["Backoff"]

# As many waits as the default policy needs to grow to its highest: shorter waits would take a hiccup for an outage.
LEAST_WAITS: Final = 7


class Backoff:
    """
    The waits of one series of failures: random, below a ceiling that doubles with each failure.

    Args:
        retry: The policy, with the first and the highest ceiling.

    Attributes:
        at_max: Whether the waits have reached the highest ceiling, `LEAST_WAITS` of them.
    """

    __slots__ = ("_ceilings", "_count", "_retry", "at_max")

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._ceilings = expo(base=2, factor=retry.wait_initial, max_value=retry.wait_max)
        next(self._ceilings)  # backoff's generators yield once before the first number
        self.at_max = False
        self._count = 0

    def seconds(self, decision: Wait | Pause) -> float:
        """Return the wait for *decision* and raise the ceiling."""
        ceiling = next(self._ceilings)
        self._count += 1
        self.at_max = self._count >= LEAST_WAITS and ceiling >= self._retry.wait_max
        jitter = full_jitter(ceiling)
        if isinstance(decision, Pause):
            # Jitter is added to a Retry-After, or all agents of a fleet would return in the same instant.
            jitter = max(jitter, decision.at_least + min(jitter, self._retry.wait_initial))
        else:
            jitter = max(jitter, decision.at_least)
        return jitter if decision.at_most is None else min(jitter, decision.at_most)
