"""What to do about an outcome; and that a search for a guilty message ends soon, with it alone lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations
from math import log2

import pytest

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._core.retry import (
    AskPing,
    Decision,
    Defer,
    Deliver,
    GiveUp,
    Park,
    Pause,
    RetryNow,
    RetryState,
    Split,
    Wait,
    decide,
)
from salesmachine_async.policy import Batching, QueueLimits, Retry
from salesmachine_async.report import Endpoint, LossReason
from tests.support.core import add, law_holds, numbers

FOR_EVER = Retry(wait_initial=0.5, wait_max=30.0, timeout=None, max_retry_after=100.0)
TEN_SECONDS = Retry(wait_initial=0.5, wait_max=30.0, timeout=10.0, max_retry_after=100.0)


def situation(count: int = 5, **rest: float) -> RetryState:
    return RetryState(count=count, **rest)  # type: ignore[arg-type]


def out_of_budget(pause: Pause | None = None) -> GiveUp:
    return GiveUp(LossReason.EXPIRED, pause)


@pytest.mark.parametrize(
    ("verdict", "where", "decision"),
    [
        (Verdict.DELIVERED, situation(), Deliver()),
        (Verdict.DELIVERED, situation(failing_for=1e9), Deliver()),
        (Verdict.RETRY, situation(), Wait()),
        (Verdict.RETRY, situation(failing_for=1e9), Wait()),
        (Verdict.PAUSE, situation(), Pause(0.0)),
        # A carrier that cannot be used says nothing about the batch: it is neither halved nor given up.
        (Verdict.UNREACHABLE, situation(failing_for=1e9, lasting=True), Wait()),
        (Verdict.UNREACHABLE, situation(1, lasting=True, lone_failures=9), Wait()),
        (Verdict.PARKED, situation(), Park(30.0)),
        (Verdict.PARKED, situation(count=1, searching=True, key_accepted=True), Park(30.0)),
        # Too large: halved while there are halves.
        (Verdict.TOO_LARGE, situation(count=2), Split()),
        (Verdict.TOO_LARGE, situation(count=1), GiveUp(LossReason.TOO_LARGE)),
        # Refused: ping tells the key from a message, before the first split and before a loss.
        (Verdict.REJECTED, situation(), AskPing()),
        (Verdict.REJECTED, situation(key_accepted=True), Split()),
        (Verdict.REJECTED, situation(searching=True), Split()),
        (Verdict.REJECTED, situation(count=1), AskPing()),
        (Verdict.REJECTED, situation(count=1, searching=True), AskPing()),
        (Verdict.REJECTED, situation(count=1, key_accepted=True), GiveUp(LossReason.REJECTED)),
        (Verdict.REJECTED, situation(count=1, searching=True, key_accepted=True), GiveUp(LossReason.REJECTED)),
        # Stale: at once, as often as there can be stale connections; then like any failure.
        (Verdict.STALE, situation(), RetryNow()),
        (Verdict.STALE, situation(repeated_at_once=1), Wait()),
        (Verdict.STALE, situation(repeated_at_once=2, connections=3), RetryNow()),
        (Verdict.STALE, situation(repeated_at_once=3, connections=3), Wait()),
    ],
)
def test_decision_without_a_budget(verdict: Verdict, where: RetryState, decision: Decision) -> None:
    """Each verdict has its decision; without a budget nothing is given up for the time it takes."""
    assert decide(Outcome(verdict=verdict), where, FOR_EVER) == decision


FULL = Wait(None, 30.0)


@pytest.mark.parametrize(
    ("where", "decision"),
    [
        (situation(timeouts=1), Wait()),
        (situation(timeouts=2), Split(Wait())),
        (situation(lasting=True), Split(Wait())),
        (situation(count=2, timeouts=2), Split(Wait())),
        (situation(count=1, timeouts=9), Wait()),
        # Alone: a full wait between two failures that count, and others in between.
        (situation(count=1, lasting=True), FULL),
        (situation(count=1, lasting=True, lone_failures=1), Defer(FULL)),
        (situation(count=1, lasting=True, lone_failures=2), Defer(FULL)),
        (situation(count=1, lasting=True, lone_failures=3), GiveUp(LossReason.REJECTED)),
    ],
)
def test_a_lasting_failure_is_not_repeated_unchanged(where: RetryState, decision: Decision) -> None:
    """The batch is halved, deferred or lost, also after a 503 without Retry-After, never after a 429."""
    assert decide(Outcome(verdict=Verdict.RETRY, status=500), where, FOR_EVER) == decision
    if where.lasting:
        assert decide(Outcome(verdict=Verdict.PAUSE, status=503), where, FOR_EVER) == decision
    assert decide(Outcome(verdict=Verdict.PAUSE, status=429), where, FOR_EVER) == Pause(0.0)
    assert decide(Outcome(verdict=Verdict.PAUSE, status=503, retry_after=2.0), where, FOR_EVER) == Pause(2.0)


@pytest.mark.parametrize(
    ("verdict", "pause", "failing_for", "decision"),
    [
        (Verdict.RETRY, None, 0.0, Wait(10.0)),
        (Verdict.RETRY, None, 9.0, Wait(1.0)),
        (Verdict.RETRY, None, 10.0, out_of_budget()),
        (Verdict.RETRY, None, 11.0, out_of_budget()),
        (Verdict.STALE, None, 4.0, Wait(6.0)),
        (Verdict.UNREACHABLE, None, 4.0, Wait(6.0)),
        (Verdict.UNREACHABLE, None, 10.0, out_of_budget()),
        (Verdict.PAUSE, None, 4.0, Pause(0.0, 6.0)),
        (Verdict.PAUSE, None, 9.5, Pause(0.0, 0.5)),
        (Verdict.PAUSE, 6.0, 4.0, Pause(6.0, 6.0)),
        # A pause that outlasts the budget has decided already, and is obeyed by all partitions nevertheless.
        (Verdict.PAUSE, 6.5, 4.0, out_of_budget(Pause(6.5))),
        (Verdict.PAUSE, 1e9, 0.0, out_of_budget(Pause(100.0))),
        (Verdict.PAUSE, None, 10.0, out_of_budget(Pause(0.0))),
        # Retry-After of another failure is not obeyed, so it costs no budget.
        (Verdict.RETRY, 11.0, 0.0, Wait(10.0)),
        (Verdict.RETRY, 1.0, 0.0, Wait(10.0)),
        # No budget runs in these.
        (Verdict.PARKED, None, 99.0, Park(30.0)),
        (Verdict.REJECTED, None, 99.0, AskPing()),
        (Verdict.TOO_LARGE, None, 99.0, Split()),
        (Verdict.DELIVERED, None, 99.0, Deliver()),
    ],
)
def test_decision_with_a_timeout(verdict: Verdict, pause: float | None, failing_for: float, decision: Decision) -> None:
    """A wait never exceeds what the budget has left, and a batch is given up when nothing is left."""
    where = situation(failing_for=failing_for, repeated_at_once=1)
    assert decide(Outcome(verdict=verdict, retry_after=pause), where, TEN_SECONDS) == decision


@pytest.mark.parametrize(
    ("where", "decision"),
    [
        (situation(count=1, failing_for=4.0), Wait(6.0)),
        (situation(count=1, failing_for=4.0, lasting=True), Wait(6.0, 30.0)),
        (situation(count=1, failing_for=4.0, lasting=True, lone_failures=1), Defer(Wait(6.0, 30.0))),
        (situation(count=2, failing_for=4.0, lasting=True), Split(Wait(6.0))),
    ],
)
def test_each_wait_ends_with_the_timeout(where: RetryState, decision: Decision) -> None:
    """Of a single message and of halves, too."""
    assert decide(Outcome(verdict=Verdict.RETRY, status=500), where, TEN_SECONDS) == decision


def test_a_stale_connection_costs_no_budget() -> None:
    """A connection found closed says nothing about the server, so the budget does not forbid the repetition."""
    assert decide(Outcome(verdict=Verdict.STALE), situation(failing_for=99.0), TEN_SECONDS) == RetryNow()


@pytest.mark.parametrize(("retry_after", "obeyed"), [(None, 0.0), (0.0, 0.0), (3.0, 3.0), (100.0, 100.0), (1e9, 100.0)])
def test_retry_after_is_cut_to_the_policys_longest(retry_after: float | None, obeyed: float) -> None:
    """A server can ask for much, but gets no more than ``max_retry_after``."""
    assert decide(Outcome(verdict=Verdict.PAUSE, retry_after=retry_after), situation(), FOR_EVER) == Pause(obeyed)


def test_every_verdict_is_decided() -> None:
    """No verdict is left without a decision."""
    for verdict in Verdict:
        assert decide(Outcome(verdict=verdict), situation(), FOR_EVER) is not None


# The search for guilty messages, as the partition drives it, without the partition.

REFUSED = Outcome(verdict=Verdict.REJECTED, status=400)
FINE = Outcome(verdict=Verdict.DELIVERED, status=200)


class Search:
    """Delivers what is queued to a server that is a function; counts requests, keeps what happened."""

    def __init__(self, count: int, server: Callable[[list[int]], Outcome]) -> None:
        self.accumulator = Accumulator(
            Batching(max_messages=count), QueueLimits(max_messages=count, max_bytes=count * 100 + 256)
        )
        for number in range(count):
            add(self.accumulator, number)
        self.accumulator.seal(self.accumulator.partitions[0])
        self.server = server
        self.requests = self.pings = 0
        self.delivered: list[int] = []
        self.lost: list[tuple[int, LossReason]] = []
        self.run()

    def run(self) -> None:
        (partition,) = self.accumulator.partitions
        while (batch := self.accumulator.take(partition)) is not None:
            if batch.suspected and batch.count > 1:
                self.accumulator.split(batch, searching=True)
            else:
                self.send(batch)
            assert law_holds(self.accumulator.counts())

    def send(self, batch: Batch) -> None:
        self.requests += 1
        assert batch.endpoint is Endpoint.BATCH
        outcome = self.server(numbers(batch))
        where = RetryState(count=batch.count, searching=batch.searching)
        decision = decide(outcome, where, FOR_EVER)
        if decision == AskPing():
            self.requests += 1
            self.pings += 1
            where = RetryState(count=batch.count, searching=batch.searching, key_accepted=True)
            decision = decide(outcome, where, FOR_EVER)
        match decision:
            case Deliver():
                self.delivered += numbers(batch)
                self.accumulator.settle(batch)
            case Split():
                self.accumulator.split(batch, searching=outcome.verdict is Verdict.REJECTED)
            case GiveUp(reason):
                self.lost += [(number, reason) for number in numbers(batch)]
                self.accumulator.settle(batch, reason)
                if reason is LossReason.REJECTED:
                    batch.found_guilty()
            case _:
                pytest.fail(f"unexpected: {decision}")


def refusing(*guilty: int) -> Callable[[list[int]], Outcome]:
    """Return a server that refuses any batch with one of these messages in it."""
    return lambda batch: REFUSED if set(guilty) & set(batch) else FINE


# The bound is tight about the powers of two.
@pytest.mark.parametrize("count", [*range(1, 35), 63, 64, 65, 100, 127, 128, 129])
def test_one_guilty_message_is_found_within_the_bound(count: int) -> None:
    """One guilty message is lost alone, wherever it is, for at most 2·log2(n) + 2 further requests."""
    for guilty in range(count):
        search = Search(count, refusing(guilty))
        assert search.lost == [(guilty, LossReason.REJECTED)]
        assert search.delivered == [number for number in range(count) if number != guilty]
        assert search.requests - 1 <= 2 * log2(count) + 2


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 8, 13, 16, 24])
def test_two_guilty_messages_are_found(count: int) -> None:
    """Two guilty messages are lost alone, wherever they are, and the rest arrives in order."""
    for guilty in combinations(range(count), 2):
        search = Search(count, refusing(*guilty))
        assert [number for number, _ in search.lost] == list(guilty)
        assert search.delivered == [number for number in range(count) if number not in guilty]
        assert search.requests - 1 <= 2 * (2 * log2(count) + 2)


@pytest.mark.parametrize("count", [3, 4, 6, 9, 14])
def test_three_guilty_messages_are_found(count: int) -> None:
    """Three guilty messages are lost alone, wherever they are, and the rest arrives in order."""
    for guilty in combinations(range(count), 3):
        search = Search(count, refusing(*guilty))
        assert [number for number, _ in search.lost] == list(guilty)
        assert search.delivered == [number for number in range(count) if number not in guilty]
        assert search.requests - 1 <= 3 * (2 * log2(count) + 2)


def test_all_messages_can_be_guilty() -> None:
    """A batch of nothing but refused messages is lost one by one, never as a whole on suspicion."""
    search = Search(32, refusing(*range(32)))
    assert [number for number, _ in search.lost] == list(range(32))
    assert search.delivered == []


def test_a_server_that_changes_its_mind_loses_nothing() -> None:
    """A message is lost only when it is refused alone: suspicion by exclusion is never enough."""
    answers = iter([REFUSED])
    search = Search(64, lambda batch: next(answers, FINE))
    assert search.lost == []
    assert search.delivered == list(range(64))


def test_every_loss_is_preceded_by_a_ping() -> None:
    """A ping is sent before the first split and before the loss, and at no other time."""
    assert Search(64, refusing(9)).pings == 2
    assert Search(1, refusing(0)).pings == 1


def test_batches_too_large_are_halved_until_they_fit() -> None:
    """413 halves without asking ping; a message too large alone is lost for that."""
    too_large = Outcome(verdict=Verdict.TOO_LARGE, status=413)
    search = Search(20, lambda batch: too_large if len(batch) > 3 or 7 in batch else FINE)
    assert search.lost == [(7, LossReason.TOO_LARGE)]
    assert search.delivered == [number for number in range(20) if number != 7]
    assert search.pings == 0


def test_a_search_survives_answers_of_too_large() -> None:
    """A split for size within a search keeps the suspicion: only the invalid message is lost."""
    too_large = Outcome(verdict=Verdict.TOO_LARGE, status=413)

    def server(guilty: int, batch: list[int]) -> Outcome:
        if 4 < len(batch) <= 16:
            return too_large
        return REFUSED if len(batch) > 16 or guilty in batch else FINE

    for guilty in range(32):
        search = Search(32, partial(server, guilty))
        assert search.lost == [(guilty, LossReason.REJECTED)]
        assert search.delivered == [number for number in range(32) if number != guilty]
