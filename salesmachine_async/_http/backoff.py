"""How long to wait before the next attempt."""

from __future__ import annotations

from backoff import expo, full_jitter

from salesmachine_async._core.retry import Pause, Wait
from salesmachine_async.policy import Retry

__all__ = ["Backoff"]


class Backoff:
    """
    The waits of one series of failures: random, below a ceiling that doubles from one to the next.

    Args:
        retry: The policy: the first ceiling and the highest.
    """

    __slots__ = ("_ceilings", "_initial")

    def __init__(self, retry: Retry) -> None:
        self._initial = retry.wait_initial
        self._ceilings = expo(base=2, factor=retry.wait_initial, max_value=retry.wait_max)
        next(self._ceilings)  # backoff's generators yield once before the first number

    def seconds(self, decision: Wait | Pause) -> float:
        """Return the wait that *decision* asks for; the next one may be longer."""
        jitter = full_jitter(next(self._ceilings))
        if isinstance(decision, Pause):
            # Behind a Retry-After comes some jitter too, or all agents of a fleet would return in the same instant.
            jitter = max(jitter, decision.at_least + min(jitter, self._initial))
        return jitter if decision.at_most is None else min(jitter, decision.at_most)
