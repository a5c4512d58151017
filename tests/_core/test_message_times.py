"""The time of a message: the clock's, or the one given."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core.message import Encoder
from salesmachine_async.errors import InvalidMessage
from tests.support.core import strict_loads
from tests.support.encoding import (
    PLUS_2,
    PREFIX,
    STAMP,
    T0,
    Lenient,
    ManualClock,
    Moment,
    Zone,
    compose,
    composed,
    encoder,
    line_of,
)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 22, 12, 0, 0), "2026-11-22T12:00:00.000Z"),
        (datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC), "2026-11-22T12:00:00.000Z"),
        (datetime(2026, 11, 22, 1, 0, 0, tzinfo=PLUS_2), "2026-11-21T23:00:00.000Z"),
        (datetime(2026, 11, 22, 12, tzinfo=timezone(-timedelta(hours=9, minutes=30))), "2026-11-22T21:30:00.000Z"),
        (datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(seconds=30))), "2026-11-22T11:59:30.000Z"),
        (datetime(2026, 11, 22, 12, 0, 0, 999_999), "2026-11-22T12:00:00.999Z"),
        (datetime(2026, 11, 22, 12, 0, 0, 1_999), "2026-11-22T12:00:00.001Z"),
        (datetime(2026, 11, 22, 12, 0, 0, 999), "2026-11-22T12:00:00.000Z"),
        (datetime(2026, 11, 22, 12, tzinfo=Zone(None)), "2026-11-22T12:00:00.000Z"),
        (datetime.min, "0001-01-01T00:00:00.000Z"),
        (datetime.max, "9999-12-31T23:59:59.999Z"),
        (datetime.min.replace(tzinfo=timezone(-timedelta(hours=1))), "0001-01-01T01:00:00.000Z"),
        (Moment(2026, 11, 22, 12, tzinfo=PLUS_2), "2026-11-22T10:00:00.000Z"),
    ],
    ids=str,
)
def test_created_at_is_written_in_utc_with_milliseconds(moment: datetime, text: str) -> None:
    """A naive moment is UTC, an aware one is converted; microseconds are cut off."""
    assert composed(encoder(), created_at=moment)["created_at"] == text


@pytest.mark.parametrize(
    ("moment", "problem"),
    [
        (datetime.min.replace(tzinfo=PLUS_2), "is no moment in UTC (OverflowError)"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=2))), "is no moment in UTC (OverflowError)"),
        (datetime(2026, 1, 1, tzinfo=Zone(RuntimeError("SECRET"))), "is no moment in UTC (RuntimeError)"),
        (datetime(2026, 1, 1, tzinfo=Zone(timedelta(hours=30))), "is no moment in UTC (ValueError)"),
        (datetime(2026, 1, 1, tzinfo=Zone(5)), "is no moment in UTC (TypeError)"),
        (date(2026, 1, 1), "must be a datetime, not date"),
        ("2026-01-01", "must be a datetime, not str"),
        (1_700_000_000, "must be a datetime, not int"),
        (1.7e9, "must be a datetime, not float"),
        (True, "must be a datetime, not bool"),
        (False, "must be a datetime, not bool"),
        ("", "must be a datetime, not str"),
        (timedelta(1), "must be a datetime, not timedelta"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unusable_created_at(moment: object, problem: str) -> None:
    """A `created_at` without a moment in UTC is refused; leniently, it is reported and replaced by the current time."""
    with pytest.raises(InvalidMessage) as caught:
        compose(encoder(), created_at=moment)
    assert (caught.value.path, caught.value.problem) == ("created_at", problem)
    lenient = Lenient()
    message = lenient.compose(created_at=moment)
    assert message is not None
    assert message["created_at"] == STAMP
    assert lenient.reported == [("created_at", problem)]


def stamp_of(it: Encoder) -> str:
    line = it.event("1", "e", None)
    assert line is not None
    stamp: str = strict_loads(line)["created_at"]
    return stamp


def stamp_of_record(it: Encoder) -> str:
    line = it.record("contact", "contact_uid", "1", None)
    assert line is not None
    stamp: str = strict_loads(line)["created_at"]
    return stamp


def stamp_of_composed(it: Encoder) -> str:
    stamp: str = composed(it)["created_at"]
    return stamp


WAYS = pytest.mark.parametrize("stamp", [stamp_of, stamp_of_record, stamp_of_composed])


@WAYS
@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.0, "2023-11-14T22:13:20.000Z"),
        (1_700_000_000.001, "2023-11-14T22:13:20.001Z"),
        (1_700_000_000.000_999, "2023-11-14T22:13:20.000Z"),
        (1_700_000_000.999_999, "2023-11-14T22:13:20.999Z"),
        (1_767_225_599.999, "2025-12-31T23:59:59.999Z"),
        (1_767_225_600.0, "2026-01-01T00:00:00.000Z"),
    ],
)
def test_a_message_carries_the_time_of_its_call(stamp: Callable[[Encoder], str], now: float, text: str) -> None:
    """Without `created_at` a message has the current time, truncated to the millisecond."""
    assert stamp(encoder(ManualClock(now))) == text


@WAYS
def test_time_goes_on_from_one_millisecond_to_the_next(stamp: Callable[[Encoder], str]) -> None:
    """The text changes exactly at the boundary of a millisecond."""
    clock = ManualClock()
    it = encoder(clock)
    for now, milliseconds in [
        (T0, "500"),
        (T0 + 0.000_9, "500"),
        (T0 + 0.001, "501"),
        (T0 + 0.001_999, "501"),
        (T0 + 0.002, "502"),
        (T0 + 0.4, "900"),
    ]:
        clock.now = now
        assert stamp(it) == STAMP.replace("500", milliseconds)


@WAYS
@pytest.mark.parametrize("back", [0.000_5, 0.001, 0.25, 3600.0, 1_700_000_000.0])
def test_a_clock_set_back_is_believed(stamp: Callable[[Encoder], str], back: float) -> None:
    """After the clock is set back, no cached text of a later time is sent."""
    clock = ManualClock()
    it = encoder(clock)
    stamp(it)
    clock.now = T0 - back
    assert stamp(it) == stamp(encoder(ManualClock(clock.now)))


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=20))
def test_no_time_is_off_by_a_millisecond(times: list[float]) -> None:
    """The time sent is at most a millisecond before that of the clock, and never after it."""
    clock = ManualClock()
    it = encoder(clock)
    for now in times:
        clock.now = now
        reported = datetime.fromisoformat(stamp_of(it)).timestamp()
        assert -1e-6 <= now - reported < 0.001_001


def test_the_clock_is_read_once_per_message() -> None:
    """A message has one time; a message with a given time needs no clock."""
    clock = ManualClock()
    it = encoder(clock)
    it.event("1", "e", None)
    it.record("contact", "contact_uid", "1", None)
    composed(it)
    assert clock.read == 3
    composed(it, created_at=datetime(2026, 1, 1))
    assert clock.read == 3


class BrokenClock:
    """A clock as tests leave it behind: it raises, or returns anything."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def time(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("SECRET"),
        StopIteration(),
        math.nan,
        math.inf,
        -math.inf,
        253_402_300_800.0,  # the year 10000
        1e300,
        -1e13,
        None,
        "now",
        "5",
        [],
        object(),
        Mock(),
    ],
    ids=lambda value: f"{value}" if isinstance(value, float) else type(value).__name__,
)
def test_an_unusable_clock_never_reaches_the_caller(answer: Any) -> None:
    """The spare clock is read when the clock raises or returns no usable time."""
    it = encoder(BrokenClock(answer))
    assert read_stamp(it) == STAMP
    assert stamp_of_composed(it) == STAMP


def read_stamp(it: Encoder) -> str:
    """Return the time of an event, by the short way or the long one."""
    return str(strict_loads(line_of(it, None))["created_at"])


def test_without_any_clock_the_last_known_time_is_sent() -> None:
    """Two broken clocks are no reason to lose a message."""
    clock = BrokenClock(T0)
    it = Encoder(lambda: PREFIX, clock, BrokenClock(ValueError()).time, int)
    assert read_stamp(it) == STAMP
    clock.answer = RuntimeError()
    assert read_stamp(it) == STAMP


@pytest.mark.parametrize("now", [-0.001, -62_135_596_800.0, 253_402_300_799.0])
def test_any_time_that_a_date_can_hold_is_sent(now: float) -> None:
    """A clock frozen long ago, or far in the future, is believed."""
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now)
    assert datetime.fromisoformat(read_stamp(encoder(ManualClock(now)))) == expected


def test_the_clock_is_looked_up_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is replaced after the encoder was made counts while it is there, and no longer."""
    it = encoder(time)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: T0)
        assert read_stamp(it) == STAMP
    assert read_stamp(it) > STAMP
