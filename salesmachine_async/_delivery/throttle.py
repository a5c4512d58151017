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
        required_until: End of the pause that the server requires; the rest is a backoff, which may be cut short.
    """

    __slots__ = ("_clock", "required_until", "until")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.until = self.required_until = float("-inf")

    def pause(self, seconds: float, *, required: float) -> None:
        """Hold the senders back from now on; the server requires *required* seconds of it; a longer pause stays."""
        now = self._clock()
        self.until = max(self.until, now + seconds)
        if required > 0:
            self.required_until = max(self.required_until, now + required)

    @property
    def left(self) -> float:
        """Seconds until the pause ends; 0 when there is none."""
        return max(0.0, self.until - self._clock())
