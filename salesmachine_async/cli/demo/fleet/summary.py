"""The results of the fleet, as text and as JSON."""

import dataclasses
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from salesmachine_async.cli.demo.fleet.run import FleetResults


def show(results: FleetResults, console: Console) -> None:
    """Print the table and the verdict."""
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    for name in ("The messages", "The requests"):
        table.add_column(name)
        table.add_column(justify="right")
    rows: tuple[tuple[str, str | Text, str, str], ...] = (
        ("published", f"{results.published:,}", "with relays", f"{results.requests:,}"),
        ("delivered", f"{results.delivered:,}", "of these 429", f"{results.limited:,}"),
        ("lost", _alarm(results.lost), "without a relay, in half the time", f"{results.direct_requests:,}"),
        ("order broken", _alarm(results.disordered), "of these 429", f"{results.direct_limited:,}"),
        ("sent twice, recognised", f"{results.repeated:,}", "", ""),
        ("recovered from a spool", f"{results.recovered:,}", "", ""),
        ("killed before their commit", f"{results.unwritten:,}", "time in all", f"{results.seconds:.1f} s"),
    )
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    console.print()
    if results.ok:
        console.print("[bold green]PASSED:[/] the server holds what the fleet has published, each contact in order.")
    else:
        console.print("[bold red]FAILED:[/] messages are lost or out of order.")


def as_json(results: FleetResults) -> dict[str, Any]:
    """Return the results as data."""
    return {"ok": results.ok, **dataclasses.asdict(results), "seconds": round(results.seconds, 3)}


def _alarm(count: int) -> Text:
    return Text(f"{count:,}", "bold red" if count else "bold green")
