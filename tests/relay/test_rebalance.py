"""Equal shares."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async.relay.rebalance import fair_share, surplus, wanted


@given(st.integers(1, 256), st.integers(1, 50))
def test_shares_cover_all_partitions(partitions: int, relays: int) -> None:
    """The shares of all members cover the partitions, and one share less does not."""
    share = fair_share(partitions, relays)
    assert share * relays >= partitions > (share - 1) * relays


def test_a_relay_that_knows_of_none_counts_itself() -> None:
    """A relay without known members owns all partitions."""
    assert fair_share(8, 0) == 8


def test_what_exceeds_the_share_is_given_back() -> None:
    """The highest partitions beyond the share are given back."""
    assert surplus({4, 1, 7}, 2, 8) == [7]
    assert surplus({4, 1}, 2, 8) == []


def test_what_is_not_there_any_more_is_given_back() -> None:
    """Partitions beyond the number of a queue that was made anew take no part of the share."""
    assert surplus({4, 1, 7}, 2, 4) == [4, 7]
    assert surplus({2, 3, 1, 7}, 2, 4) == [3, 7]


def test_other_partitions_are_tried_in_a_circle() -> None:
    """All other partitions are tried in a circle, and none once the share is reached."""
    assert wanted({1}, 2, 4, first=2) == [2, 3, 0]
    assert wanted({1, 2}, 2, 4, first=2) == ()
