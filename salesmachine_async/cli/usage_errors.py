"""What typer says of wrong arguments, in words for people who have never seen Python."""

import contextlib
import re
from collections.abc import Generator, Sequence
from difflib import get_close_matches
from typing import Any

import typer

_LIMITS = {"greater_than_equal": ("ge", "at least"), "less_than_equal": ("le", "at most")}
_TYPES = {"int_parsing": "a whole number", "float_parsing": "a number"}
_KEY = re.compile(r"token|secret|key|password|credential")
_NO_KEYS = (
    "Keys never come as arguments, which others on this machine can see: "
    "set SALESMACHINE_API_TOKEN and the like, or pass --credentials FILE"
)


@contextlib.contextmanager
def plainly_told() -> Generator[None]:
    """Put a mistake in the arguments into plain words on its way to typer, which shows it."""
    try:
        yield
    except typer.BadParameter as error:
        error.message = _plain(error)
        raise
    except Exception as error:
        # `NoSuchOption`, which typer keeps to itself.
        option: Any = getattr(error, "option_name", None)
        if isinstance(option, str) and hasattr(error, "possibilities") and _KEY.search(option.lower()):
            told: Any = error
            told.message = f"{told.message}. {_NO_KEYS}"
            told.possibilities = None
        raise


def _plain(error: typer.BadParameter) -> str:
    choices = getattr(getattr(error.param, "type_descriptor", None), "choices", None)
    found = _found(error)
    if found is None:
        return error.message
    value, kind = found["input"], found["type"]
    if choices and isinstance(value, str):
        return _no_choice(value, [str(choice) for choice in choices])
    if kind in _TYPES:
        return f"{value!r} is not {_TYPES[kind]}"
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        return f"it must be {words} {found['ctx'][name]:,}"
    return error.message.removeprefix("Value error, ")


def _found(error: typer.BadParameter) -> dict[str, Any] | None:
    """Give what pydantic, which typer reads values with, has found."""
    cause: Any = error.__cause__
    return cause.errors()[0] if hasattr(cause, "errors") else None


def _no_choice(value: str, choices: Sequence[str]) -> str:
    # The plural of a word has it as its beginning, or nearly so.
    near = get_close_matches(value.lower(), choices, n=1)
    return f"{value!r} is not one of {', '.join(choices)}" + (f". Did you mean {near[0]}?" if near else "")
