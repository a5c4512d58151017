"""Test tools replace the clock and its classes: while the package is imported, while it is called, or both."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.support.core import run_python

CALLS = """
import json
def values():
    import datetime, os, time
    from salesmachine_async._core.message import Encoder
    it = Encoder(lambda: "p", time, time.time, os.getpid)
    given = {
        "at": datetime.datetime(2026, 1, 2, 3, 4, 5), "day": datetime.date(2026, 1, 2), "now": datetime.datetime.now(),
        datetime.date(2026, 1, 2): datetime.time(1, 2), "gap": datetime.timedelta(seconds=90),
    }
    line = it.event("1", "e", given)
    if line is None:
        line = it.encode(it.compose("event", {"contact_uid": "1", "event_uid": "e"}, given, None, None))
    chosen = it.compose("event", {"contact_uid": "1", "event_uid": "e"}, None, datetime.datetime(2026, 1, 2), None)
    message = json.loads(line)
    params = message["params"]
    assert params.pop("now").endswith("Z")
    assert params == {
        "at": "2026-01-02T03:04:05Z", "day": "2026-01-02", "2026-01-02": "01:02:00", "gap": 90.0
    }, params
    assert chosen["created_at"] == "2026-01-02T00:00:00.000Z"
    return message["created_at"]
"""
FREEZE = {
    "freezegun": "from freezegun import freeze_time\nfrozen = lambda: freeze_time('2001-02-03 04:05:06')\n",
    "time_machine": (
        "import time_machine, datetime\n"
        "moment = datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)\n"
        "frozen = lambda: time_machine.travel(moment, tick=False)\n"
    ),
}
FROZEN = "2001-02-03T04:05:06.000Z"
ORDERS = {
    "imported while frozen": "with frozen():\n    import salesmachine_async\n    print(values())\nprint(values())\n",
    "imported before": "import salesmachine_async\nwith frozen():\n    print(values())\nprint(values())\n",
    "imported after": (
        "with frozen():\n    pass\nimport salesmachine_async\nwith frozen():\n    print(values())\nprint(values())\n"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("tool", FREEZE)
@pytest.mark.parametrize("order", ORDERS)
def test_values_and_times_are_right_whenever_the_clock_was_frozen(tool: str, order: str) -> None:
    """The frozen time is sent while the clock is frozen and the real one after; dates keep their form."""
    if find_spec(tool) is None:
        pytest.skip(f"no {tool}")
    done = run_python(FREEZE[tool] + CALLS + ORDERS[order])
    assert done.returncode == 0, done.stderr
    during, after = done.stdout.split()
    assert during == FROZEN
    assert after > "2026"


@pytest.mark.slow
def test_an_encoder_made_while_frozen_has_the_real_time_after() -> None:
    """The clock is looked up at each call, not when the encoder is made."""
    pytest.importorskip("freezegun")
    done = run_python(
        FREEZE["freezegun"]
        + "import os, time\n"
        + "with frozen():\n"
        + "    from salesmachine_async._core.message import Encoder\n"
        + "    it = Encoder(lambda: 'p', time, time.time, os.getpid)\n"
        + "    print(it.compose('event', {'contact_uid': '1'}, None, None, None)['created_at'])\n"
        + "print(it.compose('event', {'contact_uid': '1'}, None, None, None)['created_at'])\n"
    )
    assert done.returncode == 0, done.stderr
    during, after = done.stdout.split()
    assert during == FROZEN
    assert after > "2026"
