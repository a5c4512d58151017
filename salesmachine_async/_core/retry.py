"""
Decide what follows an outcome: a pure table of `Outcome` and `RetryState`.

The same failure is not repeated unchanged for ever. A batch that times out is halved after its second time-out, one
that fails otherwise once its waits have reached ``wait_max`` (it is then *lasting*, as are its parts), and so on until
what can pass has passed. What then remains is one message that fails alone, either because of its content (it makes the
server answer 500) or because the server is down. Other messages show the difference: a message is lost as ``REJECTED``
when it has failed alone `LONE_FAILURES` times, a full ``wait_max`` apart, and others were delivered between each two of
these failures. A failure with no delivery since the last one starts the count anew. So an outage loses nothing, even
if a request passes now and then.

If no other partition delivers, the sender *defers* the message: it first sends one of a contact (or account) that no
message before it concerns. The order of each contact is thus kept, always. The order of all messages, which
``concurrency=1`` keeps else, is given up in this case only.

If all that waits belongs to the same contact, or nothing waits, no message can be sent first. Then a delivery since
the message began to fail, as of an older part of its batch, is evidence enough. Without one it waits on: a single
contact whose first message always fails looks like a server that is down, and where nothing passes, nothing is lost.

An alias is also judged by batches, which are more frequent; a batch is judged by batches alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async.policy import Retry
from salesmachine_async.report import LossReason

__all__ = [
    "AskPing",
    "Decision",
    "Defer",
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

# How often a message must fail alone, a full wait apart, to be lost for it.
LONE_FAILURES: Final = 3
# How often a batch of several messages must time out before its size is blamed.
TIMEOUTS: Final = 2


@dataclass(frozen=True, slots=True)
class Deliver:
    """Count the batch as delivered."""


@dataclass(frozen=True, slots=True)
class RetryNow:
    """Send the batch again at once."""


@dataclass(frozen=True, slots=True)
class Wait:
    """
    Send the batch again after a backoff; only this partition waits.

    Attributes:
        at_most: Upper bound in seconds: what `Retry.timeout` has left. None: no bound.
        at_least: Lower bound in seconds.
    """

    at_most: float | None = None
    at_least: float = 0.0


@dataclass(frozen=True, slots=True)
class Pause:
    """
    Send the batch again after a pause of all partitions: a backoff, or the server's ``Retry-After`` if that is longer.

    Attributes:
        at_least: The ``Retry-After`` in seconds, cut to the policy's longest; 0 without one.
        at_most: Upper bound in seconds, as of `Wait`.
    """

    at_least: float
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Park:
    """Keep everything, and probe every *probe_after* seconds."""

    probe_after: float


@dataclass(frozen=True, slots=True)
class AskPing:
    """Send a ping: if the server refuses that too, the API key is wrong and not a message."""


@dataclass(frozen=True, slots=True)
class Split:
    """
    Send the halves one after the other.

    Attributes:
        after: The backoff before it, if the batch failed and was not rejected.
    """

    after: Wait | None = None


@dataclass(frozen=True, slots=True)
class Defer:
    """
    Send a message of another contact first, if one waits and none was delivered in the meantime.

    Attributes:
        after: The backoff before it.
    """

    after: Wait


@dataclass(frozen=True, slots=True)
class GiveUp:
    """
    Count the batch as lost.

    Attributes:
        reason: Why.
        pause: The pause of all partitions that the answer asks for nevertheless; None: none.
    """

    reason: LossReason
    pause: Pause | None = None


Decision = Deliver | RetryNow | Wait | Pause | Park | AskPing | Split | Defer | GiveUp


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryState:
    """
    State of a batch on which the decision depends besides the outcome.

    Attributes:
        count: Number of messages in the batch.
        failing_for: Seconds since the batch's first failure; 0 at the first.
        searching: Whether it is part of a rejected batch, whose key ping accepted.
        key_accepted: Whether ping has accepted the key since this batch itself was rejected.
        repeated_at_once: Number of immediate repetitions before this attempt.
        connections: Number of kept-alive connections there can be: each may be found closed once.
        timeouts: Number of time-outs in a row, this one included.
        lasting: Whether it fails in spite of full waits, or is part of a batch that was halved for its failures.
        lone_failures: Number of failures of a single message, a full wait apart, with other messages delivered between
            them; this one included. 0 if this one came sooner than a full wait after the last.
    """

    count: int
    failing_for: float = 0.0
    searching: bool = False
    key_accepted: bool = False
    repeated_at_once: int = 0
    connections: int = 1
    timeouts: int = 0
    lasting: bool = False
    lone_failures: int = 0


def decide(outcome: Outcome, state: RetryState, policy: Retry) -> Decision:
    """Return what the sender must do."""
    match outcome.verdict:
        case Verdict.DELIVERED:
            return Deliver()
        case Verdict.PARKED:
            # No deadline: the messages are valid; an operator has to fix the configuration.
            return Park(policy.wait_max)
        case Verdict.REJECTED:
            return _rejected(state)
        case Verdict.TOO_LARGE:
            return Split() if state.count > 1 else GiveUp(LossReason.TOO_LARGE)
        case Verdict.UNREACHABLE:
            left = _time_left(state, policy)
            return GiveUp(LossReason.EXPIRED) if left is not None and left <= 0 else Wait(left)
        case Verdict.STALE if state.repeated_at_once < state.connections:
            return RetryNow()
        case Verdict.PAUSE if outcome.status == 429 or outcome.retry_after is not None or not state.lasting:
            return _pause(outcome, state, policy)
        case _:  # RETRY, STALE too often, and a 503 that lasts and names no time
            return _again(state, policy)


def _rejected(state: RetryState) -> Decision:
    # The documentation gives 400 for a wrong key too, so ping is sent before a search, and again before a message is
    # lost: the key may have been revoked in between.
    if state.count > 1:
        return Split() if state.searching or state.key_accepted else AskPing()
    return GiveUp(LossReason.REJECTED) if state.key_accepted else AskPing()


def _pause(outcome: Outcome, state: RetryState, policy: Retry) -> Decision:
    at_least = min(outcome.retry_after or 0.0, policy.max_retry_after)
    left = _time_left(state, policy)
    # No request may be made before a pause ends, so a pause beyond the deadline has decided already. It still holds
    # for the batches behind.
    if left is not None and (left <= 0 or at_least > left):
        return GiveUp(LossReason.EXPIRED, Pause(at_least))
    return Pause(at_least, left)


def _again(state: RetryState, policy: Retry) -> Decision:
    left = _time_left(state, policy)
    if left is not None and left <= 0:
        return GiveUp(LossReason.EXPIRED)
    if state.count > 1:
        wait = Wait(left)
        return Split(wait) if state.lasting or state.timeouts >= TIMEOUTS else wait
    if not state.lasting:
        return Wait(left)
    if state.lone_failures >= LONE_FAILURES:
        return GiveUp(LossReason.REJECTED)
    full = Wait(left, policy.wait_max)
    return Defer(full) if state.lone_failures else full


def _time_left(state: RetryState, policy: Retry) -> float | None:
    return None if policy.timeout is None else policy.timeout - state.failing_for
