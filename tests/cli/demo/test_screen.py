"""The display of the demo."""

import dataclasses
import io

import pytest
from rich.console import Console

from salesmachine_async import LossReason, State, Stats
from salesmachine_async.cli import live
from salesmachine_async.cli.demo.figures import Latency
from salesmachine_async.cli.demo.screen import DemoStatus, LiveScreen, PlainScreen, figures, make_screen

STATS = Stats(
    accepted=1234,
    delivered=1000,
    queued=200,
    queued_bytes=9,
    in_flight=34,
    lost={},
    dropped={},
    invalid_values=0,
    requests=1,
    retries=0,
    bytes_sent=1,
    state=State.OPEN,
    last_error=None,
)
STATUS = DemoStatus(side="with tracking", share=0.5, requests=4321, fault="503 twice", stats=STATS)
LATENCY = Latency(requests=12345, p50=0.5, p99=12.25)


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, height=24, _environ={"TERM": "xterm"})


def written(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def shown(status: DemoStatus) -> str:
    to = console(terminal=False)
    to.print(*figures(status), sep="\n")
    return written(to)


def test_plain_lines() -> None:
    """Without a terminal each event is one plain line of at most 80 columns."""
    to = console(terminal=False)
    with make_screen(to) as screen:
        assert type(screen) is PlainScreen
        screen.step("Starting [it]")
        screen.update(STATUS)
        screen.round_done(6, "without tracking", LATENCY, "")
        screen.round_done(2, "with tracking", LATENCY, "answer cut off")
    assert written(to) == (
        "Starting [it] ...\n"
        "  6  without tracking 12,345 requests  p50  0.50  p99 12.25 ms\n"
        "  2  with tracking    12,345 requests  p50  0.50  p99 12.25 ms  answer cut off\n"
    )
    assert max(map(len, written(to).splitlines())) <= 80


def test_a_dumb_terminal_gets_plain_lines() -> None:
    """A terminal that cannot move its cursor gets plain lines."""
    to = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert type(make_screen(to)) is PlainScreen


def test_live_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the bar is drawn at most every FRAME_SECONDS, and vanishes in the end."""
    monkeypatch.setattr(live, "FRAME_SECONDS", 3600)
    to = console(terminal=True)
    with make_screen(to) as screen:
        assert type(screen) is LiveScreen
        screen.update(STATUS)
        assert "4,321 requests" in written(to)
        screen.update(dataclasses.replace(STATUS, requests=5555))
        assert "5,555" not in written(to)
        screen.round_done(1, "with tracking", LATENCY, "")
        screen.update(dataclasses.replace(STATUS, requests=6666))
        assert "6,666" in written(to)
    # The cursor is shown again.
    assert written(to).rindex("\x1b[?25h") > written(to).rindex("\x1b[?25l")


def test_figures() -> None:
    """The figures are the messages and the fault of the sandbox."""
    text = shown(STATUS)
    assert "1,234 accepted  1,000 delivered  234 waiting  0 lost" in text
    assert "sandbox   503 twice" in text
    assert "pauses" not in text


def test_figures_when_paused_or_healthy() -> None:
    """A pause is explained, a sandbox without a fault is healthy, losses are counted."""
    stats = dataclasses.replace(STATS, state=State.PAUSED, lost={LossReason.CLOSED: 2, LossReason.REJECTED: 1})
    text = shown(dataclasses.replace(STATUS, fault="", stats=stats))
    assert "healthy" in text
    assert "delivery pauses, the shop does not" in text
    assert "3 lost" in text
