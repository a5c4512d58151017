"""Print objects of the API as JSON that cannot control a terminal."""

from typing import Any

import orjson

from salesmachine_async.cli.terminal import ascii_json, emit, harmless_json, on_terminal, out, takes_unicode


def line_of(data: Any) -> str:
    """Return *data* as one line of JSON."""
    text = orjson.dumps(data).decode()
    return harmless_json(text) if takes_unicode() else ascii_json(text)


def show(data: Any, *, plain: bool) -> None:
    """Print *data*, indented and coloured on a terminal unless *plain*, else in one line."""
    if plain or not on_terminal():
        emit(line_of(data))
        return
    from rich.highlighter import JSONHighlighter  # noqa: PLC0415

    text = harmless_json(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())
    out().print(JSONHighlighter()(text), soft_wrap=True)
