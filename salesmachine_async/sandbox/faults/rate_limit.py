"""A limit to the rate of requests, as the API documents one without its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salesmachine_async.sandbox.http.responses import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

# Buckets of workspaces are forgotten when there are more: whoever sends made-up tokens gets no memory for it.
MAX_BUCKETS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """
    So many requests in so many seconds, for each workspace by itself.

    A pause is credited up to the full number of requests, which may then come at once.

    Attributes:
        requests: how many.
        per: seconds.
    """

    requests: int
    per: float = 1.0

    def __post_init__(self) -> None:
        """Check what types alone cannot say, since limits also come as JSON."""
        requests: Any = self.requests
        per: Any = self.per
        if type(requests) is not int or requests < 1:
            raise ValueError("requests must be 1 or more")
        if type(per) not in (int, float) or not 0 < per < math.inf:
            raise ValueError("per must be a number of seconds above 0")


class RateLimiter:
    """
    Refuses what comes too fast.

    Args:
        limit: None lets everything through.
        clock: monotonic seconds.
    """

    def __init__(self, limit: RateLimit | None, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        # By workspace: how many requests are credited, and when that was counted.
        self._buckets: dict[str | None, tuple[float, float]] = {}

    @property
    def limit(self) -> RateLimit | None:
        """The limit in force."""
        return self._limit

    @limit.setter
    def limit(self, limit: RateLimit | None) -> None:
        self._limit = limit
        self._buckets.clear()

    def admit(self, workspace: str | None) -> None:
        """
        Count one request.

        Raises:
            ApiError: 429, with the whole seconds after which the next one is let through.
        """
        limit = self._limit
        if limit is None:
            return
        now, rate = self._clock(), limit.requests / limit.per
        credit, counted = self._buckets.pop(workspace, (float(limit.requests), now))
        credit = min(limit.requests, credit + (now - counted) * rate)
        admitted = credit >= 1
        # Put back at the end: the first in the dict is the one that was quiet for longest.
        self._buckets[workspace] = (credit - admitted, now)
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        if not admitted:
            wait = str(math.ceil((1 - credit) / rate))
            problem = f"more than {limit.requests} requests in {limit.per:g} s, the rate limit of this sandbox"
            raise ApiError(429, problem, {"Retry-After": wait})
