"""What the reference lists is what the code has: log lines, environment variables, exit statuses, metrics, options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aiohttp import web

from salesmachine_async.cli import exit_codes
from salesmachine_async.integrations import opentelemetry, prometheus
from salesmachine_async.sandbox.control import routes as control
from tests.support.cli_tree import command_of, command_paths
from tests.support.example_process import ROOT
from tests.support.log_calls import LogCall, log_calls

pytestmark = pytest.mark.one_python

PACKAGE = ROOT / "salesmachine_async"
DOCS = ROOT / "docs"
# The last word of a line that says what the agent does next.
VERBS = {"…; …": {"…; trying again", "…; pausing"}}


def page(name: str) -> str:
    return (DOCS / name).read_text()


def table(text: str) -> set[str]:
    """Return the first cells of all tables, without their marks."""
    return {cell.strip(" `") for cell in re.findall(r"^\|([^|]+)\|", text, re.MULTILINE)}


def test_every_log_line_is_a_heading() -> None:
    """By its text; no heading is left of a line that is gone; each says the levels."""
    levels: dict[str, set[str]] = {}
    for call in log_calls(PACKAGE):
        for text in VERBS.get(call.text, {call.text}):
            levels.setdefault(text, set()).update(call.levels)
    sections = dict(re.findall(r"^### (.*)\n\n(.*)$", page("reference/log-lines.md"), re.MULTILINE))
    assert sorted(sections) == sorted(levels)
    for text, level in levels.items():
        assert set(re.findall(r"\b(ERROR|WARNING)\b", sections[text])) == level, text


def test_verbs() -> None:
    """They are those of the code."""
    source = (PACKAGE / "_delivery/sender.py").read_text()
    assert {f"…; {verb}" for verb in re.findall(r'_log_failure\(batch, outcome, "([^"]+)"\)', source)} == VERBS["…; …"]


@pytest.mark.slow
def test_no_log_call_is_overlooked() -> None:
    """Every level that the source names belongs to a call that was read."""
    named = 0
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] not in ("cli", "sandbox"):
            source = path.read_text()
            named += len(re.findall(r"logging\.(?:ERROR|WARNING)\b|logger\.(?:warning|error|exception)\(", source))
    levels = {call.place: call.levels for call in log_calls(PACKAGE)}
    assert sum(map(len, levels.values())) == named


def test_log_calls_are_read(tmp_path: Path) -> None:
    """In each form of the package."""
    (tmp_path / "module.py").write_text(
        "TABLE = {1: 'first', 2: 'second'}\n"
        "def f(x):\n"
        "    line = 'another'\n"
        "    line = 'named %s'\n"
        "    level = logging.ERROR if x else logging.WARNING\n"
        "    log_or_stderr(level, 'two %d', x)\n"
        "    self._log('kind', logging.ERROR, line, x)\n"
        "    logger.warning('direct %g')\n"
        "    logger.debug('not this')\n"
        "    for _, text in TABLE.items():\n"
        "        log('kind', logging.ERROR, text)\n"
    )
    assert [(set(call.levels), call.text) for call in log_calls(tmp_path)] == [
        ({"ERROR", "WARNING"}, "two …"),
        ({"ERROR"}, "named …"),
        ({"WARNING"}, "direct …"),
        ({"ERROR"}, "first"),
        ({"ERROR"}, "second"),
    ]
    assert LogCall._fields == ("levels", "text", "place")


def test_every_environment_variable_is_listed() -> None:
    """Those whose names the package holds, and no others."""
    held: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        held |= set(re.findall(r"(?<!_)\bSALESMACHINE_[A-Z]+(?:_[A-Z]+)*\b", path.read_text()))
    listed = {name for name in table(page("reference/configuration.md")) if name.startswith("SALESMACHINE_")}
    assert listed == held


@pytest.mark.parametrize("name", ["reference/exit-statuses.md", "command-line.md"])
def test_every_exit_status_is_listed(name: str) -> None:
    """As the module defines them."""
    codes = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    assert {int(cell) for cell in table(page(name)) if cell.isdigit()} == codes


def test_every_metric_is_listed() -> None:
    """Of Prometheus and of OpenTelemetry."""
    text = page("reference/metrics.md")
    counters = {
        f"salesmachine_{name}_total" for name in (*prometheus.COUNTERS, *prometheus.SPOOL_COUNTERS, "dropped", "lost")
    }
    gauges = {f"salesmachine_{name}" for name in (*prometheus.GAUGES, *prometheus.SPOOL_GAUGES)}
    assert set(re.findall(r"^\| `(salesmachine_\w+)", text, re.MULTILINE)) == counters | gauges
    tables = (
        *(opentelemetry.COUNTERS, opentelemetry.GAUGES, opentelemetry.SPOOL_COUNTERS, opentelemetry.SPOOL_GAUGES),
        ("dropped", "lost"),
    )
    instruments = {f"salesmachine.agent.{name}" for table in tables for name in table}
    assert set(re.findall(r"`(salesmachine\.agent\.[\w.]+)`", text)) == instruments


def test_every_control_endpoint_is_listed() -> None:
    """With its method, and its variable as the code names it."""
    router = web.UrlDispatcher()
    control.add_routes(router)
    routes = [(route.method, route.resource) for route in router.routes() if route.method != "HEAD"]
    listed = {cell for cell in table(page("sandbox.md")) if "/_sandbox/" in cell}
    assert listed == {f"{method} {resource.canonical}" for method, resource in routes if resource is not None}


def test_every_option_of_the_text_exists() -> None:
    """Each `--option` of the pages about the command is one of a command; every command has a section or a page."""
    there: set[str] = set()
    for words in command_paths():
        there |= {name for param in command_of(words).params for name in (*param.opts, *param.secondary_opts)}
    there |= {"--help", "--version"}
    for name in ("command-line.md", "fleet.md", "importing.md", "sandbox.md", "spool.md"):
        used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page(name)))
        assert used - there - OTHERS == set(), name


# Options of other programs that the pages show.
OTHERS = {"--appendonly", "--data-binary", "--maxmemory-policy", "--strict"}
