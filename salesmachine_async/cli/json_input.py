"""JSON from an argument, a file or stdin; errors name the problem and its place."""

import json
import math
import sys
from pathlib import Path
from typing import IO, Any

# Characters shown before the place of an error.
_CONTEXT = 24

# An upper bound, because a device may be endless; no API takes a longer document.
_MAX_BYTES = 64 * 2**20


class DocumentError(ValueError):
    """A document that is not JSON or cannot be read."""


def read_document(option: str, value: str) -> Any:
    """
    Read the value of *option*: JSON, ``@FILE``, or ``-`` for stdin.

    Raises:
        DocumentError: If it cannot be read or is not JSON.
    """
    if value == "-":
        name, data = f"{option} - (stdin)", _stdin(option)
    elif value.startswith("@"):
        name, data = f"{option} {value}", _file(option, Path(value[1:]))
    else:
        return parse_document(option, value)
    try:
        return parse_document(name, data.decode())
    except UnicodeDecodeError as error:
        raise DocumentError(f"{name} is not valid UTF-8 (byte {error.start + 1})") from None


def parse_document(name: str, text: str) -> Any:
    """
    Parse strict JSON, without NaN, infinite numbers and duplicate keys.

    Raises:
        DocumentError: If it is not JSON.
    """
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise DocumentError(f"{name} is not valid UTF-8")
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_no_duplicate_keys)
    except json.JSONDecodeError as error:
        raise DocumentError(f"{name} is not JSON: {_explained(error)}{_hint(text)}") from None
    except ValueError as error:
        raise DocumentError(f"{name} cannot be used: {error}") from None
    except RecursionError:
        raise DocumentError(f"{name} cannot be used: nested too deeply") from None


def _stdin(option: str) -> bytes:
    try:
        return _bounded(option, sys.stdin.buffer)
    except OSError as error:
        raise DocumentError(f"cannot read {option} from stdin: {error.strerror}") from None


def _file(option: str, file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return _bounded(f"{option} @{file}", opened)
    except OSError as error:
        raise DocumentError(f"cannot read {option} @{file}: {error.strerror}") from None


def _bounded(name: str, file: IO[bytes]) -> bytes:
    data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise DocumentError(f"{name} is longer than {_MAX_BYTES >> 20} MiB")
    return data


def _explained(error: json.JSONDecodeError) -> str:
    problem = (error.msg[:1].lower() + error.msg[1:]).removesuffix(" at")
    if error.pos >= len(error.doc.rstrip()):
        problem = f"it ends too early, {problem}" if error.doc.strip() else "it is empty"
    before = error.doc[max(0, error.pos - _CONTEXT) : error.pos]
    after = f", after {before!r}" if before.strip() else ""
    return f"{problem} at line {error.lineno}, column {error.colno}{after}"


def _hint(text: str) -> str:
    # A shell turns an unquoted {"a": 1} into {a: 1}.
    if text.lstrip().startswith("{") and '"' not in text and text.strip() != "{":
        return """ (did the shell remove the quotes? Enclose it in single quotes: '{"plan": "pro"}')"""
    return ""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # JSON encoders write null for it
        raise ValueError(f"{text[:_CONTEXT]} is too large for a number")
    return number


def _no_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {twice!r}")
    return found
