"""Shared by all tests: Hypothesis profiles, aioresponses adapted to the current aiohttp, tests without coverage."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import aiohttp
import aioresponses.core
import coverage
import pytest
from hypothesis import HealthCheck, settings

# A busy machine makes any example slow, so there is no deadline; nothing is written into the checkout. `make check`
# chooses the profile of few examples, which no other conftest.py may replace.
for name, examples in (("salesmachine", 150), ("check", 10)):
    settings.register_profile(
        name,
        deadline=None,
        max_examples=examples,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile("salesmachine")


class MockedResponse(aiohttp.ClientResponse):
    """A response as aioresponses makes it, with the *stream_writer* that aiohttp 3.14 passes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=Mock(output_size=0), **kwargs)


aioresponses.core.ClientResponse = MockedResponse  # type: ignore[attr-defined]


# A shell starts background jobs with SIGINT and SIGQUIT ignored, nohup with SIGHUP; processes under test inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGQUIT, signal.SIGHUP) if sys.platform != "win32" else ():
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def logging_level() -> Iterator[None]:
    """Restore the level of the library's logger, which `Agent(debug=True)` sets for the process."""
    logger = logging.getLogger("salesmachine_async")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """
    Run a test, and the processes it starts, without coverage, which makes a load four times as slow.

    Coverage, if it measures at all, makes a load four times as slow, and learns nothing from it that it does not know.
    Threads that were there before are not measured any more after it.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    tracing = coverage.Coverage.current()
    if tracing is None:
        yield
        return
    tracing.stop()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "already imported a file that will be measured": it was
            tracing.start()
