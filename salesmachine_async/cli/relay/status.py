"""``salesmachine relay status``: the state of a queue and of its relays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.options import json_option
from salesmachine_async.cli.relay.options import engine_options
from salesmachine_async.cli.runner import run
from salesmachine_async.cli.tables import emit_json, print_rows
from salesmachine_async.cli.terminal import note, on_terminal

if TYPE_CHECKING:
    from salesmachine_async.engines.redis import RedisEngine
    from salesmachine_async.relay import FleetStatus

HEADERS = ("PARTITION", "OWNER", " LEASE", " MESSAGES", " SIZE", " OLDEST", " DEAD")


@click.command("status")
@engine_options
@json_option
def command(open_engine: Callable[[], RedisEngine], *, as_json: bool) -> None:
    """
    Show what waits in an engine, and which relays deliver it.

    Prints a table on a terminal, in a pipe one JSON object per partition.

    \b
      salesmachine relay status --engine redis://127.0.0.1:6379/3 --name shop
      salesmachine relay status --json | jq .oldest_seconds      # for an alert

    The engine comes from --engine or SALESMACHINE_ENGINE. Exit status: 0 shown,
    2 usage error, 4 the engine refuses access, 5 the engine was not reached.
    """
    status = run(_status(open_engine()))
    if as_json:
        emit_json(as_data(status))
        return
    if on_terminal():
        _print_relays(status)
    print_rows(HEADERS, map(_row, status.partitions), map(dataclasses.asdict, status.partitions))


async def _status(engine: RedisEngine) -> FleetStatus:
    try:
        await engine.start()
        return await engine.lag()
    finally:
        await engine.aclose()


def as_data(status: FleetStatus) -> dict[str, Any]:
    """Return the status as one JSON object, sums first."""
    return {
        "name": status.name,
        "messages": status.messages,
        "bytes": status.bytes,
        "oldest_seconds": status.oldest_seconds,
        "dead": status.dead,
        "pause_seconds": status.pause_seconds,
        "parked": [each.relay for each in status.relays if each.state == "parked"],
        "relays": [dataclasses.asdict(each) for each in status.relays],
        "partitions": [dataclasses.asdict(each) for each in status.partitions],
    }


def _print_relays(status: FleetStatus) -> None:
    if not status.relays:
        note("No relay is running.")
    for relay in status.relays:
        trouble = f", last error: {relay.last_error}" if relay.last_error else ""
        note(
            f"{relay.relay}: {relay.state}, {len(relay.partitions)} partitions, {relay.delivered:,} delivered{trouble}"
        )
    if status.pause_seconds > 0:
        note(f"All relays pause for another {status.pause_seconds:.0f} s, as the server requires.")
    if not status.partitions:
        note(f"No agent has published to the queue {status.name} yet.")


def _row(partition: Any) -> tuple[str, ...]:
    from rich.filesize import decimal  # noqa: PLC0415 - --help does not need it

    return (
        str(partition.partition),
        partition.owner or "none",
        f"{partition.lease_seconds:.0f} s" if partition.owner else "",
        f"{partition.messages:,}",
        decimal(partition.bytes),
        f"{partition.oldest_seconds:.1f} s" if partition.messages else "",
        f"{partition.dead:,}" if partition.dead else "",
    )
