"""Prometheus, OpenTelemetry, structlog."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from salesmachine_async import Agent, DropReason, LossReason, Retry
from salesmachine_async.integrations.opentelemetry import UntracedTransport, observe
from salesmachine_async.integrations.prometheus import AgentCollector
from salesmachine_async.testing import Workspace
from tests.support.carriers import Carrier, answer


async def agent_with_a_past() -> Agent:
    """2 delivered, 1 rejected, 1 queued."""
    carrier = Carrier(decide=lambda batch: answer(400) if b'"bad"' in batch.body() else None)
    agent = Agent(transport=carrier, retry=Retry(wait_initial=0.001))
    for event in ("good", "good", "bad"):
        agent.track("u", event)
    await agent.flush()
    agent.track("u", "late")
    return agent


async def test_prometheus_reads_all_counts() -> None:
    """Every reason of a loss is there before it first happens."""
    agent = await agent_with_a_past()
    registry = CollectorRegistry()
    registry.register(AgentCollector(agent, {"agent": "main"}))
    agent._accumulator.drop(DropReason.CLOSED)
    text = generate_latest(registry).decode()
    for line in (
        'salesmachine_accepted_total{agent="main"} 4.0',
        'salesmachine_delivered_total{agent="main"} 2.0',
        'salesmachine_dropped_total{agent="main",reason="queue_full"} 0.0',
        'salesmachine_dropped_total{agent="main",reason="closed"} 1.0',
        'salesmachine_lost_total{agent="main",reason="rejected"} 1.0',
        'salesmachine_lost_total{agent="main",reason="queue_full"} 0.0',
        'salesmachine_queued{agent="main"} 1.0',
        'salesmachine_in_flight{agent="main"} 0.0',
        'salesmachine_paused{agent="main"} 0.0',
    ):
        assert line in text.splitlines(), text
    await agent.aclose()


async def test_an_agent_with_a_spool_has_its_metrics_too(tmp_path: Path) -> None:
    """In both; an agent without one has none of them."""
    agent, reader = Agent(transport=Carrier(), spool=tmp_path), InMemoryMetricReader()
    registry, provider = CollectorRegistry(), MeterProvider([reader])
    registry.register(AgentCollector(agent))
    observe(agent, meter_provider=provider)
    agent.track("u", "e")
    await agent.sync()
    text = generate_latest(registry).decode().splitlines()
    for line in ("salesmachine_recovered_total 0.0", "salesmachine_spooled 0.0", "salesmachine_spool_failing 0.0"):
        assert line in text
    assert any(line.startswith("salesmachine_spool_oldest_seconds") for line in text)
    found = points(reader)
    assert found["salesmachine.agent.kept"] == (0, "{message}")
    assert found["salesmachine.agent.spool.bytes"] == (0, "By")
    assert found["salesmachine.agent.spool.failing"][0] == 0
    assert found["salesmachine.agent.spool.oldest"][1] == "s"
    assert found["salesmachine.agent.spool.write_errors"][0] == found["salesmachine.agent.spool.damaged"][0] == 0
    assert found["salesmachine.agent.spool.rejected_kept"][0] == 0
    await agent.aclose()
    provider.shutdown()


async def test_labels_distinguish_several_agents() -> None:
    """Labels distinguish the agents in one registry."""
    registry = CollectorRegistry()
    for name in ("one", "two"):
        registry.register(AgentCollector(Agent(transport=Carrier()), {"agent": name}))
    text = generate_latest(registry).decode()
    assert 'salesmachine_queued{agent="one"} 0.0' in text
    assert 'salesmachine_queued{agent="two"} 0.0' in text


def points(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        f"{metric.name} {point.attributes.get('reason', '')}".strip(): (point.value, metric.unit)  # type: ignore[union-attr]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


async def test_opentelemetry_observes_all_counts() -> None:
    """Whenever metrics are collected."""
    agent, reader = await agent_with_a_past(), InMemoryMetricReader()
    provider = MeterProvider([reader])
    observe(agent, {"agent": "main"}, provider)
    found = points(reader)
    assert found["salesmachine.agent.accepted"] == (4, "{message}")
    assert found["salesmachine.agent.delivered"][0] == 2
    assert found["salesmachine.agent.lost rejected"][0] == 1
    assert found["salesmachine.agent.lost closed"][0] == 0
    assert found["salesmachine.agent.queue.size"][0] == 1
    assert found["salesmachine.agent.sent"][1] == "By"
    assert found["salesmachine.agent.dropped queue_full"] == (0, "{call}")
    assert len(found) == 5 + len(LossReason) + len(DropReason) + 3
    await agent.aclose()
    provider.shutdown()


async def test_our_requests_are_not_traced_those_of_the_application_are(workspace: Workspace) -> None:
    """The agent's requests are not traced, even if it starts within a traced request."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    AioHttpClientInstrumentor().instrument(tracer_provider=provider)
    try:
        async with Agent(transport=UntracedTransport()) as agent:
            agent.track("u", "e")
            assert (await agent.flush()).ok
        assert exporter.get_finished_spans() == ()
        async with workspace.agent() as traced:
            traced.track("u", "e")
        assert len(exporter.get_finished_spans()) == 1
    finally:
        AioHttpClientInstrumentor().uninstrument()
        provider.shutdown()


async def test_structlog_renders_our_lines(caplog: pytest.LogCaptureFixture) -> None:
    """The logger is a usual one: structlog's formatter makes JSON of it, with the arguments in their place."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    with caplog.at_level(logging.ERROR):
        await (await agent_with_a_past()).aclose()
        await asyncio.sleep(0)
    (line,) = [json.loads(formatter.format(record)) for record in caplog.records if "lost" in record.message]
    assert line["logger"] == "salesmachine_async"
    assert line["level"] == "error"
    assert line["event"].startswith("lost 1 messages (rejected)")
