"""The waits between attempts."""

from __future__ import annotations

import pytest

from salesmachine_async import Retry
from salesmachine_async._core.retry import Pause, Wait
from salesmachine_async._http import backoff as module
from salesmachine_async._http.backoff import Backoff

POLICY = Retry(wait_initial=0.5, wait_max=30.0)


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make full jitter always return the ceiling."""
    monkeypatch.setattr(module, "full_jitter", lambda ceiling: ceiling)


@pytest.mark.usefixtures("longest")
def test_ceilings_double_up_to_the_maximum() -> None:
    """The ceiling doubles with each failure, up to the maximum of the policy."""
    backoff = Backoff(POLICY)
    assert [backoff.seconds(Wait(None)) for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_waits_are_anywhere_below_the_ceiling() -> None:
    """Full jitter spreads the waits over the whole range, so that a fleet of agents does not retry simultaneously."""
    waits = [Backoff(POLICY).seconds(Wait(None)) for _ in range(200)]
    assert all(0 <= wait <= 0.5 for wait in waits)
    assert min(waits) < 0.1
    assert max(waits) > 0.4


@pytest.mark.usefixtures("longest")
def test_a_pause_lasts_for_retry_after_plus_jitter() -> None:
    """A pause lasts for Retry-After plus some jitter, or as long as the backoff if that is longer."""
    backoff = Backoff(POLICY)
    assert backoff.seconds(Pause(10.0, None)) == 10.5
    assert backoff.seconds(Pause(10.0, None)) == 10.5
    assert [backoff.seconds(Pause(0.0, None)) for _ in range(2)] == [2.0, 4.0]


@pytest.mark.usefixtures("longest")
def test_no_wait_exceeds_the_rest_of_the_timeout() -> None:
    """A wait never exceeds the time that the retry timeout has left."""
    backoff = Backoff(POLICY)
    assert backoff.seconds(Wait(0.2)) == 0.2
    assert backoff.seconds(Pause(0.1, 0.3)) == 0.3
