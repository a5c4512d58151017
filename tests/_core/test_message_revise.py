"""Messages changed by a hook."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import encode, revise
from salesmachine_async.errors import InvalidMessage
from tests.support.encoding import (
    message_to_revise,
    params_of,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"params": {"b": 2}}, {"params": {"b": 2}}),
        ({"contact_uid": "2", "event_uid": 3}, {"contact_uid": "2", "event_uid": "3"}),
        ({"created_at": "never", "messageId": "", "method": "account"}, {}),
        ({"unknown": 1, "account_uid": "9"}, {}),
    ],
)
def test_uids_and_params_can_be_revised_and_nothing_else(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """Other fields keep their values, and added fields are left out."""
    message = message_to_revise()
    assert revise(message, {**message_to_revise(), **changes}) == {**message_to_revise(), **expected}
    assert message == message_to_revise()


def test_params_taken_away_are_empty() -> None:
    """A hook that removes the params sends none."""
    changed = message_to_revise()
    del changed["params"]
    assert revise(message_to_revise(), changed)["params"] == {}


def test_an_alias_is_revised_without_growing_params() -> None:
    """An alias keeps its two keys."""
    alias = {"contact_uid": "1", "alias": "2"}
    assert revise(alias, {"contact_uid": 3, "alias": "4", "params": {}}) == {"contact_uid": "3", "alias": "4"}


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        (True, "message"),
        ("x", "message"),
        ([], "message"),
        (MappingProxyType({}), "message"),
        ({}, "contact_uid"),
        ({**message_to_revise(), "contact_uid": ""}, "contact_uid"),
        ({**message_to_revise(), "event_uid": None}, "event_uid"),
        ({**message_to_revise(), "params": None}, "params"),
        ({**message_to_revise(), "params": [1]}, "params"),
        ({**message_to_revise(), "params": "{}"}, "params"),
    ],
)
def test_what_is_no_message_any_more(changed: object, path: str) -> None:
    """A hook must return a dict with usable uids and a dict of params."""
    with pytest.raises(InvalidMessage) as caught:
        revise(message_to_revise(), changed)
    assert caught.value.path == path


class Refusing:
    """A key that cannot be hashed a second time, so that a copy of its dict fails."""

    hashed = False

    def __hash__(self) -> int:
        if self.hashed:
            raise OSError("SECRET")
        self.hashed = True
        return 1


@pytest.mark.parametrize("path", ["message", "params"])
def test_a_result_that_cannot_be_read(path: str) -> None:
    """The error names the place and the type of what was raised, without its text."""

    class Own(dict[Any, Any]):
        pass

    broken = Own({Refusing(): 1})
    with pytest.raises(InvalidMessage) as caught:
        revise(message_to_revise(), broken if path == "message" else {**message_to_revise(), "params": broken})
    assert str(caught.value) == f"{path}: could not be read (OSError)"


def test_a_revised_message_is_encoded_like_any_other() -> None:
    """Odd values that a hook put in are converted, bad ones named by path."""
    revised = revise(message_to_revise(), {**message_to_revise(), "params": {1: {2}}})
    assert params_of(encode(revised, raise_invalid)) == {"1": [2]}
    revised["params"] = {"v": object()}
    with pytest.raises(InvalidMessage, match=r"params\.v"):
        encode(revised, raise_invalid)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ([], "must be a dict or None, not list"),
        ({"contact_uid": "u", "event_uid": "e", "params": [1]}, "must be a dict, not list"),
    ],
)
def test_the_error_says_what_a_hook_should_have_returned(changed: object, says: str) -> None:
    """The error says what is wrong with the result, by type and without its content."""
    with pytest.raises(InvalidMessage) as caught:
        revise(message_to_revise(), changed)
    assert str(caught.value).endswith(says)
