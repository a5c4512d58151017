r"""
The language of ``--faults``: a script of faults in one argument.

::

    faults  = fault *("," fault)
    fault   = what ["*" [count]] *(":" setting)
    what    = status | "ok" | setting          ; a setting other than path and times
    setting = name ["=" value]                 ; without a value: commit only
    value   = *(any but , : ") | '"' *(any, \" and \\) '"'

``503*2`` applies to two requests, ``503*`` to all that follow, ``503`` to one. ``ok*3`` lets three through.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from salesmachine_async.sandbox import Fault

_TOKEN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,:"]*))')
_TIMES = re.compile(r"\*(\d*)$")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|)")


class ScriptError(ValueError):
    """A text that is not a script of faults."""


class _Part(NamedTuple):
    """The text between two separators: *text* at character *at*, with its quoted value."""

    text: str
    at: int
    quoted: str | None = None


def parse_faults(text: str) -> "list[Fault]":
    """
    Parse a script.

    Raises:
        ScriptError: If it is wrong; the error names the character, the part and the problem.
    """
    from salesmachine_async.sandbox import Fault  # noqa: PLC0415 - imports aiohttp.web

    faults: list[Fault] = []
    for parts in _split(text):
        settings = _settings(parts)
        try:
            fault = Fault(**settings)
        except ValueError as error:
            raise _problem(parts[0], str(error)) from None
        endless = [each.path for each in faults if each.times is None and each.probability == 1]
        if all(any(_covers(path, part) for path in endless) for part in _parts_of(fault.path)):
            raise _problem(parts[0], "unreachable, because a step before it applies to all requests that follow")
        faults.append(fault)
    return faults


def _parts_of(path: str | None) -> tuple[str, ...]:
    """Return the patterns that *path* of a fault stands for."""
    return ("/v1/*", "/v2/*") if path is None else (path,)


def _covers(path: str | None, pattern: str) -> bool:
    """Whether a fault with *path* fits each request that *pattern* fits."""
    return any(pattern == each or (each.endswith("*") and pattern.startswith(each[:-1])) for each in _parts_of(path))


def _split(text: str) -> list[list[_Part]]:
    """Split *text* at commas and colons outside quotes."""
    faults: list[list[_Part]] = [[]]
    at = 0
    while True:
        part, at = _part(text, at)
        faults[-1].append(part)
        if at == len(text):
            return faults
        if text[at] == ",":
            faults.append([])
        at += 1


def _part(text: str, at: int) -> tuple[_Part, int]:
    begun = at + len(text[at:]) - len(text[at:].lstrip())
    plain = _TOKEN.match(text, at)
    assert plain is not None  # it also matches an empty text
    if plain[1] is not None or text[plain.end() : plain.end() + 1] != '"':
        end = plain.end()
        part = _Part((plain[2] or "").strip(), begun, _unquoted(plain[1]))
    else:
        if not plain[2].rstrip().endswith("="):
            raise _problem(_Part(text[plain.end() :], plain.end()), "quotes must enclose a whole value")
        quoted = _TOKEN.match(text, plain.end())
        if quoted is None or quoted[1] is None:
            raise _problem(_Part(text[plain.end() :], plain.end()), "the closing quotation mark is missing")
        end = quoted.end()
        part = _Part(plain[2].strip(), begun, _unquoted(quoted[1]))
    rest = text[end:]
    end += len(rest) - len(rest.lstrip())
    if end < len(text) and text[end] not in ",:":
        raise _problem(_Part(text[end:], end), "a comma or a colon must come before it")
    return part, end


def _unquoted(text: str | None) -> str | None:
    return None if text is None else re.sub(r"\\(.)", r"\1", text)


def _settings(parts: list[_Part]) -> dict[str, Any]:
    """Return the arguments of a fault."""
    head, *further = parts
    settings: dict[str, Any] = {}
    times = _TIMES.search(head.text) if head.quoted is None else None
    if times is not None:
        settings["times"] = _count(head, times[1]) if times[1] else None
        head = head._replace(text=head.text[: times.start()].rstrip())
    if head.text.isdecimal() and head.quoted is None:
        settings["status"] = int(head.text)
    elif head.text != "ok":
        if head.text.partition("=")[0].strip() in ("path", "times"):
            raise _problem(head, "it must follow a fault: 503:path=/v1/batch")
        further.insert(0, head)
    for part in further:
        name, value = _setting(part)
        if name in settings:
            raise _problem(part, f"{name} is set twice")
        settings[name] = value
    return settings


def _setting(part: _Part) -> tuple[str, Any]:
    name, equals, value = part.text.partition("=")
    name = name.strip()
    if name not in _READERS:
        if not name:
            raise _problem(part, "a status, ok or a setting is missing here")
        raise _problem(part, f"unknown setting; expected one of {', '.join(_READERS)}, or a status such as 503")
    if not equals and name == "commit" and part.quoted is None:
        return name, True
    value = part.quoted if part.quoted is not None and not value.strip() else value.strip()
    if not equals or (not value and part.quoted is None):
        raise _problem(part, f"{name} needs a value")
    return name, _READERS[name](part, value)


def _count(part: _Part, value: str) -> int | None:
    if value == "always":
        return None
    if not value.isdecimal():
        raise _problem(part, "a count must be a whole number or always")
    return int(value)


def _seconds(part: _Part, value: str) -> float:
    found = _DURATION.fullmatch(value)
    if found is None:
        raise _problem(part, "a time must be written as 200ms, 2s or 1.5")
    return float(found[1]) / 1000 if found[2] == "ms" else float(found[1])


def _seconds_or_text(part: _Part, value: str) -> float | str:
    return value if part.quoted is not None else _seconds(part, value)


def _chance(part: _Part, value: str) -> float:
    try:
        return float(value[:-1]) / 100 if value.endswith("%") else float(value)
    except ValueError:
        raise _problem(part, "a probability must be written as 0.25 or 25%") from None


def _whole(part: _Part, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise _problem(part, "it must be a whole number") from None


def _truth(part: _Part, value: str) -> bool:
    if value not in ("true", "false"):
        raise _problem(part, "it must be true or false")
    return value == "true"


def _text(_part: _Part, value: str) -> str:
    return value


_READERS: Mapping[str, Callable[[_Part, str], Any]] = {
    "status": _whole,
    "times": _count,
    "retry_after": _seconds_or_text,
    "path": _text,
    "probability": _chance,
    "seed": _whole,
    "drop": _text,
    "commit": _truth,
    "partial": _whole,
    "latency": _seconds,
    "slow": _seconds,
    "body": _text,
    "raw": _text,
}


def _problem(part: _Part, problem: str) -> ScriptError:
    shown = f" ({part.text!r})" if part.text else ""
    return ScriptError(f"at character {part.at + 1}{shown}: {problem}")
