"""`Invalid.REPORT` never raises, whatever the arguments do; and no error quotes a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from salesmachine_async._core.message import revise
from salesmachine_async.errors import InvalidMessage
from tests.support.encoding import Lenient, composed, encoder, line_of, message_to_revise, one_line


class Hostile(Mapping[str, Any]):
    """A mapping whose every method raises, as a bound proxy whose object is gone."""

    def _raise(self, *_: object) -> Any:
        raise LookupError("SECRET")

    __bool__ = __len__ = __getitem__ = __iter__ = keys = items = __contains__ = __eq__ = __hash__ = _raise
    __repr__ = __str__ = _raise


class HostileDict(dict[str, Any]):
    """A dict whose every method raises."""

    def _raise(self, *_: object) -> Any:
        raise LookupError("SECRET")

    __bool__ = __len__ = __getitem__ = __iter__ = keys = items = copy = get = _raise


class Liar:
    """A proxy that claims to be of another class."""

    def __init__(self, claimed: type) -> None:
        self._claimed = claimed

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._claimed


class OnceHashable(str):
    """A key whose hash can be taken once."""

    __slots__ = ("hashed",)

    def __hash__(self) -> int:
        if hasattr(self, "hashed"):
            raise LookupError("SECRET")
        self.hashed = True
        return 1


class NamelessType(type):
    """The type of classes that raise when their name is read."""

    def __getattribute__(cls, name: str) -> Any:
        raise LookupError("SECRET")


def raising(self: object) -> Iterator[int]:
    raise LookupError("SECRET")


HOSTILE: dict[str, Callable[[], Any]] = {
    "mapping": Hostile,
    "dict": lambda: HostileDict(a=1),
    "liar dict": lambda: Liar(dict),
    "liar str": lambda: Liar(str),
    "liar int": lambda: Liar(int),
    "liar mapping": lambda: Liar(Mapping),
    "liar type": lambda: Liar(type),
    "key hashed twice": lambda: {OnceHashable("k"): object()},
    "key hashed twice in a dict of its own kind": lambda: type("Own", (dict,), {})({OnceHashable("k"): 1}),
    "nameless": lambda: NamelessType("Nameless", (), {})(),
    "set": lambda: type("Set", (set,), {"__iter__": raising})({1}),
    "list": lambda: type("List", (list,), {"__iter__": raising})([1]),
    "int": lambda: type("Int", (int,), {"__int__": raising})(1),
    "str": lambda: type("Str", (str,), {"__str__": raising, "__len__": raising, "__bool__": raising})("x"),
}


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
