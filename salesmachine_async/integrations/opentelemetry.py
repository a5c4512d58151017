"""
OpenTelemetry: an agent's counts as observable instruments, and its requests kept out of the traces.

::

    from salesmachine_async.integrations.opentelemetry import UntracedTransport, observe

    agent = Agent(transport=UntracedTransport())
    observe(agent)

Only the API is imported: without an SDK in the application, nothing is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from opentelemetry.context import attach, detach, set_value
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Outcome
from salesmachine_async._delivery.transport import HttpTransport
from salesmachine_async._version import __version__
from salesmachine_async.report import DropReason, LossReason, SpoolState, SpoolStats, Stats

__all__ = ["HasStats", "UntracedTransport", "observe"]

# What the contrib instrumentations of HTTP clients look for; the first is theirs, the second of all instrumentations.
SUPPRESS: Final = ("suppress_http_instrumentation", "suppress_instrumentation")

Read = Callable[[Stats], float]
# By name: unit, description and how it is read.
COUNTERS: Final[Mapping[str, tuple[str, str, Read]]] = {
    "accepted": ("{message}", "Messages taken by a call.", lambda stats: stats.accepted),
    "delivered": ("{message}", "Messages the server answered with 2xx.", lambda stats: stats.delivered),
    "requests": ("{request}", "HTTP requests begun.", lambda stats: stats.requests),
    "retries": ("{request}", "HTTP requests that repeated an earlier one.", lambda stats: stats.retries),
    "sent": ("By", "Bytes of all request bodies.", lambda stats: stats.bytes_sent),
}
GAUGES: Final[Mapping[str, tuple[str, str, Read]]] = {
    "queue.size": ("{message}", "Messages waiting.", lambda stats: stats.queued),
    "queue.bytes": ("By", "Bytes of the messages waiting.", lambda stats: stats.queued_bytes),
    "in_flight": ("{message}", "Messages in a request.", lambda stats: stats.in_flight),
}
# Metrics of an agent with a spool.
SPOOL_COUNTERS: Final[Mapping[str, tuple[str, str, Read]]] = {
    "recovered": ("{message}", "Messages taken over from processes that have ended.", lambda stats: stats.recovered),
    "kept": ("{message}", "Messages left on disk for another process.", lambda stats: stats.kept),
    "spool.write_errors": ("{error}", "Times that the disk refused.", lambda stats: _spool(stats).write_errors),
    "spool.damaged": ("By", "Bytes on disk that were not what was written.", lambda stats: _spool(stats).damaged_bytes),
    "spool.rejected_kept": (
        "{message}",
        "Rejected messages kept in files.",
        lambda stats: _spool(stats).rejected_kept,
    ),
}
SPOOL_GAUGES: Final[Mapping[str, tuple[str, str, Read]]] = {
    "spool.size": ("{message}", "Messages waiting that are on disk only.", lambda stats: stats.spooled),
    "spool.bytes": ("By", "Bytes of the messages waiting that are on disk only.", lambda stats: stats.spooled_bytes),
    "spool.oldest": (
        "s",
        "Age of the oldest message on disk without an outcome.",
        lambda stats: _spool(stats).oldest_seconds,
    ),
    "spool.failing": (
        "1",
        "Whether the spool cannot write (1) or can (0).",
        lambda stats: int(_spool(stats).state in (SpoolState.FULL, SpoolState.FAILING, SpoolState.UNAVAILABLE)),
    ),
}


def _spool(stats: Stats) -> SpoolStats:
    return stats.spool or SpoolStats()


class HasStats(Protocol):
    """An object with counts: an `Agent` or a `ThreadedAgent`."""

    def stats(self) -> Stats:
        """Return the counts."""
        ...


def observe(
    agent: HasStats, attributes: Mapping[str, str] | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """
    Report an agent's counts as ``salesmachine.agent.…`` whenever metrics are collected.

    OpenTelemetry has no way to end that: the agent's counts stay in memory as long as the provider.

    Args:
        agent: Which.
        attributes: Added to every measurement, where there are several agents. Never a uid of a contact.
        meter_provider: Default: the global one.
    """
    meter = get_meter("salesmachine_async", __version__, meter_provider)
    common = dict(attributes or {})

    def reading(read: Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _options: [Observation(read(agent.stats()), common)]

    def losses(_options: CallbackOptions) -> Iterable[Observation]:
        lost = agent.stats().lost
        # Reasons that never happened have a zero: an alert on the rate needs the zero before the first.
        return [Observation(lost.get(reason, 0), {**common, "reason": reason.value}) for reason in LossReason]

    def drops(_options: CallbackOptions) -> Iterable[Observation]:
        dropped = agent.stats().dropped
        return [Observation(dropped.get(reason, 0), {**common, "reason": reason.value}) for reason in DropReason]

    spools = agent.stats().spool is not None
    for name, (unit, text, read) in {**COUNTERS, **(SPOOL_COUNTERS if spools else {})}.items():
        meter.create_observable_counter(f"salesmachine.agent.{name}", [reading(read)], unit, text)
    meter.create_observable_counter("salesmachine.agent.dropped", [drops], "{call}", "Calls that were not accepted.")
    meter.create_observable_counter("salesmachine.agent.lost", [losses], "{message}", "Messages given up.")
    for name, (unit, text, read) in {**GAUGES, **(SPOOL_GAUGES if spools else {})}.items():
        meter.create_observable_up_down_counter(f"salesmachine.agent.{name}", [reading(read)], unit, text)


class UntracedTransport(HttpTransport):
    """An `HttpTransport`, with its arguments, whose requests the instrumentations of HTTP clients do not see."""

    async def send(self, batch: Batch) -> Outcome:
        """Send one batch and return its outcome."""
        context = None
        for key in SUPPRESS:
            context = set_value(key, True, context)
        # attach() without a context would keep the current one.
        assert context is not None
        token = attach(context)
        try:
            return await super().send(batch)
        finally:
            detach(token)
