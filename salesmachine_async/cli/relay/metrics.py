"""``/metrics``, ``/health`` and ``/live`` of a running relay."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Final

from aiohttp import web

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.terminal import fail
from salesmachine_async.errors import DeliveryError
from salesmachine_async.relay import RelayState
from salesmachine_async.report import LossReason

if TYPE_CHECKING:
    from salesmachine_async.relay import FleetStatus, Relay, RelayStats

# The text format of Prometheus, https://prometheus.io/docs/instrumenting/exposition_formats/
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "salesmachine_relay"
# Why a message may become a dead letter.
DEAD_REASONS: Final = (LossReason.REJECTED, LossReason.TOO_LARGE, LossReason.EXPIRED, LossReason.DAMAGED)
# The state of the queue is read from the engine at most this often, in seconds: it takes a call for each partition.
QUEUE_SECONDS: Final = 5.0
# A scrape waits at most this long for it, in seconds; without an answer it has no figures of the queue.
ANSWER_SECONDS: Final = 2.0


@contextlib.asynccontextmanager
async def served(address: tuple[str, int] | None, relay: Relay) -> AsyncGenerator[str]:
    """
    Serve the figures of a relay while the block runs; yields the URL.

    Args:
        address: Host and port; port 0 is any free one. None: serve nothing, and yield an empty text.
        relay: Whose figures.

    Raises:
        click.exceptions.Exit: The address cannot be used.
    """
    if address is None:
        yield ""
        return
    queue = QueueReader(relay)

    async def metrics(_request: web.Request) -> web.Response:
        text = exposition(relay.stats(), await queue.read())
        return web.Response(text=text, headers={"Content-Type": CONTENT_TYPE})

    async def health(_request: web.Request) -> web.Response:
        return _described(relay.stats(), 200 if relay.stats().state.ready else 503)

    async def live(_request: web.Request) -> web.Response:
        return _described(relay.stats(), 200)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/health", health), web.get("/live", live)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await _listen(runner, *address)
        host, port = runner.addresses[0][:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        fail(f"cannot serve the metrics at {host}:{port}: {error.strerror or error}", code=USAGE)


def _described(stats: RelayStats, status: int) -> web.Response:
    error = None if stats.last_error is None else str(stats.last_error)
    return web.json_response({"state": stats.state.value, "error": error}, status=status)


class QueueReader:
    """
    Reads the state of the queue from the engine, however often it is called for.

    Args:
        relay: Whose queue.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._one_at_a_time = asyncio.Lock()
        self._status: FleetStatus | None = None
        self._expires = 0.0

    async def read(self) -> FleetStatus | None:
        """Return the state of the queue, a few seconds old at most; None if the engine does not answer."""
        loop = asyncio.get_running_loop()
        async with self._one_at_a_time:
            if loop.time() >= self._expires:
                self._status = await self._read()
                self._expires = loop.time() + QUEUE_SECONDS
        return self._status

    async def _read(self) -> FleetStatus | None:
        if self._relay.stats().state is RelayState.DISCONNECTED:
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._relay.status()
        except (DeliveryError, TimeoutError):
            return None


def exposition(stats: RelayStats, queue: FleetStatus | None) -> str:
    """Return the figures in the text format of Prometheus."""
    return "".join(f"{line}\n" for line in (*_lines(stats), *_queue_lines(queue)))


def _lines(stats: RelayStats) -> Iterator[str]:
    for name, kind, description, value in (
        ("partitions", "gauge", "Partitions that this relay owns.", len(stats.partitions)),
        ("relays", "gauge", "Living relays of the queue, this one included.", stats.relays),
        ("in_hand_messages", "gauge", "Messages read from the engine without an outcome.", stats.in_hand),
        ("read_messages_total", "counter", "Messages read from the engine.", stats.read),
        ("delivered_messages_total", "counter", "Messages that the server accepted.", stats.delivered),
        ("requests_total", "counter", "Requests to the server.", stats.requests),
        ("retries_total", "counter", "Requests that repeated messages.", stats.retries),
        ("sent_bytes_total", "counter", "Bytes of request bodies.", stats.bytes_sent),
        ("lost_leases_total", "counter", "Partitions lost because a lease was not renewed in time.", stats.leases_lost),
    ):
        yield from _figure(name, kind, description, value)
    yield f"# HELP {PREFIX}_dead_letters_total Messages stored as dead letters."
    yield f"# TYPE {PREFIX}_dead_letters_total counter"
    for reason in DEAD_REASONS:  # also those without any, because an increase from nothing is none
        yield f'{PREFIX}_dead_letters_total{{reason="{reason.value}"}} {stats.dead.get(reason, 0)}'
    yield f"# HELP {PREFIX}_state 1 for the state of the relay, 0 for the others."
    yield f"# TYPE {PREFIX}_state gauge"
    for state in RelayState:
        yield f'{PREFIX}_state{{state="{state.value}"}} {int(state is stats.state)}'


def _queue_lines(queue: FleetStatus | None) -> Iterator[str]:
    """Yield the figures of the whole queue, which every relay has alike; none without an answer of the engine."""
    if queue is None:
        return
    for name, description, value in (
        ("queue_messages", "Messages in the engine without an outcome, of the whole queue.", queue.messages),
        ("queue_bytes", "Size of the entries in the engine, of the whole queue.", queue.bytes),
        ("queue_oldest_seconds", "Age of the oldest entry of the whole queue; 0 without one.", queue.oldest_seconds),
        ("queue_dead_letters", "Dead letters kept in the engine, of the whole queue.", queue.dead),
        ("queue_pause_seconds", "How long the pause of all relays still lasts; 0 without one.", queue.pause_seconds),
    ):
        yield from _figure(name, "gauge", description, value)


def _figure(name: str, kind: str, description: str, value: float) -> Iterator[str]:
    yield f"# HELP {PREFIX}_{name} {description}"
    yield f"# TYPE {PREFIX}_{name} {kind}"
    yield f"{PREFIX}_{name} {value}"
