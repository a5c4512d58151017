"""The rate limit, which the API documents without numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salesmachine_async.sandbox.http.responses import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

# Limit of the workspaces with a bucket, so that requests with random tokens do not fill the memory.
MAX_BUCKETS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """
    A token bucket for each workspace: *requests* in *per* seconds.

    A full bucket admits *requests* requests at once.

    Attributes:
        requests: Number of requests.
        per: Seconds.
    """

    requests: int
    per: float = 1.0

    def __post_init__(self) -> None:
        """Validate the values, because limits also arrive as JSON."""
        requests: Any = self.requests
        per: Any = self.per
        if type(requests) is not int or requests < 1:
            raise ValueError("requests must be 1 or more")
        if type(per) not in (int, float) or not 0 < per < math.inf:
            raise ValueError("per must be a number of seconds above 0")


class RateLimiter:
    """
    Enforces the rate limit.

    Args:
        limit: The limit; None admits everything.
        clock: Monotonic clock in seconds.
    """

    def __init__(self, limit: RateLimit | None, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        # By workspace: the credit, and the time of the last request.
        self._buckets: dict[str | None, tuple[float, float]] = {}

    @property
    def limit(self) -> RateLimit | None:
        """The current limit."""
        return self._limit

    @limit.setter
    def limit(self, limit: RateLimit | None) -> None:
        self._limit = limit
        self._buckets.clear()

    def admit(self, workspace: str | None) -> None:
        """
        Count one request.

        Raises:
            ApiError: 429, with the seconds until the next request is admitted.
        """
        limit = self._limit
        if limit is None:
            return
        now, rate = self._clock(), limit.requests / limit.per
        credit, counted = self._buckets.pop(workspace, (float(limit.requests), now))
        credit = min(limit.requests, credit + (now - counted) * rate)
        admitted = credit >= 1
        # Reinserted at the end, so that the first bucket is the least recently used.
        self._buckets[workspace] = (credit - admitted, now)
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        if not admitted:
            wait = str(math.ceil((1 - credit) / rate))
            problem = f"rate limit exceeded: {limit.requests} requests in {limit.per:g} s"
            raise ApiError(429, problem, {"Retry-After": wait})
