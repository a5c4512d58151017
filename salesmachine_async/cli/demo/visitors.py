"""
The load of the demo: simulated visitors who browse, sign up, fill a cart and buy, over HTTP.

It runs in a process of its own, so that it does not slow down the shop. It reads orders from stdin and writes
measurements to stdout, as JSON lines, and exits at the end of stdin.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import aiohttp

from salesmachine_async.cli.demo.catalog import COMPANIES, PRODUCTS, SOURCES

# Concurrent visitors, and their average time on a page: about 600 requests per second, well below the capacity of the
# shop. At saturation the latency would be that of a queue.
VISITORS = 24
THINK_SECONDS = 0.04
REPORT_SECONDS = 0.1
# The time limit of a request.
REQUEST_SECONDS = 10.0


class Step(NamedTuple):
    """A request of a visitor; with a *form* it is a POST."""

    path: str
    form: dict[str, str] | None = None


def walk(rng: random.Random, number: int) -> Iterator[Step]:
    """
    Yield the requests of one visitor.

    Args:
        rng: The source of all decisions, so that the same seed makes the same requests.
        number: The number of the visitor, which makes the email unique.
    """
    yield Step(f"/?utm_source={rng.choice(SOURCES)}")
    member, items = False, 0
    while rng.random() < 0.85:
        slug = rng.choice(tuple(PRODUCTS))
        yield Step(f"/products/{slug}")
        if rng.random() < 0.35:
            yield Step("/cart", {"slug": slug})
            yield Step("/cart")
            items += 1
        if not member and rng.random() < 0.2:
            yield from _sign_up(rng, number)
            member = True
        if items and rng.random() < 0.3:
            yield Step("/checkout", {})
            # The shop redirects strangers to the sign-up, members to a thank-you.
            yield Step("/thanks" if member else "/signup")
            items = 0 if member else items


def _sign_up(rng: random.Random, number: int) -> Iterator[Step]:
    company = rng.choice(tuple(COMPANIES))
    yield Step("/signup")
    yield Step(
        "/signup", {"name": f"Visitor {number}", "email": f"visitor-{number}@{company}.example", "company": company}
    )
    yield Step("/")


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """An order to visit the shop at *url* for *seconds*."""

    url: str
    seconds: float
    seed: int


class Measured:
    """The measurements since the last report."""

    def __init__(self) -> None:
        self._microseconds: list[int] = []
        self._failed = 0

    def served(self, seconds: float) -> None:
        """Count a successful request."""
        self._microseconds.append(int(seconds * 1_000_000))

    def failed(self) -> None:
        """Count a failed request."""
        self._failed += 1

    def take(self) -> dict[str, object]:
        """Return and clear the measurements."""
        report: dict[str, object] = {"microseconds": self._microseconds, "failed": self._failed}
        self._microseconds, self._failed = [], 0
        return report


class Crowd:
    """
    The visitors of one order.

    Args:
        order: The order.
        numbers: The numbers of the visitors.
        emit: Called with a report every tenth of a second, and at the end.
    """

    def __init__(self, order: Order, numbers: Iterator[int], emit: Callable[[dict[str, object]], None]) -> None:
        self._order = order
        self._numbers = numbers
        self._emit = emit
        self._measured = Measured()
        # The end of the visit, on the monotonic clock.
        self._until = 0.0

    async def visit(self) -> None:
        """Visit until the time of the order is over."""
        self._until = time.monotonic() + self._order.seconds
        reporting = asyncio.create_task(self._report())
        try:
            async with aiohttp.TCPConnector(limit=VISITORS) as connector, asyncio.TaskGroup() as group:
                for index in range(VISITORS):
                    group.create_task(self._one_after_another(index, connector))
        finally:
            reporting.cancel()
            self._emit(self._measured.take())

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._emit(self._measured.take())

    async def _one_after_another(self, index: int, connector: aiohttp.BaseConnector) -> None:
        rng = random.Random(f"{self._order.seed}:{index}")  # noqa: S311 - a simulation, nothing to guess
        # A random delay, because a burst at the start would be measured too.
        await asyncio.sleep(rng.random() * THINK_SECONDS)
        while time.monotonic() < self._until:
            async with aiohttp.ClientSession(
                base_url=self._order.url,
                connector=connector,
                connector_owner=False,
                # Each visit is a new browser. Its cookie jar accepts hosts that are IP addresses.
                cookie_jar=aiohttp.CookieJar(unsafe=True),
                headers={"User-Agent": "Mozilla/5.0 (salesmachine demo)"},
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            ) as browser:
                await self._wander(browser, rng)

    async def _wander(self, browser: aiohttp.ClientSession, rng: random.Random) -> None:
        for step in walk(rng, next(self._numbers)):
            await _request(browser, step, self._measured)
            left = self._until - time.monotonic()
            await asyncio.sleep(min(rng.expovariate(1 / THINK_SECONDS), left))
            if time.monotonic() >= self._until:
                return


async def _request(browser: aiohttp.ClientSession, step: Step, measured: Measured) -> None:
    method = "GET" if step.form is None else "POST"
    begun = time.perf_counter()
    try:
        async with browser.request(method, step.path, data=step.form, allow_redirects=False) as response:
            await response.read()
            right = response.status == (200 if step.form is None else 303)
    except (aiohttp.ClientError, OSError, TimeoutError):
        right = False
    if right:
        measured.served(time.perf_counter() - begun)
    else:
        measured.failed()


def _emit(report: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


async def _obey() -> None:
    numbers = itertools.count(1)
    line = await asyncio.to_thread(sys.stdin.readline)
    while line:
        crowd = asyncio.create_task(Crowd(Order(**json.loads(line)), numbers, _emit).visit())
        upcoming = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        # The next order follows the end of this one; an earlier end of the read is the end of stdin.
        await asyncio.wait((crowd, upcoming), return_when=asyncio.FIRST_COMPLETED)
        if not crowd.done():
            crowd.cancel()
            return
        crowd.result()
        _emit({"done": True})
        line = await upcoming


if __name__ == "__main__":
    # The pipe is broken when the parent process has ended.
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_obey())
