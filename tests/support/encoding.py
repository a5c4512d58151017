"""Encoders for the tests of encoding, what they are given, and how their lines are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from enum import Enum
from typing import Any

from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import Clock, Encoder
from tests.support.core import strict_loads

PREFIX = "12345678-abcd-4321-8765-"
FIRST = PREFIX + "100000000000"
T0 = 1_700_000_000.5
STAMP = "2023-11-14T22:13:20.500Z"


class ManualClock:
    """A clock that a test sets; counts its readings."""

    def __init__(self, now: float = T0) -> None:
        self.now = now
        self.read = 0
        self.time = self._time  # one object, as the function of the module is

    def _time(self) -> float:
        self.read += 1
        return self.now


def encoder(
    clock: Clock | None = None, on_problem: Callable[[str, str], None] = raise_invalid, pid: Callable[[], int] = int
) -> Encoder:
    clock = clock or ManualClock()
    real = clock.time if isinstance(clock, ManualClock) else lambda: T0
    return Encoder(lambda: PREFIX, clock, real, pid, on_problem)


class Lenient:
    """An encoder that reports, and what it reported."""

    def __init__(self) -> None:
        self.reported: list[tuple[str, str]] = []
        self.encoder = encoder(None, lambda path, problem: self.reported.append((path, problem)))

    def compose(self, **given: Any) -> dict[str, Any] | None:
        return compose(self.encoder, **given)


def compose(it: Encoder, **given: Any) -> dict[str, Any] | None:
    """Compose an event, with all arguments good but the given ones."""
    arguments = {"contact_uid": "1", "event_uid": "e", "params": None, "created_at": None, "message_id": None, **given}
    uids = {name: arguments[name] for name in ("contact_uid", "event_uid")}
    return it.compose("event", uids, arguments["params"], arguments["created_at"], arguments["message_id"])


def composed(it: Encoder, **given: Any) -> dict[str, Any]:
    message = compose(it, **given)
    assert message is not None
    return message


def line_of(it: Encoder, params: Any) -> bytes:
    """Encode an event as the agent does: the short way, else the long one."""
    line = it.event("1", "e", params)
    return line if line is not None else it.encode(composed(it, params=params))


def params_of(line: bytes | None) -> Any:
    assert line is not None
    return strict_loads(line)["params"]


class Id(str):
    __slots__ = ()


class Number(int):
    pass


class Kind(Enum):
    A = "a"


class Shouting(str):
    """Says something else than it holds."""

    __slots__ = ()

    def __str__(self) -> str:
        return "SHOUTED"


class Unbound:
    """A lazy proxy outside its context, of which even `isinstance` fails."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("SECRET")


class BrokenMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError("SECRET")

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


class Zone(tzinfo):
    """Answers with what it was given, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def utcoffset(self, moment: datetime | None) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "SECRET"


class Moment(datetime):
    pass


PLUS_2 = timezone(timedelta(hours=2))


def message_to_revise() -> dict[str, Any]:
    return {
        "method": "event",
        "contact_uid": "1",
        "event_uid": "e",
        "params": {"a": 1},
        "created_at": STAMP,
        "messageId": "m",
    }


def one_line(line: bytes) -> Any:
    """Check that these are exactly one line, and parse it."""
    assert b"\n" not in line
    return strict_loads(line)
