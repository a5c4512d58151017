"""Values that could spoil a batch or crash the process: ready-made JSON, and what changes during its encoding."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import Any

import orjson
import pytest

from salesmachine_async._core.message import revise
from salesmachine_async.errors import InvalidMessage
from tests.support.core import run_python
from tests.support.encoding import (
    Lenient,
    compose,
    composed,
    encoder,
    line_of,
    one_line,
)

BROKEN = [b"1}\n[broken", b"{", b"", b"\xff", b'"\n"', b"1,2", b"NaN", b"1"]


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda fragment: {"v": fragment},
        lambda fragment: {"a": {"b": [1, (fragment,)]}},
        lambda fragment: {"s": {1: deque([fragment])}},
        lambda fragment: {"plain": 1, "m": MappingProxyType({"x": fragment})},
    ],
    ids=["direct", "nested", "odd", "mapping"],
)
def test_a_fragment_in_params_is_refused(content: bytes, wrap: Callable[[Any], Any]) -> None:
    """Ready-made JSON is never accepted, at any depth: it could corrupt the whole batch."""
    it = encoder()
    params = wrap(orjson.Fragment(content))
    assert it.event("1", "e", params) is None
    assert it.record("contact", "contact_uid", "1", params) is None
    with pytest.raises(InvalidMessage, match="Fragment has no JSON form"):
        it.encode(composed(it, params=params))
    lenient = Lenient()
    message = lenient.compose(params=params)
    assert message is not None
    line = lenient.encoder.encode(message)
    one_line(line)
    assert len(lenient.reported) == 1


def test_a_fragment_is_refused_as_any_argument() -> None:
    """A Fragment is refused in the place of params, uids or ids."""
    for name in ("contact_uid", "event_uid", "params", "created_at", "message_id"):
        with pytest.raises(InvalidMessage, match=f"^{name}: .*Fragment"):
            compose(encoder(), **{name: orjson.Fragment(b"{}")})


def test_a_fragment_as_a_key_is_refused() -> None:
    """A Fragment is refused as a key."""
    it = encoder()
    with pytest.raises(InvalidMessage, match="key of type Fragment"):
        it.encode(composed(it, params={orjson.Fragment(b"1"): 1}))


def test_messages_go_on_while_a_fragment_lives_elsewhere() -> None:
    """A Fragment that has nothing to do with a message changes nothing of it."""
    before = line_of(encoder(), {"a": 1})
    fragment = orjson.Fragment(b"{}")
    it = encoder()
    during = line_of(it, {"a": 1})
    assert during == before
    with pytest.raises(InvalidMessage):
        line_of(it, {"v": fragment})
    del fragment
    assert encoder().event("1", "e", {"a": 1}) == before


def test_a_fragment_made_while_encoding_is_refused() -> None:
    """A value whose plain form is a Fragment is found out too."""

    class Sly:
        def tolist(self) -> Any:
            return orjson.Fragment(b"1}\n[broken")

    with pytest.raises(InvalidMessage):
        line_of(encoder(), {"v": Sly()})


@pytest.mark.slow
def test_the_short_way_is_open_again_once_fragments_are_gone() -> None:
    """Fragments of the past cost nothing."""
    fragments = [orjson.Fragment(b"1") for _ in range(10)]
    assert encoder().event("1", "e", {"x": fragments[0]}) is None
    assert encoder().event("1", "e", {"x": [1, {"y": "z"}]}) is not None
    del fragments
    gc.collect()
    assert encoder().event("1", "e", None) is not None


def test_what_contains_itself_is_left_to_the_long_way_while_a_fragment_lives() -> None:
    """The search for a Fragment ends."""
    fragment = orjson.Fragment(b"1")
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(InvalidMessage, match="contains itself"):
        line_of(encoder(), {"v": cycle})
    del fragment


def test_an_interrupt_in_the_conversion_of_a_value_comes_through() -> None:
    """Ctrl-C while a value is converted is not taken for an unsendable value."""

    class Slow:
        def tolist(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        line_of(encoder(), {"v": Slow()})


def test_a_dict_of_its_own_kind_is_read_past_its_methods() -> None:
    """The stored items of a dict subclass are copied, as orjson reads them, without its methods."""

    class Lazy(dict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            raise ZeroDivisionError

        def keys(self) -> Any:
            raise ZeroDivisionError

    it = encoder()
    message = it.compose("contact", {"contact_uid": "1"}, Lazy(a=1), None, None)
    assert message is not None
    assert orjson.loads(it.encode(message))["params"] == {"a": 1}
    assert revise(message, {**message, "params": Lazy(b=2)})["params"] == {"b": 2}


@pytest.mark.parametrize("call", ["event", "record", "compose"])
def test_params_that_change_while_an_enum_tells_its_value_are_sent_as_they_were(call: str) -> None:
    """The value of an Enum is Python code, and so a moment for other threads; orjson would read what is freed."""
    params: dict[str, Any] = {}
    kept: list[str] = []

    class Size(Enum):
        LARGE = 1

        @property
        def value(self) -> int:
            params.clear()
            kept.extend(f"anything else in memory {number}" for number in range(200))
            return 1

    expected = {"size": 1, **{f"key number {number} of these": f"text {number}" * 4 for number in range(10)}}
    for _ in range(20):
        params.update({**expected, "size": Size.LARGE})
        it = encoder()
        if call == "compose":
            message = it.compose("contact", {"contact_uid": "1"}, params, None, None)
            assert message is not None
            line = it.encode(message)
        else:
            line = (it.event if call == "event" else partial(it.record, "contact"))("contact_uid", "1", params) or b""
        assert orjson.loads(line)["params"] == expected
        kept.clear()


def test_a_list_that_its_own_items_shorten_does_not_crash() -> None:
    """orjson reads on in the caller's list while a value is converted: it gets a copy."""
    items: list[Any] = []

    class Sly:
        def tolist(self) -> Any:
            items.clear()
            return 1

    items += [Sly() for _ in range(300)]
    assert json.loads(line_of(encoder(), {"v": items}))["params"] == {"v": [1] * 300}


@dataclasses.dataclass
class Holder:
    value: Any


def hidden_fragments() -> list[Any]:
    """Return values in which ready-made JSON hides; made anew, because while one lives every call is slow."""
    fragment = orjson.Fragment(b'1,"injected":2')
    ready = Enum("ready", {"MADE": fragment})
    return [
        ready.MADE,
        {"deep": [{"deeper": ready.MADE}]},
        Holder(fragment),
        Holder([Holder({"v": fragment})]),
        {fragment},
        [(fragment,)],
        MappingProxyType({"v": fragment}),
        {ready.MADE: 1},
        {fragment: 1},
        Weird([fragment]),
        Weird(fragment),
        type("Row", (dict,), {})(v=fragment),
        type("Items", (list,), {})([fragment]),
    ]


class Weird:
    """Turns into what it was given, as numpy's values do."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def tolist(self) -> Any:
        return self.answer


@pytest.mark.parametrize("position", range(13))
def test_a_fragment_is_refused_wherever_it_hides(position: int) -> None:
    """Ready-made JSON in an Enum, a model, a mapping, a set or a key is refused, and null when lenient."""
    params = {"plain": 1, "v": hidden_fragments()[position]}
    with pytest.raises(InvalidMessage, match=r"^params\.v.*(Fragment|ready)") as caught:
        line_of(encoder(), params)
    assert "injected" not in str(caught.value)
    lenient = Lenient()
    line = line_of(lenient.encoder, params)
    assert b"injected" not in line
    assert one_line(line)["params"]["plain"] == 1


def test_a_fragment_is_refused_also_if_another_was_alive_at_the_import() -> None:
    """A Fragment, or a reference to its type, that exists at the import does not hide a later Fragment."""
    done = run_python("""
import orjson
from orjson import Fragment
alive = Fragment(b"1")
from tests.support.encoding import encoder
it = encoder()
del alive, Fragment
print(it.event("1", "e", {"v": 1}))
print([it.event("1", "e", {"v": orjson.Fragment(b"1")}) for _ in range(3)])
from orjson import Fragment
print(it.event("1", "e", {"v": 1}) is not None, it.event("1", "e", {"v": [Fragment(b"1")]}))
""")
    assert done.stderr == ""
    first, refused, while_named = done.stdout.splitlines()
    assert b'"v":1' in eval(first)
    assert refused == "[None, None, None]"
    assert while_named == "True None"
