"""Params from arguments: ``name=text``, ``name:=json``, or a whole JSON object."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from salesmachine_async.cli.json_input import DocumentError, parse_document, read_document


class ArgumentError(ValueError):
    """An unusable argument."""


def read_params(assignments: Sequence[str], document: str | None) -> dict[str, Any]:
    """
    Return the params of *document*, updated with *assignments*.

    Raises:
        ArgumentError: If an argument is no assignment, or a name is assigned twice.
        DocumentError: If *document* or a value is not JSON.
    """
    assigned: dict[str, Any] = {}
    for each in assignments:
        name, value = _assignment(each)
        if name in assigned:
            raise ArgumentError(f"{name} is given twice")
        assigned[name] = value
    return {**_object(document), **assigned}


def check_uid(name: str, value: str) -> str:
    """
    Return a uid, unless it looks like a param whose uid is missing.

    Raises:
        ArgumentError: If it does, or is not UTF-8.
    """
    _check_text(name, value)
    # A trailing "=" is the padding of base64.
    if "=" in value.rstrip("="):
        raise ArgumentError(f"the {name} is missing: {value!r} looks like a param. See --help for the order")
    return value


def read_moment(value: str) -> datetime:
    """
    Parse the value of ``--created-at``.

    Raises:
        ArgumentError: If it is not ISO 8601.
    """
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ArgumentError(
            f"--created-at is not ISO 8601: {value!r}. Write 2026-11-05T09:30:00Z; without a zone it is UTC"
        ) from None


def _assignment(text: str) -> tuple[str, Any]:
    _check_text("argument", text)
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentError(f"{text!r} is not a param: write name=text, or name:=json for numbers, true, lists …")
    if name.endswith(":"):
        return _named(name[:-1], text), parse_document(f"the value of {name[:-1]}", value)
    return _named(name, text), value


def _named(name: str, text: str) -> str:
    if not name:
        raise ArgumentError(f"{text!r} has no name before the =")
    return name


def _object(document: str | None) -> dict[str, Any]:
    if document is None:
        return {}
    found: object = read_document("--params", document)
    if not isinstance(found, dict):
        kinds: dict[type[object], str] = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
        raise DocumentError(f"--params must be a JSON object, not {kinds.get(type(found), 'a number')}")
    return cast("dict[str, Any]", found)


def _check_text(name: str, value: str) -> None:
    # Python decodes arguments that are not UTF-8 to surrogates, which JSON cannot hold.
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ArgumentError(f"the {name} {value!r} is not valid UTF-8")
