"""What is settled, and how old what is not settled is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._spool.ages import Ages
from salesmachine_async._spool.settled_ranges import SettledRanges


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(0, 9)), max_size=60))
def test_the_number_is_that_of_the_oldest_without_an_outcome(ranges: list[tuple[int, int, int]]) -> None:
    """The number is that of the oldest unsettled message, in whatever order ranges are settled."""
    settlements, model = SettledRanges(), (set[int](), set[int]())
    for partition, first, count in ranges:
        settlements.settle(partition, first, count)
        model[partition].update(range(first, first + count))
        for which in (0, 1):
            assert settlements.settled(which) == next(number for number in range(99) if number not in model[which])
    numbers = [settlements.settled(which) for which in (0, 1)]
    assert list(settlements.numbers()) == numbers[: len(settlements.numbers())]
    assert not any(numbers[len(settlements.numbers()) :])


def test_it_begins_where_the_cursor_says() -> None:
    """The number begins at the cursor, and never decreases."""
    settlements = SettledRanges((5, 0, 7))
    settlements.settle(2, 0, 3)
    settlements.settle(0, 4, 2)
    assert settlements.numbers() == (6, 0, 7)


def test_many_messages_settled_ahead_cost_one_step_each() -> None:
    """Settling a full queue ahead of one request that hangs takes one step a message."""
    settlements = SettledRanges()
    for number in range(1, 200_001):
        settlements.settle(0, number, 1)
    assert settlements.settled(0) == 0
    settlements.settle(0, 0, 1)
    assert settlements.settled(0) == 200_001


def test_the_oldest_age_is_right_within_a_part_in_five_hundred() -> None:
    """The age is right within 0.2 % over a week of commits, in bounded memory."""
    ages = Ages()
    for second in range(7 * 86_400):
        ages.note(1000 * second, (second, 0))
    assert len(ages._notes) <= 1001
    for settled in (0, 1, 300_000, 600_000):
        oldest = ages.oldest_ms((settled, 0))
        assert oldest is not None
        assert 1000 * (settled - 1300) <= oldest <= 1000 * (settled + 1)
    assert ages.oldest_ms((7 * 86_400, 0)) is None


def test_a_clock_that_jumps_back_does_no_harm() -> None:
    """A clock that jumps back changes the displayed age only."""
    ages = Ages()
    for now, end in ((5_000_000, 1), (1_000, 2), (2_000, 3)):
        ages.note(now, (end,))
    assert ages.oldest_ms((1,)) == 1000
    ages.clear()
    assert ages.oldest_ms((0,)) is None
