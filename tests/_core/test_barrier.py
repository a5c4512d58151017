"""The line that a flush draws."""

from __future__ import annotations

from collections import Counter

from salesmachine_async._core.barrier import Barrier
from salesmachine_async.report import LossReason, Report


def barrier(pending: list[int], delivered: int = 0, lost: Counter[LossReason] | None = None) -> Barrier:
    return Barrier(0, accepted=10, delivered=delivered, lost=lost or Counter(), pending=pending)


def test_report_begins_with_the_counts_of_its_moment() -> None:
    """A report has what was delivered and lost before the barrier, and all pending partitions added up."""
    report = barrier([2, 3], delivered=4, lost=Counter({LossReason.REJECTED: 1})).report()
    assert report == Report(delivered=4, lost={LossReason.REJECTED: 1}, pending=5)


def test_delivered_messages_move_from_pending_to_delivered() -> None:
    """An outcome without a reason is a delivery."""
    it = barrier([2, 3])
    it.pending[1] -= 2
    it.delivered += 2
    assert it.report() == Report(delivered=2, lost={}, pending=3)


def test_lost_messages_move_from_pending_to_their_reason() -> None:
    """Losses are counted by reason."""
    it = barrier([4], lost=Counter({LossReason.CLOSED: 1}))
    it.pending[0] -= 3
    it.lost[LossReason.CLOSED] += 1
    it.lost[LossReason.TOO_LARGE] += 2
    assert it.report() == Report(delivered=0, lost={LossReason.CLOSED: 2, LossReason.TOO_LARGE: 2}, pending=1)


def test_it_is_settled_when_no_lane_has_pending_messages() -> None:
    """A barrier is settled with the last outcome."""
    it = barrier([1, 0])
    assert not it.settled()
    it.pending[0] -= 1
    assert it.settled()


def test_lanes_can_be_left_out_of_the_question() -> None:
    """What is pending in a parked partition need not be waited for."""
    it = barrier([1, 2, 0])
    assert not it.settled(but_for_partitions=[0])
    assert not it.settled(but_for_partitions={2})
    assert it.settled(but_for_partitions={0, 1})


def test_an_outcome_counts_in_its_own_lane() -> None:
    """What is settled in one partition leaves the others as they are."""
    it = barrier([2, 2])
    it.pending[1] -= 2
    it.delivered += 2
    assert it.settled(but_for_partitions=[0])
    assert not it.settled(but_for_partitions=[1])


def test_a_cut_of_nothing_is_settled() -> None:
    """Without pending messages there is nothing to wait for."""
    assert barrier([0]).settled()
    assert barrier([0]).report().ok


def test_the_losses_it_was_given_are_copied() -> None:
    """The counts of a barrier do not follow those of the accumulator."""
    lost = Counter({LossReason.CLOSED: 1})
    it = barrier([1], lost=lost)
    lost[LossReason.CLOSED] = 9
    assert it.report().lost == {LossReason.CLOSED: 1}


def test_a_report_stays_as_it_was() -> None:
    """A report given out does not change with later outcomes."""
    it = barrier([1])
    before = it.report()
    it.pending[0] -= 1
    it.lost[LossReason.REJECTED] += 1
    assert before == Report(delivered=0, lost={}, pending=1)


def test_deliveries_add_up() -> None:
    """Each outcome is added to what was delivered before it."""
    it = barrier([5], delivered=3)
    it.pending[0] -= 2
    it.delivered += 2
    it.pending[0] -= 1
    it.delivered += 1
    assert it.report() == Report(delivered=6, lost={}, pending=2)
