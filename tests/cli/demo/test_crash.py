"""The killed worker of the demo."""

import dataclasses

import pytest

from salesmachine_async.cli.demo import crash as module
from salesmachine_async.cli.demo.children import ChildError
from salesmachine_async.cli.demo.crash import CrashResult, Killed, crash
from salesmachine_async.sandbox import Sandbox

GOOD = CrashResult(
    calls=1600,
    synced=1400,
    recovered=900,
    repeated=100,
    lost=0,
    unwritten=40,
    unwritten_seconds=0.061,
    delivered=True,
)


def test_missing_calls_are_lost_if_confirmed() -> None:
    """Confirmed calls that the server lacks are lost; the age of the oldest other one is reported."""
    killed = Killed({number: 10.0 + number for number in range(10)}, synced=6, at=20.0)
    assert killed.missing(range(10)) == (0, 0, 0.0)
    assert killed.missing({0, 1, 2, 3, 4, 5, 6}) == (0, 3, 3.0)
    assert killed.missing({0, 1, 3, 5, 7}) == (2, 3, 4.0)


def test_lost_calls_and_undelivered_ones_fail() -> None:
    """A lost confirmed call and an unfinished delivery each fail the demo."""
    assert GOOD.ok
    assert not dataclasses.replace(GOOD, lost=1).ok
    assert not dataclasses.replace(GOOD, delivered=False).ok


@pytest.mark.slow
@pytest.mark.one_python
async def test_a_killed_worker_loses_nothing_that_was_confirmed() -> None:
    """The next worker delivers the confirmed calls, and the server recognizes repeated ones."""
    async with Sandbox() as sandbox:
        result = await crash(sandbox.url)
    assert result.ok, result
    assert result.calls > module.CALLS
    assert result.synced > module.HEALTHY_CALLS
    assert 0 < result.recovered <= result.calls
    assert result.repeated > 0


@pytest.mark.slow
@pytest.mark.one_python
async def test_a_worker_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that ends before it is killed is an error."""
    monkeypatch.setattr(module, "WORKER", "salesmachine_async.cli.demo.catalog")
    async with Sandbox() as sandbox:
        with pytest.raises(ChildError, match="ended before it was killed"):
            await crash(sandbox.url)
