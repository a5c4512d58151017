"""Objects of the API as JSON: bytes of the wire stay what they mean, and cannot steer a terminal."""

import sys
from typing import Any

import orjson

from salesmachine_async.cli.terminal import emit, harmless_json, out


def line_of(data: Any) -> str:
    """Return *data* as JSON in one line."""
    return harmless_json(orjson.dumps(data).decode())


def show(data: Any, *, plain: bool) -> None:
    """Print *data*: indented and coloured on a terminal, unless *plain*; else in one line."""
    if plain or not sys.stdout.isatty():
        emit(line_of(data))
        return
    from rich.highlighter import JSONHighlighter  # noqa: PLC0415

    text = harmless_json(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())
    out().print(JSONHighlighter()(text), soft_wrap=True)
