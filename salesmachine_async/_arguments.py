"""Checks of the arguments of an agent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from inspect import iscoroutinefunction
from typing import Any, Final

import orjson

from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import encode
from salesmachine_async._http.config import flag_from_environment
from salesmachine_async.errors import ConfigError, InvalidMessage
from salesmachine_async.policy import Batching, Invalid, QueueLimits, Retry, Timeouts

__all__ = ["check_callables", "check_types", "checked_params", "flag", "seconds"]

# Seconds: longer waits than thirty years are cut to that, because not every event loop can count to infinity.
FOREVER: Final = 1e9

ENABLED_VARIABLE: Final = "SALESMACHINE_ENABLED"
DEBUG_VARIABLE: Final = "SALESMACHINE_DEBUG"

_KINDS: Final[dict[str, type]] = {
    "batching": Batching,
    "queue": QueueLimits,
    "retry": Retry,
    "timeouts": Timeouts,
    "on_invalid": Invalid,
}


def flag(name: str, value: object, *, default: bool) -> bool:
    """Return an on-off option: the argument, else its environment variable, else the default."""
    if isinstance(value, bool):
        return value
    if value is not None:
        raise ConfigError(f"{name} must be True, False or None, not {type(value).__name__}")
    variable = f"SALESMACHINE_{name.upper()}"
    return flag_from_environment(variable) if os.environ.get(variable, "").strip() else default


def checked_params(params: object) -> dict[str, Any]:
    """Return the params of every message as plain values, so that later changes of the caller's have no effect."""
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise ConfigError(f"params must be a mapping, not {type(params).__name__}")
    try:
        return orjson.loads(encode({"params": dict(params)}, raise_invalid))["params"]  # type: ignore[no-any-return]
    except InvalidMessage as exc:
        raise ConfigError(str(exc)) from None


def seconds(timeout: object) -> float:
    """Return a waiting time; what is left of a deadline may be negative, then there is none."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout != timeout:  # noqa: PLR0124 (NaN)
        raise ConfigError(f"timeout must be a number of seconds, not {timeout!r}")
    return min(max(0.0, timeout), FOREVER)


def check_types(**arguments: object) -> None:
    """Raise `ConfigError` for a policy of another type than its name says."""
    for name, value in arguments.items():
        kind = _KINDS[name]
        if not isinstance(value, kind):
            raise ConfigError(f"{name} must be of type {kind.__name__}, not {type(value).__name__}")


def check_callables(**hooks: object) -> None:
    """Raise `ConfigError` for a hook that is not a plain function."""
    for name, hook in hooks.items():
        if hook is not None and not callable(hook):
            raise ConfigError(f"{name} must be callable, not {type(hook).__name__}")
        if iscoroutinefunction(hook):
            raise ConfigError(f"{name} must be a plain function: nothing awaits it")
