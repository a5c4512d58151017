"""Log lines: one of a kind a minute, from any thread, whatever the application's handlers do."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from salesmachine_async import _log, tracker
from salesmachine_async._log import RateLimitedLogger, be_brief, log_or_stderr
from salesmachine_async.testing import Recorder


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_one_line_of_a_kind_a_minute_with_the_number_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The first line of each kind is written at once, and the kinds are counted separately."""
    clock = Clock()
    log = RateLimitedLogger(clock)
    for _ in range(5000):
        log("a", logging.WARNING, "text %s", "A")
    log("b", logging.WARNING, "text B")
    clock.now = 59.9
    log("a", logging.WARNING, "text %s", "A")
    clock.now = 60.0
    log("a", logging.WARNING, "text %s", "A")
    log("a", logging.WARNING, "text %s", "A")
    clock.now = 120.0
    log("a", logging.WARNING, "text %s", "A")
    assert said(caplog) == [
        "text A",
        "text B",
        "text A (and 5000 more like it since the last line)",
        "text A (and 1 more like it since the last line)",
    ]
    assert [(record.trouble, record.suppressed) for record in caplog.records][2] == ("a", 5000)  # type: ignore[attr-defined]


def test_many_threads_write_one_line_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """One of many simultaneous lines is written, and all others are counted."""
    clock = Clock()
    log = RateLimitedLogger(clock)
    for minute in range(20):
        clock.now = minute * 60.0
        barrier = threading.Barrier(8)

        def work(barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            for _ in range(50):
                log("a", logging.WARNING, "text")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert said(caplog) == ["text", *["text (and 399 more like it since the last line)"] * 19]


def test_a_line_claimed_but_not_yet_noted_counts() -> None:
    """A call interrupted in the middle (by a signal handler that logs, say) does not cause a second line."""
    clock = Clock()
    log = RateLimitedLogger(clock)
    assert log._claim("a", 0.0) == 0
    first = log._lines["a"]
    clock.now = 60.0
    assert log._claim("a", 60.0) == 0
    log._lines["a"] = first
    assert log._claim("a", 61.0) is None
    assert log._claim("a", 120.0) == 1


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("salesmachine_async")
    handlers = list(logger.handlers)
    yield logger
    logger.handlers[:] = handlers


class Hostile(logging.Handler):
    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act = act
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        self.act()


def fail() -> None:
    raise RuntimeError("the handler is broken")


def again() -> None:
    log_or_stderr(logging.WARNING, "again")


def test_a_thread_apart_uses_no_handler(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines, and asyncio's in it, go to standard error by their level, whoever holds the locks of logging."""
    caplog.set_level(logging.INFO)

    def work() -> None:
        be_brief(apart=True)
        log = RateLimitedLogger()
        log("a", logging.WARNING, "%d messages", 3, loud=True)
        log("b", logging.DEBUG, "not shown")
        logging.getLogger("asyncio").error("a line of %s", "asyncio")
        logging.getLogger("asyncio").error("no arguments: 100 %")

    asyncio_logger = logging.getLogger("asyncio")
    monkeypatch.setattr(asyncio_logger, "filters", [])
    asyncio_logger.error("before")
    thread = threading.Thread(target=work, daemon=True)
    caplog.handler.acquire()
    try:
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    finally:
        caplog.handler.release()
    asyncio_logger.error("after")
    assert [record.getMessage() for record in caplog.records] == ["before", "after"]
    assert capfd.readouterr().err.splitlines()[-3:] == [
        "salesmachine_async: 3 messages",
        "salesmachine_async: a line of asyncio",
        "salesmachine_async: no arguments: 100 %",
    ]


@pytest.mark.parametrize("act", [fail, again])
def test_a_handler_that_raises_or_logs_does_no_harm(logger: logging.Logger, act: Any) -> None:
    """Each way of logging; after it the next line is written as ever."""
    handler = Hostile(act)
    logger.addHandler(handler)
    log_or_stderr(logging.WARNING, "text")
    RateLimitedLogger()("a", logging.WARNING, "text", loud=True)
    assert handler.lines == 2


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_where_no_logging_is_configured_a_loud_line_is_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], level: int
) -> None:
    """A line on stderr begins with the package's name, which sets it apart from lines of the program."""
    monkeypatch.setattr(_log, "_is_heard", lambda level: False)
    log_or_stderr(level, "lost %d", 7)
    RateLimitedLogger()("a", level, "parked", loud=True)
    RateLimitedLogger()("a", level, "quiet")
    assert capsys.readouterr().err == "salesmachine_async: lost 7\nsalesmachine_async: parked\n"


@pytest.mark.slow
def test_the_first_message_without_a_contact_is_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forgotten identify() would be invisible under a server that configures only its own loggers."""
    source = (
        "from salesmachine_async import Tracker\nfrom salesmachine_async.testing import Recorder\n"
        "for _ in range(3): Tracker(Recorder()).track('e')\n"
    )
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    line = "salesmachine_async: event dropped: no contact identified yet; call identify() first\n"
    assert ended.stderr == line
    # Later ones only where logging is configured: many a site has mostly anonymous visitors.
    monkeypatch.setattr(_log, "_is_heard", lambda level: False)
    monkeypatch.setattr(tracker, "_log", RateLimitedLogger())
    tracker.Tracker(Recorder()).track("e")
    tracker.Tracker(Recorder()).track("e")
    assert capsys.readouterr().err in ("", line)
