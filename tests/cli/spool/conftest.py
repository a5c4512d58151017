"""A spool with what processes leave in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from salesmachine_async._spool.spooler import destination_of
from tests.support.spool import Parts

TOKEN = "token-qwertyuiop"
URL = "http://127.0.0.1:8700"
OWN = destination_of(URL, TOKEN)
KEYS = {"SALESMACHINE_API_URL": URL, "SALESMACHINE_API_TOKEN": TOKEN}
# What a user of the application may have put into a message.
HOSTILE = "\x1b[2J\x9b31m\u202e\u2028\x7f"


def event(number: int, contact_uid: str = "1") -> bytes:
    """Return an event as the agent encodes it."""
    message = {
        "method": "event",
        "contact_uid": contact_uid,
        "event_uid": "order_paid",
        "params": {"n": number, "note": HOSTILE},
        "created_at": "2026-11-29T12:00:00.000Z",
        "messageId": f"id-{number}",
    }
    return orjson.dumps(message)


Writer = Callable[..., Parts]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the spool."""
    return tmp_path / "spool"


@pytest.fixture
def write(path: Path) -> Iterator[Writer]:
    """Write lines as one process does, which lives to the end of the test unless it dies."""
    made: list[Parts] = []

    def write(*lines: bytes, destination: int = OWN, now_ms: int = 1_700_000_000_000) -> Parts:
        parts = Parts(path, destination=destination, now_ms=lambda: now_ms)
        made.append(parts)
        parts.queue.lines[0] += lines
        parts.commit()
        return parts

    yield write
    for parts in made:
        parts.die()
