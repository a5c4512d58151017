"""Helpers for ``before_send``: leave out personal data, and track a sample of the contacts."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

from salesmachine_async.errors import ConfigError

__all__ = ["sample", "scrub"]

Message = dict[str, Any]
Filter = Callable[[Message], Message | None]

REDACTED: Final = "[redacted]"
# Number and length of the paths that a filter remembers: at most half a megabyte.
REMEMBERED: Final = 1024
MAX_PATH: Final = 200


def scrub(*patterns: str) -> Filter:
    """
    Return a ``before_send`` that replaces values in ``params`` by ``"[redacted]"``.

    ::

        Agent(before_send=scrub("email", "*.password", "card*"))

    Args:
        patterns: Keys, or keys joined by dots for nested values, where ``*`` stands for any part of the path.
            ``email`` is the key of that name at the top, ``*.email`` each key of that name, at any depth. Items of a
            list have the path of the list. Upper and lower case differ.

    Raises:
        ConfigError: If there is no pattern, or one is no text.
    """
    if not patterns or not all(map(_is_text, patterns)):
        raise ConfigError("scrub() takes one or more patterns such as 'email' or '*.password'")
    # Most patterns are plain keys, which are looked up; the others are matched.
    plain = frozenset(pattern for pattern in patterns if not set(pattern) & {"*", "?", "["})
    globs = re.compile("|".join(translate(pattern) for pattern in patterns if pattern not in plain) or r"(?!)")

    def is_match(path: str) -> bool:
        return path in plain or bool(globs.match(path) or globs.match(f".{path}"))

    # An application has few different paths; those of a visitor's own making push each other out.
    remembered = lru_cache(REMEMBERED)(is_match)

    def matches(path: str) -> bool:
        return remembered(path) if len(path) <= MAX_PATH else is_match(path)

    def scrubbed(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {
                key: REDACTED if matches(inner := f"{path}{key}") else scrubbed(found, f"{inner}.")
                for key, found in value.items()  # pyright: ignore[reportUnknownVariableType]
            }
        return [scrubbed(item, path) for item in value] if isinstance(value, list) else value  # pyright: ignore

    def before_send(message: Message) -> Message:
        params = message.get("params")
        return {**message, "params": scrubbed(params, "")} if params else message

    return before_send


def sample(rate: float) -> Filter:
    """
    Return a ``before_send`` that keeps the messages of a part of the contacts, and drops those of the others.

    The same contact is always kept or always dropped, in every process and every release. Messages about an account are
    kept or dropped by the account's uid, aliases by the contact's.

    Args:
        rate: The part, between 0 and 1: ``sample(0.1)`` keeps a tenth.

    Raises:
        ConfigError: *rate* is no such number.
    """
    if not _is_rate(rate):
        raise ConfigError(f"rate must be a number between 0 and 1, not {rate!r}")
    limit = rate * 2**32

    def before_send(message: Message) -> Message | None:
        uid = message.get("contact_uid", message.get("account_uid", ""))
        # Salted, so that the sample does not coincide with the partition of a contact, which is its crc32 as well.
        return message if crc32(f"sample:{uid}".encode("utf-8", "surrogatepass")) < limit else None

    return before_send


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
