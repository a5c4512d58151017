"""The pause that all senders share."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Throttle"]


class Throttle:
    """
    Holds all senders back until a moment: a 429 to one is meant for all.

    Args:
        clock: The event loop's time in seconds.

    Attributes:
        until: When the latest pause ends, on that clock.
    """

    __slots__ = ("_clock", "until")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.until = float("-inf")

    def pause(self, seconds: float) -> None:
        """Hold the senders back for so many seconds from now; a longer pause under way stays."""
        self.until = max(self.until, self._clock() + seconds)

    @property
    def left(self) -> float:
        """Seconds until the pause ends; 0 when there is none."""
        return max(0.0, self.until - self._clock())
