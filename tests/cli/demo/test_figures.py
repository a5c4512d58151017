"""Percentiles and spreads."""

import pytest

from salesmachine_async.cli.demo.figures import Latency, Samples, Spread, percentile


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7], 0.5, 7),
        ([7], 0.99, 7),
        ([1, 2], 0.5, 1),
        ([1, 2, 3], 0.5, 2),
        ([1, 2, 3, 4], 0.0, 1),
        ([1, 2, 3, 4], 1.0, 4),
        (list(range(1, 101)), 0.5, 50),
        (list(range(1, 101)), 0.99, 99),
        (list(range(1, 1001)), 0.99, 990),
    ],
)
def test_percentile(values: list[int], share: float, expected: int) -> None:
    """The nearest rank is the smallest value that at least the share of all values does not exceed."""
    assert percentile(values, share) == expected


def test_samples_are_summed_up_over_all_rounds() -> None:
    """The order of the samples does not matter, nor the round they came in."""
    samples = Samples()
    samples.open_round()
    samples.add([3000, 1000])
    samples.open_round()
    samples.add([2000])
    samples.add([4000])
    assert samples.last_round() == Latency(requests=2, p50=2.0, p99=4.0)
    assert samples.total() == Latency(requests=4, p50=2.0, p99=4.0)


def test_spread_compares_rounds() -> None:
    """The spread is the range of each figure over the rounds that had requests."""
    samples = Samples()
    for values in ([1000, 9000], [1500, 5000], []):
        samples.open_round()
        samples.add(values)
    assert samples.spread() == Spread(p50=0.5, p99=4.0)


def test_nothing_measured() -> None:
    """Without any request all figures are zero."""
    samples = Samples()
    assert samples.spread() == Spread(p50=0.0, p99=0.0)
    assert samples.total() == Latency(requests=0, p50=0.0, p99=0.0)
