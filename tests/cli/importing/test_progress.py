"""The display of an import: rates and forecasts, a bar on a terminal, lines elsewhere, the summary as text and JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from salesmachine_async.cli.importing.models import Ending, ImportResults, InputResult
from salesmachine_async.cli.importing.progress import (
    ImportStatus,
    LineProgress,
    ProgressBar,
    QuietProgress,
    duration,
    make_progress,
)
from salesmachine_async.cli.importing.summary import as_json, show


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def status(rows: int = 412_000, share: float | None = 0.41, note: str = "") -> ImportStatus:
    return ImportStatus(
        name="people.csv", rows=rows, delivered=rows - 3, rejected=3, waiting=4000, share=share, note=note
    )


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=100, color_system=None, highlight=False), out


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """The rate covers ten seconds; the time left is estimated from the share of the bytes; a new input resets both."""
    clock = Clock()
    progress = QuietProgress(console()[0], clock)
    progress.begin_input("people.csv")
    assert (progress.rate, progress.seconds_left) == (0.0, None)
    for second in range(1, 31):
        clock.now += 1
        progress.update(status(rows=1000 * second, share=second / 40))
    assert progress.rate == pytest.approx(1000)
    assert progress.seconds_left == pytest.approx(10, abs=1)
    # The server is down for a minute, then slower than before.
    for _ in range(60):
        clock.now += 1
        progress.update(status(rows=30_000, share=0.75))
    assert progress.rate == 0
    for second in range(1, 31):
        clock.now += 1
        progress.update(status(rows=30_000 + 10 * second, share=0.75))
    assert progress.rate == pytest.approx(10, abs=1)
    progress.begin_input("other.csv")
    assert (progress.rate, progress.seconds_left) == (0.0, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
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
def test_durations(seconds: float, text: str) -> None:
    """Durations are rounded to what a person reads."""
    assert duration(seconds) == text


def test_lines() -> None:
    """Without a terminal there is one line every ten seconds, without control characters."""
    clock = Clock()
    screen, out = console()
    lines = LineProgress(screen, clock)
    lines.begin_input("people.csv")
    with lines:
        for second in range(25):
            clock.now += 1
            lines.update(status(rows=1000 * second, share=second / 100))
    assert out.getvalue().splitlines() == [
        "people.csv: 9,000 rows, 1,000 rows/s, 3 rejected, 9%, 91 s left",
        "people.csv: 19,000 rows, 1,000 rows/s, 3 rejected, 19%, 81 s left",
    ]


def test_a_pipe_has_no_share() -> None:
    """The status of a pipe has counts only; the reason of a delay is in it."""
    screen, _ = console()
    progress = LineProgress(screen)
    progress.begin_input("stdin")
    waiting = status(rows=5, share=None, note="the server answered 503")
    progress.update(waiting)
    assert progress.line(waiting) == "people.csv: 5 rows, 0 rows/s, 3 rejected, the server answered 503"


@pytest.mark.slow
def test_the_bar() -> None:
    """On a terminal the name, a bar, the share and the time left are shown, with the counts below; then it vanishes."""
    clock = Clock()
    screen, out = console(terminal=True)
    with ProgressBar(screen, clock) as bar:
        bar.begin_input("people.csv")
        for second in range(100):
            clock.now += 1
            bar.update(status(rows=1000 * second, share=second / 200, note="the server answered 503"))
        before = out.getvalue().count("waiting")
        for _ in range(100):
            bar.update(status())
        assert out.getvalue().count("waiting") == before
        bar.say("something happened")
    frame = out.getvalue()[: out.getvalue().rindex("something happened")]
    assert "people.csv" in frame
    assert "━━━" in frame
    assert " 50% 1:42 min left" in frame
    assert "99,000 rows  1,000 rows/s  98,997 delivered  3 rejected  4,000 waiting" in frame
    assert "the server answered 503" in frame
    # The cursor is shown again.
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")


def test_which_display() -> None:
    """A capable terminal gets a bar, other outputs get lines; --quiet prints only the status on request."""
    terminal, _ = console(terminal=True)
    plain, out = console()
    assert type(make_progress(terminal, quiet=False)) is ProgressBar
    assert type(make_progress(plain, quiet=False)) is LineProgress
    quiet = make_progress(plain, quiet=True)
    assert type(quiet) is QuietProgress
    with quiet:
        quiet.answer(None)
        quiet.begin_input("people.csv")
        quiet.say("nothing")
        quiet.update(status())
        quiet.answer(status(rows=7))
    first, second = out.getvalue().splitlines()
    assert first == "the import has not begun"
    assert second.startswith("people.csv: 7 rows, ")


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
    """The summary shows the counts, the first rejected rows, how to see the others, and how to continue."""
    text = shown(results(ending=Ending.UNAVAILABLE, error="no answer for 300 s", unanswered=500, retries=3))
    assert text.splitlines() == [
        "Stopped: the server does not answer: 13 rows in 2.0 s, 6 rows/s",
        "  no answer for 300 s",
        "           15  delivered",
        "            2  rejected",
        "          500  sent, but not answered: --resume sends them again with the same ids",
        "            4  of them by an earlier run",
        "            3  requests were repeated",
        "  a.csv, line 7 contact_uid is missing",
        "  and 1 more",
        "  Use --rejects FILE to write all of them to a file that can be corrected and imported.",
        "  To continue, run the same command with --resume (checkpoint: b.csv.smckpt).",
    ]
    assert "All of them are in r.ndjson: correct the rows there" in shown(results(rejects=Path("r.ndjson")))
    assert shown(results(dry_run=True)).startswith("Checked, nothing was sent, but there are rejected rows: 13 rows")


def test_nothing_of_the_files_steers_the_terminal() -> None:
    """Control characters in names, rows and answers of the server are escaped."""
    evil = "\x1b[2J\u202e"
    text = shown(results(ending=Ending.FAILED, error=evil, shown=[(evil, 1, evil)], rejects=Path(evil)))
    text += shown(results(inputs=[InputResult(name=evil, checkpoint=Path(evil))]))
    screen, out = console()
    lines = LineProgress(screen)
    lines.begin_input(evil)
    lines.say(evil)
    lines.answer(ImportStatus(name=evil, rows=0, delivered=0, rejected=0, waiting=0, share=None, note=evil))
    text += out.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("\\x1b[2J\\u202e") == 8


def test_the_end_for_programs() -> None:
    """One object with all counts; the status is a contract."""
    found = as_json(results(ending=Ending.REFUSED, error="401"))
    assert json.loads(json.dumps(found)) == found
    assert {name: found[name] for name in ("status", "exit", "error", "rows", "delivered", "rejected", "resumed")} == {
        "status": "refused",
        "exit": 4,
        "error": "401",
        "rows": 17,
        "delivered": 15,
        "rejected": 2,
        "resumed": 4,
    }
    assert found["files"][1]["checkpoint"] == "b.csv.smckpt"
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
