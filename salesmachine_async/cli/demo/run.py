"""
The demo's conductor: what happens when.

Rounds without and with tracking take turns, after a warm-up of both, so that whatever else the machine does falls on
both sides alike. After each tracked round all messages are delivered before the next one begins: otherwise their
delivery would slow down the side that doesn't track. The ledger's own bookkeeping is counted as tracking.
"""

import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from aiohttp import web

from salesmachine_async import Agent, Delivery, Report, Stats
from salesmachine_async.cli.demo.audit import AuditResult, ExpectedState, RecordingTracker
from salesmachine_async.cli.demo.children import Child, child
from salesmachine_async.cli.demo.figures import Latency, Samples, Spread
from salesmachine_async.cli.demo.screen import DemoStatus, Screen
from salesmachine_async.cli.demo.shop import Shop
from salesmachine_async.cli.demo.target import Target, open_target

# The longest wait for what one round left behind: a server that is down must not hold the demo for ever.
FLUSH_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """What the sandbox does wrong during a tracked round: for a person, and for the sandbox."""

    name: str
    faults: tuple[dict[str, Any], ...]


# One for each pair of rounds. The last makes a duplicate: applied, but the agent can't know and sends it again.
TROUBLES = (
    Trouble("503 twice", ({"status": 503, "times": 2},)),
    Trouble("429, wait 1 s", ({"status": 429, "times": 1, "retry_after": 1},)),
    Trouble("answer cut off", ({"path": "/v1/batch", "drop": "after", "times": 1},)),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DemoResults:
    """
    Everything the demo found out.

    Attributes:
        url: The server that received.
        without: Latency of the shop without tracking.
        tracked: Latency of the shop with tracking.
        noise: How far the untracked rounds lie apart.
        failed: Requests the shop did not answer as it should.
        calls: Tracking calls by kind, as the ledger noted them.
        stats: The agent's counts at the end.
        report: The agent's last report.
        batches: Delivered requests, aliases aside.
        repeated: Messages the sandbox recognised as sent before; None: not a sandbox.
        faults_left: Faults that never happened; 0 when all did.
        verdict: What the comparison with the ledger found; None: nothing can be read back.
        seconds: How long it all took.
    """

    url: str
    without: Latency
    tracked: Latency
    noise: Spread
    failed: int
    calls: Mapping[str, int]
    stats: Stats
    report: Report
    batches: int
    repeated: int | None
    faults_left: int
    verdict: AuditResult | None
    seconds: float

    @property
    def lost(self) -> int:
        """Messages that were accepted and will never arrive."""
        return sum(self.report.lost.values())

    @property
    def ok(self) -> bool:
        """Whether everything tracked was accepted, delivered, and found again."""
        complete = self.report.ok and not self.stats.dropped and not self.failed
        return complete and (self.verdict is None or self.verdict.ok)


async def run(seconds: float, url: str | None, screen: Screen) -> DemoResults:
    """
    Run the demo.

    Args:
        seconds: How long to drive the shop, without the warm-up.
        url: The server to track into; None: a sandbox of our own.
        screen: Shows what happens meanwhile.

    Raises:
        TargetError: There is nothing at *url*.
        SalesmachineError: The server refuses the credentials, or is not usable.
        ChildError: A process of ours ended too early.
    """
    begun = time.monotonic()
    screen.step("Starting the sandbox" if url is None else "Looking at the server")
    async with (
        open_target(url) as target,
        child("salesmachine_async.cli.demo.visitors") as visitors,
        _Delivering(target) as delivering,
        _serve(Shop()) as plain,
        _serve(Shop(RecordingTracker(delivering.agent, delivering.ledger))) as tracking,
    ):
        # Says what is wrong with the server or the credentials before thousands of messages wait for it.
        await delivering.agent.ping()
        screen.step(f"Tracking into {target.url}")
        drive = _Drive(visitors, delivering, screen, plain, tracking)
        await drive.warm_up(seconds / 10)
        for number, trouble in enumerate(TROUBLES):
            await drive.pair(number, seconds / len(TROUBLES) / 2, trouble if target.embedded else None)
        screen.step("Delivering the rest, reading everything back")
        report = await delivering.agent.aclose()
        return DemoResults(
            url=target.url,
            without=drive.without.total(),
            tracked=drive.tracked.total(),
            noise=drive.without.spread(),
            failed=drive.failed,
            calls=dict(delivering.ledger.calls),
            stats=delivering.agent.stats(),
            report=report,
            batches=max(delivering.requests - delivering.ledger.calls["alias"], 0),
            repeated=(await target.control.summary())["duplicates"] if target.control else None,
            faults_left=drive.faults_left,
            verdict=await target.control.audit(delivering.ledger) if target.control else None,
            seconds=time.monotonic() - begun,
        )


class _Delivering:
    """The agent, what it was given, and how many requests arrived."""

    def __init__(self, target: Target) -> None:
        self.control = target.control
        self.ledger = ExpectedState()
        self.requests = 0
        self.agent = Agent(target.token, base_url=target.url, on_delivered=self._delivered)

    async def __aenter__(self) -> "_Delivering":
        await self.agent.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        # Only on the way out after an error or Ctrl-C is it still open: then what is left need not arrive.
        await self.agent.aclose(timeout=0)

    def _delivered(self, _: Delivery) -> None:
        self.requests += 1


class _Drive:
    """Sends the visitors to one shop or the other, and keeps what they measured."""

    def __init__(self, visitors: Child, delivering: _Delivering, screen: Screen, plain: str, tracking: str) -> None:
        self._visitors = visitors
        self._delivering = delivering
        self._screen = screen
        self._plain = plain
        self._tracking = tracking
        self.without = Samples()
        self.tracked = Samples()
        self.failed = 0
        self.faults_left = 0
        self._seed = 0

    async def warm_up(self, seconds: float) -> None:
        """ShopSession both shops without counting: the first requests pay for connections and imports."""
        for url in (self._plain, self._tracking):
            await self._visit(url, seconds / 2, Samples(), "warming up", "")
        await self._delivering.agent.flush(FLUSH_SECONDS)

    async def pair(self, number: int, seconds: float, trouble: Trouble | None) -> None:
        """Drive one round without and one with tracking, the latter while the sandbox plays *trouble*."""
        # The same seed on both sides: the same walks.
        self._seed += 1
        await self._visit(self._plain, seconds, self.without, "without tracking", "")
        self._screen.round_done(2 * number + 1, "without tracking", self.without.last_round(), "")
        control = self._delivering.control if trouble else None
        name = trouble.name if trouble else ""
        if control and trouble:
            await control.set_faults(trouble.faults)
        await self._visit(self._tracking, seconds, self.tracked, "with tracking", name)
        self._screen.round_done(2 * number + 2, "with tracking", self.tracked.last_round(), name)
        await self._delivering.agent.flush(FLUSH_SECONDS)
        self.faults_left += await control.faults_left() if control else 0

    async def _visit(self, url: str, seconds: float, samples: Samples, side: str, trouble: str) -> None:
        samples.open_round()
        await self._visitors.send({"url": url, "seconds": seconds, "seed": self._seed})
        begun, requests = time.monotonic(), 0
        while not (report := await self._visitors.receive()).get("done"):
            samples.add(report["microseconds"])
            requests += len(report["microseconds"])
            self.failed += report["failed"]
            share = min((time.monotonic() - begun) / seconds, 1.0)
            self._screen.update(
                DemoStatus(
                    side=side, share=share, requests=requests, trouble=trouble, stats=self._delivering.agent.stats()
                )
            )


@contextlib.asynccontextmanager
async def _serve(shop: Shop) -> AsyncGenerator[str]:
    runner = web.AppRunner(shop.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port: int = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
