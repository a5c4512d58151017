"""What to do about an outcome: decided here, done by the partition."""

from __future__ import annotations

from dataclasses import dataclass

from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async.policy import Retry
from salesmachine_async.report import LossReason

__all__ = [
    "AskPing",
    "Decision",
    "Deliver",
    "GiveUp",
    "Park",
    "Pause",
    "RetryNow",
    "RetryState",
    "Split",
    "Wait",
    "decide",
]


@dataclass(frozen=True, slots=True)
class Deliver:
    """The batch is delivered."""


@dataclass(frozen=True, slots=True)
class RetryNow:
    """Send it again at once."""


@dataclass(frozen=True, slots=True)
class Wait:
    """
    Send it again after a backoff; this partition alone waits.

    Attributes:
        at_most: Barrier the wait to this many seconds: what the retry budget has left. None: no budget.
    """

    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """
    Send it again after a pause of all partitions: the longer of a backoff and what the server asked for.

    Attributes:
        at_least: The server's ``Retry-After`` in seconds, barrier to the policy's longest; 0 without one.
        at_most: As for `Wait`.
    """

    at_least: float
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Park:
    """Keep everything, and probe every so many seconds."""

    probe_after: float


@dataclass(frozen=True, slots=True)
class AskPing:
    """Ask ping: if that is refused too, it is the key and not a message."""


@dataclass(frozen=True, slots=True)
class Split:
    """Send the halves one after the other."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """
    The batch is lost.

    Attributes:
        reason: Why.
        pause: What the answer asks of all partitions nevertheless; None: nothing.
    """

    reason: LossReason
    pause: Pause | None = None


Decision = Deliver | RetryNow | Wait | Pause | Park | AskPing | Split | GiveUp


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryState:
    """
    What the decision depends on besides the outcome.

    Attributes:
        count: How many messages it holds.
        failing_for: Seconds since the batch's first failure; 0 at the first.
        searching: Whether it is part of a refused batch, whose key ping accepted.
        key_accepted: Whether ping has accepted the key since this batch itself was refused.
        repeated_at_once: How many immediate repetitions this attempt has behind it.
        connections: How many kept-alive connections there can be: each may be found closed once.
    """

    count: int
    failing_for: float = 0.0
    searching: bool = False
    key_accepted: bool = False
    repeated_at_once: int = 0
    connections: int = 1


def decide(outcome: Outcome, situation: RetryState, policy: Retry) -> Decision:
    """Return what the partition must do."""
    match outcome.verdict:
        case Verdict.DELIVERED:
            return Deliver()
        case Verdict.PARKED:
            # No budget here: nothing is wrong with the messages, and a person will mend what is.
            return Park(policy.wait_max)
        case Verdict.REJECTED:
            return _refused(situation)
        case Verdict.TOO_LARGE:
            return Split() if situation.count > 1 else GiveUp(LossReason.TOO_LARGE)
        case Verdict.STALE if situation.repeated_at_once < situation.connections:
            return RetryNow()
        case _:  # PAUSE, RETRY, and STALE too often
            return _again(outcome, situation, policy)


def _refused(situation: RetryState) -> Decision:
    # The documents give 400 for a wrong key too, so ping is asked before a search, and again before a message is lost
    # for good: the key may have been revoked in between.
    if situation.count > 1:
        return Split() if situation.searching or situation.key_accepted else AskPing()
    return GiveUp(LossReason.REJECTED) if situation.key_accepted else AskPing()


def _again(outcome: Outcome, situation: RetryState, policy: Retry) -> Decision:
    pauses = outcome.verdict is Verdict.PAUSE
    # To other answers a Retry-After is not obeyed, so it costs no budget either.
    at_least = min(outcome.retry_after or 0.0, policy.max_retry_after) if pauses else 0.0
    left = None if policy.timeout is None else policy.timeout - situation.failing_for
    # No request may be made before a pause ends: one that outlasts the budget has decided already. It is obeyed
    # nevertheless, for what comes next.
    if left is not None and (left <= 0 or at_least > left):
        return GiveUp(LossReason.EXPIRED, Pause(at_least) if pauses else None)
    return Pause(at_least, left) if pauses else Wait(left)
