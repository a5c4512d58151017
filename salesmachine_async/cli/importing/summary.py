"""The summary of an import, as text and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from salesmachine_async.cli.importing.models import Ending, ImportResults
from salesmachine_async.cli.importing.progress import duration
from salesmachine_async.cli.terminal import harmless

_HEADLINES = {
    Ending.DONE: ("Done", "bold green"),
    Ending.INTERRUPTED: ("Interrupted", "bold yellow"),
    Ending.REFUSED: ("Stopped: rejected by the server", "bold red"),
    Ending.UNAVAILABLE: ("Stopped: the server does not answer", "bold red"),
    Ending.UNUSABLE: ("Stopped", "bold red"),
    Ending.FAILED: ("Failed", "bold red"),
}


def as_json(results: ImportResults) -> dict[str, Any]:
    """Return the object of ``--json``."""
    # A dry run delivers nothing.
    taken = "sendable" if results.dry_run else "delivered"
    return {
        "status": results.ending.value,
        "exit": results.status,
        "error": results.error or None,
        "dry_run": results.dry_run,
        "rows": results.rows,
        taken: results.delivered,
        "rejected": results.rejected,
        "skipped": results.skipped,
        "repeated_headers": results.headers,
        "resumed": results.resumed,
        "unanswered": results.unanswered,
        "retries": results.retries,
        "seconds": round(results.seconds, 3),
        "rows_per_second": round(_rate(results)),
        "rejects": str(results.rejects) if results.rejects else None,
        "files": [
            {
                "file": each.name,
                "rows": each.rows,
                taken: each.delivered,
                "rejected": each.rejected,
                "skipped": each.skipped,
                "repeated_headers": each.headers,
                "resumed": each.resumed,
                "done": each.done,
                "checkpoint": str(each.checkpoint) if each.checkpoint else None,
            }
            for each in results.inputs
        ],
    }


def show(results: ImportResults, console: Console) -> None:
    """Print the summary."""
    headline, style = _HEADLINES[results.ending]
    if results.ending is Ending.DONE:
        headline = "Checked, nothing was sent" if results.dry_run else headline
        if results.rejected:
            headline, style = f"{headline}, but there are rejected rows", "bold yellow"
    rows = results.rows - results.resumed
    text = Text.assemble(
        (headline, style),
        f": {rows:,} rows in {duration(results.seconds)}, {_rate(results):,.0f} rows/s",
    )
    console.print(text, soft_wrap=True)
    if results.error:
        console.print(Text(f"  {harmless(results.error)}", "red"), soft_wrap=True)
    for line in _counts(results):
        console.print(line, soft_wrap=True)
    for line in _rejected(results):
        console.print(line, soft_wrap=True)
    for each in results.inputs:
        if each.checkpoint is not None:
            advice = harmless(f"  To continue, run the same command with --resume (checkpoint: {each.checkpoint}).")
            console.print(Text(advice, "bold"), soft_wrap=True)
            break


def _counts(results: ImportResults) -> list[Text]:
    verb = "can be sent" if results.dry_run else "delivered"
    lines = [Text.assemble("  ", (f"{results.delivered:>11,}", "bold green"), f"  {verb}")]
    if results.rejected:
        lines.append(Text.assemble("  ", (f"{results.rejected:>11,}", "bold red"), "  rejected"))
    if objects := results.skipped - results.headers:
        reason = "  skipped: users, notes, activities and tasks, which the tracking API cannot create"
        lines.append(Text(f"  {objects:>11,}{reason}"))
    if results.headers:
        lines.append(Text(f"  {results.headers:>11,}  skipped: the header again, as in joined files"))
    if results.unanswered:
        advice = "  sent, but not answered: --resume sends them again with the same ids"
        lines.append(Text.assemble("  ", (f"{results.unanswered:>11,}", "bold yellow"), advice))
    if results.resumed:
        lines.append(Text(f"  {results.resumed:>11,}  of them by an earlier run", "dim"))
    if results.retries:
        lines.append(Text(f"  {results.retries:>11,}  requests were repeated", "dim"))
    return lines


def _rejected(results: ImportResults) -> list[Text]:
    several = len(results.inputs) > 1
    lines = [
        Text.assemble("  ", (harmless(f"{name + ', ' if several else ''}line {line}"), "bold"), f" {harmless(reason)}")
        for name, line, reason in results.shown
    ]
    left = results.rejected - len(results.shown)
    if results.shown and left > 0:
        lines.append(Text(f"  and {left:,} more", "dim"))
    if results.rejected and results.rejects:
        advice = f"  All of them are in {results.rejects}: correct the rows there, and import it with the same options."
        lines.append(Text(harmless(advice)))
    elif results.rejected:
        lines.append(Text("  Use --rejects FILE to write all of them to a file that can be corrected and imported."))
    return lines


def _rate(results: ImportResults) -> float:
    rows = results.rows - results.resumed
    return rows / results.seconds if results.seconds else 0.0
