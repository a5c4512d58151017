"""``/metrics`` and ``/health`` of a running relay."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TYPE_CHECKING

from aiohttp import web

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.terminal import fail
from salesmachine_async.report import State

if TYPE_CHECKING:
    from salesmachine_async.relay.stats import RelayStats

# The text format of Prometheus, https://prometheus.io/docs/instrumenting/exposition_formats/
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "salesmachine_relay"


@contextlib.asynccontextmanager
async def served(address: tuple[str, int] | None, stats: Callable[[], RelayStats]) -> AsyncGenerator[str]:
    """
    Serve the figures of a relay while the block runs; yields the URL.

    Args:
        address: Host and port; port 0 is any free one. None: serve nothing, and yield an empty text.
        stats: Takes a snapshot.

    Raises:
        click.exceptions.Exit: The address cannot be used.
    """
    if address is None:
        yield ""
        return

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text=exposition(stats()), headers={"Content-Type": CONTENT_TYPE})

    async def health(_request: web.Request) -> web.Response:
        found = stats()
        healthy = found.state in (State.OPEN, State.PAUSED)
        error = None if found.last_error is None else str(found.last_error)
        return web.json_response({"state": found.state.value, "error": error}, status=200 if healthy else 503)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/health", health)])
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


def exposition(stats: RelayStats) -> str:
    """Return the figures in the text format of Prometheus."""
    return "".join(f"{line}\n" for line in _lines(stats))


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
        yield f"# HELP {PREFIX}_{name} {description}"
        yield f"# TYPE {PREFIX}_{name} {kind}"
        yield f"{PREFIX}_{name} {value}"
    yield f"# HELP {PREFIX}_dead_letters_total Messages stored as dead letters."
    yield f"# TYPE {PREFIX}_dead_letters_total counter"
    for reason, count in stats.dead.items():
        yield f'{PREFIX}_dead_letters_total{{reason="{reason.value}"}} {count}'
    yield f"# HELP {PREFIX}_state 1 for the state of the relay, 0 for the others."
    yield f"# TYPE {PREFIX}_state gauge"
    for state in State:
        yield f'{PREFIX}_state{{state="{state.value}"}} {int(state is stats.state)}'
