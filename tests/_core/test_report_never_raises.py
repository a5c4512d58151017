"""`Invalid.REPORT` never raises, whatever the arguments do; and no error quotes a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from salesmachine_async._core.message import revise
from salesmachine_async.errors import InvalidMessage
from tests.support.encoding import Lenient, composed, encoder, line_of, message_to_revise, one_line
from tests.support.hostile import HOSTILE, Hostile, Liar


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ["contact_uid", "event_uid", "params", "created_at", "message_id", "value", "nested"])
def test_a_hostile_argument_never_raises_under_report(place: str, make: Callable[[], Any]) -> None:
    """The message is sent without it, or dropped; strictly, the only error is InvalidMessage, which quotes nothing."""
    arguments: dict[str, Any] = {place: make()}
    if place == "value":
        arguments = {"params": {"v": make()}}
    elif place == "nested":
        arguments = {"params": {"v": [{"w": make()}]}}
    lenient = Lenient()
    message = lenient.compose(**arguments)
    if message is not None:
        one_line(lenient.encoder.encode(message))
    assert "SECRET" not in str(lenient.reported)
    try:
        encoder().encode(composed(encoder(), **arguments))
    except InvalidMessage as exc:
        refused = str(exc)
    else:
        refused = ""
    assert "SECRET" not in refused


@pytest.mark.slow
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_the_short_way_never_raises(make: Callable[[], Any]) -> None:
    """A hostile argument is left to the long way, or encoded."""
    it = encoder()
    for arguments in [(make(), "e", None), ("1", make(), None), ("1", "e", make()), ("1", "e", {"v": make()})]:
        line = it.event(*arguments)
        assert line is None or one_line(line)
    for uid, params in [(make(), None), ("1", make()), ("1", {"v": make()})]:
        line = it.record("contact", "contact_uid", uid, params)
        assert line is None or one_line(line)


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_result_of_a_hook_is_refused(make: Callable[[], Any]) -> None:
    """The result of `before_send` is read as strictly as the arguments of a call."""
    for changed in (make(), {**message_to_revise(), "params": make()}, {**message_to_revise(), "contact_uid": make()}):
        refused = ""
        try:
            one_line(Lenient().encoder.encode(revise(message_to_revise(), changed)))
        except InvalidMessage as exc:
            refused = str(exc)
        assert "SECRET" not in refused


def test_the_rest_is_kept_beside_a_hostile_value() -> None:
    """A hostile value is lost alone, without its neighbours."""
    lenient = Lenient()
    line = line_of(lenient.encoder, {"a": 1, "v": Hostile(), "b": [2, Liar(dict)]})
    assert one_line(line)["params"] == {"a": 1, "v": None, "b": [2, None]}
    assert [path for path, _ in lenient.reported] == ["params.v", "params.b[1]"]
