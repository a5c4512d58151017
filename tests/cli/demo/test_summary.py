"""The results of the demo."""

import dataclasses
import io
import json
from typing import Any

import pytest
from rich.console import Console

from salesmachine_async import DropReason, LossReason, Report
from salesmachine_async.cli.demo.audit import AuditResult, Discrepancy
from salesmachine_async.cli.demo.figures import Latency, Spread
from salesmachine_async.cli.demo.run import DemoResults
from salesmachine_async.cli.demo.summary import as_json, show
from tests.cli.demo.test_crash import GOOD as SURVIVED
from tests.cli.demo.test_screen import STATS

NO_PROBLEMS = dict.fromkeys(Discrepancy, 0)
GOOD = AuditResult(events=12_345, contacts=2_000, accounts=8, merged=900, problems=NO_PROBLEMS, examples=())
BAD = dataclasses.replace(
    GOOD, problems={**NO_PROBLEMS, Discrepancy.MISSING: 1}, examples=("missing: event [odd] number 1 of user-1",)
)
RESULTS = DemoResults(
    url="http://127.0.0.1:1",
    without=Latency(requests=2400, p50=0.5, p99=2.0),
    tracked=Latency(requests=2300, p50=0.6, p99=1.9),
    noise=Spread(p50=0.05, p99=0.5),
    failed=0,
    calls={"pageview": 9000, "alias": 900},
    stats=dataclasses.replace(STATS, accepted=15_000, delivered=15_000, queued=0, in_flight=0),
    report=Report(delivered=15_000, lost={}, pending=0),
    batches=150,
    repeated=61,
    faults_left=0,
    verdict=GOOD,
    crash=SURVIVED,
    seconds=10.04,
)


def text(**changes: Any) -> str:
    to = Console(file=io.StringIO(), width=80, highlight=False)
    show(dataclasses.replace(RESULTS, **changes), to)
    assert isinstance(to.file, io.StringIO)
    written = to.file.getvalue()
    assert max(map(len, written.splitlines())) <= 80
    return written


def test_good_results() -> None:
    """The figures, the counts and the verdict, in 80 columns and less than 30 lines."""
    written = text()
    assert len(written.splitlines()) < 30
    for words in (
        "+0.10 ms",
        "-0.10 ms",
        "0.05 ms",
        "15,000",
        "12,345 events",
        "(900 merged)",
        "61 messages",
        "10.0 s",
        "recovered",
        "61 ms",
    ):
        assert words in written
    assert "0 missing, 0 unexpected, 0 duplicated, 0 altered" in written
    assert written.endswith("PASSED: the sandbox holds exactly what the shop tracked.\n")
    assert RESULTS.ok


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": BAD},
        {"failed": 1},
        {"report": Report(delivered=1, lost={LossReason.REJECTED: 1}, pending=0)},
        {"report": Report(delivered=1, lost={}, pending=1)},
        {"crash": dataclasses.replace(SURVIVED, lost=1)},
        {"crash": dataclasses.replace(SURVIVED, delivered=False)},
        {"stats": dataclasses.replace(STATS, dropped={DropReason.QUEUE_FULL: 1})},
    ],
)
def test_anything_wrong_fails(changes: dict[str, Any]) -> None:
    """A difference, a failed request, and a message lost, pending or dropped all fail the demo."""
    assert not dataclasses.replace(RESULTS, **changes).ok
    assert "FAILED: " in text(**changes)
    assert as_json(dataclasses.replace(RESULTS, **changes))["ok"] is False


def test_differences_are_named() -> None:
    """The first differences are listed."""
    written = text(verdict=BAD)
    assert "1 missing" in written
    assert "  missing: event [odd] number 1 of user-1\n" in written


def test_failures_and_faults_left_are_mentioned() -> None:
    """Failed requests and faults that did not happen are sentences."""
    written = text(failed=3, faults_left=1, repeated=0)
    assert "3 requests to the shop failed" in written
    assert "1 of the planned faults did not happen" in written
    assert "Sent again" not in written


def test_not_a_sandbox() -> None:
    """Without a sandbox the verdict follows the agent's report, and the output states it."""
    written = text(verdict=None, repeated=None)
    assert "no /_sandbox endpoints" in written
    assert written.endswith("PASSED: everything was delivered.\n")
    assert text(verdict=None, failed=1).endswith("FAILED: not everything was delivered.\n")
    assert as_json(dataclasses.replace(RESULTS, verdict=None))["read_back"] is None


def test_the_killed_worker() -> None:
    """The part on the killed worker is left out without an embedded sandbox."""
    assert "SIGKILL" not in text(crash=None)
    assert as_json(dataclasses.replace(RESULTS, crash=None))["killed_worker"] is None
    assert "The worker after the killed one did not deliver everything." in text(
        crash=dataclasses.replace(SURVIVED, delivered=False)
    )
    assert text(crash=dataclasses.replace(SURVIVED, unwritten=0, unwritten_seconds=0.0)).count("none") == 1


def test_json() -> None:
    """The JSON has the same figures under plain names."""
    data = json.loads(json.dumps(as_json(RESULTS)))
    assert data["ok"] is True
    assert data["messages"] == {"accepted": 15_000, "delivered": 15_000, "lost": 0, "pending": 0, "dropped": 0}
    assert data["latency_ms"]["tracked"] == {"p50": 0.6, "p99": 1.9}
    assert data["read_back"]["events"] == 12_345
    assert data["read_back"]["missing"] == 0
    assert data["killed_worker"]["recovered"] == 900
