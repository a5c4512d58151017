"""The params of a message: which are accepted, and how problems are named."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from salesmachine_async.errors import InvalidMessage
from tests.support.encoding import (
    BrokenMapping,
    Lenient,
    compose,
    composed,
    encoder,
    params_of,
)


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ([], "must be a mapping, not list"),
        ([("a", 1)], "must be a mapping, not list"),
        ("a", "must be a mapping, not str"),
        (b"{}", "must be a mapping, not bytes"),
        (0, "must be a mapping, not int"),
        (False, "must be a mapping, not bool"),
        (object(), "must be a mapping, not object"),
        (BrokenMapping(), "could not be read (RuntimeError)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unusable_params(params: object, problem: str) -> None:
    """Params are a mapping or None; leniently, others are reported and empty."""
    with pytest.raises(InvalidMessage) as caught:
        compose(encoder(), params=params)
    assert (caught.value.path, caught.value.problem) == ("params", problem)
    lenient = Lenient()
    message = lenient.compose(params=params)
    assert message is not None
    assert message["params"] == {}
    assert lenient.reported == [("params", problem)]


@pytest.mark.parametrize("params", [MappingProxyType({"a": 1}), type("Row", (dict,), {})(a=1), {"a": 1}])
def test_any_mapping_will_do_as_params(params: Any) -> None:
    """Params may be any mapping."""
    it = encoder()
    assert params_of(it.encode(composed(it, params=params))) == {"a": 1}


def test_unusable_values_are_reported_by_path_and_become_null() -> None:
    """Leniently, each bad value is reported once and becomes null, and the rest is kept."""
    lenient = Lenient()
    message = lenient.compose(params={"a": 1, "b": {"c": [object(), 2]}, (1, 2): 3, "d": {4}})
    assert message is not None
    assert params_of(lenient.encoder.encode(message)) == {"a": 1, "b": {"c": [None, 2]}, "d": [4]}
    assert lenient.reported == [
        ("params.b.c[0]", "a value of type object has no JSON form"),
        ("params[<tuple>]", "a key of type tuple has no JSON form"),
    ]


def test_an_unusable_value_is_raised_with_its_path() -> None:
    """Strictly, the first bad value raises InvalidMessage with its path."""
    it = encoder()
    with pytest.raises(InvalidMessage, match=r"^params\.plan\.started: a value of type object has no JSON form$"):
        it.encode(composed(it, params={"plan": {"started": object()}}))


def test_the_callers_dict_is_only_read() -> None:
    """The message has the state of the dict at the call, and the caller's dict is unchanged."""
    it = encoder()
    params: dict[Any, Any] = {"a": [1], 2: {3}}
    line = it.encode(composed(it, params=params))
    assert params == {"a": [1], 2: {3}}
    params["a"].append(9)
    assert params_of(line) == {"a": [1], "2": [3]}
