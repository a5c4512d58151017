"""What an import shows: rates and forecasts, a bar on a terminal, lines elsewhere, the end for people and programs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from salesmachine_async.cli.importing.models import Ending, ImportResults, InputResult
from salesmachine_async.cli.importing.progress import (
    Bar,
    ImportStatus,
    Lines,
    Meter,
    Quiet,
    duration,
    make_progress,
    panel,
)
from salesmachine_async.cli.importing.summary import as_json, show

MOMENT = ImportStatus(
    name="people.csv",
    rows=412_000,
    delivered=411_997,
    rejected=3,
    waiting=4000,
    rate=20_310.4,
    share=0.41,
    seconds_left=75.0,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=100, color_system=None, highlight=False), out


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """After an outage it is soon that of now; the forecast goes by bytes."""
    clock = Clock()
    meter = Meter(clock)
    assert meter.read(0, 0.0) == (0.0, None)
    clock.now += 2
    assert meter.read(2000, 0.25) == (1000.0, 6.0)
    for _ in range(60):
        clock.now += 1
        told = meter.read(2000, 0.25)
    assert told == (0.0, None)
    for _ in range(30):
        clock.now += 1
        told = meter.read(int(2000 + 10 * (clock.now - 162)), None)
    assert told[0] == pytest.approx(10.0, abs=1)
    assert told[1] is None
    meter.restart()
    assert meter.read(5, 0.5) == (0.0, None)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"),
        (9.9, "9.9 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (100, "1:40 min"),
        (3599, "59:59 min"),
        (7260, "2:01 h"),
    ],
)
def test_durations(seconds: float, told: str) -> None:
    """As people tell them."""
    assert duration(seconds) == told


def test_lines() -> None:
    """Not on a terminal: one line every ten seconds, without any control character."""
    clock = Clock()
    screen, out = console()
    lines = Lines(screen, clock)
    with lines:
        for _ in range(25):
            clock.now += 1
            lines.update(MOMENT)
    assert out.getvalue() == "people.csv: 412,000 rows, 20,310 rows/s, 3 rejected, 41%, 75 s left\n" * 2


def test_a_pipe_has_no_share() -> None:
    """Of what nobody knows the length there are only counts; what holds it up is told."""
    moment = ImportStatus(
        name="stdin",
        rows=5,
        delivered=5,
        rejected=0,
        waiting=1,
        rate=0.0,
        share=None,
        seconds_left=None,
        note="the server answered 503",
    )
    assert moment.told() == "stdin: 5 rows, 0 rows/s, 0 rejected, the server answered 503"
    screen, out = console()
    screen.print(panel(moment))
    assert "the server answered 503" in out.getvalue()
    assert "%" not in out.getvalue()


def test_the_bar() -> None:
    """On a terminal: name, bar, share, time left, and the counts below; it vanishes at the end."""
    screen, out = console()
    screen.print(panel(MOMENT))
    first, second = out.getvalue().splitlines()
    assert first.startswith("people.csv  ━━━━━")
    assert first.endswith("41%  75 s left")
    assert second == "412,000 rows  20,310 rows/s  411,997 delivered  3 rejected  4,000 waiting"
    screen, out = console(terminal=True)
    with Bar(screen) as bar:
        for _ in range(100):
            bar.update(MOMENT)
        bar.say("something happened")
    assert 1 <= out.getvalue().count("411,997 delivered") <= 4
    assert "something happened" in out.getvalue()


def test_which_one() -> None:
    """A bar for terminals that can, lines elsewhere, nothing for --quiet; but an answer is an answer."""
    terminal, _ = console(terminal=True)
    plain, out = console()
    assert type(make_progress(terminal, quiet=False)) is Bar
    assert type(make_progress(plain, quiet=False)) is Lines
    quiet = make_progress(plain, quiet=True)
    assert type(quiet) is Quiet
    with quiet:
        quiet.say("nothing")
        quiet.update(MOMENT)
        quiet.answer("a line")
    assert out.getvalue() == "a line\n"


def results(**different: object) -> ImportResults:
    made = ImportResults(
        dry_run=False,
        inputs=[
            InputResult(name="a.csv", delivered=10, rejected=2, resumed=4, done=True),
            InputResult(name="b.csv", delivered=5, checkpoint=Path("b.csv.smckpt")),
        ],
        seconds=2.0,
        shown=[("a.csv", 7, "contact_uid is missing")],
    )
    for name, value in different.items():
        setattr(made, name, value)
    return made


def shown(what: ImportResults) -> str:
    screen, out = console()
    show(what, screen)
    return out.getvalue()


def test_the_end_for_people() -> None:
    """What came of all rows, the first rejected ones, how to see the others, how to go on."""
    text = shown(results(ending=Ending.UNAVAILABLE, error="no answer for 300 s", unanswered=500, retries=3))
    assert text.splitlines() == [
        "Stopped: the server does not answer: 13 rows in 2.0 s, 6 rows/s",
        "  no answer for 300 s",
        "           15  delivered",
        "            2  rejected",
        "          500  sent, but not answered: --resume sends them again, with the same ids",
        "            4  of them in an earlier run",
        "            3  requests were repeated",
        "  a.csv, line 7 contact_uid is missing",
        "  and 1 more",
        "  Use --rejects FILE to have all of them in a file that can be mended and imported.",
        "  To continue, run the same command with --resume: b.csv.smckpt says where.",
    ]
    assert "All of them are in r.ndjson: mend their rows there" in shown(results(rejects=Path("r.ndjson")))
    assert shown(results(dry_run=True)).startswith("Checked, nothing was sent, but there are rejected rows: 13 rows")


def test_nothing_of_the_files_steers_the_terminal() -> None:
    """Names, rows and what a server says may be anybody's."""
    evil = "\x1b[2J\u202e"
    text = shown(results(ending=Ending.FAILED, error=evil, shown=[(evil, 1, evil)], rejects=Path(evil)))
    text += shown(results(inputs=[InputResult(name=evil, checkpoint=Path(evil))]))
    screen, out = console()
    lines = Lines(screen)
    lines.say(evil)
    lines.answer(evil)
    text += out.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("\\x1b[2J\\u202e") == 7


def test_the_end_for_programs() -> None:
    """One object with all counts; the status is a contract."""
    told = as_json(results(ending=Ending.REFUSED, error="401"))
    assert json.loads(json.dumps(told)) == told
    assert {name: told[name] for name in ("status", "exit", "error", "rows", "delivered", "rejected", "resumed")} == {
        "status": "refused",
        "exit": 4,
        "error": "401",
        "rows": 17,
        "delivered": 15,
        "rejected": 2,
        "resumed": 4,
    }
    assert told["files"][1]["checkpoint"] == "b.csv.smckpt"
    statuses = {ending: results(ending=ending).status for ending in Ending}
    assert statuses == {
        Ending.DONE: 3,
        Ending.INTERRUPTED: 130,
        Ending.REFUSED: 4,
        Ending.UNAVAILABLE: 5,
        Ending.UNUSABLE: 2,
        Ending.FAILED: 1,
    }
    assert results(inputs=[]).status == 0
