"""Runs a relay, and shows its state: a panel on a terminal, else one JSON object for each report."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from salesmachine_async.cli.live import is_live
from salesmachine_async.cli.relay.metrics import served
from salesmachine_async.cli.shutdown import stop_requested
from salesmachine_async.cli.tables import safe_json
from salesmachine_async.cli.terminal import emit, err, harmless, note

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from salesmachine_async.relay import Relay
    from salesmachine_async.relay.stats import RelayStats

PANEL_SECONDS = 0.5


async def deliver(relay: Relay, name: str, address: tuple[str, int] | None, *, every: float, as_json: bool) -> None:
    """
    Run *relay* until SIGINT or SIGTERM; then it finishes what is in flight and gives its leases back.

    Args:
        relay: One that has not run.
        name: The name of the queue, as displayed.
        address: Where to serve the metrics; None for nowhere.
        every: Seconds between two reports in JSON.
        as_json: Whether to report in JSON, also on a terminal.

    Raises:
        ConfigError: The engine cannot be used.
        click.exceptions.Exit: The address cannot be used.
    """
    with stop_requested(until_eof=False) as stop:
        async with served(address, relay) as url:
            note(f"Delivering the queue {harmless(name)}{f'; metrics at {url}/metrics' if url else ''}.")
            await _run(relay, stop, _reports(relay, every, as_json=as_json))


async def _run(relay: Relay, stop: asyncio.Event, reports: contextlib.AbstractContextManager[Reporter]) -> None:
    running = asyncio.create_task(relay.run())
    stopped = asyncio.create_task(stop.wait())
    with reports as report:
        try:
            while not running.done():
                if stopped.done():
                    relay.stop()
                await asyncio.wait(
                    [running] if stopped.done() else [running, stopped],
                    timeout=report.seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                report.show()
        finally:
            stopped.cancel()
            # Also when the reader of the reports has left: finish what is in flight, and give the leases back.
            relay.stop()
            await running


class Reporter:
    """
    A report that is repeated.

    Args:
        seconds: How often, at least.
        show: Makes one.
    """

    def __init__(self, seconds: float, show: Callable[[], None]) -> None:
        self.seconds = seconds
        self.show = show


@contextlib.contextmanager
def _reports(relay: Relay, every: float, *, as_json: bool) -> Generator[Reporter]:
    console = err()
    if as_json or not is_live(console):
        yield Reporter(every, lambda: emit(safe_json(json.dumps(as_data(relay.stats()), ensure_ascii=False))))
        return
    from rich.live import Live  # noqa: PLC0415 - --help does not need it

    # rich's own thread would compete with the event loop for the interpreter.
    with Live(_panel(relay.stats()), console=console, auto_refresh=False, transient=True) as live:
        yield Reporter(PANEL_SECONDS, lambda: live.update(_panel(relay.stats()), refresh=True))
    _print_end(console, relay.stats())


def as_data(stats: RelayStats) -> dict[str, Any]:
    """Return the figures of a relay as a JSON object."""
    return {
        "state": stats.state.value,
        "partitions": stats.partitions,
        "relays": stats.relays,
        "read": stats.read,
        "in_hand": stats.in_hand,
        "delivered": stats.delivered,
        "dead": {reason.value: count for reason, count in stats.dead.items()},
        "requests": stats.requests,
        "retries": stats.retries,
        "bytes_sent": stats.bytes_sent,
        "leases_lost": stats.leases_lost,
        "error": None if stats.last_error is None else str(stats.last_error),
    }


def _panel(stats: RelayStats) -> Table:
    from rich.table import Table  # noqa: PLC0415 - --help does not need it
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    rows = (
        ("state", stats.state.value),
        ("partitions", f"{len(stats.partitions)}, beside {max(0, stats.relays - 1)} other relays"),
        ("in hand", f"{stats.in_hand:,} messages"),
        (
            "delivered",
            f"{stats.delivered:,} messages in {stats.requests:,} requests, {stats.retries:,} of them retries",
        ),
        ("dead", f"{sum(stats.dead.values()):,}"),
        ("error", "" if stats.last_error is None else harmless(str(stats.last_error))),
    )
    for name, value in rows:
        if value:
            table.add_row(Text(name, style="bold"), Text(value))
    return table


def _print_end(console: Console, stats: RelayStats) -> None:
    console.print(
        f"Stopped: {stats.delivered:,} messages delivered, {sum(stats.dead.values()):,} dead letters,"
        f" {stats.in_hand:,} left to other relays.",
        highlight=False,
    )


@contextlib.contextmanager
def log_lines() -> Generator[None]:
    """Print what the library logs from WARNING on, one line each on stderr."""
    logger, handler = logging.getLogger("salesmachine_async"), _LineHandler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _LineHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(harmless(f"{record.levelname.lower()}: {record.getMessage()}"))
