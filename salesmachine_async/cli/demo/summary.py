"""The results of the demo, as text and as JSON."""

import dataclasses
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from salesmachine_async.cli.demo.audit import AuditResult
from salesmachine_async.cli.demo.crash import CrashResult
from salesmachine_async.cli.demo.run import DemoResults


def show(results: DemoResults, console: Console) -> None:
    """Print the tables and the verdict."""
    console.print()
    console.print(_shop(results))
    console.print(" [dim]noise: the range over the rounds without tracking; less means nothing[/]")
    console.print()
    console.print(_messages(results))
    console.print()
    if results.crash is not None:
        console.print(_crash(results.crash))
        console.print()
    for line in _verdict(results):
        console.print(line)


def as_json(results: DemoResults) -> dict[str, Any]:
    """Return the results as data: latencies in milliseconds, times in seconds."""
    stats, verdict = results.stats, results.verdict
    return {
        "ok": results.ok,
        "url": results.url,
        "seconds": round(results.seconds, 3),
        "requests": {
            "without": results.without.requests,
            "tracked": results.tracked.requests,
            "failed": results.failed,
        },
        "latency_ms": {
            "without": {"p50": results.without.p50, "p99": results.without.p99},
            "tracked": {"p50": results.tracked.p50, "p99": results.tracked.p99},
            "noise": {"p50": round(results.noise.p50, 3), "p99": round(results.noise.p99, 3)},
        },
        "calls": dict(results.calls),
        "messages": {
            "accepted": stats.accepted,
            "delivered": results.report.delivered,
            "lost": results.lost,
            "pending": results.report.pending,
            "dropped": sum(stats.dropped.values()),
        },
        "batches": results.batches,
        "api_requests": stats.requests,
        "retries": stats.retries,
        "bytes_sent": stats.bytes_sent,
        "recognised_duplicates": results.repeated,
        "killed_worker": None if results.crash is None else dataclasses.asdict(results.crash),
        "read_back": None if verdict is None else _verdict_json(verdict),
    }


def _verdict_json(verdict: AuditResult) -> dict[str, Any]:
    return {
        "events": verdict.events,
        "contacts": verdict.contacts,
        "accounts": verdict.accounts,
        "merged": verdict.merged,
        **{problem.value: count for problem, count in verdict.problems.items()},
        "examples": list(verdict.examples),
    }


def _shop(results: DemoResults) -> Table:
    before, after = results.without, results.tracked
    table = Table("The shop", box=SIMPLE_HEAD, show_edge=False)
    for name in ("without tracking", "with tracking", "difference", "noise"):
        table.add_column(name, justify="right")
    table.add_row("requests served", f"{before.requests:,}", f"{after.requests:,}", "", "")
    table.add_row("latency p50", *_milliseconds(before.p50, after.p50, results.noise.p50))
    table.add_row("latency p99", *_milliseconds(before.p99, after.p99, results.noise.p99))
    return table


def _milliseconds(before: float, after: float, noise: float) -> tuple[str, str, str, str]:
    return f"{before:.2f} ms", f"{after:.2f} ms", f"{after - before:+.2f} ms", f"{noise:.2f} ms"


def _messages(results: DemoResults) -> Table:
    stats, report = results.stats, results.report
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    for name in ("The messages", ""):
        table.add_column(name)
        table.add_column(justify="right")
    table.add_row("accepted", f"{stats.accepted:,}", "batches", f"{results.batches:,}")
    table.add_row("delivered", f"{report.delivered:,}", "aliases", f"{results.calls.get('alias', 0):,}")
    table.add_row("lost", _alarm(results.lost), "retries", f"{stats.retries:,}")
    table.add_row("pending", _alarm(report.pending), "bytes sent", f"{stats.bytes_sent:,}")
    table.add_row("dropped", _alarm(sum(stats.dropped.values())), "time in all", f"{results.seconds:.1f} s")
    return table


def _crash(crash: CrashResult) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    for name in ("A worker, killed by SIGKILL", "The next one, on its spool"):
        table.add_column(name)
        table.add_column(justify="right")
    oldest = f"{crash.unwritten_seconds * 1000:,.0f} ms" if crash.unwritten else "none"
    table.add_row("calls", f"{crash.calls:,}", "recovered", f"{crash.recovered:,}")
    table.add_row("confirmed by sync()", f"{crash.synced:,}", "sent twice, recognised", f"{crash.repeated:,}")
    table.add_row("of these lost", _alarm(crash.lost), "oldest call lost besides", oldest)
    return table


def _alarm(count: int) -> Text:
    return Text(f"{count:,}", "bold red" if count else "bold green")


def _verdict(results: DemoResults) -> list[str]:
    lines: list[str] = []
    if results.failed:
        lines.append(f"{results.failed:,} requests to the shop failed.")
    if results.crash is not None and not results.crash.delivered:
        lines.append("The worker after the killed one did not deliver everything.")
    if results.faults_left:
        lines.append(f"{results.faults_left} of the planned faults did not happen: there was too little traffic.")
    if results.verdict is None:
        lines.append("The server has no /_sandbox endpoints, so that its contents cannot be compared.")
        lines.append("The verdict is based on the report of the agent.")
        return [*lines, _final(results, "everything was delivered", "not everything was delivered")]
    lines += _read_back(results.verdict, results.repeated)
    good = "the sandbox holds exactly what the shop tracked"
    return [*lines, _final(results, good, "what was tracked, delivered and held is not the same")]


def _read_back(verdict: AuditResult, repeated: int | None) -> list[str]:
    contacts = f"{verdict.contacts:,} contacts ({verdict.merged:,} merged)"
    held = f"{verdict.events:,} events, {contacts}, {verdict.accounts:,} accounts"
    counts = ", ".join(f"{count:,} {problem}" for problem, count in verdict.problems.items())
    lines = [f"Read back: {held}.", f"Compared with the shop: {counts}."]
    if repeated:
        lines.append(f"Sent again after a cut-off answer, recognised by messageId: {repeated:,} messages.")
    return [*lines, *(f"  {escape(example)}" for example in verdict.examples)]


def _final(results: DemoResults, good: str, bad: str) -> str:
    return f"[bold green]PASSED:[/] {good}." if results.ok else f"[bold red]FAILED:[/] {bad}."
