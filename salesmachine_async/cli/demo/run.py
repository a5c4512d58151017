"""
The run of the demo.

Rounds without and with tracking alternate, after a warm-up of both, so that other load of the machine affects both
sides alike. All messages of a round with tracking are delivered before the next round begins, because their delivery
would slow it down. Recording the expected state counts as tracking.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from aiohttp import web

from salesmachine_async import Agent, Delivery, HttpTransport, Report, Stats
from salesmachine_async.cli.demo.audit import AuditResult, ExpectedState, RecordingTracker
from salesmachine_async.cli.demo.children import Child, child
from salesmachine_async.cli.demo.crash import CrashResult, crash
from salesmachine_async.cli.demo.figures import Latency, Samples, Spread
from salesmachine_async.cli.demo.screen import DemoStatus, Screen
from salesmachine_async.cli.demo.shop import Shop
from salesmachine_async.cli.demo.target import Target, open_target
from salesmachine_async.cli.options import ServerOptions

# The time limit for delivering the messages of a round.
FLUSH_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class RoundFault:
    """The faults of the sandbox in a round with tracking, and their name."""

    name: str
    faults: tuple[dict[str, Any], ...]


# One for each pair of rounds. The last one makes a duplicate, because the batch was applied before the cut.
FAULTS = (
    RoundFault("503 twice", ({"status": 503, "times": 2},)),
    RoundFault("429, wait 1 s", ({"status": 429, "times": 1, "retry_after": 1},)),
    RoundFault("answer cut off", ({"path": "/v1/batch", "drop": "after", "times": 1},)),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DemoResults:
    """
    The results of the demo.

    Attributes:
        url: The server that received.
        without: Latency of the shop without tracking.
        tracked: Latency of the shop with tracking.
        noise: The difference between the rounds without tracking.
        failed: Requests with a wrong answer or none.
        calls: Tracking calls by kind, as recorded.
        stats: The agent's counts at the end.
        report: The agent's last report.
        batches: Delivered requests, aliases aside.
        repeated: Duplicates that the sandbox recognised; None without a sandbox.
        faults_left: Faults that did not happen.
        verdict: The comparison with the expected state; None without a sandbox.
        crash: What became of the calls of a killed worker; None without an embedded sandbox.
        seconds: The duration.
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
    crash: CrashResult | None
    seconds: float

    @property
    def lost(self) -> int:
        """Messages that were accepted and lost."""
        return sum(self.report.lost.values())

    @property
    def ok(self) -> bool:
        """Whether everything was accepted, delivered and found in the sandbox, also after the kill."""
        complete = self.report.ok and not self.stats.dropped and not self.failed
        survived = self.crash is None or self.crash.ok
        return complete and survived and (self.verdict is None or self.verdict.ok)


async def run(seconds: float, url: str | None, screen: Screen, server: ServerOptions) -> DemoResults:
    """
    Run the demo.

    Args:
        seconds: The duration without the warm-up.
        url: The server to track into; None for an embedded sandbox.
        screen: The display.
        server: How the server at *url* is reached.

    Raises:
        ConfigError: If *url* or the environment is unusable.
        TargetError: If there is no server at *url*.
        SalesmachineError: If the server rejects the credentials or is unusable.
        ChildError: If a child process ended too early.
    """
    begun = time.monotonic()
    screen.step("Starting the sandbox" if url is None else "Looking at the server")
    async with (
        open_target(url, server) as target,
        child("salesmachine_async.cli.demo.visitors") as visitors,
        _Delivering(target) as delivering,
        _serve(Shop()) as plain,
        _serve(Shop(RecordingTracker(delivering.agent, delivering.expected))) as tracking,
    ):
        # An unusable server or key is an error before thousands of messages wait.
        await delivering.agent.ping()
        screen.step(f"Tracking into {target.url}")
        drive = _Drive(visitors, delivering, screen, plain, tracking)
        await drive.warm_up(seconds / 10)
        for number, fault in enumerate(FAULTS):
            await drive.pair(number, seconds / len(FAULTS) / 2, fault if target.embedded else None)
        screen.step("Delivering the rest, reading everything back")
        report = await delivering.agent.aclose()
        return DemoResults(
            url=target.url,
            without=drive.without.total(),
            tracked=drive.tracked.total(),
            noise=drive.without.spread(),
            failed=drive.failed,
            calls=dict(delivering.expected.calls),
            stats=delivering.agent.stats(),
            report=report,
            batches=max(delivering.requests - delivering.expected.calls["alias"], 0),
            repeated=(await target.control.summary())["duplicates"] if target.control else None,
            faults_left=drive.faults_left,
            verdict=await target.control.audit(delivering.expected) if target.control else None,
            crash=await _crash(target, screen),
            seconds=time.monotonic() - begun,
        )


async def _crash(target: Target, screen: Screen) -> CrashResult | None:
    if not target.embedded or sys.platform == "win32":  # where a spool has no locks
        return None
    screen.step("Killing a worker in the middle, starting another one on its spool")
    return await crash(target.url)


class _Delivering:
    """The agent, the expected state, and the number of delivered requests."""

    def __init__(self, target: Target) -> None:
        self.control = target.control
        self.expected = ExpectedState()
        self.requests = 0
        transport = HttpTransport(target.token, base_url=target.url, **target.transport)
        self.agent = Agent(enabled=True, spool="", transport=transport, on_delivered=self._delivered)

    async def __aenter__(self) -> "_Delivering":
        await self.agent.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        # The agent is still open only after an error or Ctrl-C; the rest is dropped then.
        await self.agent.aclose(timeout=0)

    def _delivered(self, _: Delivery) -> None:
        self.requests += 1


class _Drive:
    """Sends the visitors to one shop or the other, and collects their measurements."""

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
        """Visit both shops without measuring, because the first requests include connections and imports."""
        for url in (self._plain, self._tracking):
            await self._visit(url, seconds / 2, Samples(), "warming up", "")
        await self._delivering.agent.flush(FLUSH_SECONDS)

    async def pair(self, number: int, seconds: float, fault: RoundFault | None) -> None:
        """Run one round without and one with tracking, the latter with *fault* in the sandbox."""
        # The same seed on both sides makes the same requests.
        self._seed += 1
        await self._visit(self._plain, seconds, self.without, "without tracking", "")
        self._screen.round_done(2 * number + 1, "without tracking", self.without.last_round(), "")
        control = self._delivering.control if fault else None
        name = fault.name if fault else ""
        if control and fault:
            await control.set_faults(fault.faults)
        await self._visit(self._tracking, seconds, self.tracked, "with tracking", name)
        self._screen.round_done(2 * number + 2, "with tracking", self.tracked.last_round(), name)
        await self._delivering.agent.flush(FLUSH_SECONDS)
        self.faults_left += await control.faults_left() if control else 0

    async def _visit(self, url: str, seconds: float, samples: Samples, side: str, fault: str) -> None:
        samples.open_round()
        await self._visitors.send({"url": url, "seconds": seconds, "seed": self._seed})
        begun, requests = time.monotonic(), 0
        while not (report := await self._visitors.receive()).get("done"):
            samples.add(report["microseconds"])
            requests += len(report["microseconds"])
            self.failed += report["failed"]
            share = min((time.monotonic() - begun) / seconds, 1.0)
            self._screen.update(
                DemoStatus(side=side, share=share, requests=requests, fault=fault, stats=self._delivering.agent.stats())
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
