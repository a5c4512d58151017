"""
Prometheus: an agent's counts as metrics.

::

    from prometheus_client import REGISTRY
    from salesmachine_async.integrations.prometheus import AgentCollector

    REGISTRY.register(AgentCollector(agent))

The counts are read at each scrape. The multiprocess mode of prometheus_client reads no custom collectors: scrape each
process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from salesmachine_async.report import DropReason, LossReason, SpoolState, SpoolStats, State, Stats

__all__ = ["AgentCollector", "HasStats"]

COUNTERS: Final = {
    "accepted": "Messages taken by a call.",
    "delivered": "Messages the server answered with 2xx.",
    "requests": "HTTP requests begun.",
    "retries": "HTTP requests that repeated an earlier one.",
    "sent_bytes": "Bytes of all request bodies.",
}
GAUGES: Final = {
    "queued": "Messages waiting.",
    "queued_bytes": "Bytes of the messages waiting.",
    "in_flight": "Messages in a request.",
    "paused": "Whether sending is held back (1) or not (0).",
}
# Metrics of an agent with a spool.
SPOOL_COUNTERS: Final = {
    "recovered": "Messages taken over from processes that have ended.",
    "kept": "Messages left on disk for another process.",
    "spool_write_errors": "Times that the disk refused.",
    "spool_damaged_bytes": "Bytes on disk that were not what was written.",
    "spool_rejected_kept": "Rejected messages kept in files.",
}
SPOOL_GAUGES: Final = {
    "spooled": "Messages waiting that are on disk only.",
    "spooled_bytes": "Bytes of the messages waiting that are on disk only.",
    "spool_oldest_seconds": "Age of the oldest message on disk without an outcome.",
    "spool_failing": "Whether the spool cannot write (1) or can (0).",
}


class HasStats(Protocol):
    """An object with counts: an `Agent` or a `ThreadedAgent`."""

    def stats(self) -> Stats:
        """Return the counts."""
        ...


class AgentCollector(Collector):
    """
    Collects the counts of one agent, as ``salesmachine_…``.

    Args:
        agent: Which.
        labels: Added to every metric, where there are several agents. Never a uid of a contact.
    """

    def __init__(self, agent: HasStats, labels: Mapping[str, str] | None = None) -> None:
        self._agent = agent
        self._labels = dict(labels or {})

    def collect(self) -> Iterator[Metric]:
        """Read all counts at one moment."""
        names, values = list(self._labels), list(self._labels.values())
        stats = self._agent.stats()
        spool = stats.spool
        numbers = {**numbers_of(stats), **({} if spool is None else spool_numbers_of(stats, spool))}
        for name, text in {**COUNTERS, **({} if spool is None else SPOOL_COUNTERS)}.items():
            counter = CounterMetricFamily(f"salesmachine_{name}", text, labels=names)
            counter.add_metric(values, numbers[name])
            yield counter
        dropped = CounterMetricFamily("salesmachine_dropped", "Calls not accepted.", labels=[*names, "reason"])
        for drop in DropReason:
            dropped.add_metric([*values, drop.value], stats.dropped.get(drop, 0))
        yield dropped
        lost = CounterMetricFamily("salesmachine_lost", "Messages given up.", labels=[*names, "reason"])
        for reason in LossReason:
            # Reasons that never happened have a zero: an alert on the rate needs the zero before the first.
            lost.add_metric([*values, reason.value], stats.lost.get(reason, 0))
        yield lost
        for name, text in {**GAUGES, **({} if spool is None else SPOOL_GAUGES)}.items():
            gauge = GaugeMetricFamily(f"salesmachine_{name}", text, labels=names)
            gauge.add_metric(values, numbers[name])
            yield gauge

    def describe(self) -> list[Metric]:
        """Describe no metrics in advance, because registration would then read the agent."""
        return []


def spool_numbers_of(stats: Stats, spool: SpoolStats) -> dict[str, float]:
    """Return the counts of an agent with a spool by the names of the metrics."""
    return {
        "recovered": stats.recovered,
        "kept": stats.kept,
        "spooled": stats.spooled,
        "spooled_bytes": stats.spooled_bytes,
        "spool_write_errors": spool.write_errors,
        "spool_damaged_bytes": spool.damaged_bytes,
        "spool_rejected_kept": spool.rejected_kept,
        "spool_oldest_seconds": spool.oldest_seconds,
        "spool_failing": int(spool.state in (SpoolState.FULL, SpoolState.FAILING, SpoolState.UNAVAILABLE)),
    }


def numbers_of(stats: Stats) -> dict[str, float]:
    """Return the counts by the names of the metrics."""
    return {
        "accepted": stats.accepted,
        "delivered": stats.delivered,
        "requests": stats.requests,
        "retries": stats.retries,
        "sent_bytes": stats.bytes_sent,
        "queued": stats.queued,
        "queued_bytes": stats.queued_bytes,
        "in_flight": stats.in_flight,
        "paused": int(stats.state in (State.PAUSED, State.PARKED)),
    }
