"""Identifying arguments: conversion of values to uids."""

from __future__ import annotations

from collections import UserString
from collections.abc import Callable
from enum import Enum
from typing import Any, Final
from uuid import UUID

from salesmachine_async._core.simplify import is_lazy_text, is_nothing, name_of, simplify, without_surrogates

__all__ = ["check_uids"]

# Types whose text identifies as well as a str does. The text of a Decimal does not: 1.0 and 1.00 are one number.
_IDENTIFYING: Final = (UUID, UserString)


def check_uids(uids: dict[str, object], on_problem: Callable[[str, str], None]) -> dict[str, str] | None:
    """Return identifying arguments as text; None when one is unusable and *on_problem* has not raised."""
    texts: dict[str, str] = {}
    for name, value in uids.items():
        text, problem = _uid(value)
        if problem is not None:
            on_problem(name, problem)
            return None
        texts[name] = text
    return texts


def _uid(value: Any) -> tuple[str, str | None]:
    """Return a uid's text, and its problem or None."""
    plain = value
    if type(value) is not str:  # a str runs no code, so that what a signal handler raises is not taken for its fault
        try:
            plain = _plain(value)
        except Exception as exc:  # noqa: BLE001 (the conversion may run the user's own code)
            return "", f"could not be converted ({type(exc).__name__})"
    if type(plain) is int:
        try:
            return str(plain), None
        except ValueError:  # beyond sys.get_int_max_str_digits()
            return "", "has too many digits"
    if type(plain) is not str:
        return "", f"must be a non-empty str or an int, not {name_of(value)}"
    if not plain:
        return plain, "must not be empty"
    if plain != without_surrogates(plain):
        # Replacing the surrogate could merge two contacts.
        return plain, "must be valid Unicode (it holds a lone surrogate)"
    return plain, None


def _plain(value: Any) -> Any:
    """Return the identifying exact str or int of a value; any other value means that there is none."""
    # `isinstance` is avoided, because proxies and mocks claim the class of another object.
    cls: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if issubclass(cls, Enum):
        return None if is_nothing(cls) or issubclass(type(value.value), Enum) else _plain(value.value)
    if issubclass(cls, str):
        return str.__str__(value)
    if issubclass(cls, int):
        return None if cls is bool else int.__int__(value)
    if issubclass(cls, _IDENTIFYING) or is_lazy_text(cls):
        return str(value)
    # numpy's integers, which occur in columns of ids.
    return simplify(value) if hasattr(cls, "__index__") and hasattr(cls, "tolist") else None
