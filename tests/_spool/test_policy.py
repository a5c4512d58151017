"""The `Spool` policy: its defaults, and what it refuses."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async import ConfigError, Spool, SpoolFailed, SpoolState, SpoolStats
from salesmachine_async.errors import SalesmachineError


def test_the_defaults_are_those_of_the_contract() -> None:
    """The defaults are the documented ones, and only the path is positional."""
    signature = inspect.signature(Spool)
    path, *others = signature.parameters.values()
    assert (path.name, path.kind) == ("path", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert {each.kind for each in others} == {inspect.Parameter.KEYWORD_ONLY}
    assert {each.name: each.default for each in others} == {
        "commit": 0.1,
        "sync": True,
        "max_bytes": 2**30,
        "max_age": None,
        "keep_rejected": 16 * 2**20,
        "recover_first": 30.0,
        "deliver": True,
        "required": True,
    }
    policy = Spool(Path("spool"), commit=60, max_age=86_400)
    assert policy == Spool(Path("spool"), commit=60, max_age=86_400)
    with pytest.raises(FrozenInstanceError):
        policy.commit = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"path": ""}, "Spool.path must be the path of a directory, not ''"),
        ({"path": "a\0b"}, "Spool.path must be the path of a directory"),
        ({"path": b"spool"}, "Spool.path must be a str or a path, not bytes"),
        ({"path": None}, "Spool.path must be a str or a path, not NoneType"),
        ({"commit": 0.009}, "Spool.commit must be between 0.01 and 60 seconds"),
        ({"commit": 61}, "Spool.commit must be between 0.01 and 60 seconds"),
        ({"commit": float("nan")}, "Spool.commit must be a finite number"),
        ({"commit": True}, "Spool.commit must be a finite number"),
        ({"sync": 1}, "Spool.sync must be True or False, not 1"),
        ({"max_bytes": 2**20 - 1}, "Spool.max_bytes must be a whole number of at least 1048576"),
        ({"max_bytes": 1e9}, "Spool.max_bytes must be a whole number"),
        ({"max_age": 0}, "Spool.max_age must be above 0 seconds"),
        ({"keep_rejected": -1}, "Spool.keep_rejected must be a whole number of at least 0"),
        ({"recover_first": -1}, "Spool.recover_first must be at least 0 seconds"),
        ({"deliver": None}, "Spool.deliver must be True or False, not None"),
        ({"required": "no"}, "Spool.required must be True or False, not 'no'"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], problem: str) -> None:
    """An invalid value is an error with its name and the expected values."""
    with pytest.raises(ConfigError) as caught:
        Spool(**{"path": "spool", **wrong})
    assert str(caught.value).startswith(problem)


def test_the_path_of_a_bytes_path_is_refused() -> None:
    """A path-like object whose path is bytes is an error."""

    class Odd:
        def __fspath__(self) -> bytes:
            return b"spool"

    with pytest.raises(ConfigError, match="must be text, not bytes"):
        Spool(Odd())  # type: ignore[arg-type]


def test_a_state_is_a_string() -> None:
    """A state is a string that can be compared and used as a metric label."""
    assert issubclass(SpoolFailed, SalesmachineError)
    assert SpoolStats().state == "open"
    assert [str(state) for state in SpoolState] == ["open", "full", "failing", "unavailable", "closed"]
